"""Streams that are hard to learn: long pauses, few points, sentinel values, tiny weights."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamclust import (
    Forgetting,
    GaussianMixture,
    HalfLife,
    HalfLifeTime,
    KMeans,
    StreamLearner,
)
from streamclust.arrays import Array, CovarianceType
from streamclust.errors import DataError, UnlearnableError
from streamclust.fitting.fit import fit
from streamclust.fitting.search import search_of
from streamclust.models import MixtureParams
from streamclust.online.rules import rules_of
from streamclust.online.state import LearnerState
from tests.support.exhaustive import combinations, some
from tests.support.strategies import (
    COVARIANCE_TYPES,
    FAMILIES,
    blobs,
    family_of,
    learn,
    mixture_of,
    running,
)

CENTRES = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 5.0], [0.0, 10.0, -5.0], [10.0, 10.0, 0.0]])
HOUR = 3.6e6
SENTINELS = [2147483647.0, -999999.0, 1e30, 1e90]
kinds = pytest.mark.parametrize("kind", some(COVARIANCE_TYPES, "diag", "full"))


def learned(state: LearnerState[Any]) -> Any:
    """The parameters of a learner that has started."""
    assert state.params is not None
    return state.params


def deviations(params: MixtureParams) -> Array:
    """Standard deviations of each component, (K, D), or of all, (1, D)."""
    covariances, kind = params.covariances, params.covariance_type
    if kind in ("full", "tied"):
        covariances = np.diagonal(covariances, axis1=-2, axis2=-1)
    return np.sqrt(covariances.reshape(1 if kind == "tied" else len(covariances), -1))


def after_pauses(
    learner: StreamLearner[Any], pause_ms: float, seed: int, steps: int = 40
) -> tuple[LearnerState[Any], float]:
    """Feed 1,000 points, then one to four after each pause; return the state and highest loss."""
    rng, worst = np.random.default_rng(seed), -np.inf

    def points(n: int) -> Array:
        return CENTRES[rng.integers(0, 4, n)] + rng.normal(size=(n, 3))

    state, _ = learner.update(learner.init(), points(1000), time_ms=0.0)
    for k in range(1, steps + 1):
        batch = points(int(rng.integers(1, 5)))
        state, _ = learner.update(state, batch, time_ms=k * pause_ms)
        worst = max(worst, learner.loss(state) or 0.0)
    return state, worst


@kinds
@pytest.mark.parametrize(
    ("pause", "seed"),
    combinations(
        [0.01 * HOUR, HOUR, 24 * 30 * HOUR], range(4), always=lambda pause, seed: seed == 0
    ),
)
def test_a_slow_feed_keeps_the_shape_that_it_had(
    kind: CovarianceType, pause: float, seed: int
) -> None:
    for reg_covar in (1e-6, 0.1):
        learner = StreamLearner(GaussianMixture(4, kind, reg_covar=reg_covar), HalfLifeTime(10.0))
        state, worst = after_pauses(learner, pause, seed)
        assert worst < 30.0
        assert state.counts.revived == 0
        assert (deviations(learned(state)) > 0.2).all()
        assert (deviations(learned(state)) < 5.0).all()
        assert (learned(state).weights > 1e-3).all()


@kinds
def test_what_was_learned_slowly_is_forgotten_as_soon_as_there_are_points(
    kind: CovarianceType,
) -> None:
    learner = StreamLearner(mixture_of(kind, 4), HalfLifeTime(10.0), coreset=0)
    state, _ = after_pauses(learner, HOUR, 0)
    X, _ = blobs(250, CENTRES, seed=7)
    after, _ = learner.update(state, X, time_ms=50 * HOUR)
    assert after.spread is not None
    batch = learner.family.e_step(learned(state), X, np.ones(len(X)))
    floored = rules_of(learner.family).with_spread(learned(state), after.spread.variance)
    plain: MixtureParams = learner.family.m_step(batch, floored)
    assert_allclose(learned(after).means, plain.means, rtol=1e-12)
    assert_allclose(learned(after).covariances, plain.covariances, rtol=1e-12)


@kinds
def test_without_points_the_prior_is_the_answer(kind: CovarianceType) -> None:
    X, _ = blobs(30, CENTRES)
    family = mixture_of(kind, 4, reg_covar=0.1)
    params = search_of(family).init(X, np.ones(len(X)), np.random.default_rng(0))
    nothing = family.e_step(params, X[:1], np.full(1, 1e-90))
    kept = rules_of(family).map_step(nothing, params, np.full(4, 10.0))
    for wanted, got in zip(
        family.to_arrays(params).values(), family.to_arrays(kept).values(), strict=True
    ):
        assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


@kinds
@pytest.mark.parametrize(
    ("sentinel", "place", "forgetting"),
    combinations(
        [2147483647.0, 1e90],
        [5, 1500],
        [Forgetting(), HalfLife(300.0)],
        always=lambda sentinel, place, forgetting: (  # each pair of values
            (sentinel == 1e90) ^ (place == 5) ^ (forgetting == Forgetting())
        ),
    ),
)
def test_one_sentinel_leaves_components_as_narrow_as_the_data(
    kind: CovarianceType, sentinel: float, place: int, forgetting: Forgetting
) -> None:
    X, _ = blobs(1000, CENTRES, seed=3)
    X[place, :2] = sentinel
    learner = StreamLearner(mixture_of(kind, 5), forgetting, warm_up=500, reseeds=1, coreset=600)
    state, _ = learn(learner, X, 250)
    narrow = deviations(learned(state)).max(axis=1)
    assert np.count_nonzero(narrow < 1.3) >= min(4, len(narrow))
    assert state.spread is not None
    assert (state.spread.variance < 60.0).all()
    fresh, _ = blobs(100, CENTRES, seed=4)
    assert learner.family.loss(learner.family.e_step(learned(state), fresh, np.ones(400))) < 6.2


@kinds
@pytest.mark.parametrize(
    "sentinel", combinations(SENTINELS, always=lambda sentinel: sentinel in (-999999.0, 1e90))
)
def test_a_batch_fit_beside_one_sentinel_is_that_of_the_rest(
    kind: CovarianceType, sentinel: float
) -> None:
    X, _ = blobs(100, CENTRES, seed=3)
    rest = fit(mixture_of(kind, 4), X)
    found = fit(mixture_of(kind, 5), np.concatenate([X, np.full((1, 3), sentinel)]))
    usual, narrow = deviations(rest.params).max(), np.sort(deviations(found.params).max(axis=1))
    assert (narrow[:4] < 1.05 * usual).all()


@kinds
@pytest.mark.parametrize(
    ("unit", "forgetting"),
    combinations(
        [1e-6, 1e6],
        [Forgetting(), HalfLifeTime(10.0)],
        always=lambda unit, forgetting: (unit == 1e6) == (forgetting == Forgetting()),
    ),
)
def test_units_change_nothing_but_units(
    kind: CovarianceType, unit: float, forgetting: Forgetting
) -> None:
    ends = []
    for factor in (1.0, unit):
        X, _ = blobs(300, CENTRES, seed=5)
        X[7] = 1e6
        X[900:] = X[900:] + 3.0  # in batches of three, after pauses
        small: dict[str, Any] = {"warm_up": 500, "n_init": 2, "coreset": 250, "reseeds": 1}
        learner = StreamLearner(mixture_of(kind, 5), forgetting, **small)
        state = learner.init()
        cuts = [0, 500, 900, *range(903, 960, 3)]
        for k, (start, stop) in enumerate(pairwise(cuts)):
            state, _ = learner.update(state, factor * X[start:stop], time_ms=k * HOUR)
        ends.append(learned(state))
    assert_allclose(ends[1].means, unit * ends[0].means, rtol=1e-6, atol=1e-6 * unit)
    assert_allclose(
        ends[1].covariances, unit**2 * ends[0].covariances, rtol=1e-4, atol=1e-9 * unit**2
    )
    assert_allclose(ends[1].weights, ends[0].weights, rtol=1e-6, atol=1e-9)


@kinds
def test_a_shift_by_1e8_changes_nothing_but_the_means(kind: CovarianceType) -> None:
    ends = []
    for shift in (0.0, 1e8):
        X, _ = blobs(300, CENTRES, seed=5)
        family = mixture_of(kind, 4)
        learner = StreamLearner(family, HalfLifeTime(10.0), warm_up=500, n_init=2, coreset=300)
        state = learner.init()
        cuts = [0, 500, 900, *range(903, 960, 3)]
        for k, (start, stop) in enumerate(pairwise(cuts)):
            state, _ = learner.update(state, X[start:stop] + shift, time_ms=k * HOUR)
        ends.append(learned(state))
    assert_allclose(ends[1].means - 1e8, ends[0].means, atol=1e-5)
    assert_allclose(ends[1].covariances, ends[0].covariances, atol=1e-5)


@kinds
def test_features_that_never_vary_and_pauses_go_together(kind: CovarianceType) -> None:
    X, _ = blobs(400, CENTRES, seed=5)
    X[:, 2] = 0.1
    learner = StreamLearner(mixture_of(kind, 4), HalfLifeTime(10.0))
    state, _ = learner.update(learner.init(), X[:1200], time_ms=0.0)
    for k in range(1200, 1500):  # more than a block of the variances has
        state, info = learner.update(state, X[k : k + 1], time_ms=(k - 1199) * HOUR)
        assert info.loss is not None
        assert np.isfinite(info.loss)
    assert state.spread is not None
    assert state.spread.variance[2] == pytest.approx(state.spread.variance[:2].mean(), rel=0.5)


@kinds
def test_a_feature_whose_units_really_change_is_followed(kind: CovarianceType) -> None:
    X, _ = blobs(1250, CENTRES, seed=5)
    X[1000:, 1] *= 1000.0
    learner = StreamLearner(mixture_of(kind, 4), HalfLife(300.0), coreset=0)
    state, _ = learn(learner, X, 50)
    assert state.spread is not None
    assert state.spread.variance[1] == pytest.approx(X[-2000:, 1].var(), rel=0.5)
    X[:, 1] /= 1000.0
    X[1000:, 1] /= 1000.0
    state, _ = learn(learner, X, 50, state)
    assert state.spread is not None
    assert state.spread.variance[1] == pytest.approx(X[-2000:, 1].var(), rel=0.5)


@cache
def learned_with_weights(name: str, forgetting: Forgetting, unit: float) -> LearnerState[Any]:
    """Learn points of several weights, which are multiples of `unit`, and fits of the coreset."""
    X, _ = blobs(300, CENTRES, seed=5)
    w = unit * np.random.default_rng(0).choice([0.0, 0.5, 1.0, 2.0], len(X))
    small: dict[str, Any] = {"warm_up": 300, "n_init": 1, "coreset": 150}
    learner = StreamLearner(family_of(name, 4), forgetting, **small)
    state = learner.init()
    for k, start in enumerate(range(0, 1200, 60)):
        part = slice(start, start + 60)
        state, _ = learner.update(state, X[part], w[part], time_ms=k * HOUR)
    return state


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "tied", "full"))
@pytest.mark.parametrize(
    ("weight", "forgetting"),
    combinations(
        [1e-99, 1e-60, 1e60],
        [Forgetting(), HalfLifeTime(10.0)],
        always=lambda weight, forgetting: weight == (1e60 if forgetting == Forgetting() else 1e-99),
    ),
)
def test_only_ratios_of_weights_count(name: str, weight: float, forgetting: Forgetting) -> None:
    ends = [learned_with_weights(name, forgetting, unit) for unit in (1.0, weight)]
    assert_allclose(learned(ends[1]).means, learned(ends[0]).means, rtol=1e-9, atol=1e-9)
    assert_allclose(running(ends[1]).weight, weight * running(ends[0]).weight, rtol=1e-9)


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "tied", "full"))
def test_a_weight_too_small_to_add_up_is_refused_by_name(name: str) -> None:
    X, _ = blobs(300, CENTRES)
    w = np.full(len(X), 1e-300)
    learner = StreamLearner(family_of(name, 4))
    with pytest.raises(DataError, match="sample weight 1e-300 is too small"):
        learner.update(learner.init(), X, w)
    with pytest.raises(DataError, match="sample weight 1e-300 is too small"):
        fit(learner.family, X, w)


def test_no_component_is_given_new_work_because_a_pause_emptied_all() -> None:
    X, _ = blobs(400, CENTRES, seed=5)
    learner = StreamLearner(KMeans(4), HalfLifeTime(10.0))
    state, _ = learner.update(learner.init(), X[:1200], time_ms=0.0)
    before = np.sort(learned(state).centroids[:, 0])
    for k in range(4):  # points of one cluster alone
        state, _ = learner.update(state, X[4 * k : 4 * k + 1], time_ms=(k + 1) * 1e6 * HOUR)
    assert state.counts.revived == 0
    assert_allclose(np.sort(learned(state).centroids[:, 0]), before, atol=3.0)


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_a_batch_that_cannot_be_learned_leaves_the_state_usable(kind: CovarianceType) -> None:
    X, _ = blobs(300, CENTRES)
    learner = StreamLearner(
        mixture_of(kind, 4, reg_covar=0.0), HalfLife(points=1e-3), warm_up=400, coreset=0
    )
    state, _ = learner.update(learner.init(), X[:400])
    flat = np.repeat(CENTRES, 20, axis=0)
    with pytest.raises(
        UnlearnableError, match=r"a batch of 80 points can't be learned: .*reg_covar"
    ):
        learner.update(state, flat)
    after, info = learner.update(state, X[400:800])
    assert info.phase == "learning"
    assert np.isfinite(learned(after).means).all()


def test_a_warm_up_that_cannot_be_learned_says_so() -> None:
    learner = StreamLearner(mixture_of("full", 2, reg_covar=0.0), warm_up=10)
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 10, axis=0)
    with pytest.raises(UnlearnableError, match="a batch of 20 points can't be learned"):
        learner.update(learner.init(), X)


def test_a_missing_time_is_no_fault_of_the_points() -> None:
    X, _ = blobs(300, CENTRES)
    learner = StreamLearner(KMeans(4), HalfLifeTime(10.0))
    state, _ = learner.update(learner.init(), X)
    with pytest.raises(DataError, match="time_ms") as caught:
        learner.update(state, X)
    assert not isinstance(caught.value, UnlearnableError)
