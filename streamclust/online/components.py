"""Which components there are: their masses, and their numbers where K adapts.

A component has a number for life. New components get numbers that none has had before, and the
numbers of dead components are not given again. `ids` rises from component to component, so new
components are the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from streamclust.models.coreset import Coreset
from streamclust.models.matching import predecessors
from streamclust.models.partial import filled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.arrays import Array, Labels
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats

P = TypeVar("P", bound="Params")

_FASTER = 6.0
"""How much faster the recent masses decay: a component that gets no more points has lost 90 % of
its recent share after two thirds of a half-life."""

_EXPECTED = 20.0
"""Average recent points that are expected of a component before their absence means something."""

_SOME = 5.0
"""Average points that are expected before their absence means something: e^-5 is below 1 %."""

_NOTHING = 0.01
"""Average points that count as none: a component left with less has no mass, however few points
were expected, if there are some points for each component."""


@dataclass(frozen=True, eq=False)
class Components:
    """Numbers and masses of the components.

    Parameters
    ----------
    ids : array of int, shape (K,)
        Number of each component, where K adapts; else empty.
    next_id : int
        Number of the next new component.
    recent : array of shape (K,)
        Masses that decay faster, where K adapts; else empty.
    peak : array of shape (K,)
        The largest mass that each component has had; empty before the first step.
    peak_total : float
        The largest total mass.
    """

    ids: Labels = field(default_factory=lambda: np.empty(0, np.intp))
    next_id: int = 0
    recent: Array = field(default_factory=lambda: np.empty(0))
    peak: Array = field(default_factory=lambda: np.empty(0))
    peak_total: float = 0.0

    def with_first_peak(self, running: Stats, stats: Stats, unit: float) -> Components:
        """Return the components with peaks, at the first step from `running` to `stats`.

        If a pause before that step has left nothing of a component, its former share counts.
        `unit` is the weight of an average point.
        """
        if len(self.peak):
            return self
        share = running.weight / (running.mass or 1.0)
        peak = np.where(stats.weight < _NOTHING * unit, stats.mass * share, stats.weight)
        return replace(self, peak=peak)

    def with_peak(self, stats: Stats, revived: tuple[int, ...]) -> Components:
        """Return the components after a step that led to `stats` and revived some of them."""
        peak = np.maximum(self.peak, stats.weight)
        if revived:
            peak[list(revived)] = stats.weight[list(revived)]
        total = max(self.peak_total, stats.mass)
        return Components(self.ids, self.next_id, self.recent, peak, total)

    def with_recent(self, batch: Array, lam: float) -> Components:
        """Return the components with the masses (K,) of a batch added to the recent ones.

        A `lam` above 1, a power schedule's for a batch of large weights, forgets nothing: it brings
        the older points to the weights of the batch.
        """
        kept = lam**_FASTER if lam < 1.0 else lam
        return replace(self, recent=np.asarray(batch + kept * self.recent))

    def dying(self, stats: Stats, unit: float, reassignment_ratio: float) -> NDArray[np.bool_]:
        """Return which components, (K,), have lost nearly all mass by forgetting.

        The total mass is compared in the same way. So a feed that slows down under a half-life in
        event time, where all components lose mass alike, kills none of them. No component is judged
        before some points, each of weight `unit`, could be expected of it.
        """
        dying = ~(stats.alive | (self.peak > 0.0))
        expected = stats.mass / max(self.peak_total, stats.mass) * self.peak
        low = stats.weight < reassignment_ratio * expected
        if low.any():
            some, none = _SOME * unit, stats.weight < _NOTHING * unit
            known = (expected > some) | (none & (stats.mass > some * len(none)))
            dying |= low & known
        return dying

    def starved(self, weight: Array, unit: float, reassignment_ratio: float) -> NDArray[np.bool_]:
        """Return which components, (K,), recently had much less than their share of points.

        Parameters
        ----------
        weight : array of shape (K,)
            Masses.
        unit : float
            Weight of an average point.
        reassignment_ratio : float
            The smallest ratio of recent points to their expected number.
        """
        expected = weight * (self.recent.sum() / weight.sum())
        few = self.recent < reassignment_ratio * expected
        return np.asarray(few & (expected >= _EXPECTED * unit))

    def without(self, removed: Labels, weight: Array) -> Components:
        """Return the components without the removed ones; `weight` (K,) are the masses of all."""
        kept = np.setdiff1d(np.arange(len(weight)), removed)
        return Components(
            self.ids[kept],
            self.next_id,
            self.recent[kept],
            self.peak[kept],
            self.peak_total - float(weight[removed].sum()),
        )


def first(K: int) -> Components:
    """Return K new components that have numbers."""
    return Components(np.arange(K), K, np.zeros(K))


def to_remove(dying: NDArray[np.bool_], weight: Array, fewest: int) -> Labels:
    """Return which of the dying components, (K,), are removed.

    The lightest go first, and never so many that less than `fewest` are left.
    """
    room = len(dying) - fewest
    lightest = np.argsort(np.where(dying, weight, np.inf), kind="stable")
    return lightest[: max(0, min(int(dying.sum()), room))]


def inherit_ids(
    family: Family[P],
    before: Components,
    live: tuple[P, Stats],
    new: tuple[P, Stats],
    coreset: Coreset,
) -> tuple[Labels, Components]:
    """Return the order of new components, and the components in this order.

    A component gets the number of the live component that it replaces: the one with which it has
    the most points in common (`streamclust.models.matching.predecessors`). The points are those of
    the coreset; without a coreset, the live means. A point far from the new mean counts less.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    before : Components
    live, new : tuple of params and Stats
        Their numbers of components may differ.
    coreset : Coreset
    """
    stats = new[1]
    if not len(coreset.w):
        coreset = Coreset(live[1].averages(live[1].reference), live[1].weight)
    old_labels, labels = (family.predict(params, coreset.X) for params, _ in (live, new))
    # Squared distances to the new means, features at their average distance.
    square = (filled(coreset.X, new[0].means[labels]) - new[0].means[labels]) ** 2
    average = np.einsum("n,nd->d", coreset.w, square) / coreset.w.sum()
    far = (square / np.where(average > 0.0, average, 1.0)).mean(axis=1)
    w = coreset.w / (1.0 + far)
    sizes = len(live[0].means), len(new[0].means)
    ancestor = predecessors(old_labels, labels, w, sizes)
    born = np.flatnonzero(ancestor < 0)
    surviving = np.flatnonzero(ancestor >= 0)
    surviving = surviving[np.argsort(ancestor[surviving])]
    share = stats.weight[born] / stats.weight.sum()
    recent = before.recent[ancestor[surviving]]
    ids = before.ids[ancestor[surviving]]
    return np.concatenate([surviving, born]), replace(
        before,
        ids=np.concatenate([ids, before.next_id + np.arange(len(born))]),
        next_id=before.next_id + len(born),
        recent=np.concatenate([recent, share * before.recent.sum()]),
    )
