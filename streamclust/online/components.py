"""The masses of the components, and their numbers if K adapts.

The number of a component never changes. A new component gets a number that no component has had
before. Numbers are in ascending order, so new components come last.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from streamclust.arrays import short_repr
from streamclust.models.coreset import Coreset
from streamclust.models.matching import predecessors
from streamclust.models.partial import filled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.arrays import Array, Labels
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats

P = TypeVar("P", bound="Params")

_RECENT_DECAY = 6.0
"""The recent masses decay this many times as fast as the statistics: a component without new points
has lost 90 % of its recent share after two thirds of a half-life."""

_MIN_EXPECTED_RECENT = 20.0
"""A component can be starved only if at least this many recent points were expected."""

_MIN_EXPECTED = 5.0
"""A component can be dying only if at least this many points were expected: e^-5 is below 1 %."""

_NEGLIGIBLE = 0.01
"""Less than this many points are no mass. Such a component can be dying even if fewer points were
expected, if there are enough points for all components."""


@dataclass(frozen=True, eq=False)
class Components:
    """Numbers and masses of the components.

    Parameters
    ----------
    ids : array of int, shape (K,)
        Number of each component if K adapts; else empty.
    next_id : int
        Number of the next new component.
    recent : array of shape (K,)
        Mass of each component that decays faster, if K adapts; else empty.
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

    def __repr__(self) -> str:
        return short_repr(self, K=len(self.peak), next_id=self.next_id, peak_total=self.peak_total)

    def with_first_peak(self, running: Stats, stats: Stats, unit: float) -> Components:
        """Return the components with peaks, after the first step from `running` to `stats`.

        If a component has no mass after that step, because of a pause before it, its peak is its
        share of `running` times the mass of `stats`. `unit` is the weight of an average point.
        """
        if len(self.peak):
            return self
        share = running.weight / (running.mass or 1.0)
        peak = np.where(stats.weight < _NEGLIGIBLE * unit, stats.mass * share, stats.weight)
        return replace(self, peak=peak)

    def with_peak(self, stats: Stats, revived: tuple[int, ...]) -> Components:
        """Return the components after a step to `stats`, with the numbers of revived ones."""
        peak = np.maximum(self.peak, stats.weight)
        if revived:
            peak[list(revived)] = stats.weight[list(revived)]
        total = max(self.peak_total, stats.mass)
        return Components(self.ids, self.next_id, self.recent, peak, total)

    def with_recent(self, batch: Array, lam: float) -> Components:
        """Return the components with the masses (K,) of a batch added to the recent ones.

        A power schedule gives a `lam` above 1 for a batch of large weights. Such a factor forgets
        nothing, so it isn't raised to a power.
        """
        recent_lam = lam**_RECENT_DECAY if lam < 1.0 else lam
        return replace(self, recent=np.asarray(batch + recent_lam * self.recent))

    def dying(self, stats: Stats, unit: float, reassignment_ratio: float) -> NDArray[np.bool_]:
        """Return which components, (K,), have lost nearly all mass by forgetting.

        A component is dying if its mass is below `reassignment_ratio` times its expected mass: its
        peak, times the ratio of the total mass to its own peak. So if all components lose mass
        alike, as in a slow feed under a half-life in event time, none is dying. The expected mass
        must be at least 5 points of weight `unit`.
        """
        dying = ~(stats.alive | (self.peak > 0.0))
        expected = stats.mass / max(self.peak_total, stats.mass) * self.peak
        has_lost_mass = stats.weight < reassignment_ratio * expected
        if has_lost_mass.any():
            least, has_no_mass = _MIN_EXPECTED * unit, stats.weight < _NEGLIGIBLE * unit
            is_certain = (expected > least) | (
                has_no_mass & (stats.mass > least * len(has_no_mass))
            )
            dying |= has_lost_mass & is_certain
        return dying

    def starved(self, weight: Array, unit: float, reassignment_ratio: float) -> NDArray[np.bool_]:
        """Return which components, (K,), had much less than their share of the recent points.

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
        return np.asarray(few & (expected >= _MIN_EXPECTED_RECENT * unit))

    def without(self, removed: Labels, weight: Array) -> Components:
        """Return the components without the removed ones; `weight` (K,) are the masses of all."""
        remaining = np.setdiff1d(np.arange(len(weight)), removed)
        return Components(
            self.ids[remaining],
            self.next_id,
            self.recent[remaining],
            self.peak[remaining],
            self.peak_total - float(weight[removed].sum()),
        )


def numbered_components(K: int) -> Components:
    """Return K new components with the numbers 0 to K - 1."""
    return Components(np.arange(K), K, np.zeros(K))


def to_remove(dying: NDArray[np.bool_], weight: Array, min_components: int) -> Labels:
    """Return which of the dying components, (K,), are removed.

    The lightest are removed first. At least `min_components` remain.
    """
    room = len(dying) - min_components
    lightest = np.argsort(np.where(dying, weight, np.inf), kind="stable")
    return lightest[: max(0, min(int(dying.sum()), room))]


def inherit_ids(
    family: Family[P],
    before: Components,
    live: tuple[P, Stats],
    new: tuple[P, Stats],
    coreset: Coreset,
) -> tuple[Labels, Components]:
    """Return the order of the new components by their numbers, and the components in this order.

    A component gets the number of the live component that it replaces: the one with which it has
    the most points in common (`streamclust.models.matching.predecessors`). The points are those of
    the coreset; without a coreset, the live means. A point far from the new mean counts less.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    before : Components
    live, new : tuple of params and Stats
        Parameters and statistics; `live` and `new` may have different numbers of components.
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
