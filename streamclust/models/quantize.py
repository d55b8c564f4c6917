"""Vector quantization: the code of a point is the number of its component (Gersho & Gray 1992).

The codebook is the centroids or means. Decoding looks up the rows of the codebook. The loss is the
distortion, the mean squared distance J / N.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import Array, as_points, has_gaps, short_repr, square_unit
from streamclust.errors import DataError
from streamclust.hyperparameters import as_integer
from streamclust.kernels import normalise
from streamclust.models import GaussianMixture, KMeans
from streamclust.models.family import by_kind, check_family, check_params
from streamclust.models.scores import RawScores, anomaly_of_mixture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from streamclust.models import Family, KMeansParams, MixtureParams

_UNDERFLOW = 2.0**-900
"""Squared distances of at least this size have not underflowed."""

_TILE_CELLS = 1 << 20
"""Largest number of distances or responsibilities in memory for the `top` components."""


@dataclass(frozen=True, eq=False)
class Codes:
    """The codes of points: the numbers of their components.

    Parameters
    ----------
    index : array of int32, shape (N,)
        Nearest centroid, or component with the largest responsibility.
    distance : array of shape (N,)
        Euclidean distance to that centroid or mean, in the original units; 1 - cos for the metric
        cosine.
    top : array of int32, shape (N, m), or None
        The m best components, best first.
    top_values : array of shape (N, m) or None
        Distances to the centroids of `top` (K-means; ascending unless features have scales), or
        responsibilities of its components (mixture; descending).
    similarity : array of shape (N,) or None
        Cosine of the point and its centroid, from -1 to 1; only for the metric cosine.
    scores : dict of str to array of shape (N,)
        Other scores of the points by name; see `streamclust.models.scores`.
    """

    index: NDArray[np.int32]
    distance: Array
    top: NDArray[np.int32] | None = None
    top_values: Array | None = None
    similarity: Array | None = None
    scores: dict[str, Array] = field(default_factory=dict)

    def __repr__(self) -> str:
        figures: dict[str, object] = {"points": len(self)}
        if np.size(self.index):
            figures["used"] = len(np.unique(self.index))
            figures["mean_distance"] = float(np.mean(self.distance))
        if self.top is not None:
            figures["top"] = np.shape(self.top)[1]
        return short_repr(self, **figures)

    @property
    def more(self) -> dict[str, Array]:
        """The similarity, if there is one, and the scores, by name."""
        return ({} if self.similarity is None else {"similarity": self.similarity}) | self.scores

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: slice) -> Codes:
        return Codes(
            self.index[rows],
            self.distance[rows],
            None if self.top is None else self.top[rows],
            None if self.top_values is None else self.top_values[rows],
            None if self.similarity is None else self.similarity[rows],
            {name: scores[rows] for name, scores in self.scores.items()},
        )


class Ranked(NamedTuple):
    """The best components of points.

    Attributes
    ----------
    order : array of shape (N, top)
    values : array of shape (N, K)
        Distances or responsibilities of all components; not used if `top` is 1.
    scores : tuple of two arrays of shape (N,), or ()
        See `RawScores`.
    """

    order: NDArray[np.intp]
    values: Array
    scores: tuple[Array, ...]


def quantize(family: Family[Any], params: Any, X: ArrayLike, *, top: int = 1) -> Codes:
    """Return the codes of points.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    X : array-like of shape (N, D)
    top : int, default=1
        Number m of best components to return; at most K. With 1, `Codes.top` is None.

    Raises
    ------
    DataError
        If the parameters are those of another family, the points have another D or values that the
        model refuses, or `top` isn't within 1 to K.
    """
    return _quantized(family, params, X, top, scored=False)[0]


def quantize_and_score(
    family: Family[Any], params: Any, X: ArrayLike, *, top: int = 1
) -> tuple[Codes, RawScores]:
    """Return the codes and the scores of points; distances or densities are computed once.

    Parameters and errors are those of `quantize`.
    """
    codes, scores = _quantized(family, params, X, top, scored=True)
    return codes, RawScores(*scores)


def _quantized(
    family: Family[Any], params: Any, X: ArrayLike, top: int, *, scored: bool
) -> tuple[Codes, list[Array]]:
    check_family(family)
    ranking = by_kind(RANKINGS, family.kind, "RANKINGS")
    check_params(family, params)
    means: Array = params.means
    if not isinstance(means, np.ndarray) or means.ndim != 2:
        raise DataError(f"the means have shape {np.shape(means)}; expected an array (K, D)")
    K, D = means.shape
    top = as_integer("top", top, 1)
    if top > K:
        raise DataError(f"top is {top}; expected 1 to K, which is {K}")
    points = np.asarray(
        family.prepare(as_points(X, D, family.max_magnitude, family.missing)), np.float64
    )
    rows = max(1, _TILE_CELLS // K) if top > 1 or scored else max(1, len(points))
    starts = range(0, max(len(points), 1), rows)
    parts = [ranking(family, params, points[start : start + rows], top, scored) for start in starts]
    best = _joined([part.order for part in parts]).astype(np.int32)
    index, all_best, values = best[:, 0].copy(), None, None
    if top > 1:
        best_values = [np.take_along_axis(each.values, each.order, axis=1) for each in parts]
        all_best, values = best, _joined(best_values)
    scores = [_joined(each) for each in zip(*(part.scores for part in parts), strict=True)]
    distance = _distances(points, means, index, gaps=family.missing == "learn")
    if family.metric == "euclidean":
        return Codes(index, distance, all_best, values), scores
    distance = 0.5 * distance**2
    return Codes(index, distance, all_best, values, 1.0 - distance), scores


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def with_numbers(codes: Codes, ids: NDArray[np.intp]) -> Codes:
    """Return codes with the component numbers `ids` (K,) in place of row numbers."""
    numbers = ids.astype(np.int32)
    top = None if codes.top is None else numbers[codes.top]
    return replace(codes, index=numbers[codes.index], top=top)


def reconstruct(codebook: Array, index: ArrayLike) -> Array:
    """Return the points that codes stand for, shape (N, D): the product Z U with one-hot Z.

    Raises
    ------
    DataError
        If a code isn't a row number of the codebook.
    """
    codes = np.asarray(index, dtype=np.intp)
    K = len(codebook)
    if codes.size and not (codes.min() >= 0 and codes.max() < K):
        raise DataError(f"codes run from {codes.min()} to {codes.max()}; expected 0 to {K - 1}")
    return codebook[codes]


def _distances(X: Array, means: Array, index: NDArray[np.int32], *, gaps: bool) -> Array:
    """Return the distance of each point to its row of `means`.

    With `gaps`, values may be missing, and distances are partial.
    """
    difference = X - means[index]
    if gaps and has_gaps(difference):
        present = ~np.isnan(difference)
        scale = np.sqrt(X.shape[1] / present.sum(axis=1))  # partial distances
        difference = np.where(present, difference, 0.0) * scale[:, None]
    square = np.einsum("nd,nd->n", difference, difference)
    if square.min(initial=1.0) < _UNDERFLOW:  # 0, or distances whose squares underflow
        unit = square_unit(difference)
        difference /= unit
        square = np.einsum("nd,nd->n", difference, difference)
        return np.asarray(unit * np.sqrt(square))
    return np.asarray(np.sqrt(square))


def _nearest(family: KMeans, params: KMeansParams, X: Array, top: int, scored: bool) -> Ranked:
    # These are exact; `distances` may differ by a rounding error.
    best, squared_distances = family.nearest(params, X)
    scores = (squared_distances, squared_distances) if scored else ()
    if top == 1:
        return Ranked(best[:, None], np.empty(0), scores)
    values = family.distances(params, X)
    order = np.argsort(values, axis=1, kind="stable")[:, :top]
    rank = np.where(order == best[:, None], top, np.arange(top))
    by_rank = np.argsort(rank, axis=1, kind="stable")
    others = np.take_along_axis(order, by_rank, axis=1)
    return Ranked(np.column_stack([best, others[:, : top - 1]]), values, scores)


def _most_responsible(
    family: GaussianMixture, params: MixtureParams, X: Array, top: int, scored: bool
) -> Ranked:
    joint = family.log_joint(params, X)
    if top == 1 and not scored:
        return Ranked(joint.argmax(axis=1)[:, None], np.empty(0), ())
    values, density = normalise(joint)
    if top == 1:
        order = joint.argmax(axis=1)[:, None]
    else:
        order = np.argsort(-values, axis=1, kind="stable")[:, :top]
    scores = (density, anomaly_of_mixture(params, X, joint, density)) if scored else ()
    return Ranked(order, values, scores)


RANKINGS: dict[str, Callable[[Any, Any, Array, int, bool], Ranked]] = {
    KMeans.kind: _nearest,
    GaussianMixture.kind: _most_responsible,
}
"""Kind of a family -> a function of (family, params, X, top, scored) that ranks the components."""
