"""Checks and means of the present values of each feature, for points with gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamclust.arrays import has_gaps
from streamclust.errors import TooFewPointsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.arrays import Array, Points


def check_features(X: Array) -> None:
    """Refuse points (N, D) if a feature has no value in any of them.

    Raises
    ------
    TooFewPointsError
        The message has the numbers of the features without a value, counted from 0.
    """
    if not has_gaps(X):
        return
    never = np.isnan(X).all(axis=0)
    if never.any():
        names = ", ".join(map(str, np.flatnonzero(never)[:8].tolist()))
        more = ", ..." if never.sum() > 8 else ""
        what = "feature" if never.sum() == 1 else "features"
        raise TooFewPointsError(
            f"{what} {names}{more} (counted from 0): missing in all {len(X):,} points; give points "
            "with a value, or leave the feature out"
        )


def by_feature(X: Points, w: Array) -> Iterator[tuple[Array, Array]]:
    """Yield the present values of each feature, (n, 1), and the weights of their points, (n,)."""
    for d in range(X.shape[1]):
        present = ~np.isnan(X[:, d])
        yield np.asarray(X[present, d : d + 1], np.float64), w[present]


def present_mean(X: Array, w: Array) -> Array:
    """Return the mean of each feature over the points that have it, (D,); 0 without a value."""
    mass = np.where(np.isnan(X), 0.0, w[:, None])
    # About a value of the feature, so that points far from the origin lose no digits.
    present = ~np.isnan(X)
    first = X[present.argmax(axis=0), np.arange(X.shape[1])]
    start = np.where(np.isnan(first), 0.0, first)
    offset = np.where(mass > 0.0, X - start, 0.0)
    total = mass.sum(axis=0)
    return np.asarray(start + (mass * offset).sum(axis=0) / np.where(total > 0.0, total, 1.0))


def filled_by_mean(X: Array, w: Array) -> Array:
    """Return points with the mean of the feature in place of missing values."""
    return np.where(np.isnan(X), present_mean(X, w), X)
