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
from streamclust.models.family import Wanted, usable
from streamclust.models.feature_distribution import FeatureDistribution
from streamclust.models.spread import Spread
from streamclust.models.stats import decay, merge, reorder
from streamclust.online.averaging import averaged
from streamclust.online.batch_parts import e_step_of_batch, one_by_one
from streamclust.online.components import to_remove
from streamclust.online.rules import rules_of
from streamclust.online.scores import ScoreMemory, carried, memory_of, unflagged
from streamclust.online.state import Info, LearnerState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.arrays import Array, Points
    from streamclust.kernels import Assigned
    from streamclust.models.family import BatchStep, Family, Params
    from streamclust.models.stats import Stats
    from streamclust.online.batch_parts import EachPart
    from streamclust.online.drift import Drift, DriftState
    from streamclust.online.forgetting import Forgetting
    from streamclust.online.recluster import ReclusterPolicy
    from streamclust.online.scores import Anomaly

P = TypeVar("P", bound="Params")


class _Batch(NamedTuple):
    """A batch and its score under the parameters before it.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
    n_points : int
        Number of points with those that aren't learned.
    time_ms : float or None
    stats : Stats
    assigned : Assigned or None
        Cluster and squared distance of each point, if there is a coreset.
    loss : float
        Per point, as if no value were missing: `Rules.comparable_loss`.
    unit : float
        Weight of an average point.
    drift : DriftState
        After the batch.
    drifted : bool
        Whether the batch completes a drift.
    kept : float
        Share of its weight that the past keeps after a drift.
    scores : ScoreMemory or None
        After the batch.
    feature_distribution : FeatureDistribution or None
        After the batch.
    """

    X: Points
    w: Array
    n_points: int
    time_ms: float | None
    stats: Stats
    assigned: Assigned | None
    loss: float
    unit: float
    drift: DriftState
    drifted: bool
    kept: float
    scores: ScoreMemory | None
    feature_distribution: FeatureDistribution | None


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

        `params` and `running` are the parameters and the statistics of `state`; `lam` is the factor
        of the forgetting policy.
        """
        # Score: the batch had no part in these parameters.
        family, rules, n_points, all_w = self.family, rules_of(self.family), len(X), w
        memory = memory_of(state.scores, "model" if self.anomaly is None else self.anomaly.score)
        features = state.feature_distribution or _NO_FEATURES
        found, scores, X, w = self._scored(params, X, w, memory, features)
        if scores is not None and not len(X):
            clock = state.clock.advance(n_points, None, steps=1)
            after = replace(state, clock=clock, scores=memory.observe(scores, all_w, lam))
            return after, Info("learning", n_points)
        stats, assigned = found.stats, found.assigned
        loss, weight, unit = family.loss(stats), stats.count, stats.count / len(X)
        comparable = loss + found.entropy / weight
        if instead := rules.if_too_many_outliers(params, X, w, stats):
            again = e_step_of_batch(instead[0], params, X, instead[1], self.each_part, _STATS).stats
            stats = replace(again, objective=stats.objective, count=weight)
        if state.scaling is not None:
            stats = rules.with_missing_volume(stats, state.scaling, X, w)
        drift, drifted, kept = state.drift, False, 1.0
        if self.drift is not None:
            drift, drifted = self.drift.watch(drift, comparable, weight, family.improvement)
            kept = self.drift.kept if drifted else 1.0
        lam *= kept
        remembered = None
        if scores is not None:
            remembered = memory.observe(scores, all_w, lam) if kept == 1.0 else memory.emptied
        batch = _Batch(
            *(X, w, n_points, time_ms, stats, assigned, comparable, unit, drift, drifted, kept),
            remembered,
            features.observe(X, w, lam) if self.remembers_features else None,
        )
        after, revived = self._learn(state, params, running, batch, lam)
        if remembered is not None and after.params is not None and kept == 1.0:
            moved = carried(remembered, family, params, after.params, state.coreset)
            after = replace(after, scores=moved)
        # Recluster, if it is time.
        after, reclustered = self.policy.improved(after, X, w, drifted)
        if not (math.isfinite(loss) and usable(after.params)):
            raise DataError(
                "a covariance would be singular, or a sum too large for a number; raise reg_covar, "
                "or scale the points"
            )
        gamma = weight / (lam * running.mass + weight)
        info = Info("learning", n_points, loss, gamma, revived, drifted, reclustered=reclustered)
        return _with_changes_of_ids(state, after, info)

    def _scored(
        self, params: P, X: Points, w: Array, memory: ScoreMemory, features: FeatureDistribution
    ) -> tuple[BatchStep, Array | None, Points, Array]:
        """Return the e-step of the points that are learned, all scores, and the learned points."""
        remembers = self.policy.has_coreset(X.shape[1])
        is_tail = self.anomaly is not None and self.anomaly.score == "tail_score"
        wanted = Wanted(assigned=remembers, scores=self.anomaly is not None and not is_tail)
        found = e_step_of_batch(self.family, params, X, w, self.each_part, wanted)
        scores = found.scores
        if is_tail:
            scores = features.first_scores(X, w) if features.is_empty else features.scores(X)
        if scores is None or self.anomaly is None:
            return found, None, X, w
        learned = unflagged(scores, memory, self.anomaly)
        if not learned.all():
            X, w, wanted = X[learned], w[learned], Wanted(assigned=remembers)
            if len(X):
                found = e_step_of_batch(self.family, params, X, w, self.each_part, wanted)
        return found, scores, X, w

    def _learn(
        self, state: LearnerState[P], params: P, running: Stats, batch: _Batch, lam: float
    ) -> tuple[LearnerState[P], tuple[int, ...]]:
        """Do the stages from forget to remember; return the state, and the revived components."""
        family, X, w, unit, weight = self.family, batch.X, batch.w, batch.unit, batch.stats.count
        # Forget: one factor for all statistics.
        forgetting = state.forgetting.fall(state.clock.points, batch.kept, drifted=True)
        forgetting = forgetting.forget(lam, running.mass)
        # Merge.
        stats = merge(batch.stats, decay(running, lam))
        spread = state.spread or first_spread(family, params)
        if spread is not None:
            spread = spread.observe(X, w)
        # Revive components that have lost nearly all mass by forgetting.
        components = state.components.with_first_peak(running, stats, unit)
        dying = components.dying(stats, unit, self.reassignment_ratio)
        holds, revived = state.clock.held < self.forgetting.hold, _NONE
        if not holds and family.fewest is None and dying.any():
            stats, revived = self._revive(state, stats, dying, X, w)
        # M-step.
        if not holds:
            worth = min(forgetting.weight, unit * rules_of(family).points_for_shape(X.shape[1]))
            params = self._m_step(params, stats, spread, worth, revived)
        held = weight if holds else 0.0
        clock = state.clock.advance(batch.n_points, batch.time_ms, steps=1, held=held)
        # Average.
        averaging = state.averaging
        if self.forgetting.average and clock.held >= self.forgetting.hold:
            restart = bool(revived) or batch.drifted
            averaging = averaged(family, averaging, params, stats, weight, restart)
        # Remember points in the coreset; after a drift even a hundredth of the past would draw it.
        coreset = state.coreset if batch.kept == 1.0 else CoresetState()
        coreset = self.policy.remember(coreset, X, w, batch.assigned, stats, clock.steps, lam)
        recluster = state.recluster.observe(family, len(X), batch.loss, weight, lam)
        if batch.kept < 1.0 or coreset.is_empty:
            recluster = recluster.without_pending()
        after = LearnerState(
            params=params,
            stats=stats,
            averaging=averaging,
            clock=clock,
            counts=state.counts.add(batch.drifted, len(revived)),
            warm_up=state.warm_up,
            coreset=coreset,
            recluster=recluster,
            components=components.with_peak(stats, revived),
            forgetting=forgetting,
            drift=batch.drift,
            scaling=state.scaling,
            spread=spread,
            scores=batch.scores,
            feature_distribution=batch.feature_distribution,
        )
        if family.fewest is not None:
            after = self._without_starved(after, batch, dying, lam)
        return after, revived

    def _revive(
        self, state: LearnerState[P], stats: Stats, dying: NDArray[np.bool_], X: Points, w: Array
    ) -> tuple[Stats, tuple[int, ...]]:
        rng = np.random.default_rng((self.seed, state.clock.steps))
        points = np.asarray(X, np.float64)
        return self.family.revive(stats, np.flatnonzero(dying).tolist(), points, w, rng)

    def _m_step(
        self, params: P, stats: Stats, spread: Spread | None, worth: float, revived: tuple[int, ...]
    ) -> P:
        """Return the parameters that follow from statistics, and from the last ones as a prior.

        `worth` is the weight in points up to which the prior fills a component; those revived have
        no past.
        """
        rules = rules_of(self.family)
        if spread is not None:
            params = rules.with_spread(params, spread.variance)
        if not worth > 0.0:
            return self.family.m_step(stats, params)
        prior = np.full(len(stats.weight), worth)
        prior[list(revived)] = 0.0
        return rules.map_step(stats, params, prior)

    def _without_starved(
        self, state: LearnerState[P], batch: _Batch, dying: NDArray[np.bool_], lam: float
    ) -> LearnerState[P]:
        """Remove components, where K adapts: those that are dying, or get no more points.

        The coreset's points of these components are removed too.
        """
        family, params, stats = self.family, state.params, state.stats
        if params is None or stats is None:
            return state
        components = state.components.with_recent(batch.stats.weight, lam)
        dying = dying | components.starved(stats.weight, batch.unit, self.reassignment_ratio)
        removed = to_remove(dying, stats.weight, family.fewest or 1)
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

_STATS = Wanted(assigned=False)


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
