"""The variance of each feature: a robust estimate that doesn't decay with the statistics.

The ridge of the covariances of a mixture is relative to the variance of each feature. The running
statistics can't give this variance. After a pause they may consist of one point, whose variance is
zero; and one sentinel value such as 2147483647 makes their variance nearly infinite. So the
variance is an M-estimate with bounded influence (Huber 1981, section 5.2). It is estimated from the
first sample, and then updated by blocks of points, without regard to the weights of older points.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from streamclust.arrays import has_gaps
from streamclust.models.present import by_feature

if TYPE_CHECKING:
    from streamclust.arrays import Array, Points

_BOUND = 25.0
"""Squared deviation, in variances, above which the influence of a point no longer grows. So 1 / 25
of the points may be arbitrarily far. If no point is beyond it, the result is the plain variance."""

_MARGIN = 1.5
"""Least ratio of points that differ from the median to points that may be far."""

_PASSES = 200
"""Largest number of fixed-point iterations."""

_PRECISION = 1e-6
"""Relative change of the variance at which the iteration ends."""

_BLOCK = 256
"""Number of points per update of the stored variance."""

_CELLS = 1 << 16
"""Largest number of values in a block of more than `_MIN_BLOCK` points."""

_MIN_BLOCK = 64

_MAX_PER_BATCH = 32
"""Largest number of points from one batch, so that a block spans several batches."""

_STEP = 0.5
"""Step size of an update of the logarithm: about two blocks determine the variance."""


def robust_variance(X: Points, w: Array) -> Array:
    """Return each feature's variance, (D,), with bounded influence of far points.

    The variance s^2 solves sum_n w_n min(z_n^2, b^2) = sum_n w_n with z_n = (x_n - c) / s and the
    center c with sum_n w_n clip(z_n, -b, b) = 0 (Huber's Proposal 2, with the rho function of an
    M-estimate of scale). If no point is beyond b standard deviations, s^2 is the plain variance.
    b^2 is 25; it is smaller for few points, and larger for a feature that is nearly always equal to
    its median. A feature that differs from its median in fewer than two points has the variance 0.
    Missing values are ignored.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        Positive sample weights; only their ratios count.
    """
    if has_gaps(X):
        return np.concatenate([robust_variance(*each) for each in by_feature(X, w)])
    if not len(X):
        return np.zeros(X.shape[1])
    X, share = np.asarray(X, np.float64), w / w.max()
    share = share / share.sum()
    n = 1.0 / float(share @ share)  # effective sample size (Kish 1965)
    bound = min(_BOUND, max(0.5 * n, 2.0))
    deviation = X - X[0]  # exactly 0 where a feature never varies
    center = share @ deviation
    square = (deviation - center) ** 2
    variance: Array = share @ square
    for d in np.flatnonzero(square.max(axis=0) > bound * variance):
        variance[d] = min(variance[d], _bounded(X[:, d], share, n, bound))
    return variance


def _bounded(x: Array, share: Array, n: float, bound: float) -> float:
    """Return the variance of one feature, (N,), with bounded influence of each point."""
    order = np.argsort(x, kind="stable")
    x, share = x[order], share[order]
    middle = min(int(np.searchsorted(np.cumsum(share), 0.5)), len(x) - 1)
    x = x - x[middle]
    different = float(share[x != 0.0].sum())
    if different * n < _MARGIN:
        return 0.0
    bound = max(bound, _MARGIN / different)
    typical = np.sort(np.abs(x[x != 0.0]))  # their lower median
    center, variance = 0.0, float(typical[(len(typical) - 1) // 2]) ** 2
    for _ in range(_PASSES):
        before, limit = variance, np.sqrt(bound * variance)
        clipped = np.clip(x - center, -limit, limit)
        variance = float(share @ clipped**2)
        center += float(share @ clipped)
        if abs(variance - before) <= _PRECISION * before:
            break
    return variance


def positive(variance: Array) -> Array:
    """Return variances with zeros replaced by the average; 1 if all variances are 0."""
    average = float(variance.mean()) or 1.0
    return np.where(variance > 0.0, variance, average)


@dataclass(frozen=True, eq=False)
class Spread:
    """The stored variance of each feature, and the points of the next block.

    Parameters
    ----------
    variance : array of shape (D,)
        Positive variances.
    X, w : arrays of shape (M, D) and (M,)
        Points of the incomplete block, and their weights.
    """

    variance: Array
    X: Array = field(default_factory=lambda: np.empty((0, 0)))
    w: Array = field(default_factory=lambda: np.empty(0))

    def observe(self, X: Points, w: Array) -> Spread:
        """Return the spread after a batch of points (N, D) with weights (N,).

        A block has 256 points, at most 32 from each batch. A complete block moves the logarithm of
        each variance halfway to that of the block. So no single point sets the variance, and a
        pause changes nothing. After a change of units by 1,000, the variance is right to 10 % in 8
        blocks. A feature that doesn't vary in a block keeps its variance.
        """
        if len(X) > _MAX_PER_BATCH:
            chosen = (np.arange(_MAX_PER_BATCH) * len(X)) // _MAX_PER_BATCH
            X, w = X[chosen], w[chosen]
        rows, w = np.array(X, np.float64), np.array(w)  # copies: the caller may change the batch
        if len(self.w):
            rows, w = np.concatenate([self.X, rows]), np.concatenate([self.w, w])
        if len(w) < max(_MIN_BLOCK, min(_BLOCK, _CELLS // rows.shape[1])):
            return replace(self, X=rows, w=w)
        of_block = robust_variance(rows, w)
        of_block_or_before = np.where(of_block > 0.0, of_block, self.variance)
        variance = np.exp(
            (1.0 - _STEP) * np.log(self.variance) + _STEP * np.log(of_block_or_before)
        )
        return Spread(np.where(of_block > 0.0, variance, self.variance))
