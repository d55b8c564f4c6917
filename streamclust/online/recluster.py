"""Reclustering: when the learner fits stored points, and how a fit replaces the live parameters.

A learning step finds only the local optimum near the initial parameters. So the learner stores a
coreset beside the statistics, and fits it from time to time (`streamclust.online.coreset_fit`).
After a drift, the learner fits the points since the drift. A fit that is better than the live
parameters replaces them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from streamclust.errors import DataError
from streamclust.fitting.choose_k import is_better
from streamclust.fitting.fit import fit
from streamclust.fitting.moves import Sample
from streamclust.models.coreset import CoresetState, default_size
from streamclust.models.family import usable
from streamclust.models.stats import decay, reorder
from streamclust.online.averaging import Averaging
from streamclust.online.components import inherit_ids, numbered_components
from streamclust.online.coreset_fit import Pending, Problem, ReclusterState, judge, solve
from streamclust.online.drift import DriftState
from streamclust.online.rules import rules_of
from streamclust.online.scores import rebuilt
from streamclust.online.state import LearnerState, WarmUp

if TYPE_CHECKING:
    from streamclust.arrays import Array, Points
    from streamclust.fitting.restarts import MapRuns
    from streamclust.kernels import Assigned
    from streamclust.models.coreset import Coreset
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats
    from streamclust.online.drift import Drift
    from streamclust.online.forgetting import Forgetting

P = TypeVar("P", bound="Params")

GROWTH = 0.5
"""The coreset is fitted again when new points are this share of the mass of the model."""

EXCESS_LOSS = 0.05
"""Rise of the average loss, in the units of `Family.improvement`, above which the coreset is fitted
early. A few far outliers can change all clusters."""

DELAY = 0.1
"""Number of points from the start of a fit to the use of its answer, per mass of the model."""

_SAMPLE_DRAWS, _FIT_DRAWS = 1, 2
"""Last numbers of the seeds in a step: for the sample of the batch, and for the fit."""


@dataclass(frozen=True)
class ReclusterPolicy(Generic[P]):
    """When and how a fit replaces the live parameters.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    forgetting : Forgetting
    drift : Drift or None
    size : int or None
        Points of the coreset; None for `coreset.default_size`, 0 for no coreset.
    warm_up_points : int
        Number of points that are gathered for a fit after a drift.
    restarts, reseeds : int
        Runs of a fit after a drift, and runs from new seeds in a fit of the coreset.
    seed : int
    """

    family: Family[P]
    forgetting: Forgetting
    drift: Drift | None
    size: int | None
    warm_up_points: int
    restarts: int
    reseeds: int
    seed: int

    def remember(
        self,
        coreset: CoresetState,
        X: Points,
        w: Array,
        assigned: Assigned | None,
        stats: Stats,
        step: int,
        lam: float = 1.0,
    ) -> CoresetState:
        """Return the coreset with a sample of a batch; empty if the learner has no coreset."""
        size = self._size(X.shape[1])
        if size == 0 or assigned is None:
            return coreset if coreset.is_empty else CoresetState()
        rng = np.random.default_rng((self.seed, step, _SAMPLE_DRAWS))
        return coreset.remember(X, w, assigned, stats, size, lam, rng)

    def has_coreset(self, n_features: int) -> bool:
        """Return whether there is a coreset, so that `remember` needs the assignments."""
        return self._size(n_features) > 0

    def _size(self, n_features: int) -> int:
        return (
            default_size(self.family.n_components, n_features) if self.size is None else self.size
        )

    def improved(
        self, state: LearnerState[P], X: Points, w: Array, drifted: bool
    ) -> tuple[LearnerState[P], bool]:
        """Fit the points since a drift, or the coreset, if a fit is due.

        Return the state, and whether a fit of the coreset replaced the live parameters. A fit of
        the coreset starts in two cases:

        * The number of new points reaches `GROWTH` times the mass of the model. The answer is used
          after `DELAY` times the mass in further points, so that another thread can compute it in
          the meantime. If the coreset still has all points, the answer is used at once.
        * The new points raise the average loss by `EXCESS_LOSS`, and there is no drift detector.
          The answer is used at once.

        After a start from given parameters, the coreset isn't fitted before it has half of the
        mass. With Polyak-Ruppert averaging it is never fitted, because the average represents more
        points than the decayed coreset.
        """
        if drifted and self.drift is not None and self.drift.on_drift == "recluster":
            return replace(state, warm_up=WarmUp(gathering=True)), False
        if state.warm_up.gathering:
            return self._fit_since_drift(state, X, w), False
        state = self._start_fit(state, w)
        pending = state.recluster.pending
        if pending is None or state.clock.points < pending.due:
            return state, False
        answer = self.solve(pending).answer
        return self._use_answer(state, None if answer is None else answer.params, w)

    def _fit_since_drift(self, state: LearnerState[P], X: Points, w: Array) -> LearnerState[P]:
        """Gather points since a drift; fit them when there are as many as in the warm-up.

        The fit replaces the live parameters if it is better on these points.
        """
        warm_up, params = state.warm_up.add(X, w), state.params
        if len(warm_up) < self.warm_up_points or params is None:
            return replace(state, warm_up=warm_up)
        state = replace(state, warm_up=WarmUp())
        try:
            seed = (self.seed, state.clock.steps)
            best = fit(self.family, warm_up.X, warm_up.w, n_init=self.restarts, seed=seed)
        except DataError:  # too few points, or so few that a covariance is singular
            return state
        if self.family.min_components is None:
            live = self.family.e_step(params, warm_up.X, warm_up.w)
            better = self.family.loss(live) > best.loss
        else:
            sample = Sample(warm_up.X, warm_up.w, float(warm_up.w.sum()))
            better = is_better(self.family, params, best.params, sample)
        if not better:
            return state
        after = replace(
            self.adopt(state, best.params, best.stats, is_fit_of_coreset=True), drift=state.drift
        )
        return after.fallen_from(state)

    def _start_fit(self, state: LearnerState[P], w: Array) -> LearnerState[P]:
        params, stats, before = state.params, state.stats, state.recluster
        if params is None or stats is None or state.clock.held < self.forgetting.hold:
            return state
        mass = stats.mass
        # A large rise of the loss starts a fit at once, even if another fit is pending. If there is
        # a drift detector, it decides instead.
        enough = before.learned > 0.5 * self.warm_up_points
        at_once = enough and before.excess_loss > EXCESS_LOSS * mass and self.drift is None
        due = at_once or (before.pending is None and before.learned >= before.interval)
        if not due or self.forgetting.average:
            return state
        core, behind = state.coreset.points, mass / float(w.mean())
        if not len(core.w) or 2.0 * core.mass < mass:
            return state
        at_once = at_once or behind <= self._size(core.X.shape[1])
        wait = 0 if at_once else math.ceil(DELAY * behind)
        problem = Problem(params, core, (self.seed, state.clock.steps, _FIT_DRAWS))
        pending = Pending(state.clock.points + wait, problem)
        after = replace(before, learned=0, excess_loss=0.0, pending=pending)
        return replace(state, recluster=after)

    def solve(self, pending: Pending[P], each: MapRuns = map) -> Pending[P]:
        """Return the pending fit with its answer."""
        if pending.answer is not None:
            return pending
        return replace(pending, answer=solve(self.family, pending.problem, self.reseeds, each))

    def _use_answer(
        self, state: LearnerState[P], candidate: P | None, w: Array
    ) -> tuple[LearnerState[P], bool]:
        """Replace the live parameters by `candidate` if it is better; return whether it was.

        The comparison and the new statistics use the present coreset, which includes points that
        were learned since the fit started.
        """
        params, stats = state.params, state.stats
        if params is None or stats is None:
            return state, False
        core, before = state.coreset.points, state.recluster
        behind = stats.mass / float(w.mean())  # in points, whatever the unit of the weights is
        better = None if candidate is None else judge(self.family, params, core, behind, candidate)
        if candidate is not None and better is not None:
            candidate = self.family.m_step(better, candidate)
            better = better if usable(candidate) else None
        interval = self.interval(behind)
        if candidate is None or better is None:
            loss = self._comparable_loss(params, self.family.e_step(params, core.X, core.w), core)
            if self.family.min_components is None:  # if K adapts, the interval stays
                interval = max(interval, 2.0 * before.interval)
            after = ReclusterState[P](before.learned, interval, loss)
            return replace(state, recluster=after), False
        solved_loss = self._comparable_loss(candidate, better, core)
        return replace(
            self.adopt(state, candidate, better, is_fit_of_coreset=True),
            drift=state.drift,
            counts=replace(state.counts, reclustered=state.counts.reclustered + 1),
            recluster=ReclusterState(before.learned, interval, solved_loss),
        ), True

    def _comparable_loss(self, params: P, stats: Stats, core: Coreset) -> float:
        return rules_of(self.family).comparable_loss(stats, params, core.X, core.w)

    def interval(self, points: float) -> float:
        """Return the number of new points before the next fit, for a model of this many points."""
        return max(GROWTH * points, 0.5 * self.warm_up_points)

    def adopt(
        self,
        state: LearnerState[P],
        params: P,
        stats: Stats,
        *,
        is_fit_of_coreset: bool = False,
    ) -> LearnerState[P]:
        """Return `state` with the parameters and the statistics of a refit.

        Components get the numbers of the nearest components of `state`; if K adapts, see
        `inherit_ids`. The mass of the refit is at most the mass of the running statistics, so that
        forgetting continues as before. The score continues too, because the score of a refit on its
        own points is too good.

        Parameters
        ----------
        state : LearnerState
        params : KMeansParams or MixtureParams
        stats : Stats
            Statistics of the refit's points under `params`.
        is_fit_of_coreset : bool, default=False
            Whether the refit's points are the coreset.
        """
        live, objective, count = published(self.family, state), 0.0, 0.0
        adapts, components = self.family.min_components is not None, state.components
        if live is None or state.stats is None:
            components = numbered_components(len(params.means)) if adapts else components
        else:
            if adapts:
                old, new, coreset = (live, state.stats), (params, stats), state.coreset.points
                order, components = inherit_ids(self.family, components, old, new, coreset)
            else:
                order = self.family.match(params, live)
            params, stats = self.family.reorder(params, order), reorder(stats, order)
            stats = decay(stats, min(1.0, state.stats.mass / stats.mass))
            if state.spread is not None:
                params = rules_of(self.family).with_spread(params, state.spread.variance)
            objective, count = state.stats.objective, state.stats.count
        averages = self.forgetting.average
        average = decay(stats, 1.0 / stats.mass) if averages else None
        return replace(
            state,
            params=params,
            stats=replace(stats, objective=objective, count=count),
            averaging=Averaging(average, int(averages)),
            warm_up=WarmUp(),
            recluster=state.recluster.without_pending(),
            components=replace(components, peak=stats.weight, peak_total=stats.mass),
            drift=DriftState(),
            scores=rebuilt(
                state.scores,
                self.family,
                params,
                state.coreset,
                before=state.params,
                is_fit=is_fit_of_coreset,
            ),
        )


def published(family: Family[P], state: LearnerState[P]) -> P | None:
    """Return the parameters to publish: of the averaged statistics, if the policy averages."""
    average = state.averaging.average
    if average is not None and state.params is not None:
        return family.m_step(average, state.params)
    return state.params
