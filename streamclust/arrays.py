"""Types of arrays, and checks of points and sample weights."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamclust.errors import DataError

Array = NDArray[np.float64]
"""Statistics, parameters and points: float64 throughout."""

Points = NDArray[np.float64] | NDArray[np.float32]
"""Points as kernels accept them: float32 loses nothing if the input is float32."""

AnyPoints = TypeVar("AnyPoints", bound=NDArray[np.floating])
"""Points of the type of an argument."""

Labels = NDArray[np.intp]
"""Component numbers, 0 to K - 1."""

CovarianceType = Literal["full", "tied", "diag", "spherical"]
"""Shapes of a mixture's covariances: (K, D, D), (D, D), (K, D), (K,)."""

Metric = Literal["euclidean", "cosine"]
"""How K-means measures distances: ||x - u||^2, or 1 - cos(x, u)."""

Missing = Literal["reject", "learn"]
"""What to do with missing values, which are NaN: refuse the points, or learn the other values."""

MAX_MAGNITUDE = 1e100
"""Largest |x| and largest sample weight: weighted sums of squares stay finite."""

MIN_WEIGHT = 1e-100
"""Smallest sample weight besides 0: sums of smaller weights would lose digits, or be 0."""

SMALL = 2.0**-400
"""Numbers of at least this size differ by at least 2^-452, whose square doesn't underflow."""

_LARGE_EXPONENT = 300
"""Arrays with small numbers are scaled up to this power of two."""

SMALLEST_EXPONENT = -1000
"""Power of two of the smallest unit: the inverse of the unit is finite."""


_LARGER = 2.0 * MAX_MAGNITUDE
"""Replaces missing values while points are sorted."""

_CACHED = 1 << 16
"""Numbers that stay in the processor's cache between two passes over them."""


def short_repr(instance: object, **values: object) -> str:
    """Return the `repr` of an instance: its class and some values, numbers with six digits."""
    shown = (
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value!r}"
        for name, value in values.items()
    )
    return f"{type(instance).__name__}({', '.join(shown)})"


def are_within(values: NDArray[np.floating], most: float = MAX_MAGNITUDE) -> bool:
    """Return whether all values are numbers of a magnitude up to `most`."""
    # Both comparisons are false for NaN. Two passes are faster than a copy of the array.
    if values.size > _CACHED and values.flags.c_contiguous:
        flat = values.reshape(-1)
        starts = range(0, len(flat), _CACHED)
        return all(are_within(flat[start : start + _CACHED]) for start in starts)
    if not values.size:
        return True
    return float(values.max()) <= most and float(values.min()) >= -most


def has_gaps(X: NDArray[np.floating]) -> bool:
    """Return whether any value is missing (NaN)."""
    return bool(X.size) and bool(np.isnan(X.min()))


def as_points(
    X: ArrayLike,
    n_features: int | None = None,
    most: float = MAX_MAGNITUDE,
    missing: Missing = "reject",
) -> Array:
    """Return `X` as a C-contiguous float64 array of shape (N, D), or raise an error.

    Parameters
    ----------
    X : array-like of shape (N, D)
        One point per row; N may be 0.
    n_features : int, optional
        The expected D.
    most : float, default=1e100
        The largest magnitude; see `streamclust.models.family.Family.max_magnitude`.
    missing : {'reject', 'learn'}, default='reject'
        'learn': NaN is accepted, as a missing value. Each point needs one present value.

    Raises
    ------
    DataError
        If `X` isn't two-dimensional, has no features or another D, or holds values other than
        numbers of a magnitude up to `most`.
    """
    return _checked(X, np.float64, n_features, most, missing)


def as_points_as_given(
    X: ArrayLike,
    n_features: int | None = None,
    most: float = MAX_MAGNITUDE,
    missing: Missing = "reject",
) -> Points:
    """Return the same as `as_points`, but leave float32 points as they are."""
    single = isinstance(X, np.ndarray) and X.dtype == np.float32
    return _checked(X, np.float32 if single else np.float64, n_features, most, missing)


def _checked(
    X: ArrayLike, dtype: type[Any], n_features: int | None, most: float, missing: Missing
) -> NDArray[Any]:
    try:
        # `np.ma` is imported when it is first named, which takes 20 ms: not for plain arrays.
        if type(X) is not np.ndarray and isinstance(X, np.ma.MaskedArray):
            X = np.ma.filled(X.astype(dtype), np.nan)  # or masked values would count
        elif hasattr(X, "__array__"):
            X = np.asarray(X)
            if X.dtype.kind in "cmM":  # NumPy would drop imaginary parts, and count NaT as a number
                raise DataError(f"X has dtype {X.dtype}; expected real numbers")
        points = np.asarray(X, dtype=dtype, order="C")
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"X isn't a table of numbers: {error}") from None
    if points.ndim != 2 or (len(points) and not points.shape[1]):
        raise DataError(f"X has shape {points.shape}; expected (N, D): one point per row")
    if n_features is not None and points.shape[1] != n_features:
        raise DataError(f"X has {points.shape[1]} features; expected {n_features}")
    if not are_within(points, most):
        if missing == "reject":
            raise DataError(f"X holds {_first_beyond(points, most)}; drop such rows")
        _check_present(points, most)
    return points


def _first_beyond(points: NDArray[Any], most: float) -> str:
    """Return the first value whose magnitude isn't at most `most`, and where it is."""
    row, column = np.argwhere(~(np.abs(points.astype(np.float64)) <= most))[0].tolist()
    value = float(points[row, column])
    text = "NaN" if np.isnan(value) else f"{value:g}".replace("inf", "infinity")
    return f"{text} in row {row}, column {column} (from 0); expected a magnitude up to {most:g}"


def _check_present(points: NDArray[Any], most: float) -> None:
    """Refuse points with gaps if a point has no value, or a magnitude is beyond `most`."""
    # fmax and fmin ignore NaN; if all values are NaN, both comparisons are false.
    if np.fmax.reduce(points, axis=None) > most or np.fmin.reduce(points, axis=None) < -most:
        present = np.where(np.isnan(points), 0.0, points)
        raise DataError(f"X holds {_first_beyond(present, most)}; drop such rows")
    empty = np.flatnonzero(np.isnan(points[:, 0]))
    empty = empty[np.isnan(points[empty]).all(axis=1)]
    if len(empty):
        rows = "1 row" if len(empty) == 1 else f"{len(empty):,} rows"
        raise DataError(
            f"{rows} of X, the first at index {empty[0]}: all values are missing; drop such rows"
        )


def square_unit(*arrays: Points) -> float:
    """Return the unit of very small points: a power of two.

    Divide points by it, so that squares of their differences don't underflow. The division is
    exact. The unit is 1.0 if no |x| is below 2^-400. Missing values are ignored.
    """
    sizes = [np.abs(array[~np.isnan(array)] if has_gaps(array) else array) for array in arrays]
    for size in sizes:
        if size.min(initial=SMALL) < SMALL and size.min(initial=SMALL, where=size > 0.0) < SMALL:
            exponent = max(int(np.frexp(each.max(initial=0.0))[1]) for each in sizes)
            exponent = min(max(exponent - _LARGE_EXPONENT, SMALLEST_EXPONENT), 0)
            return float(np.ldexp(1.0, exponent))
    return 1.0


def as_sample_weight(w: ArrayLike | None, n: int) -> Array:
    """Return `w` as float64 of shape (n,); None stands for a weight of 1 for each point.

    Raises
    ------
    DataError
        If the shape isn't (n,), or a weight is neither 0 nor from 1e-100 to 1e100.
    """
    if w is None:
        return np.ones(n)
    try:
        weights = np.asarray(w, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"sample weights aren't numbers: {error}") from None
    if weights.shape != (n,):
        raise DataError(f"sample weights have shape {weights.shape}; expected ({n},)")
    if n and not (weights.min() >= 0.0 and weights.max() <= MAX_MAGNITUDE):
        first = weights[~((weights >= 0.0) & (weights <= MAX_MAGNITUDE))][0]
        raise DataError(
            f"sample weights hold {first:g}; expected numbers from 0 to {MAX_MAGNITUDE:g}"
        )
    if n and not are_weights(weights):
        smallest = weights[weights > 0.0].min()
        raise DataError(
            f"sample weight {smallest:g} is too small; multiply all weights by the same number, so "
            f"that each weight is 0 or at least {MIN_WEIGHT:g}"
        )
    return weights


def are_weights(w: Array) -> bool:
    """Return whether all numbers of a non-empty array are weights: 0, or 1e-100 to 1e100."""
    if not w.max() <= MAX_MAGNITUDE:
        return False
    return bool(w.min() >= MIN_WEIGHT or is_weight(w).all())


def is_weight(w: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which numbers are weights: 0, or 1e-100 to 1e100."""
    return np.asarray((w == 0.0) | ((w >= MIN_WEIGHT) & (w <= MAX_MAGNITUDE)))


def distinct_points(X: Array, w: Array) -> tuple[Array, Array]:
    """Return the distinct rows of `X` in lexicographic order, and the total weight of each.

    Missing values are equal to each other, and larger than all numbers.
    """
    if has_gaps(X):
        rows, mass = distinct_points(np.where(np.isnan(X), _LARGER, X), w)
        return np.where(rows == _LARGER, np.nan, rows), mass
    distinct, index = np.unique(X, axis=0, return_inverse=True)
    weight = np.bincount(index.ravel(), weights=w, minlength=len(distinct))
    return distinct, weight.astype(np.float64)
