r"""K-means in one dimension: the global optimum by dynamic programming.

Clusters of sorted numbers are intervals, so the best cost of the first i numbers in k clusters is

    F_k(i) = min_j F_(k-1)(j) + cost(j, i),    cost(j, i) = sum_{j < n <= i} w_n (x_n - mean)^2

(Fisher 1958; Wang & Song 2011, Ckmeans.1d.dp). The best j never falls as i rises. So divide and
conquer computes F_k for one k in O(N log N), and for all k in O(K N log N). Nothing is random.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import Array, Labels
from streamclust.errors import TooFewPointsError

EXACT_CELLS = 1 << 21
"""Largest product of distinct values and clusters with an exact result; a few seconds."""

_RANGE_EXPONENT = 450
"""The range of the values is scaled to about 2 to this power."""


def optimal_centroids(x: Array, w: Array, n_clusters: int) -> Array:
    """Return the centroids that minimise sum_n w_n min_k (x_n - u_k)^2, in ascending order.

    If there are more than `EXACT_CELLS` / K distinct values, the values are first put into that
    many bins of equal rank, and the result is the optimum for the means of the bins.

    Parameters
    ----------
    x : array of shape (N,)
    w : array of shape (N,)
        Sample weights; points of weight 0 are ignored.
    n_clusters : int

    Returns
    -------
    array of shape (K,)

    Raises
    ------
    TooFewPointsError
        If there are fewer than K distinct values of positive weight.
    """
    values, index = np.unique(x[w > 0.0], return_inverse=True)
    weights = np.bincount(index, weights=w[w > 0.0], minlength=len(values)).astype(np.float64)
    if len(values) < n_clusters:
        raise TooFewPointsError(
            f"{len(values)} distinct points are too few for {n_clusters} components; "
            "give more points or fewer components"
        )
    values, weights = _binned(values, weights, max(EXACT_CELLS // n_clusters, n_clusters))
    return _averages(values, weights, _partition(values, weights, n_clusters))


def _binned(x: Array, w: Array, bins: int) -> tuple[Array, Array]:
    """Return the averages and weights of bins of ascending values.

    Most edges of the bins are at equal ranks, 1 / 16 of them in the widest gaps, so that a value
    far from its neighbours has its own bin.
    """
    if len(x) <= bins:
        return x, w
    wide = max(1, bins // 16)
    ranks = np.linspace(0, len(x), bins - wide + 1).astype(np.intp)
    edges = np.union1d(ranks, 1 + np.argpartition(np.diff(x), -wide)[-wide:])
    return _averages(x, w, edges), np.add.reduceat(w, edges[:-1])


def _averages(x: Array, w: Array, edges: Labels) -> Array:
    """Return the average of each interval, computed about its first value."""
    starts = edges[:-1]
    first = np.repeat(x[starts], np.diff(edges))
    return np.asarray(
        x[starts] + np.add.reduceat(w * (x - first), starts) / np.add.reduceat(w, starts)
    )


def _partition(x: Array, w: Array, K: int) -> Labels:
    """Return the edges (K + 1,) of the best intervals of `x`, which ascends strictly."""
    n = len(x)
    if K == 1:
        return np.array([0, n])
    intervals = _Intervals(x, w, inner=K > 2)
    cost, splits = intervals.heads, []
    for k in range(2, K):
        cost, split = _layer(intervals, cost, k)
        splits.append(split)
    edges = [n, int((cost[:-1] + intervals.tails).argmin())]
    for split in reversed(splits):
        edges.append(int(split[edges[-1]]))
    return np.array([*edges, 0])[::-1]


class _Runs(NamedTuple):
    """For each value, a run of neighbouring values that begins or ends with it.

    Parameters
    ----------
    weight : array of shape (n,)
    offset : array of shape (n,)
        Distance of the mean of the run from the end of the run that isn't this value.
    cost : array of shape (n,)
        Sum of w (x - mean)^2.
    """

    weight: Array
    offset: Array
    cost: Array

    def at(self, index: Any) -> _Runs:
        return _Runs(self.weight[index], self.offset[index], self.cost[index])


class _Intervals:
    """The cost of every interval of ascending values, to a few units in the last place.

    Differences of running sums would be too inexact: for a narrow cluster, large squares of far
    values would cancel. So costs are only added. The union of two neighbouring runs of weights a
    and b, whose means have the distance d, costs d^2 a b / (a + b) more than both runs (Chan, Golub
    & LeVeque 1983). d is a sum of distances. For each level l, the values are divided into blocks
    of 2^l, and each value has the run from itself to the middle of its block. An interval consists
    of two such runs, at the level of the highest bit in which the indices of its ends differ.

    Parameters
    ----------
    x, w : arrays of shape (n,)
        Strictly ascending values, and positive weights.
    inner : bool
        Whether `cost` is needed; otherwise an array of n log n numbers is not allocated.
    """

    def __init__(self, x: Array, w: Array, *, inner: bool) -> None:
        # Scaled by powers of two, which is exact. No square overflows, and no square of a gap
        # above 2^-980 of the range underflows.
        self._x = np.ldexp(x, _RANGE_EXPONENT - np.frexp(x[-1] - x[0])[1])
        share, none = np.ldexp(w, -np.frexp(w.max())[1]), np.zeros(len(x))
        heads = tails = _Runs(share, none, none)  # from the start of a block, and to its end
        n, depth = len(x), (len(x) - 1).bit_length()
        self._levels = _Runs(*np.ones((3, depth + 1 if inner else 0, n)))
        for level in range(depth):
            if inner:
                second_half = (np.arange(n) >> level & 1).astype(np.bool_)
                for part, *ends in zip(self._levels, heads, tails, strict=True):
                    part[level + 1] = np.where(second_half, *ends)
            heads, tails = self._doubled(heads, tails, 1 << level)
        self.heads = np.concatenate([[np.inf], heads.cost])
        self.tails = tails.cost

    def _doubled(self, heads: _Runs, tails: _Runs, half: int) -> tuple[_Runs, _Runs]:
        """Return the runs of blocks of twice the size `half`."""
        n = len(self._x)
        index = np.arange(n)
        middle = (index & -2 * half) + half
        first = np.flatnonzero((index < middle) & (middle < n))
        second = np.flatnonzero(index >= middle)
        new_heads, new_tails = (_Runs(*(part.copy() for part in runs)) for runs in (heads, tails))

        m = middle[second]
        weight, apart, cost = self._union(tails.at(m - half), m, heads.at(second))
        offset = heads.offset[m - 1] + apart * (heads.weight[second] / weight)
        for part, value in zip(new_heads, (weight, offset, cost), strict=True):
            part[second] = value

        m = middle[first]
        last = np.minimum(m + half, n) - 1
        weight, apart, cost = self._union(tails.at(first), m, heads.at(last))
        offset = tails.offset[m] + apart * (tails.weight[first] / weight)
        for part, value in zip(new_tails, (weight, offset, cost), strict=True):
            part[first] = value
        return new_heads, new_tails

    def _union(self, left: _Runs, middle: Labels, right: _Runs) -> tuple[Array, Array, Array]:
        """Return weight, distance of the means, and cost of two runs that meet before `middle`."""
        weight = left.weight + right.weight
        apart = left.offset + (self._x[middle] - self._x[middle - 1]) + right.offset
        between = apart * apart * left.weight * (right.weight / weight)
        return weight, apart, left.cost + right.cost + between

    def cost(self, j: Labels, i: Labels) -> Array:
        """Return the cost of one cluster of the values j to i - 1."""
        last = i - 1
        level = np.frexp(j ^ last)[1]
        middle = last >> np.maximum(level - 1, 0) << np.maximum(level - 1, 0)
        left, right = self._levels.at((level, j)), self._levels.at((level, last))
        return np.where(level > 0, self._union(left, middle, right)[2], 0.0)  # one value: level 0


def _layer(intervals: _Intervals, before: Array, k: int) -> tuple[Array, NDArray[np.int32]]:
    """Return F_k(i) and the start of the last cluster for all i, from `before`, which is F_(k-1).

    Each pass of the loop halves the distance between the i that are done. The best j of a new i
    lies between the best j of its two neighbours.
    """
    n = len(before) - 1
    cost = np.full(n + 1, np.inf)
    split = np.full(n + 1, k - 1, dtype=np.int32)
    step = 1 << max(n - k, 0).bit_length()
    while step:
        i = np.arange(k - 1 + step, n + 1, 2 * step)
        if len(i):
            next_i = i + step
            low = split[i - step].astype(np.intp)
            high = np.where(next_i <= n, split[np.minimum(next_i, n)], i - 1)
            _choose(intervals, before, i, low, np.minimum(high, i - 1), cost, split)
        step >>= 1
    return cost, split


def _choose(
    intervals: _Intervals,
    before: Array,
    i: Labels,
    low: Labels,
    high: Labels,
    cost: Array,
    split: NDArray[np.int32],
) -> None:
    """Set `cost[i]` and `split[i]` to the least cost and its j, from `low` to `high`."""
    lengths = high - low + 1
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    owner = np.repeat(np.arange(len(i)), lengths)
    j = np.arange(len(owner)) + (low - starts)[owner]
    total = before[j] + intervals.cost(j, i[owner])
    least = np.minimum.reduceat(total, starts)
    hits = np.flatnonzero(total == least[owner])
    first = hits[np.searchsorted(owner[hits], np.arange(len(i)))]
    cost[i], split[i] = least, j[first]
