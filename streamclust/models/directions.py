"""Directions: unit vectors, for K-means with the metric cosine.

For unit vectors, ||x - u||^2 = 2 (1 - cos(x, u)). So the nearest unit centroid of a point is the
one with the largest cosine, and half of the squared distance is the cosine distance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.arrays import AnyPoints, Array, Labels, Points

_SAFE = {"float32": (2.0**-60, 2.0**60), "float64": (2.0**-900, 2.0**900)}
"""Squared norms in this range have neither underflowed nor overflowed, and have an inverse."""

_ROUNDING = {"float32": 2.0**-18, "float64": 2.0**-40}
"""Rows with |norm^2 - 1| up to this count as unit vectors. Distances change by its square."""

_SAME = 2.0**-43
"""Unit vectors count as one direction if their coordinates differ by at most this, 1e-13."""

ZERO = "zero vector: it has no direction, which metric cosine needs"
"""Text of the error for a zero vector."""


def normalized(X: AnyPoints) -> AnyPoints:
    """Return points of shape (N, D) as unit vectors, of the same type.

    A norm may be so small or large that its square underflows or overflows. `X` itself is returned
    if its rows are unit vectors, so that normalising twice changes nothing.

    Raises
    ------
    DataError
        If a point is a zero vector.
    """
    square = _squared_norms(X)
    if not len(X) or (np.abs(square - 1.0) <= _ROUNDING[X.dtype.name]).all():
        return X
    low, high = _SAFE[X.dtype.name]
    extreme = np.flatnonzero(~((square >= low) & (square <= high)))
    if len(extreme):
        square[extreme] = 1.0
    scaled: Any = X * (1.0 / np.sqrt(square))[:, None]
    if len(extreme):
        scaled[extreme] = _normalized_by_exponent(np.asarray(X[extreme], np.float64), extreme)
    unit: AnyPoints = scaled
    return unit


def _squared_norms(X: Points) -> NDArray[Any]:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.einsum("nd,nd->n", X, X), X.dtype)


def _normalized_by_exponent(X: Array, places: Labels) -> Array:
    """Return rows as unit vectors, also if their squares underflow or overflow.

    `places` (N,) are the numbers of the rows, for the error.
    """
    largest = np.abs(X).max(axis=1)
    if not largest.all():
        zeros = places[largest == 0.0]
        rows = "1 row" if len(zeros) == 1 else f"{len(zeros):,} rows"
        raise DataError(f"{rows} of X, the first at index {zeros[0]}: {ZERO}; drop zero vectors")
    # A power of two scales exactly. Two steps, because 2^1074 isn't a float.
    exponent = -np.frexp(largest)[1]
    X = np.ldexp(np.ldexp(X, (exponent // 2)[:, None]), (exponent - exponent // 2)[:, None])
    return np.asarray(X * (1.0 / np.sqrt(_squared_norms(X)))[:, None])


def have_direction(X: Points) -> NDArray[np.bool_]:
    """Return which points aren't zero vectors, shape (N,)."""
    return np.asarray(X.any(axis=1))


def distinct_directions(X: Array, w: Array) -> tuple[Array, Array]:
    """Return unit vectors that differ by more than rounding, and the total weight of each.

    Points of one direction may differ in the last digits after they were normalised. Points are
    sorted by their projection on a random vector, and each is compared with the next one.

    Parameters
    ----------
    X : array of shape (N, D)
        Unit vectors.
    w : array of shape (N,)
    """
    if not len(X):
        return X, w
    order = np.argsort(X @ np.random.default_rng(0).normal(size=X.shape[1]), kind="stable")
    ordered = X[order]
    new = np.ones(len(X), np.bool_)
    new[1:] = (np.abs(np.diff(ordered, axis=0)) > _SAME).any(axis=1)
    starts = np.flatnonzero(new)
    return ordered[starts], np.add.reduceat(w[order], starts)


def number_of_directions(X: Array, enough: int) -> int:
    """Return the number of distinct directions of unit vectors; it may stop from `enough` on.

    The first 4 * `enough` points are counted first, because they usually have enough directions.
    """
    for rows in (X[: 4 * enough], X):
        n_directions = len(distinct_directions(rows, np.ones(len(rows)))[0])
        if n_directions >= enough:
            break
    return n_directions
