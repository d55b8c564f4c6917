"""The identity of the kernels that compute a result, for results that are merged with others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.errors import EngineError
from streamclust.kernels import identity
from streamclust.models.family import by_kind
from streamclust.models.gaussian_mixture import GaussianMixture
from streamclust.models.kmeans import KMeans

if TYPE_CHECKING:
    from streamclust.models.family import Family

SAME = "kmeans"
"""The kernels of K-means and of distances, whose bits are those of NumPy everywhere."""

KERNELS = {KMeans.kind: SAME, GaussianMixture.kind: "mixture"}
"""Kind of a family -> the field of `streamclust.kernels.Identity` for its e-step."""


TAKE_STORED = {KMeans.kind}
"""Kinds whose e-step takes points that are stored in a file, `streamclust.kernels.StoredPoints`."""


def kernels_of(family: Family[Any]) -> str:
    """Return the field of `streamclust.kernels.Identity` for the e-step of a family."""
    return by_kind(KERNELS, family.kind, "KERNELS")


def kernels_identity() -> str:
    """Return the whole identity of the kernels in use, for a worker that reports it."""
    return "; ".join(identity())


def check_kernels(field: str, found: str, where: str) -> None:
    """Refuse a result of kernels whose last bits can differ from those of this process.

    Parameters
    ----------
    field : str
        See `kernels_of`.
    found : str
        The identity that came with the result.
    where : str
        The process that has computed it.

    Raises
    ------
    EngineError
    """
    own = getattr(identity(), field)
    if found != own:
        raise EngineError(
            f"{where} computes with other kernels ({found}) than this process ({own}): sums could "
            "differ in the last bits; install the same build on both sides, or set "
            "STREAMCLUST_KERNELS to the same target"
        )
