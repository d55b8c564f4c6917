"""What counts as points and as sample weights: one place that says yes or no."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamclust.errors import DataError

Array = NDArray[np.float64]
"""Statistics, parameters and points: float64 throughout."""

Points = NDArray[np.float64] | NDArray[np.float32]
"""Points as kernels take them: float32 is as exact where that is what they came as."""

Labels = NDArray[np.intp]
"""Component numbers, 0 to K - 1."""

CovarianceType = Literal["full", "tied", "diag", "spherical"]
"""Shapes of a mixture's covariances: (K, D, D), (D, D), (K, D), (K,)."""

MAX_MAGNITUDE = 1e100
"""Largest |x| and largest sample weight: a weighted sum of squares of any real size is finite."""

MIN_WEIGHT = 1e-100
"""Smallest sample weight besides 0: sums of smaller ones would lose digits, or be 0."""

SMALL = 2.0**-400
"""Numbers from this on have differences of at least 2^-452, whose squares don't underflow."""

_LARGE_EXPONENT = 300
"""Power of two up to which numbers are brought where small ones are among them."""

SMALLEST_EXPONENT = -1000
"""Power of two of the smallest unit: its inverse is a number too."""


def are_sane(values: NDArray[np.floating]) -> bool:
    """Return whether all values are numbers of a magnitude up to `MAX_MAGNITUDE`."""
    # NaN is neither; two looks at the numbers are faster than a copy of them
    if not values.size:
        return True
    return float(values.max()) <= MAX_MAGNITUDE and float(values.min()) >= -MAX_MAGNITUDE


def as_points(X: ArrayLike, n_features: int | None = None) -> Array:
    """Return `X` as a C-contiguous float64 array of shape (N, D), or say what is wrong with it.

    Parameters
    ----------
    X : array-like of shape (N, D)
        Points, one a row; N may be 0.
    n_features : int, optional
        The D that is expected.

    Raises
    ------
    DataError
        If `X` isn't two-dimensional, has no features or another D, or holds anything but numbers
        of a magnitude up to 1e100.
    """
    return _checked(X, np.float64, n_features)


def as_points_as_given(X: ArrayLike, n_features: int | None = None) -> Points:
    """Return the same, but of float32 points as they are, which kernels take too."""
    single = isinstance(X, np.ndarray) and X.dtype == np.float32
    return _checked(X, np.float32 if single else np.float64, n_features)


def _checked(X: ArrayLike, dtype: type[Any], n_features: int | None) -> NDArray[Any]:
    try:
        points = np.asarray(X, dtype=dtype, order="C")
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"X isn't a table of numbers: {error}") from None
    if points.ndim != 2 or (len(points) and not points.shape[1]):
        raise DataError(f"X has shape {points.shape}; expected (N, D): one point a row")
    if n_features is not None and points.shape[1] != n_features:
        raise DataError(f"X has {points.shape[1]} features; expected {n_features}")
    if not are_sane(points):
        raise DataError(f"X holds NaN, infinity or a magnitude beyond {MAX_MAGNITUDE:g}; drop them")
    return points


def square_unit(*arrays: Points) -> float:
    """Return the power of two to divide by, so that squares of differences don't underflow.

    It is 1.0 where no number is so small. Dividing by it is exact, so all else stays the same.
    """
    sizes = [np.abs(array) for array in arrays]
    for size in sizes:
        if size.min(initial=SMALL) < SMALL and size.min(initial=SMALL, where=size > 0.0) < SMALL:
            exponent = max(int(np.frexp(each.max(initial=0.0))[1]) for each in sizes)
            exponent = min(max(exponent - _LARGE_EXPONENT, SMALLEST_EXPONENT), 0)
            return float(np.ldexp(1.0, exponent))
    return 1.0


def as_sample_weight(w: ArrayLike | None, n: int) -> Array:
    """Return `w` as float64 of shape (n,); None means that every point counts 1.

    Raises
    ------
    DataError
        If the shape isn't (n,) or a weight is NaN, or neither 0 nor from 1e-100 to 1e100.
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
        raise DataError(f"sample weights must be numbers from 0 to {MAX_MAGNITUDE:g}")
    if n and not are_weights(weights):
        smallest = weights[weights > 0.0].min()
        raise DataError(
            f"sample weight {smallest:g} is too small; multiply all weights by one number, so that "
            f"each is 0 or at least {MIN_WEIGHT:g}"
        )
    return weights


def are_weights(w: Array) -> bool:
    """Return whether all numbers of a non-empty array are weights: 0, or 1e-100 to 1e100."""
    if not w.max() <= MAX_MAGNITUDE:
        return False
    return bool(w.min() >= MIN_WEIGHT or ((w == 0.0) | (w >= MIN_WEIGHT)).all())


def distinct_points(X: Array, w: Array) -> tuple[Array, Array]:
    """Return the distinct rows of `X` in lexicographic order, and the sum of each one's weights."""
    distinct, index = np.unique(X, axis=0, return_inverse=True)
    weight = np.bincount(index.ravel(), weights=w, minlength=len(distinct))
    return distinct, weight.astype(np.float64)
