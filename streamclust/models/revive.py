"""Revival of dying components. Mass is moved, never created or lost.

A dying K-means cluster is moved to a point of the batch. A dying mixture component is replaced by
half of the widest component. Both keep the total weight. The remaining mass of the old points of a
dying component takes the mean and the shape of the component that it joins: the distance of those
points is unknown, and one sentinel value such as 1e30 would otherwise move or widen that component
for hundreds of half-lives.
`docs/internals/components.md` compares them with other rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from streamclust import kernels
from streamclust.arrays import has_gaps
from streamclust.models import partial
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

    The remaining mass of the cluster joins the nearest other cluster: points of the batch where
    they are, older points at that cluster's mean. The new place is a point of the batch, drawn as
    in k-means++ with probability proportional to w_n d^2(x_n). Points of the batch that are nearer
    to the new place than to their own centroid join the cluster. A move that would not lower J is
    not made, so J cannot rise. In points with gaps, the coordinates of their centroid before the
    moves stand for missing values.

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
    labels, sqdist = partial.assign(X, stats.reference)
    if has_gaps(X):
        own_centroids = stats.reference.take(labels, axis=0)
        X = partial.filled(X, own_centroids)
        sqdist = _squared_distance(X, own_centroids)
    revived = []
    for k in dying:
        # Without cluster k its points belong to the nearest other cluster.
        others = np.delete(np.arange(len(stats.reference)), k)
        nearest = kernels.assign(stats.reference[[k]], stats.reference[others]).labels[0]
        own, neighbour = labels == k, int(others[nearest])
        owners, away = np.where(own, neighbour, labels), sqdist.copy()
        away[own] = _squared_distance(X[own], stats.reference[neighbour])
        cost = w * away
        if not cost.max() > 0.0:
            continue
        place = X[rng.choice(len(X), p=cost / cost.sum())]
        distance = _squared_distance(X, place)
        moving = distance < away
        after = np.where(moving, distance, away)
        if not (w * (sqdist - after)).sum() > 0.0:
            continue
        stats = _absorb(stats, k, neighbour, X[own], w[own])
        stats = _move(stats, k, place, X[moving], w[moving], owners[moving])
        labels, sqdist = np.where(moving, k, owners), after
        revived.append(int(k))
    return stats, tuple(revived)


def _squared_distance(X: Array, place: Array) -> Array:
    difference = X - place
    return np.asarray(np.einsum("nd,nd->n", difference, difference))


def _absorb(stats: Stats, k: int, into: int, X: Array, w: Array) -> Stats:
    """Move the mass of cluster `k`, which has the points `X` of the batch, to cluster `into`."""
    older = max(float(stats.weight[k] - w.sum()), 0.0)
    stats = _forgotten(stats, k, into, older)
    weight, first = stats.weight.copy(), stats.first.copy()
    weight[into] += w.sum()
    first[into] += w @ (X - stats.reference[into])
    return replace(stats, weight=weight, first=first)


def _forgotten(stats: Stats, k: int, into: int, mass: float) -> Stats:
    """Return the statistics without component `k`, and with `mass` more like that of `into`."""
    weight, first, second = stats.weight.copy(), stats.first.copy(), stats.second
    share = 1.0 + mass / weight[into] if stats.alive[into] else 1.0
    weight[into] += mass
    first[into] *= share
    weight[k], first[k] = 0.0, 0.0
    if second is not None and stats.covariance_type != "tied":
        second = second.copy()
        second[into] *= share
        second[k] = 0.0
    return replace(stats, weight=weight, first=first, second=second)


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
    moments. The remaining mass of the dying component joins the component that is split, with its
    shape.
    """
    stats = recentre(stats, stats.averages(otherwise=stats.reference))
    others, revived = np.ones(len(stats.weight), bool), []
    dying = list(dying)
    others[dying] = False
    for k in dying:
        wide = int(np.where(others, widths(stats), -np.inf).argmax())
        if not (others[wide] and stats.alive[wide]):
            break
        stats = relocate(_forgotten(stats, k, wide, float(stats.weight[k])), k, wide, wide)
        others[k] = True
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
