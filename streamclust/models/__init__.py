"""The model families, K-means and Gaussian mixtures, with the same methods and statistics."""

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
