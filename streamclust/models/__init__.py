"""The two families of models, each an e-step/m-step pair over the same statistics."""

from streamclust.models.family import Family, Params
from streamclust.models.gaussian_mixture import GaussianMixture, MixtureParams
from streamclust.models.kmeans import KMeans, KMeansParams

__all__ = [
    "FAMILIES",
    "Family",
    "GaussianMixture",
    "KMeans",
    "KMeansParams",
    "MixtureParams",
    "Params",
]

FAMILIES: dict[str, type[KMeans] | type[GaussianMixture]] = {
    KMeans.kind: KMeans,
    GaussianMixture.kind: GaussianMixture,
}
