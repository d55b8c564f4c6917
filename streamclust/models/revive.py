"""Revival of dying components. Mass is moved, never created or lost.

A dying K-means cluster is moved to a point of the batch. A dying mixture component is replaced by
half of the widest component. Both keep the total weight and the total moments.
`docs/internals/components.md` compares them with other rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from streamclust import kernels
from streamclust.models.covariance import COVARIANCES, Covariance
from streamclust.models.stats import recentre

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamclust.arrays import Array, Labels
    from streamclust.models.stats import Stats

_NOTHING = 1e-9
"""A mass below this part of its value before a subtraction is a rounding error."""


def reseed(
    stats: Stats, dying: Iterable[int], X: Array, w: Array, rng: np.random.Generator
) -> tuple[Stats, tuple[int, ...]]:
    """Move each dying K-means cluster to a point of the batch.

    The remaining mass of the cluster joins the nearest other cluster. The new place is a point of
    the batch, drawn as in k-means++ with probability proportional to w_n d^2(x_n). Points of the
    batch that are nearer to the new place than to their own centroid join the cluster. A move that
    would not lower J is not made, so J cannot rise.

    Parameters
    ----------
    stats : Stats
        Statistics that include the batch, assigned to the nearest of `stats.reference`.
    dying : iterable of int
    X, w : arrays of shape (N, D) and (N,)
        The batch.
    rng : numpy.random.Generator

    Returns
    -------
    tuple
        The statistics, and the moved clusters. No cluster is moved if every point of the batch
        lies on a centroid.
    """
    if len(stats.weight) == 1:
        return stats, ()
    labels, sqdist = kernels.assign(X, stats.reference)
    revived = []
    for k in dying:
        neighbour = _nearest_other(stats.reference, k)
        without = _without(X, labels, sqdist, k, stats.reference[neighbour], neighbour)
        cost = w * without.sqdist
        if not cost.max() > 0.0:
            continue
        place = X[rng.choice(len(X), p=cost / cost.sum())]
        distance = _squared_distance(X, place)
        moving = distance < without.sqdist
        after = np.where(moving, distance, without.sqdist)
        if not (w * (sqdist - after)).sum() > 0.0:
            continue
        stats = _absorb(stats, k, neighbour)
        stats = _move(stats, k, place, X[moving], w[moving], without.labels[moving])
        labels, sqdist = np.where(moving, k, without.labels), after
        revived.append(int(k))
    return stats, tuple(revived)


def _without(
    X: Array, labels: Labels, sqdist: Array, k: int, place: Array, neighbour: int
) -> kernels.Assigned:
    """Return the assignment once the points of cluster `k` belong to `neighbour`, at `place`."""
    own = labels == k
    away = sqdist.copy()
    away[own] = _squared_distance(X[own], place)
    return kernels.Assigned(np.where(own, neighbour, labels), away)


def _squared_distance(X: Array, place: Array) -> Array:
    difference = X - place
    return np.asarray(np.einsum("nd,nd->n", difference, difference))


def _nearest_other(places: Array, k: int) -> int:
    others = np.delete(np.arange(len(places)), k)
    return int(others[kernels.assign(places[[k]], places[others]).labels[0]])


def _absorb(stats: Stats, k: int, into: int) -> Stats:
    """Move the mass of cluster `k` to cluster `into`."""
    weight, first = stats.weight.copy(), stats.first.copy()
    first[into] += first[k] + weight[k] * (stats.reference[k] - stats.reference[into])
    weight[into] += weight[k]
    weight[k], first[k] = 0.0, 0.0
    return replace(stats, weight=weight, first=first)


def _move(stats: Stats, k: int, place: Array, X: Array, w: Array, owners: Labels) -> Stats:
    """Move points `X` from their clusters `owners` to the empty cluster `k` at `place`."""
    lost_weight, lost_first = kernels.cluster_moments(X, w, owners, stats.reference)
    weight, first = stats.weight - lost_weight, stats.first - lost_first
    emptied = weight <= _NOTHING * stats.weight
    weight[emptied], first[emptied] = 0.0, 0.0
    weight[k], first[k] = w.sum(), (w[:, None] * (X - place)).sum(axis=0)
    reference = stats.reference.copy()
    reference[k] = place
    return replace(stats, weight=weight, first=first, reference=reference)


def split(stats: Stats, dying: Iterable[int]) -> tuple[Stats, tuple[int, ...]]:
    """Replace each dying mixture component by half of the widest one.

    The widest component has the largest product of mass and variance along one axis, with features
    at equal spread. If a Gaussian is cut at its mean, across that axis, the means of the halves
    lie at +-sqrt(2/pi) standard deviations. Both halves get the covariance that keeps the total
    moments. The remaining mass of the dying component joins the component that is split.
    """
    stats = recentre(stats, stats.averages(otherwise=stats.reference))
    revived = []
    for k in dying:
        wide = _widest(stats)
        if wide == k:
            break
        stats = relocate(stats, k, wide, wide)
        revived.append(k)
    return stats, tuple(revived)


def relocate(stats: Stats, k: int, into: int, wide: int) -> Stats:
    """Merge mixture component `k` into `into`, then replace `k` by half of `wide`.

    The total weight and the total moments don't change. `wide` may be `into`, but not `k`.

    Parameters
    ----------
    stats : Stats
        About the components' own means.
    k, into, wide : int
    """
    stats = joined(stats, k, into)
    second, covariance = _second(stats)
    D = stats.first.shape[1]
    second, d = covariance.halve(second, stats.weight, D, wide, k)
    weight, reference = stats.weight.copy(), stats.reference.copy()
    weight[[wide, k]] = 0.5 * weight[wide]
    reference[k] = reference[wide] - d
    reference[wide] += d
    return replace(stats, weight=weight, reference=reference, second=second)


def widths(stats: Stats) -> Array:
    """Return each component's mass times its variance along its widest axis, shape (K,).

    `stats` are about the means, with features at equal spread. The result is -inf without mass.
    """
    second, covariance = _second(stats)
    return np.where(stats.alive, covariance.inertia(second, stats.weight), -np.inf)


def _widest(stats: Stats) -> int:
    return int(widths(stats).argmax())


def _second(stats: Stats) -> tuple[Array, Covariance]:
    if stats.second is None or stats.covariance_type is None:
        raise TypeError("only a mixture can be split: these statistics have no second moments")
    return stats.second, COVARIANCES[stats.covariance_type]


def joined(stats: Stats, k: int, into: int) -> Stats:
    """Move all mass of component `k` to `into`; return moments about the components' means."""
    reference = stats.reference.copy()
    reference[k] = reference[into]
    stats = recentre(stats, reference)
    weight, first, second = stats.weight.copy(), stats.first.copy(), stats.second
    for moment in (weight, first):
        moment[into] += moment[k]
        moment[k] = 0.0
    if second is not None and stats.covariance_type != "tied":
        second = second.copy()
        second[into] += second[k]
        second[k] = 0.0
    joined = replace(stats, weight=weight, first=first, second=second)
    return recentre(joined, joined.averages(otherwise=reference))
