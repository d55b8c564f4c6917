"""Reclustering: when a fit of stored points is made, and how it replaces the live parameters.

A learning step finds only the local optimum near the initial parameters. So the learner keeps a
coreset beside the statistics; from time to time the coreset is fitted
(`streamclust.online.resolving`), and after a drift the points since then. A fit that is better than
the live parameters replaces them.
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
from streamclust.online.components import first, inherit_ids
from streamclust.online.drift import DriftState
from streamclust.online.resolving import Pending, Problem, ReclusterState, judge, solve
from streamclust.online.state import LearnerState, WarmUp

if TYPE_CHECKING:
    from streamclust.arrays import Array, Points
    from streamclust.fitting.restarts import Each
    from streamclust.kernels import Assigned
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats
    from streamclust.online.drift import Drift
    from streamclust.online.forgetting import Forgetting

P = TypeVar("P", bound="Params")

GROWTH = 0.5
"""Share of the mass behind the model that has to be new before the coreset is solved again."""

EXCESS_LOSS = 0.05
"""Rise of the loss over all that is remembered, in the units of `improvement`, that is enough
for the coreset to be solved earlier: a few far outliers can change everything."""

DELAY = 0.1
"""Share of the points behind the model that come before the answer to a solve is looked at."""

_DRAWN, _SOLVED = 1, 2
"""What else a step draws for, apart from reviving: each has random numbers of its own."""


@dataclass(frozen=True)
class ReclusterPolicy(Generic[P]):
    """When and how a fit takes the place of the live parameters.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    forgetting : Forgetting
    drift : Drift or None
    size : int or None
        Points of the coreset; None for `coreset.default_size`, 0 for no coreset.
    warm_up_points : int
        Points that a fit after a drift waits for.
    restarts, reseeds : int
        Runs of a fit after a drift, and runs from fresh seeds when the coreset is solved.
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
        assigned: Assigned,
        stats: Stats,
        step: int,
        lam: float = 1.0,
    ) -> CoresetState:
        """Return the coreset with a sample of a batch; empty if no coreset is wanted."""
        size = self._size(X.shape[1])
        if size == 0:
            return coreset if coreset.is_empty else CoresetState()
        rng = np.random.default_rng((self.seed, step, _DRAWN))
        return coreset.remember(X, w, assigned, stats, size, lam, rng)

    def _size(self, n_features: int) -> int:
        return (
            default_size(self.family.n_components, n_features) if self.size is None else self.size
        )

    def improved(
        self, state: LearnerState[P], X: Points, w: Array, drifted: bool
    ) -> tuple[LearnerState[P], bool]:
        """Fit again, if it is time: the points since a drift, or the coreset.

        Return the state, and whether a fit of the coreset replaced the live parameters. Such a fit
        starts when the new points are half as many as those before, or when they raise the loss of
        all by `EXCESS_LOSS` and drift isn't looked for. The answer to the latter, and any while all
        points have room in the coreset, is due at once; else after `DELAY` as many points again, so
        that it can be computed beside the stream. Parameters that were given weigh more than the
        points until the points are half of the mass. With Polyak-Ruppert averaging the coreset is
        not fitted: the average has seen more than the decayed coreset represents.
        """
        if drifted and self.drift is not None and self.drift.on_drift == "resolve":
            return replace(state, warm_up=WarmUp(gathering=True)), False
        if state.warm_up.gathering:
            return self._fit_since_drift(state, X, w), False
        state = self._begun(state, w)
        pending = state.recluster.pending
        if pending is None or state.clock.points < pending.due:
            return state, False
        answer = self.solve(pending).answer
        return self._judged(state, None if answer is None else answer.params, w)

    def _fit_since_drift(self, state: LearnerState[P], X: Points, w: Array) -> LearnerState[P]:
        """Fit to the points since a drift once they are as many as the warm-up had.

        The fit is adopted if it is better than the live parameters on these points.
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
        if self.family.fewest is None:
            live = self.family.e_step(params, warm_up.X, warm_up.w)
            better = self.family.loss(live) > best.loss
        else:
            sample = Sample(warm_up.X, warm_up.w, float(warm_up.w.sum()))
            better = is_better(self.family, params, best.params, sample)
        if not better:
            return state
        after = replace(self.adopt(state, best.params, best.stats), drift=state.drift)
        return after.fallen_from(state)

    def _begun(self, state: LearnerState[P], w: Array) -> LearnerState[P]:
        params, stats, before = state.params, state.stats, state.recluster
        if params is None or stats is None or state.clock.held < self.forgetting.hold:
            return state
        mass = stats.mass
        # Points that are explained much worse are answered at once, whatever is pending; but where
        # drift is looked for, the detector decides.
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
        problem = Problem(params, core, (self.seed, state.clock.steps, _SOLVED))
        pending = Pending(state.clock.points + wait, problem)
        after = replace(before, learned=0, excess_loss=0.0, pending=pending)
        return replace(state, recluster=after)

    def solve(self, pending: Pending[P], each: Each = map) -> Pending[P]:
        """Return what is pending with its answer."""
        if pending.answer is not None:
            return pending
        return replace(pending, answer=solve(self.family, pending.problem, self.reseeds, each))

    def _judged(
        self, state: LearnerState[P], found: P | None, w: Array
    ) -> tuple[LearnerState[P], bool]:
        """Let a fit take the place of the live parameters, if it is better; say whether.

        It is judged on the coreset as it is now, and the statistics are that coreset's under the
        fit: so what was learned since the solve began is in them.
        """
        params, stats = state.params, state.stats
        if params is None or stats is None:
            return state, False
        core, mass, before = state.coreset.points, stats.mass, state.recluster
        better = None if found is None else judge(self.family, params, core, mass, found)
        if found is not None and better is not None:
            found = self.family.m_step(better, found)
            better = better if usable(found) else None
        interval = self.interval(mass / float(w.mean()))
        if found is None or better is None:
            loss = self.family.loss(self.family.e_step(params, core.X, core.w))
            if self.family.fewest is None:  # else K is looked at as regularly as before
                interval = max(interval, 2.0 * before.interval)
            after = ReclusterState[P](before.learned, interval, loss)
            return replace(state, recluster=after), False
        return replace(
            self.adopt(state, found, better),
            drift=state.drift,
            counts=replace(state.counts, reclustered=state.counts.reclustered + 1),
            recluster=ReclusterState(before.learned, interval, self.family.loss(better)),
        ), True

    def interval(self, points: float) -> float:
        """Return how many points have to be new before the coreset of so many is solved again."""
        return max(GROWTH * points, 0.5 * self.warm_up_points)

    def adopt(self, state: LearnerState[P], params: P, stats: Stats) -> LearnerState[P]:
        """Return `state` with the parameters and the statistics of a refit in place of its own.

        Components are numbered like the nearest ones of `state`; where K adapts, see
        `streamclust.online.components`. The refit's points count for no
        more than the running statistics do, so that forgetting goes on as before. The score goes
        on too: a refit's own would not be out of sample.

        Parameters
        ----------
        state : LearnerState
        params : KMeansParams or MixtureParams
        stats : Stats
            Of the refit's data under `params`.
        """
        live, objective, count = published(self.family, state), 0.0, 0.0
        adapts, components = self.family.fewest is not None, state.components
        if live is None or state.stats is None:
            components = first(self.family.size(params)) if adapts else components
        else:
            if adapts:
                old, coreset = (live, state.stats), state.coreset.points
                order, components = inherit_ids(
                    self.family, components, old, (params, stats), coreset
                )
            else:
                order = self.family.match(params, live)
            params, stats = self.family.reorder(params, order), reorder(stats, order)
            stats = decay(stats, min(1.0, state.stats.mass / stats.mass))
            if state.spread is not None:
                params = self.family.with_spread(params, state.spread.variance)
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
        )


def published(family: Family[P], state: LearnerState[P]) -> P | None:
    """Return the parameters to publish: of the averaged statistics, if the policy averages."""
    average = state.averaging.average
    if average is not None and state.params is not None:
        return family.m_step(average, state.params)
    return state.params
