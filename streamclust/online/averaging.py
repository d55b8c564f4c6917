"""Polyak-Ruppert averaging of the normalised statistics, from where a rough start is forgotten.

The average of all steps is as good as a fit to all points (Polyak & Juditsky 1992), but only from
where the steps are near the optimum: a rough start would stay in it for ever. So early steps are
left out where they differ from later ones by more than chance, as the initial transient of a
simulation is (Geweke 1992). Two comparisons look for that:

* The average with the live parameters, once in the 1 / gamma steps that these remember (a
  distance-based diagnostic; Pesme, Dieuleveut & Flammarion 2020).
* The first half of all steps with the second half, whenever their number has doubled.

If the average fails the first, it begins anew; if it fails the second, the first half is left out.
In both cases the start was rough, and the rest of it fades: from then on step t of the average has
a weight proportional to t (Lacoste-Julien, Schmidt & Bach 2012), which costs a third more variance.
A good start passes both, and the average is that of all steps alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from streamclust.fitting.search import search_of
from streamclust.models.stats import decay, merge

if TYPE_CHECKING:
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats
    from streamclust.online.state import LearnerState

P = TypeVar("P", bound="Params")

_FEWEST = 8
"""Steps before the first comparison."""

_TWICE_AS_LARGE = 4.0
"""Ratio of costs, which are squares, of a difference of two standard deviations."""


@dataclass(frozen=True, eq=False)
class Averaging:
    """What decides where the average of a `LearnerState` begins.

    Parameters
    ----------
    rough : bool
        Whether the start was rough.
    next_check : int
        Step of the average at which it is compared with the live parameters.
    weight : float
        Points that were learned in the steps of the average, as long as the start wasn't rough.
    tail : Stats or None
        Average of the newest of these steps: those since their number last doubled.
    tail_averaged, tail_weight : int and float
        Steps and points of the tail.
    """

    rough: bool = False
    next_check: int = _FEWEST
    weight: float = 0.0
    tail: Stats | None = None
    tail_averaged: int = 0
    tail_weight: float = 0.0


def averaged(
    family: Family[P], state: LearnerState[P], weight: float, restart: bool
) -> LearnerState[P]:
    """Return the state with its newest step in the average.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    state : LearnerState
        With the parameters and statistics of the step.
    weight : float
        Points of the step.
    restart : bool
        Whether the average begins with this step.
    """
    stats, before = state.stats, state.averaging
    if stats is None or state.params is None:
        return state
    share = decay(stats, 1.0 / stats.mass)
    if restart:
        return replace(state, average=share, averaged=1, averaging=Averaging(rough=True))
    n = state.averaged + 1
    average = _mean(share, state.average, 2.0 / (n + 1.0) if before.rough else 1.0 / n)
    after = replace(before, weight=before.weight + weight)
    if n >= before.next_check:
        # Steps of size gamma = m / mass have the variance of a fit to 2 / gamma batches.
        if _differ(family, state, stats, average, 2.0 * stats.mass):
            return replace(state, average=share, averaged=1, averaging=Averaging(rough=True))
        after = replace(after, next_check=n + math.ceil(stats.mass / weight))
    if not before.rough:
        n, average, after = _judged(family, state, n, average, _with(after, share, weight))
    return replace(state, average=average, averaged=n, averaging=after)


def _with(before: Averaging, share: Stats, weight: float) -> Averaging:
    """Return `before` with one more step in the tail."""
    n = before.tail_averaged + 1
    tail = _mean(share, before.tail, 1.0 / n)
    return replace(before, tail=tail, tail_averaged=n, tail_weight=before.tail_weight + weight)


def _judged(
    family: Family[P], state: LearnerState[P], n: int, average: Stats, after: Averaging
) -> tuple[int, Stats, Averaging]:
    """Return the average without its first half, if the second half differs."""
    n_head, tail = n - after.tail_averaged, after.tail
    if tail is None or n < _FEWEST or n_head > after.tail_averaged:
        return n, average, after
    if n_head and after.weight > after.tail_weight:  # an older state doesn't know its weight
        head = merge(decay(average, n / n_head), decay(tail, -after.tail_averaged / n_head))
        # The variances of both halves add up.
        size = 1.0 / (1.0 / after.tail_weight + 1.0 / (after.weight - after.tail_weight))
        if _differ(family, state, tail, head, size):
            return after.tail_averaged, tail, Averaging(rough=True, next_check=after.next_check)
    return n, average, replace(after, tail=None, tail_averaged=0, tail_weight=0.0)


def _differ(
    family: Family[P], state: LearnerState[P], one: Stats, other: Stats, size: float
) -> bool:
    """Whether a difference of statistics is twice as large as chance makes it with `size` points.

    Chance costs half of `Search.optimism` (Akaike 1973).
    """
    if state.params is None or state.stats is None or not state.stats.count:
        return False
    first, second = (family.m_step(stats, state.params) for stats in (one, other))
    chance = 0.5 * search_of(family).optimism(size, one.reference.shape[1])
    return family.excess(first, second, state.stats) > _TWICE_AS_LARGE * chance


def _mean(newest: Stats, before: Stats | None, share: float) -> Stats:
    return newest if before is None else merge(decay(newest, share), decay(before, 1.0 - share))
