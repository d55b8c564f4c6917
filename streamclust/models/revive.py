"""Revival of dying components. The total weight doesn't change.

A dying K-means cluster is moved to a point of the batch. A dying mixture component is replaced by
half of the widest component. The remaining mass of a dying component joins another component, and
takes its mean and its shape. Otherwise the moments of one sentinel value, such as 1e30, would move
or widen that component for hundreds of half-lives.
`docs/internals/components.md` compares these rules with others.
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

_ROUNDING = 1e-9
"""If a subtraction leaves less than this share of a mass, the rest is a rounding error."""


def reseed(
    stats: Stats, dying: Iterable[int], X: Array, w: Array, rng: np.random.Generator
) -> tuple[Stats, tuple[int, ...]]:
    """Move each dying K-means cluster to a point of the batch.

    The remaining mass of the cluster joins the nearest other cluster: points of the batch with
    their own coordinates, older points at the mean of that cluster. The new centroid is a point of
    the batch, drawn as in k-means++ with probability proportional to w_n d^2(x_n). Points of the
    batch that are nearer to it than to their own centroid join the cluster. A move that would not
    lower J is not made, so J cannot rise. Missing values are replaced by the coordinates of the
    point's centroid before the moves.

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
    labels, squared_distances = partial.assign(X, stats.reference)
    if has_gaps(X):
        own_centroids = stats.reference.take(labels, axis=0)
        X = partial.filled(X, own_centroids)
        squared_distances = _squared_distance(X, own_centroids)
    revived = []
    for k in dying:
        # Without cluster k its points belong to the nearest other cluster.
        others = np.delete(np.arange(len(stats.reference)), k)
        nearest = kernels.assign(stats.reference[[k]], stats.reference[others]).labels[0]
        own, neighbour = labels == k, int(others[nearest])
        owners, away = np.where(own, neighbour, labels), squared_distances.copy()
        away[own] = _squared_distance(X[own], stats.reference[neighbour])
        cost = w * away
        if not cost.max() > 0.0:
            continue
        centroid = X[rng.choice(len(X), p=cost / cost.sum())]
        distance = _squared_distance(X, centroid)
        moving = distance < away
        squared_distances_after = np.where(moving, distance, away)
        if not (w * (squared_distances - squared_distances_after)).sum() > 0.0:
            continue
        stats = _absorb(stats, k, neighbour, X[own], w[own])
        stats = _move(stats, k, centroid, X[moving], w[moving], owners[moving])
        labels, squared_distances = np.where(moving, k, owners), squared_distances_after
        revived.append(int(k))
    return stats, tuple(revived)


def _squared_distance(X: Array, centroid: Array) -> Array:
    difference = X - centroid
    return np.asarray(np.einsum("nd,nd->n", difference, difference))


def _absorb(stats: Stats, k: int, into: int, X: Array, w: Array) -> Stats:
    """Move the mass of cluster `k`, which has the points `X` of the batch, to cluster `into`."""
    older = max(float(stats.weight[k] - w.sum()), 0.0)
    stats = _join_as_copies(stats, k, into, older)
    weight, first = stats.weight.copy(), stats.first.copy()
    weight[into] += w.sum()
    first[into] += w @ (X - stats.reference[into])
    return replace(stats, weight=weight, first=first)


def _join_as_copies(stats: Stats, k: int, into: int, mass: float) -> Stats:
    """Empty component `k`; add `mass` to `into` without a change of its mean and shape."""
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


def _move(stats: Stats, k: int, centroid: Array, X: Array, w: Array, owners: Labels) -> Stats:
    """Move points `X` from their clusters `owners` to the empty cluster `k` at `centroid`."""
    lost_weight, lost_first = kernels.cluster_moments(X, w, owners, stats.reference)
    weight, first = stats.weight - lost_weight, stats.first - lost_first
    emptied = weight <= _ROUNDING * stats.weight
    weight[emptied], first[emptied] = 0.0, 0.0
    weight[k], first[k] = w.sum(), (w[:, None] * (X - centroid)).sum(axis=0)
    reference = stats.reference.copy()
    reference[k] = centroid
    return replace(stats, weight=weight, first=first, reference=reference)


def split(stats: Stats, dying: Iterable[int]) -> tuple[Stats, tuple[int, ...]]:
    """Replace each dying mixture component by half of the widest one.

    The widest component has the largest product of mass and variance along one axis, with features
    scaled to equal variance. If a Gaussian is cut at its mean, across that axis, the means of the
    halves lie at +-sqrt(2/pi) standard deviations. Both halves get the covariance that keeps the
    total moments. The remaining mass of the dying component first joins the component that is
    split, and takes its mean and shape.
    """
    stats = recentre(stats, stats.averages(otherwise=stats.reference))
    others, revived = np.ones(len(stats.weight), bool), []
    dying = list(dying)
    others[dying] = False
    for k in dying:
        wide = int(np.where(others, widths(stats), -np.inf).argmax())
        if not (others[wide] and stats.alive[wide]):
            break
        stats = relocate(_join_as_copies(stats, k, wide, float(stats.weight[k])), k, wide, wide)
        others[k] = True
        revived.append(k)
    return stats, tuple(revived)


def relocate(stats: Stats, k: int, into: int, wide: int) -> Stats:
    """Merge mixture component `k` into `into`, then replace `k` by half of `wide`.

    The total weight and the total moments don't change. `wide` may be `into`, but not `k`.

    Parameters
    ----------
    stats : Stats
        Statistics about the means of the components.
    k, into, wide : int
    """
    stats = merge_components(stats, k, into)
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

    `stats` are about the means. Features are scaled to equal variance. Without mass the result is
    -inf.
    """
    second, covariance = _second(stats)
    return np.where(stats.alive, covariance.inertia(second, stats.weight), -np.inf)


def _second(stats: Stats) -> tuple[Array, Covariance]:
    if stats.second is None or stats.covariance_type is None:
        raise TypeError("only a mixture can be split: these statistics have no second moments")
    return stats.second, COVARIANCES[stats.covariance_type]


def merge_components(stats: Stats, k: int, into: int) -> Stats:
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
    moved = replace(stats, weight=weight, first=first, second=second)
    return recentre(moved, moved.averages(otherwise=reference))
