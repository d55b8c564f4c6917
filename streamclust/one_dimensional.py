r"""K-means in one dimension, solved for good: the global optimum by dynamic programming.

Clusters of sorted numbers are intervals, so the best cost of the first i numbers in k clusters is

    F_k(i) = min_j F_(k-1)(j) + cost(j, i),    cost(j, i) = sum_{j < n <= i} w_n (x_n - mean)^2

(Fisher 1958; Wang & Song 2011, Ckmeans.1d.dp). The best j never falls as i rises, so a layer is
solved by divide and conquer in O(N log N), O(K N log N) in all, with no random choice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import Array, Labels
from streamclust.errors import TooFewPointsError

EXACT_CELLS = 1 << 21
"""Distinct values times clusters up to which the answer is exact; a few seconds' work."""

_Long = NDArray[np.longdouble]


def optimal_centroids(x: Array, w: Array, n_clusters: int) -> Array:
    """Return the centroids that minimise sum_n w_n min_k (x_n - u_k)^2, in ascending order.

    With more than `EXACT_CELLS` / K distinct values the values are first gathered into that many
    bins of equal rank, and the answer is the optimum over the bins' means.

    Parameters
    ----------
    x : array of shape (N,)
    w : array of shape (N,)
        Sample weights; points of weight 0 are no points.
    n_clusters : int

    Returns
    -------
    array of shape (K,)

    Raises
    ------
    TooFewPointsError
        If there are fewer than K distinct values of positive weight.
    """
    values, weights = _distinct(x[w > 0.0], w[w > 0.0])
    if len(values) < n_clusters:
        raise TooFewPointsError(
            f"{len(values)} distinct points are too few for {n_clusters} components; "
            "give more points or fewer components"
        )
    values, weights = _binned(values, weights, max(EXACT_CELLS // n_clusters, n_clusters))
    return _averages(values, weights, _partition(values, weights, n_clusters))


def _distinct(x: Array, w: Array) -> tuple[Array, Array]:
    """Return the values in ascending order, each once, with its total weight."""
    values, index = np.unique(x, return_inverse=True)
    return values, np.bincount(index, weights=w, minlength=len(values)).astype(np.float64)


def _binned(x: Array, w: Array, bins: int) -> tuple[Array, Array]:
    if len(x) <= bins:
        return x, w
    edges = np.linspace(0, len(x), bins + 1).astype(np.intp)
    return _averages(x, w, edges), np.add.reduceat(w, edges[:-1])


def _averages(x: Array, w: Array, edges: Labels) -> Array:
    """Return the average of each interval, taken about its first value."""
    starts = edges[:-1]
    first = np.repeat(x[starts], np.diff(edges))
    return np.asarray(
        x[starts] + np.add.reduceat(w * (x - first), starts) / np.add.reduceat(w, starts)
    )


def _partition(x: Array, w: Array, K: int) -> Labels:
    """Return the edges (K + 1,) of the best intervals of `x`, which ascends without repeats."""
    n = len(x)
    sums = _Sums(x, w)
    cost = np.full(n + 1, np.inf, dtype=np.longdouble)
    cost[0] = 0.0
    splits = np.empty((K, n + 1), dtype=np.int32)
    for k in range(1, K + 1):
        cost, splits[k - 1] = _layer(sums, cost, k)
    edges = np.empty(K + 1, dtype=np.intp)
    edges[K] = n
    for k in range(K, 0, -1):
        edges[k - 1] = splits[k - 1, edges[k]]
    return edges


class _Sums:
    """Running sums of 1, x and x^2, centred and scaled: what costs are differences of."""

    def __init__(self, x: Array, w: Array) -> None:
        # Powers of two, so that a change of units changes nothing else.
        share = w / 2.0 ** np.floor(np.log2(w.max()))
        offset = x - x[0]
        centred = offset - (share @ offset) / share.sum()
        size = float(np.abs(centred).max()) or 1.0
        unit = (centred / 2.0 ** np.floor(np.log2(size))).astype(np.longdouble)
        self.n = len(x)
        self._sums = tuple(
            np.concatenate([[np.longdouble(0.0)], np.cumsum(term, dtype=np.longdouble)])
            for term in (share.astype(np.longdouble), share * unit, share * unit * unit)
        )

    def cost(self, j: Labels, i: Labels) -> _Long:
        """Return the cost of one cluster of the values j to i - 1."""
        weight, first, second = (total[i] - total[j] for total in self._sums)
        return np.asarray(np.maximum(second - first * first / weight, 0.0))


def _layer(sums: _Sums, before: _Long, k: int) -> tuple[_Long, NDArray[np.int32]]:
    """Return F_k and where its last cluster begins, from F_(k-1), for all i at once.

    Level by level of the recursion: a midpoint's choice lies between those of its neighbours.
    """
    n = sums.n
    cost = np.full(n + 1, np.inf, dtype=np.longdouble)
    split = np.full(n + 1, k - 1, dtype=np.int32)
    step = 1 << max(n - k, 0).bit_length()
    while step:
        at = np.arange(k - 1 + step, n + 1, 2 * step)
        if len(at):
            above = at + step
            low = split[at - step].astype(np.intp)
            high = np.where(above <= n, split[np.minimum(above, n)], at - 1)
            _choose(sums, before, at, low, np.minimum(high, at - 1), cost, split)
        step >>= 1
    return cost, split


def _choose(
    sums: _Sums,
    before: _Long,
    at: Labels,
    low: Labels,
    high: Labels,
    cost: _Long,
    split: NDArray[np.int32],
) -> None:
    """Set `cost` and `split` (OUT) of each `at`: the best j of those from `low` to `high`."""
    lengths = high - low + 1
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    owner = np.repeat(np.arange(len(at)), lengths)
    j = np.arange(len(owner)) + (low - starts)[owner]
    total = before[j] + sums.cost(j, at[owner])
    least = np.minimum.reduceat(total, starts)
    hits = np.flatnonzero(total == least[owner])
    first = hits[np.searchsorted(owner[hits], np.arange(len(at)))]
    cost[at], split[at] = least, j[first]
