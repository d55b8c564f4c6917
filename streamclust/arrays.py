"""What counts as points and as sample weights: one place that says yes or no."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamclust.errors import DataError

Array = NDArray[np.float64]
"""Statistics, parameters and points: float64 throughout."""

Labels = NDArray[np.intp]
"""Component numbers, 0 to K - 1."""

MAX_MAGNITUDE = 1e150
"""Largest |x| that is accepted: its square, summed over any real dimension, is still finite."""


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
        If `X` isn't two-dimensional, has another D, or holds NaN, infinity or a magnitude
        beyond 1e150.
    """
    points = np.ascontiguousarray(X, dtype=np.float64)
    if points.ndim != 2:
        raise DataError(f"X has shape {points.shape}; expected (N, D): one point a row")
    if n_features is not None and points.shape[1] != n_features:
        raise DataError(f"X has {points.shape[1]} features; expected {n_features}")
    if points.size and not np.abs(points).max() <= MAX_MAGNITUDE:
        raise DataError(f"X holds NaN, infinity or a magnitude beyond {MAX_MAGNITUDE:g}; drop them")
    return points


def as_sample_weight(w: ArrayLike | None, n: int) -> Array:
    """Return `w` as float64 of shape (n,); None means that every point counts 1.

    Raises
    ------
    DataError
        If the shape isn't (n,) or a weight is negative, NaN or infinite.
    """
    if w is None:
        return np.ones(n)
    weights = np.asarray(w, dtype=np.float64)
    if weights.shape != (n,):
        raise DataError(f"sample weights have shape {weights.shape}; expected ({n},)")
    if n and not (weights.min() >= 0.0 and weights.max() < np.inf):
        raise DataError("sample weights must be finite and at least 0")
    return weights
