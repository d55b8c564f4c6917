"""Renewal: the points that stand for the stream, and how a fit of them renews the model.

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
from streamclust.models.coreset import (
    CHUNK,
    Coreset,
    default_size,
    join,
    reduce_coreset,
    subsample,
)
from streamclust.models.coreset import (
    decay as decay_coreset,
)
from streamclust.models.family import usable
from streamclust.models.stats import decay, reorder
from streamclust.online.averaging import Averaging
from streamclust.online.components import first, succeeded
from streamclust.online.drift import DriftState
from streamclust.online.resolving import Pending, Problem, judge, solve
from streamclust.online.state import LearnerState, changed, fallen, without_coreset

if TYPE_CHECKING:
    from streamclust.arrays import Array, Points
    from streamclust.fitting.em import EMResult
    from streamclust.fitting.restarts import Each
    from streamclust.kernels import Assigned
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats
    from streamclust.online.drift import Drift
    from streamclust.online.forgetting import Forgetting

P = TypeVar("P", bound="Params")

GROWTH = 0.5
"""Share of the mass behind the model that has to be new before the coreset is solved again."""

SURPRISE = 0.05
"""Rise of the loss over all that is remembered, in the units of `improvement`, that is enough
for the coreset to be solved earlier: a few far outliers can change everything."""

DELAY = 0.1
"""Share of the points behind the model that come before the answer to a solve is looked at."""

_DRAWN, _SOLVED = 1, 2
"""What else a step draws for, apart from reviving: each has random numbers of its own."""


@dataclass(frozen=True)
class Renewal(Generic[P]):
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
        self, state: LearnerState[P], X: Points, w: Array, assigned: Assigned, lam: float = 1.0
    ) -> LearnerState[P]:
        """Take points into the coreset; all of it is condensed when enough are new."""
        size = self._size(X.shape[1])
        if size == 0 or state.stats is None:
            return without_coreset(state)
        core = decay_coreset(Coreset(state.core, state.core_weight), lam)
        fresh = decay_coreset(Coreset(state.fresh, state.fresh_weight), lam)
        rng = np.random.default_rng((self.seed, state.steps, _DRAWN))
        mass, K = core.mass + fresh.mass, len(state.stats.weight)
        fresh = join(fresh, subsample(X, w, assigned, mass, K, size, rng))
        if len(fresh.X) >= min(size, CHUNK):
            means = state.stats.averages(state.stats.reference)
            core, fresh = reduce_coreset(join(core, fresh), means, size, rng), Coreset()
        return changed(state, core=core.X, core_weight=core.w, fresh=fresh.X, fresh_weight=fresh.w)

    def _size(self, n_features: int) -> int:
        return (
            default_size(self.family.n_components, n_features) if self.size is None else self.size
        )

    def surprise(self, state: LearnerState[P], loss: float, count: float, lam: float) -> float:
        """Return how much worse points were explained than the coreset when it was solved.

        That is what the state has, faded, and a batch's part.
        """
        if state.solved_loss is None:
            return state.surprise
        return lam * state.surprise - count * self.family.improvement(state.solved_loss, loss)

    def improved(
        self, state: LearnerState[P], X: Points, w: Array, drifted: bool
    ) -> tuple[LearnerState[P], bool]:
        """Fit anew, if it is time: to the points since a drift, or to the coreset."""
        if drifted and self.drift is not None and self.drift.on_drift == "resolve":
            empty = LearnerState[P]()
            sample, weight = empty.sample, empty.sample_weight
            return replace(state, gathering=True, sample=sample, sample_weight=weight), False
        if state.gathering:
            return self._fit_since_drift(state, X, w), False
        return self._solve(state, w)

    def _fit_since_drift(self, state: LearnerState[P], X: Points, w: Array) -> LearnerState[P]:
        """Fit to the points since a drift once they are as many as the warm-up had.

        The fit is adopted where it beats the live parameters, let alone on the same points.
        """
        state = sampled(state, X, w)
        params, sample = state.params, state.sample
        if len(sample) < self.warm_up_points or params is None:
            return state
        sample_weight = state.sample_weight
        empty = LearnerState[P]()
        state = replace(
            state, gathering=False, sample=empty.sample, sample_weight=empty.sample_weight
        )
        try:
            seed = (self.seed, state.steps)
            best = fit(self.family, sample, sample_weight, n_init=self.restarts, seed=seed)
        except DataError:  # too few points, or so few that a covariance is singular
            return state
        if self._beats(params, best, Coreset(sample, sample_weight)):
            after = replace(self.adopt(state, best.params, best.stats), drift=state.drift)
            return fallen(after, state)
        return state

    def _beats(self, live: P, found: EMResult[P], points: Coreset) -> bool:
        if self.family.fewest is not None:
            sample = Sample(points.X, points.w, points.mass)
            return is_better(self.family, live, found.params, sample)
        return self.family.loss(self.family.e_step(live, points.X, points.w)) > found.loss

    def _solve(self, state: LearnerState[P], w: Array) -> tuple[LearnerState[P], bool]:
        """Begin to solve the coreset, or look at the answer, if it is time; say whether it gained.

        It is time to begin when the new points are half as many as those remembered before, or when
        they raise the loss of all by `SURPRISE` and drift isn't looked for. The answer to that, and
        any while all points have room in the coreset, is looked at at once; else after `DELAY` as
        many points again, so that it can be found beside the stream.
        Parameters that were given weigh more than the points until the points are half of the mass.
        With Polyak-Ruppert averaging nothing is solved: the average has seen more than the faded
        coreset stands for.
        """
        state = self._begun(state, w)
        if state.pending is None or state.points < state.pending.due:
            return state, False
        answer = self.solve(state.pending).answer
        return self._judged(state, None if answer is None else answer.params, w)

    def _begun(self, state: LearnerState[P], w: Array) -> LearnerState[P]:
        params, stats = state.params, state.stats
        if params is None or stats is None or state.held < self.forgetting.hold:
            return state
        mass = stats.mass
        surprised = self._surprising(state, mass)
        due = surprised or (state.pending is None and state.unsolved >= state.patience)
        if not due or self.forgetting.average:
            return state
        core, behind = state.coreset, mass / float(w.mean())
        if not len(core.w) or 2.0 * core.mass < mass:
            return state
        at_once = surprised or behind <= self._size(core.X.shape[1])
        wait = 0 if at_once else math.ceil(DELAY * behind)
        problem = Problem(params, core, (self.seed, state.steps, _SOLVED))
        pending = Pending(state.points + wait, problem)
        return replace(state, pending=pending, unsolved=0, surprise=0.0)

    def _surprising(self, state: LearnerState[P], mass: float) -> bool:
        """Whether the coreset has to be solved at once, on top of what may be pending."""
        if self.drift is not None:  # it is for the detector to say, and for its user to choose
            return False
        return state.surprise > SURPRISE * mass and state.unsolved > 0.5 * self.warm_up_points

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
        core, mass = state.coreset, stats.mass
        better = None if found is None else judge(self.family, params, core, mass, found)
        if found is not None and better is not None:
            found = self.family.m_step(better, found)
            better = better if usable(found) else None
        patience = self.patience(mass / float(w.mean()))
        state = replace(state, pending=None, surprise=0.0)
        if found is None or better is None:
            loss = self.family.loss(self.family.e_step(params, core.X, core.w))
            if self.family.fewest is None:  # else K is looked at as regularly as before
                patience = max(patience, 2.0 * state.patience)
            return replace(state, patience=patience, solved_loss=loss), False
        after = self.adopt(state, found, better)
        after = replace(after, drift=state.drift, resolves=state.resolves + 1)
        return replace(after, patience=patience, solved_loss=self.family.loss(better)), True

    def patience(self, points: float) -> float:
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
        who = {} if self.family.fewest is None else first(self.family.size(params))
        if live is not None and state.stats is not None:
            if self.family.fewest is None:
                order = self.family.match(params, live)
            else:
                order, who = succeeded(self.family, state, live, params, stats)
            params, stats = self.family.reorder(params, order), reorder(stats, order)
            share = state.stats.mass / stats.mass
            stats = decay(stats, min(1.0, share))
            if state.spread is not None:
                params = self.family.with_spread(params, state.spread.variance)
            objective, count = state.stats.objective, state.stats.count
        total = stats.mass
        averages = self.forgetting.average
        empty = LearnerState[P]()
        return replace(
            state,
            params=params,
            stats=replace(stats, objective=objective, count=count),
            average=decay(stats, 1.0 / total) if averages else None,
            averaged=int(averages),
            averaging=Averaging(),
            sample=empty.sample,
            sample_weight=empty.sample_weight,
            best=stats.weight,
            best_total=total,
            drift=DriftState(state.drift.drifts),
            gathering=False,
            pending=None,
            **who,
        )


def published(family: Family[P], state: LearnerState[P]) -> P | None:
    """Return the parameters to publish: of the averaged statistics, if the policy averages."""
    if state.average is not None and state.params is not None:
        return family.m_step(state.average, state.params)
    return state.params


def sampled(state: LearnerState[P], X: Points, w: Array) -> LearnerState[P]:
    """Return the state with points added to its sample."""
    X = np.asarray(X, np.float64)
    sample = np.concatenate([state.sample, X]) if len(state.sample) else X
    weight = np.concatenate([state.sample_weight, w])
    return replace(state, sample=sample, sample_weight=weight)
