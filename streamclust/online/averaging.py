"""Polyak-Ruppert averaging of the normalised statistics, without the steps of a bad start.

The average of all steps is as good as a fit to all points (Polyak & Juditsky 1992), but only if
all steps are near the optimum. The steps after a bad start aren't, and would stay in the average.
So early steps are left out if they differ from later steps by more than chance, like the initial
transient of a simulation (Geweke 1992). Two comparisons check this:

* The average is compared with the live parameters, once per 1 / gamma steps. The live parameters
  represent about this many steps (a distance-based diagnostic; Pesme, Dieuleveut & Flammarion
  2020). If they differ, the average starts again.
* The first half of all steps is compared with the second half, whenever the number of steps has
  doubled. If the halves differ, the first half is left out.

In both cases the start was bad, and its remaining influence must decay. So from then on, step t of
the average has a weight proportional to t (Lacoste-Julien, Schmidt & Bach 2012). This increases the
variance by a third. After a good start, all steps have the same weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from streamclust.fitting.search import search_of
from streamclust.models.stats import decay, merge, reorder

if TYPE_CHECKING:
    from streamclust.arrays import Labels
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats

P = TypeVar("P", bound="Params")

_MIN_STEPS = 8
"""Number of steps before the first comparison."""

_MAX_COST_RATIO = 4.0
"""Largest ratio of the cost of a difference to the cost of chance: two standard deviations, because
costs are squares."""


@dataclass(frozen=True, eq=False)
class Averaging:
    """The average of the normalised statistics, and the values that decide where it starts.

    Parameters
    ----------
    average : Stats or None
        None before the first step, or if the policy doesn't average.
    averaged : int
        Number of steps in the average.
    rough : bool
        Whether the start was bad.
    next_check : int
        Step of the average at which it is compared with the live parameters.
    weight : float
        Number of points in the average, as long as the start wasn't bad.
    tail : Stats or None
        Average of the steps since the number of steps last doubled.
    tail_averaged, tail_weight : int and float
        Number of steps and of points in the tail.
    """

    average: Stats | None = None
    averaged: int = 0
    rough: bool = False
    next_check: int = _MIN_STEPS
    weight: float = 0.0
    tail: Stats | None = None
    tail_averaged: int = 0
    tail_weight: float = 0.0

    def reorder(self, order: Labels) -> Averaging:
        """Return the averages with component `order[k]` as component k; others are dropped."""
        average, tail = (
            None if stats is None else reorder(stats, order) for stats in (self.average, self.tail)
        )
        return replace(self, average=average, tail=tail)


def averaged(
    family: Family[P], before: Averaging, params: P, stats: Stats, weight: float, restart: bool
) -> Averaging:
    """Return the average with the newest step.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    before : Averaging
    params : KMeansParams or MixtureParams
    stats : Stats
        The parameters and the running statistics after the step.
    weight : float
        Weight of the points of the step.
    restart : bool
        Whether the average begins with this step.
    """
    share = decay(stats, 1.0 / stats.mass)
    if restart:
        return Averaging(share, 1, rough=True)
    n = before.averaged + 1
    average = _mean(share, before.average, 2.0 / (n + 1.0) if before.rough else 1.0 / n)
    after = replace(before, average=average, averaged=n, weight=before.weight + weight)
    if n >= before.next_check:
        # Steps of size gamma = m / mass have the variance of a fit to 2 / gamma batches.
        if _differ(family, params, stats, (stats, average), 2.0 * stats.mass):
            return Averaging(share, 1, rough=True)
        after = replace(after, next_check=n + math.ceil(stats.mass / weight))
    if before.rough:
        return after
    after = replace(
        after,
        tail=_mean(share, before.tail, 1.0 / (before.tail_averaged + 1)),
        tail_averaged=before.tail_averaged + 1,
        tail_weight=before.tail_weight + weight,
    )
    return _without_rough_half(family, params, stats, after)


def _without_rough_half(family: Family[P], params: P, stats: Stats, after: Averaging) -> Averaging:
    """Return the average without its first half, if the second half differs."""
    n, average, tail = after.averaged, after.average, after.tail
    n_head = n - after.tail_averaged
    if average is None or tail is None or n < _MIN_STEPS or n_head > after.tail_averaged:
        return after
    if n_head and after.weight > after.tail_weight:  # states of older versions have no weight
        head = merge(decay(average, n / n_head), decay(tail, -after.tail_averaged / n_head))
        # The variances of both halves add up.
        size = 1.0 / (1.0 / after.tail_weight + 1.0 / (after.weight - after.tail_weight))
        if _differ(family, params, stats, (tail, head), size):
            return Averaging(tail, after.tail_averaged, rough=True, next_check=after.next_check)
    return replace(after, tail=None, tail_averaged=0, tail_weight=0.0)


def _differ(
    family: Family[P], params: P, running: Stats, pair: tuple[Stats, Stats], size: float
) -> bool:
    """Return whether two statistics differ by more than two standard deviations.

    The standard deviation is that of a fit of `size` points: its cost is half of
    `Search.optimism` (Akaike 1973).
    """
    if not running.count:
        return False
    first, second = (family.m_step(stats, params) for stats in pair)
    search = search_of(family)
    chance = 0.5 * search.optimism(size, running.reference.shape[1])
    return search.excess(first, second, running) > _MAX_COST_RATIO * chance


def _mean(newest: Stats, before: Stats | None, share: float) -> Stats:
    return newest if before is None else merge(decay(newest, share), decay(before, 1.0 - share))
