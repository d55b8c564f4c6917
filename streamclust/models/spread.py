"""The scale of each feature: robust, and remembered in points rather than in mass.

The floor of a mixture's covariances is a share of each feature's variance. That variance may not
be taken from the running statistics: after a pause they are worth one point, whose variance is
zero, and one sentinel value such as 2147483647 makes their variance as good as infinite. So it is
an M-estimate with bounded influence (Huber 1981, section 5.2), learned from the first sample and
then followed by blocks of points, whatever these weigh against older ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from streamclust.arrays import Array, Points

_REACH = 25.0
"""Squared deviation, in variances, beyond which a point counts no more: up to 1 / 25 of the points
may be arbitrarily far. Points of light tails lie within it, and have the plain variance."""

_MARGIN = 1.5
"""Factor by which the points that deviate at all have to outnumber those that may be far."""

_PASSES = 200
"""Of the fixed-point iteration, at most."""

_PRECISION = 1e-6
"""Relative change of all variances at which the iteration ends."""

_BLOCK = 256
"""Points after which the remembered variance is compared with the stream."""

_CELLS = 1 << 16
"""Numbers in a block, at most, as long as it has `_FEW` points."""

_FEW = 64

_OF_A_BATCH = 32
"""Points of a batch that a block takes, at most, so that a block is never one moment alone."""

_STEP = 0.5
"""Share of the way to a block's variance, in its logarithm: a memory of about two blocks."""


def robust_variance(X: Points, w: Array) -> Array:
    """Return each feature's variance, (D,), without what a few far points add to it.

    The variance s^2 solves sum_n w_n min(z_n^2, b^2) = sum_n w_n with z_n = (x_n - c) / s and the
    center c with sum_n w_n clip(z_n, -b, b) = 0 (Huber's Proposal 2, with the rho function of an
    M-estimate of scale). Where no point is beyond b standard deviations it is the plain variance.
    b^2 is 25, less for few points, and more for a feature that is seldom different from its usual
    value. A feature that differs in less than two points never varies: its variance is 0.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        Positive sample weights; only their ratios count.
    """
    X, share = np.asarray(X, np.float64), w / w.max()
    share = share / share.sum()
    n = 1.0 / float(share @ share)  # points of equal say (Kish 1965)
    far = min(_REACH, max(0.5 * n, 2.0))
    deviation = X - X[0]  # exactly 0 where a feature never varies
    center = share @ deviation
    square = (deviation - center) ** 2
    variance = share @ square
    varies = (deviation != 0.0).any(axis=0)
    variance = np.where(varies, variance, 0.0)
    for d in np.flatnonzero(varies & (square.max(axis=0) > far * variance)):
        variance[d] = min(variance[d], _bounded(X[:, d], share, n, far))
    return variance


def _bounded(x: Array, share: Array, n: float, far: float) -> float:
    """Return the variance of one feature, (N,), with bounded influence of each point."""
    order = np.argsort(x, kind="stable")
    x, share = x[order], share[order]
    middle = min(int(np.searchsorted(np.cumsum(share), 0.5)), len(x) - 1)
    x = x - x[middle]
    different = float(share[x != 0.0].sum())
    if different * n < _MARGIN:
        return 0.0
    far = max(far, _MARGIN / different)
    typical = np.sort(np.abs(x[x != 0.0]))  # a value that at least half of these reach
    center, variance = 0.0, float(typical[(len(typical) - 1) // 2]) ** 2
    for _ in range(_PASSES):
        before, reach = variance, np.sqrt(far * variance)
        clipped = np.clip(x - center, -reach, reach)
        variance = float(share @ clipped**2)
        center += float(share @ clipped)
        if abs(variance - before) <= _PRECISION * before:
            break
    return variance


def positive(variance: Array) -> Array:
    """Return variances with the average of all in place of those that are 0; 1 if all are."""
    average = float(variance.mean()) or 1.0
    return np.where(variance > 0.0, variance, average)


@dataclass(frozen=True, eq=False)
class Spread:
    """The remembered variance of each feature, and the newest points to compare it with.

    Parameters
    ----------
    variance : array of shape (D,)
        Positive.
    X, w : arrays of shape (M, D) and (M,)
        Points, and their weights, of the block that is not complete.
    """

    variance: Array
    X: Array = field(default_factory=lambda: np.empty((0, 0)))
    w: Array = field(default_factory=lambda: np.empty(0))

    def observe(self, X: Points, w: Array) -> Spread:
        """Return the spread after a batch of points (N, D) with weights (N,).

        A block of 256 points, at most 32 of each batch, that is complete moves the logarithm of
        each variance half of the way to its own. So no point sets the scale, a pause changes
        nothing, and a change of units by 1,000 is followed to within 10 % in 8 blocks. A feature
        that doesn't vary in a block keeps its variance.
        """
        if len(X) > _OF_A_BATCH:
            chosen = (np.arange(_OF_A_BATCH) * len(X)) // _OF_A_BATCH
            X, w = X[chosen], w[chosen]
        rows, w = np.array(X, np.float64), np.array(w)  # copies: a batch is its caller's
        if len(self.w):
            rows, w = np.concatenate([self.X, rows]), np.concatenate([self.w, w])
        if len(w) < _block(rows.shape[1]):
            return replace(self, X=rows, w=w)
        found = robust_variance(rows, w)
        seen = np.where(found > 0.0, found, self.variance)
        variance = np.exp((1.0 - _STEP) * np.log(self.variance) + _STEP * np.log(seen))
        return Spread(np.where(found > 0.0, variance, self.variance))


def _block(n_features: int) -> int:
    return max(_FEW, min(_BLOCK, _CELLS // n_features))
