"""The table of searches: one class per family.

`streamclust.models.family.Family` is the algebra of statistics. A search gives the start of a run,
moves that leave a local optimum, and components to split or merge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from streamclust.fitting.kmeans_search import KMeansSearch
from streamclust.fitting.mixture_search import MixtureSearch
from streamclust.fitting.spherical_search import SphericalSearch
from streamclust.models.family import by_kind
from streamclust.models.gaussian_mixture import GaussianMixture
from streamclust.models.kmeans import KMeans

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.fitting.moves import Search
    from streamclust.models.family import Family, Params

P = TypeVar("P", bound="Params")


def _kmeans_search(family: KMeans) -> KMeansSearch:
    return (SphericalSearch if family.metric == "cosine" else KMeansSearch)(family)


SEARCHES: dict[str, Callable[[Any], Search[Any]]] = {
    KMeans.kind: _kmeans_search,
    GaussianMixture.kind: MixtureSearch,
}
"""Kind of a family -> the function that returns its search."""


def search_of(family: Family[P]) -> Search[P]:
    """Return the search of a family.

    Raises
    ------
    DataError
        If the table has no search for the kind of the family.
    """
    return by_kind(SEARCHES, family.kind, "SEARCHES")(family)
