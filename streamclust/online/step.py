"""One streaming step in eight stages.

    score, forget, merge, revive, m-step, average, remember, recluster

A stage takes and returns the parts of the state that it changes; docs/internals/step.md has the
formulas and rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from streamclust.errors import DataError
from streamclust.models.coreset import CoresetState
from streamclust.models.family import StepOutputs, usable
from streamclust.models.feature_distribution import FeatureDistribution
from streamclust.models.spread import Spread
from streamclust.models.stats import decay, merge, reorder
from streamclust.online.averaging import averaged
from streamclust.online.batch_parts import e_step_of_batch, one_by_one
from streamclust.online.components import to_remove
from streamclust.online.rules import rules_of
from streamclust.online.scores import carried, memory_of, unflagged
from streamclust.online.state import Info, LearnerState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.arrays import Array, Points
    from streamclust.kernels import Assigned
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats
    from streamclust.online.averaging import Averaging
    from streamclust.online.batch_parts import EachPart
    from streamclust.online.coreset_fit import ReclusterState
    from streamclust.online.drift import Drift, DriftState
    from streamclust.online.forgetting import Forgetting, ForgettingState
    from streamclust.online.recluster import ReclusterPolicy
    from streamclust.online.scores import Anomaly
    from streamclust.online.state import Clock

P = TypeVar("P", bound="Params")


class _Scored(NamedTuple):
    """A batch and its score under the parameters before it.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        The points that are learned: all, or all that aren't flagged.
    stats : Stats
    assigned : Assigned or None
        Cluster and squared distance of each point, if there is a coreset.
    loss : float
        Per point.
    comparable_loss : float
        Per point, as if no value were missing: `Rules.comparable_loss`.
    scores : array or None
        Anomaly scores of all points of the batch, if scores are remembered.
    """

    X: Points
    w: Array
    stats: Stats
    assigned: Assigned | None
    loss: float
    comparable_loss: float
    scores: Array | None

    @property
    def unit(self) -> float:
        """Weight of an average point."""
        return self.stats.count / len(self.X)


@dataclass(frozen=True)
class StreamingStep(Generic[P]):
    """What a step does to the state of a learner.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    forgetting : Forgetting
    drift : Drift or None
    policy : ReclusterPolicy
    reassignment_ratio : float
    seed : int
    each_part : callable, optional
    anomaly : Anomaly, optional
    remembers_features : bool, default=False
        See `StreamLearner`.
    """

    family: Family[P]
    forgetting: Forgetting
    drift: Drift | None
    policy: ReclusterPolicy[P]
    reassignment_ratio: float
    seed: int
    each_part: EachPart = one_by_one
    anomaly: Anomaly | None = None
    remembers_features: bool = False

    def __call__(
        self,
        state: LearnerState[P],
        params: P,
        running: Stats,
        X: Points,
        w: Array,
        time_ms: float | None,
        lam: float,
    ) -> tuple[LearnerState[P], Info]:
        """Return the state after a batch, and what happened.

        `params` and `running` are those of `state`; `lam` is the factor of the forgetting policy.
        """
        # Score: the batch had no part in these parameters.
        batch = self._score(state, params, X, w)
        if not len(batch.X):  # all points are flagged
            after = replace(state, clock=state.clock.advance(len(X), None, steps=1))
            return self._with_scores(state, after, batch, w, lam, 1.0), Info("learning", len(X))
        drift, drifted, kept = self._watch(state.drift, batch)
        # Forget: one factor for all statistics.
        lam, forgetting, past = self._forget(state, running, lam, kept)
        # Merge.
        stats, spread = self._merge(state, params, past, batch)
        # Revive components that have lost nearly all mass by forgetting.
        components = state.components.with_first_peak(running, stats, batch.unit)
        dying = components.dying(stats, batch.unit, self.reassignment_ratio)
        stats, revived = self._revive(state.clock, stats, dying, batch)
        # M-step.
        params = self._m_step(state, params, stats, spread, forgetting, batch, revived)
        clock = self._clock(state.clock, batch, len(X), time_ms)
        # Average.
        averaging = self._average(state.averaging, params, stats, batch, clock, drifted, revived)
        # Remember.
        coreset, recluster, features = self._remember(state, stats, batch, clock, lam, kept)
        after = replace(
            state,
            params=params,
            stats=stats,
            averaging=averaging,
            clock=clock,
            counts=state.counts.add(drifted, len(revived)),
            coreset=coreset,
            recluster=recluster,
            components=components.with_peak(stats, revived),
            forgetting=forgetting,
            drift=drift,
            spread=spread,
            feature_distribution=features,
        )
        after = self._without_starved(after, batch, dying, lam)
        after = self._with_scores(state, after, batch, w, lam, kept)
        # Recluster, if it is time.
        after, reclustered = self.policy.improved(after, batch.X, batch.w, drifted)
        if not (math.isfinite(batch.loss) and usable(after.params)):
            raise DataError(_UNUSABLE)
        weight, loss = batch.stats.count, batch.loss
        gamma = weight / (lam * running.mass + weight)
        info = Info("learning", len(X), loss, gamma, revived, drifted, reclustered=reclustered)
        return _with_changes_of_ids(state, after, info)

    def _score(self, state: LearnerState[P], params: P, X: Points, w: Array) -> _Scored:
        """Return the e-step and the loss of a batch, without the points that aren't learned."""
        family, rules, anomaly = self.family, rules_of(self.family), self.anomaly
        is_tail = anomaly is not None and anomaly.score == "tail_score"
        remembers = self.policy.has_coreset(X.shape[1])
        wanted = StepOutputs(assigned=remembers, scores=anomaly is not None and not is_tail)
        found = e_step_of_batch(family, params, X, w, self.each_part, wanted)
        scores = found.scores
        if is_tail:
            features = state.feature_distribution or _NO_FEATURES
            scores = features.first_scores(X, w) if features.is_empty else features.scores(X)
        if anomaly is not None and scores is not None:
            learned = unflagged(scores, memory_of(state.scores, anomaly.score), anomaly)
            if not learned.all():
                X, w, wanted = X[learned], w[learned], StepOutputs(assigned=remembers)
                if not len(X):
                    return _Scored(X, w, found.stats, None, math.nan, math.nan, scores)
                found = e_step_of_batch(family, params, X, w, self.each_part, wanted)
        stats = found.stats
        loss = family.loss(stats)
        comparable_loss = rules.comparable_loss(stats, params, X, w, found.entropy)
        if instead := rules.if_too_many_outliers(params, X, w, stats):
            again = e_step_of_batch(instead[0], params, X, instead[1], self.each_part, _STATS).stats
            stats = replace(again, objective=stats.objective, count=stats.count)
        if state.scaling is not None:
            stats = rules.with_missing_volume(stats, state.scaling, X, w)
        return _Scored(X, w, stats, found.assigned, loss, comparable_loss, scores)

    def _watch(self, before: DriftState, batch: _Scored) -> tuple[DriftState, bool, float]:
        """Return the state, whether there is a drift, and the share of mass that the past keeps."""
        if self.drift is None:
            return before, False, 1.0
        loss, weight = batch.comparable_loss, batch.stats.count
        after, drifted = self.drift.watch(before, loss, weight, self.family.improvement)
        return after, drifted, self.drift.kept if drifted else 1.0

    def _forget(
        self, state: LearnerState[P], running: Stats, lam: float, kept: float
    ) -> tuple[float, ForgettingState, Stats]:
        """Multiply the statistics by `lam`, and by `kept` after a drift; return the factor too."""
        lam *= kept
        after = state.forgetting.fall(state.clock.points, kept, drifted=True)
        return lam, after.forget(lam, running.mass), decay(running, lam)

    def _merge(
        self, state: LearnerState[P], params: P, past: Stats, batch: _Scored
    ) -> tuple[Stats, Spread | None]:
        """Add the statistics of the batch, and its points to the variance of each feature."""
        spread = state.spread or first_spread(self.family, params)
        if spread is not None:
            spread = spread.observe(batch.X, batch.w)
        return merge(batch.stats, past), spread

    def _revive(
        self, clock: Clock, stats: Stats, dying: NDArray[np.bool_], batch: _Scored
    ) -> tuple[Stats, tuple[int, ...]]:
        """Move dying components to new places. If K adapts, they are removed later instead."""
        if self._holds(clock) or self.family.min_components is not None or not dying.any():
            return stats, _NONE
        rng = np.random.default_rng((self.seed, clock.steps))
        numbers, points = np.flatnonzero(dying).tolist(), np.asarray(batch.X, np.float64)
        return self.family.revive(stats, numbers, points, batch.w, rng)

    def _m_step(
        self,
        state: LearnerState[P],
        params: P,
        stats: Stats,
        spread: Spread | None,
        forgetting: ForgettingState,
        batch: _Scored,
        revived: tuple[int, ...],
    ) -> P:
        """Return the parameters that follow from statistics, and from the last ones as a prior.

        The prior fills each component up to the weight that forgetting has taken, and at most to
        the weight that its shape needs. Revived components have no past.
        """
        if self._holds(state.clock):
            return params
        rules = rules_of(self.family)
        if spread is not None:
            params = rules.with_spread(params, spread.variance)
        worth = min(forgetting.weight, batch.unit * rules.points_for_shape(batch.X.shape[1]))
        if not worth > 0.0:
            return self.family.m_step(stats, params)
        prior = np.full(len(stats.weight), worth)
        prior[list(revived)] = 0.0
        return rules.map_step(stats, params, prior)

    def _holds(self, clock: Clock) -> bool:
        """Whether statistics are only gathered, under the parameters of the start."""
        return clock.held < self.forgetting.hold

    def _clock(self, before: Clock, batch: _Scored, n_points: int, time_ms: float | None) -> Clock:
        held = batch.stats.count if self._holds(before) else 0.0
        return before.advance(n_points, time_ms, steps=1, held=held)

    def _average(
        self,
        before: Averaging,
        params: P,
        stats: Stats,
        batch: _Scored,
        clock: Clock,
        drifted: bool,
        revived: tuple[int, ...],
    ) -> Averaging:
        """Add the statistics to their Polyak-Ruppert average, if the policy averages."""
        if not self.forgetting.average or self._holds(clock):
            return before
        restart = drifted or bool(revived)
        return averaged(self.family, before, params, stats, batch.stats.count, restart)

    def _remember(
        self,
        state: LearnerState[P],
        stats: Stats,
        batch: _Scored,
        clock: Clock,
        lam: float,
        kept: float,
    ) -> tuple[CoresetState, ReclusterState[P], FeatureDistribution | None]:
        """Sample the batch for the coreset, and add its values to the distribution of features.

        A drift empties the coreset: even a hundredth of the past would draw a fit to it.
        """
        X, w, recluster = batch.X, batch.w, state.recluster
        coreset = state.coreset if kept == 1.0 else CoresetState()
        coreset = self.policy.remember(coreset, X, w, batch.assigned, stats, clock.steps, lam)
        loss, weight = batch.comparable_loss, batch.stats.count
        recluster = recluster.observe(self.family, len(X), loss, weight, lam)
        if kept < 1.0 or coreset.is_empty:
            recluster = recluster.without_pending()
        features = None
        if self.remembers_features:
            features = (state.feature_distribution or _NO_FEATURES).observe(X, w, lam)
        return coreset, recluster, features

    def _with_scores(
        self,
        before: LearnerState[P],
        after: LearnerState[P],
        batch: _Scored,
        w: Array,
        lam: float,
        kept: float,
    ) -> LearnerState[P]:
        """Add the scores of all points, `w` (N,), and move the memory with the parameters."""
        if self.anomaly is None or batch.scores is None:
            return replace(after, scores=None)
        memory = memory_of(before.scores, self.anomaly.score)
        if kept < 1.0:
            return replace(after, scores=memory.emptied)
        memory = memory.observe(batch.scores, w, lam)
        if after.params is not None and before.params is not None:
            params, last = after.params, before.params
            memory = carried(memory, self.family, last, params, before.coreset)
        return replace(after, scores=memory)

    def _without_starved(
        self, state: LearnerState[P], batch: _Scored, dying: NDArray[np.bool_], lam: float
    ) -> LearnerState[P]:
        """Remove components, where K adapts: those that are dying, or get no more points.

        The coreset's points of these components are removed too.
        """
        family, params, stats = self.family, state.params, state.stats
        if family.min_components is None or params is None or stats is None:
            return state
        components = state.components.with_recent(batch.stats.weight, lam)
        dying = dying | components.starved(stats.weight, batch.unit, self.reassignment_ratio)
        removed = to_remove(dying, stats.weight, family.min_components)
        if not len(removed):
            return replace(state, components=components)
        kept = np.setdiff1d(np.arange(len(dying)), removed)

        def belongs(points: Array) -> NDArray[np.bool_]:
            return ~np.isin(family.predict(params, points), removed)

        return replace(
            state,
            params=family.reorder(params, kept),
            stats=reorder(stats, kept),
            averaging=state.averaging.reorder(kept),
            components=components.without(removed, stats.weight),
            coreset=state.coreset.select(belongs),
            recluster=state.recluster.without_pending(),
        )


_NONE: tuple[int, ...] = ()

_NO_FEATURES = FeatureDistribution()

_STATS = StepOutputs(assigned=False)

_UNUSABLE = (
    "a covariance would be singular, or a sum too large for a number; raise reg_covar, "
    "or scale the points"
)


def first_spread(family: Family[P], params: P) -> Spread | None:
    """Return the variances that parameters of a mixture imply; None for K-means."""
    variance = rules_of(family).spread(params)
    return None if variance is None else Spread(variance)


def _with_changes_of_ids(
    before: LearnerState[P], state: LearnerState[P], info: Info
) -> tuple[LearnerState[P], Info]:
    """Report which components were born and died in a step, and count the step."""
    old, new = before.components.ids, state.components.ids
    if new is old:
        return state, info
    born, died = np.setdiff1d(new, old), np.setdiff1d(old, new)
    if len(born) + len(died):
        counts = replace(state.counts, resized=state.counts.resized + 1)
        state = replace(state, counts=counts)
        info = replace(info, born=tuple(born.tolist()), died=tuple(died.tolist()))
    return state, info
