"""Learning from a stream: one learner for both families.

    running <- lam * running + e_step(params, batch);   params <- m_step(running)

with lam from the forgetting policy. For mixtures, this is stepwise EM (Cappe & Moulines 2009,
equation 11; Liang & Klein 2009), for K-means, mini-batch K-means (Sculley 2010). A step
interpolates statistics, not means and covariances, and can lower the likelihood. Each batch is
scored before it is learned, under the parameters from before the batch.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

import numpy as np

from streamclust.arrays import (
    MAX_MAGNITUDE,
    as_points_as_given,
    as_sample_weight,
    distinct_points,
    has_gaps,
)
from streamclust.errors import DataError, TooFewPointsError, UnlearnableError
from streamclust.fitting.fit import fit
from streamclust.fitting.search import search_of
from streamclust.hyperparameters import (
    as_flag,
    as_integer,
    as_number,
    check_choice,
    is_finite,
    renamed,
    store,
)
from streamclust.models.directions import distinct_directions
from streamclust.models.family import StepOutputs, check_family, check_params, type_words
from streamclust.models.feature_distribution import (
    MAX_FEATURES,
    TOO_MANY_FEATURES,
    FeatureDistribution,
)
from streamclust.models.scaling import ScalingKind, learn_scaling
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.online.batch_parts import one_by_one
from streamclust.online.components import Components, numbered_components
from streamclust.online.coreset_fit import ReclusterState
from streamclust.online.drift import Drift
from streamclust.online.forgetting import Forgetting, Step
from streamclust.online.recluster import ReclusterPolicy, published
from streamclust.online.rules import rules_of
from streamclust.online.scores import Anomaly, first_memory
from streamclust.online.state import Info, LearnerState, Phase, WarmUp
from streamclust.online.step import StreamingStep, first_spread

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from streamclust.arrays import Array, Points
    from streamclust.fitting.restarts import MapRuns
    from streamclust.models.family import Family, Params
    from streamclust.models.scores import AnomalyScore
    from streamclust.models.stats import Stats
    from streamclust.online.batch_parts import EachPart
    from streamclust.online.coreset_fit import Pending
    from streamclust.online.rules import Rules

__all__ = ["Info", "LearnerState", "Phase", "StreamLearner"]

P = TypeVar("P", bound="Params")

_MAX_PRODUCTS = 1 << 38
"""Largest number of products of coordinates in the start, N K D per pass: less than a minute."""

_PASSES_PER_RUN = 50
"""Number of passes that most runs need at most. It limits the number of runs."""

_MAX_PASSES = 300
"""Largest number of passes of a run."""


@renamed(restarts="n_init", fade="reassignment_ratio")
@dataclass(frozen=True)
class StreamLearner(Generic[P]):
    """Online K-means or stepwise EM, depending on the family.

    Parameters
    ----------
    family : KMeans or GaussianMixture
        If its K adapts to the stream (`streamclust.fitting.choose_k`), the numbers of components
        never change (`LearnerState.ids`).
    forgetting : Forgetting, optional
        How old points decay: a half-life in points or in event time, or a power schedule. By
        default they don't.
    warm_up : int, optional
        Points gathered before the start. Default: max(1000, 10 * K).
    n_init : int, default=4
        Runs on the warm-up sample; the learner starts from the best run.
    reassignment_ratio : float, default=0.1
        A component is revived if its mass falls below this share of its largest mass, while the
        total mass stays.
    coreset : int, optional
        Largest number of points of the coreset. Up to min(coreset, 4096) new points are stored in
        addition. 0: no coreset. Default: see `streamclust.models.coreset.default_size`.
    reseeds : int, default=3
        Runs from new seeds in a fit of the coreset, in addition to one from the live parameters.
    seed : int, default=0
        The same points in the same batches with the same seed give the same bits.
    scale : {'none', 'standard', 'robust'}, default='none'
        Scaling of the features, learned from the warm-up sample. Losses are then in scaled units;
        `in_units` returns parameters in the original units.
    drift : Drift, optional
        How drift is detected, and the reaction. By default drift isn't detected.
    each_part : callable, optional
        Computes the e-steps of the parts of a costly batch (`streamclust.online.batch_parts`).
        Default: the calling thread computes them.
    anomaly : Anomaly, optional
        Store the distribution of the scores of points, for quantiles and thresholds. By default
        the learner doesn't store it.
    tail_scores : bool, default=False
        Store the distribution of each feature, for tail scores
        (`streamclust.models.feature_distribution`), of at most 1,000 features. It is always stored
        if `anomaly.score` is 'tail_score'.

    Raises
    ------
    DataError
        If a value isn't allowed.

    Examples
    --------
    >>> import numpy as np
    >>> from streamclust import HalfLife, KMeans, StreamLearner
    >>> learner = StreamLearner(KMeans(2), HalfLife(points=500), warm_up=10)
    >>> state = learner.init()
    >>> for batch in np.random.default_rng(0).normal([[-5.0], [5.0]], size=(100, 2, 1)):
    ...     state, info = learner.update(state, batch)
    >>> sorted(state.params.centroids.round().ravel().tolist())
    [-5.0, 5.0]
    """

    family: Family[P]
    forgetting: Forgetting = field(default_factory=Forgetting)
    _: KW_ONLY
    warm_up: int | None = None
    n_init: int = 4
    seed: int = 0
    reassignment_ratio: float = 0.1
    scale: ScalingKind = "none"
    drift: Drift | None = None
    coreset: int | None = None
    reseeds: int = 3
    each_part: EachPart = field(default=one_by_one, repr=False, compare=False)
    anomaly: Anomaly | None = None
    tail_scores: bool = False

    def __post_init__(self) -> None:
        check_family(self.family)
        if not isinstance(self.forgetting, Forgetting):
            raise DataError(f"forgetting is {self.forgetting!r}; expected a Forgetting")
        if not isinstance(self.drift, Drift | None):
            raise DataError(f"drift is {self.drift!r}; expected a Drift or None")
        if not isinstance(self.anomaly, Anomaly | None):
            raise DataError(f"anomaly is {self.anomaly!r}; expected an Anomaly or None")
        check_choice("scale", self.scale, get_args(ScalingKind))
        ratio = as_number("reassignment_ratio", self.reassignment_ratio, "a number from 0 to 1")
        if ratio > 1.0:
            raise DataError(f"reassignment_ratio is {ratio}; expected a number from 0 to 1")
        if self.scale != "none" and self.family.metric == "cosine":
            raise DataError(f"scale is {self.scale!r}; metric cosine has unit vectors: use 'none'")
        store(
            self,
            warm_up=None if self.warm_up is None else as_integer("warm_up", self.warm_up, 1),
            n_init=as_integer("n_init", self.n_init, 1),
            seed=as_integer("seed", self.seed),
            reassignment_ratio=ratio,
            coreset=None if self.coreset is None else as_integer("coreset", self.coreset),
            reseeds=as_integer("reseeds", self.reseeds),
            tail_scores=as_flag("tail_scores", self.tail_scores),
        )

    @property
    def anomaly_score(self) -> AnomalyScore:
        """Which score is the anomaly score."""
        return "model" if self.anomaly is None else self.anomaly.score

    @property
    def remembers_features(self) -> bool:
        """Whether the learner stores the distribution of each feature."""
        return self.tail_scores or self.anomaly_score == "tail_score"

    @property
    def warm_up_points(self) -> int:
        """Number of points gathered before the start."""
        return self.warm_up or max(1000, 10 * self.family.n_components)

    def init(self, params: P | None = None, weight: float = 1.0) -> LearnerState[P]:
        """Return the state before the first point.

        Parameters
        ----------
        params : KMeansParams or MixtureParams, optional
            Start from these parameters instead of a warm-up sample.
        weight : float, default=1.0
            Average weight of the given components, in points.

        Raises
        ------
        DataError
            If the parameters are those of another family, have another number of components, or
            have wrong shapes or values; or if the weight isn't a number from 0 to 1e100.
        """
        expected = f"a number from 0 to {MAX_MAGNITUDE:g}"
        weight = as_number("weight", weight, expected)
        if weight > MAX_MAGNITUDE:
            raise DataError(f"weight is {weight:g}; expected {expected}")
        if params is None:
            return LearnerState()
        valid = self._checked_params(params)
        stats = self.family.prior_stats(valid, weight)
        return LearnerState(
            params=valid,
            stats=stats,
            recluster=ReclusterState(interval=self.warm_up_points),
            components=self._first_components(valid),
        )

    def _checked_params(self, params: Any) -> Any:
        """Return parameters that the user gave, after checks."""
        family = self.family
        check_params(family, params)
        arrays = family.to_arrays(params)
        if "scale" in arrays:
            raise DataError("params has a scale; expected centroids of points that aren't scaled")
        params = family.from_arrays(arrays)
        K = len(params.means)
        if (
            family.min_components is not None
            and not family.min_components <= K <= family.n_components
        ):
            bounds = f"{family.min_components} to {family.n_components}"
            raise DataError(f"params has {K} components; expected {bounds}")
        for name, array in arrays.items():
            most = MAX_MAGNITUDE**2 if name == "covariances" else MAX_MAGNITUDE
            if (largest := float(np.abs(array).max())) > most:
                raise DataError(f"{name} holds {largest:g}; expected a magnitude up to {most:g}")
        if "weights" in arrays and not (arrays["weights"] > 0.0).all():
            raise DataError(f"weights holds {arrays['weights'].min():g}; expected positive numbers")
        return params

    def _first_components(self, params: P) -> Components:
        return (
            Components()
            if self.family.min_components is None
            else numbered_components(len(params.means))
        )

    def update(
        self,
        state: LearnerState[P],
        X: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        time_ms: float | None = None,
    ) -> tuple[LearnerState[P], Info]:
        """Score a batch, then learn it; `state` isn't changed.

        Parameters
        ----------
        state : LearnerState
        X : array-like of shape (N, D)
            An empty batch changes nothing. float32 is accepted as it is. NaN is a missing value
            if the family has ``missing="learn"``; each point needs one present value.
        sample_weight : array-like of shape (N,), optional
            Weight 2 counts a point twice; a point of weight 0 is ignored.
        time_ms : float, optional
            Event time of the batch in milliseconds; needed for a half-life in event time.

        Raises
        ------
        DataError
            If the points have the wrong shape or hold NaN or infinity, `time_ms` is no number, or
            the state is of another family.
        UnlearnableError
            If the points are valid, but no parameters follow from them: with a reg_covar near 0, a
            covariance may be singular. Leave the points out and continue from `state`, which isn't
            changed.
        """
        if time_ms is not None and not is_finite(time_ms):
            raise DataError(f"time_ms is {time_ms!r}; expected a finite number")
        self._check_state(state)
        n_features = state.warm_up.X.shape[1] if len(state.warm_up) else None
        if state.stats is not None:
            n_features = int(state.stats.reference.shape[1])
        family = self.family
        points = as_points_as_given(X, n_features, family.max_magnitude, family.missing)
        w = None if sample_weight is None else as_sample_weight(sample_weight, len(points))
        return self.learn(state, points, w, time_ms=time_ms)

    def _check_state(self, state: Any) -> None:
        """Refuse what isn't a state of this learner's family."""
        if not isinstance(state, LearnerState):
            raise DataError(
                f"state is {type_words(state)}; expected a LearnerState, as in update(state, X)"
            )
        if state.params is not None:
            check_params(self.family, state.params)

    def learn(
        self,
        state: LearnerState[P],
        X: Points,
        w: Array | None = None,
        *,
        time_ms: float | None = None,
    ) -> tuple[LearnerState[P], Info]:
        """Do the same as `update`, without checking the arrays.

        Parameters
        ----------
        state : LearnerState
        X : array of shape (N, D), float64 or float32
        w : array of shape (N,), optional
            Sample weights.
        time_ms : float, optional

        Raises
        ------
        DataError
            If the learner stores distributions of features, and there are more than 1,000 features.
        UnlearnableError
            See `update`.
        """
        if w is None:
            w = np.ones(len(X))
        elif not w.all():
            X, w = X[w > 0.0], w[w > 0.0]
        if self.remembers_features and X.shape[1] > MAX_FEATURES:
            raise DataError(f"points have {X.shape[1]:,} features; {TOO_MANY_FEATURES}")
        X = self.family.prepare(X)
        if state.scaling is not None:
            X = state.scaling.apply(X)
        phase: Phase = "learning" if state.params is not None else "warming"
        if len(X) == 0:
            return state, Info(phase, 0)
        if state.params is None or state.stats is None:
            warm_up, clock = state.warm_up.add(X, w), state.clock.advance(len(X), time_ms)
            state = replace(state, warm_up=warm_up, clock=clock)
            if len(warm_up) < self.warm_up_points:
                missing = f"{len(warm_up)} of {self.warm_up_points} warm-up points"
                return state, Info("warming", len(X), reason=missing)
            try:
                return self.start(state)
            except _NUMERICAL as error:
                raise _unlearnable(len(X), error) from error
        step = Step(
            number=state.clock.steps + 1,
            weight=float(w.sum()),
            running=state.stats.mass,
            elapsed_ms=state.clock.elapsed(time_ms),
        )
        lam = self.forgetting.factor(step)  # outside of `try`: a missing time is another error
        try:
            return self._step(state, state.params, state.stats, X, w, time_ms, lam)
        except _NUMERICAL as error:
            raise _unlearnable(len(X), error) from error

    def start(self, state: LearnerState[P]) -> tuple[LearnerState[P], Info]:
        """End the warm-up: fit the sample, if it has K distinct points.

        With fewer distinct points, the warm-up continues. Equal points of the sample then become
        one point with the sum of their weights, so that the sample stays bounded.
        """
        raw, w = state.warm_up.X, state.warm_up.w
        search_of(self.family).check(raw)
        scaling = learn_scaling(self.scale, raw, w)
        sample = raw if scaling is None else scaling.apply(raw)
        # The numbers of runs and of passes per run, so that the start takes a limited time.
        passes = _MAX_PRODUCTS // max(1, sample.size * self.family.n_components)
        restarts = max(1, min(self.n_init, passes // _PASSES_PER_RUN))
        passes = max(1, min(_MAX_PASSES, passes))
        try:
            best = fit(self.family, sample, w, n_init=restarts, max_iter=passes, seed=self.seed)
        except TooFewPointsError as error:
            return replace(state, warm_up=self._bounded_warm_up(raw, w)), Info(
                "warming", len(sample), reason=str(error)
            )
        # The loss of the sample is in-sample, so it must not count as a prequential loss.
        stats = replace(best.stats, objective=0.0, count=0.0)
        params = self.family.m_step(stats, best.params)
        features = FeatureDistribution().add(sample, w) if self.remembers_features else None
        anomaly, scores = self.anomaly, None
        if anomaly is not None:
            scores = first_memory(self.family, params, sample, w, anomaly.score)
        interval = self._recluster_policy.interval(len(sample))
        state = replace(
            state,
            params=params,
            stats=stats,
            scores=scores,
            feature_distribution=features,
            warm_up=WarmUp(),
            scaling=scaling,
            spread=first_spread(self.family, best.params),
            recluster=ReclusterState(
                interval=interval,
                solved_loss=self._rules.comparable_loss(best.stats, best.params, sample, w),
            ),
            components=self._first_components(best.params),
        )
        assigned = self.family.batch_step(best.params, sample, w, StepOutputs()).assigned
        coreset = self._recluster_policy.remember(
            state.coreset, sample, w, assigned, stats, state.clock.steps
        )
        return replace(state, coreset=coreset), Info("started", len(sample))

    def _bounded_warm_up(self, X: Array, w: Array) -> WarmUp:
        """Return the warm-up, in bounded memory, after a sample that can't be fitted.

        Equal points become one point. If a feature has no value yet, only the newest points stay.
        """
        older = len(X) - (self.warm_up_points - 1)
        if older > 0 and has_gaps(X) and np.isnan(X).all(axis=0).any():
            return WarmUp(X[older:], w[older:])
        distinct = distinct_directions if self.family.metric == "cosine" else distinct_points
        return WarmUp(*distinct(X, w))

    def adopt(self, state: LearnerState[P], params: P, stats: Stats) -> LearnerState[P]:
        """Return `state` with the parameters of a refit; see `streamclust.online.recluster`.

        Parameters
        ----------
        state : LearnerState
        params : KMeansParams or MixtureParams
        stats : Stats
            Statistics of the refit's points under `params`.
        """
        return self._recluster_policy.adopt(state, params, stats).fallen_from(state)

    def solve(self, pending: Pending[P], each: MapRuns = map) -> Pending[P]:
        """Return the pending fit of a state with its answer; this may take some time.

        If the fit has no answer when it is due, `update` calls this method. The answer depends on
        `pending` alone, so another thread can compute it earlier with the same result.

        Parameters
        ----------
        pending : Pending
        each : callable, optional
            A function like `map`; the runs are independent of each other.
        """
        return self._recluster_policy.solve(pending, each)

    def published(self, state: LearnerState[P]) -> P | None:
        """Return the parameters to publish: of the averaged statistics, if the policy averages."""
        return published(self.family, state)

    @cached_property
    def _recluster_policy(self) -> ReclusterPolicy[P]:
        return ReclusterPolicy(
            self.family,
            self.forgetting,
            drift=self.drift,
            size=self.coreset,
            warm_up_points=self.warm_up_points,
            restarts=self.n_init,
            reseeds=self.reseeds,
            seed=self.seed,
        )

    @cached_property
    def _step(self) -> StreamingStep[P]:
        return StreamingStep(
            self.family,
            self.forgetting,
            self.drift,
            self._recluster_policy,
            self.reassignment_ratio,
            self.seed,
            self.each_part,
            self.anomaly,
            self.remembers_features,
        )

    def in_units(self, state: LearnerState[P]) -> P | None:
        """Return `published` in the original units."""
        params = self.published(state)
        if params is None or state.scaling is None:
            return params
        return self._rules.in_units(params, state.scaling)

    def score_distribution(self, state: LearnerState[P]) -> ScoreDistribution | None:
        """Return the distribution of scores under the parameters that `in_units` returns.

        The result is None if the learner doesn't store scores, or has none yet.
        """
        anomaly, memory = self.anomaly, state.scores
        if anomaly is None or memory is None or memory.score != anomaly.score:
            return None
        known = memory.usual
        volume = self._log_volume(state) if anomaly.score == "model" else 0.0
        return known.shifted(volume) if volume else known

    def feature_distribution(self, state: LearnerState[P]) -> FeatureDistribution | None:
        """Return the distribution of each feature in the original units.

        The result is None if the learner doesn't store this distribution, or has none yet.
        """
        distribution = state.feature_distribution
        if not self.remembers_features or distribution is None:
            return None
        if state.scaling is None:
            return distribution
        return distribution.mapped(state.scaling.scale, state.scaling.center)

    def loss(self, state: LearnerState[P]) -> float | None:
        """Return the prequential loss of the parameters that `in_units` returns.

        This is the inertia per point in scaled units, or the negative log-likelihood per point in
        the original units; None before the first point was scored.
        """
        if state.stats is None or state.stats.count == 0.0:
            return None
        return self.family.loss(state.stats) + self._log_volume(state)

    def _log_volume(self, state: LearnerState[P]) -> float:
        return 0.0 if state.scaling is None else self._rules.log_volume(state.scaling)

    @cached_property
    def _rules(self) -> Rules[P]:
        return rules_of(self.family)


_NUMERICAL = (DataError, ArithmeticError, np.linalg.LinAlgError)
"""Errors that a step or a start can raise for valid points."""


def _unlearnable(n: int, error: Exception) -> UnlearnableError:
    return UnlearnableError(f"a batch of {n:,} points can't be learned: {error}")
