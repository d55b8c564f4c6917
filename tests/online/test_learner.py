"""The streaming learner: its laws, its warm-up, and what it refuses."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose

from streamclust import Forgetting, HalfLife, HalfLifeTime, PowerSchedule, StreamLearner
from streamclust.errors import DataError
from streamclust.fitting.fit import fit
from streamclust.models.stats import merge
from streamclust.online.drift import Drift
from streamclust.online.state import LearnerState
from tests.support.exhaustive import combinations, some
from tests.support.strategies import (
    FAMILIES,
    assert_same_stats,
    blobs,
    family_of,
    laws,
    learn,
    problems,
    running,
    same_partition,
)

CENTRES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
families = pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "tied", "full"))


def bits(value: Any) -> Any:
    """All that is in a state, to the last bit."""
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes())
    if hasattr(value, "__dataclass_fields__"):
        return tuple(bits(getattr(value, field.name)) for field in fields(value))
    return value


@families
@given(data=st.data())
@laws
def test_without_forgetting_the_statistics_are_the_sum_of_all_e_steps(
    name: str, data: st.DataObject
) -> None:
    p = data.draw(problems(name, min_points=3))
    learner = StreamLearner(p.family, PowerHold())  # held: the parameters stay as they are
    state = learner.init(p.params, 2.0)
    for batch, w in zip(np.array_split(p.X, 3), np.array_split(p.w, 3), strict=True):
        state, _ = learner.update(state, batch, w)
    whole = p.family.e_step(p.params, p.X, p.w)
    assert_same_stats(running(state), merge(whole, p.family.prior_stats(p.params, 2.0)))


class PowerHold(Forgetting):
    """No forgetting and no M-step, so that a feed can be compared with one sum."""

    @property
    def hold(self) -> float:
        return np.inf


@families
def test_without_forgetting_every_point_counts_alike_for_ever(name: str) -> None:
    X, _ = blobs(200, CENTRES)
    learner = StreamLearner(family_of(name, 3), warm_up=100)
    state, _ = learn(learner, X)
    assert running(state).weight.sum() == pytest.approx(len(X))
    assert state.points == len(X)


@families
@given(data=st.data())
@laws
def test_weight_two_is_the_point_twice_and_weight_zero_no_point(
    name: str, data: st.DataObject
) -> None:
    p = data.draw(problems(name))
    w = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(p.X), max_size=len(p.X))))
    learner = StreamLearner(p.family, HalfLife(points=7.0))
    start = learner.init(p.params, 20.0)
    weighted, info = learner.update(start, p.X, w.astype(float))
    repeated, info_repeated = learner.update(start, np.repeat(p.X, w, axis=0))
    assert_same_stats(running(weighted), running(repeated))
    assert weighted.points == np.count_nonzero(w)
    assert info.step_size == pytest.approx(info_repeated.step_size)


@families
@pytest.mark.parametrize("warm_up", [10_000, 90])
def test_an_update_leaves_the_state_that_it_was_given_as_it_was(name: str, warm_up: int) -> None:
    X, _ = blobs(60, CENTRES)
    forgetting = PowerSchedule(average=True)
    learner = StreamLearner(family_of(name, 3), forgetting, warm_up=warm_up)
    state, _ = learn(learner, X)
    before, points = bits(state), X.tobytes()
    learner.update(state, X, np.full(len(X), 2.0), time_ms=5.0)
    assert bits(state) == before
    assert X.tobytes() == points


@pytest.mark.parametrize(
    ("name", "forgetting"),
    combinations(
        FAMILIES,
        [Forgetting(), HalfLife(points=60.0), PowerSchedule(average=True)],
        always=lambda name, forgetting: (
            name == "kmeans"
            or (name == "full" and forgetting != Forgetting())
            or (name == "tied" and forgetting == HalfLife(points=60.0))
        ),
    ),
)
def test_the_same_feed_and_seed_give_the_same_bits(name: str, forgetting: Forgetting) -> None:
    X, _ = blobs(150, CENTRES)
    X[200:] += 40.0  # so that components die and are revived on the way
    small: dict[str, Any] = {"warm_up": 90, "coreset": 60, "n_init": 2, "reseeds": 1}
    ends = [
        bits(learn(StreamLearner(family_of(name, 4), forgetting, **small, seed=seed), X)[0])
        for seed in (3, 3, 4)
    ]
    assert ends[0] == ends[1]
    assert ends[0] != ends[2]


@families
def test_a_batch_is_scored_before_it_is_learned(name: str) -> None:
    X, _ = blobs(100, CENTRES)
    family = family_of(name, 3)
    learner = StreamLearner(family, HalfLife(points=50.0), warm_up=60)
    state, _ = learn(learner, X[:60])
    for start in range(60, 300, 40):
        batch = X[start : start + 40]
        honest = family.loss(family.e_step(state.params, batch, np.ones(len(batch))))
        state, info = learner.update(state, batch)
        assert info.loss == honest


@families
def test_the_running_score_is_out_of_sample(name: str) -> None:
    X, _ = blobs(100, CENTRES)
    learner = StreamLearner(family_of(name, 3), warm_up=60)
    state, told = learn(learner, X, size=60)
    assert [info.phase for info in told] == ["started", *["learning"] * 4]
    assert told[0].loss is None
    assert running(state).count == 240.0  # the warm-up's points are learned but not scored
    losses = [info.loss for info in told[1:] if info.loss is not None]
    assert learner.family.loss(running(state)) == pytest.approx(np.mean(losses))


@families
def test_the_start_is_the_fit_of_the_warm_up_sample(name: str) -> None:
    X, owners = blobs(40, CENTRES)
    learner = StreamLearner(family_of(name, 3), warm_up=100)
    state, told = learn(learner, X, size=40)
    assert [info.phase for info in told] == ["warming", "warming", "started"]
    assert [info.points for info in told] == [40, 40, 120]
    assert told[1].reason == "80 of 100 warm-up points"
    assert len(state.warm_up.X) == len(state.warm_up.w) == 0
    assert same_partition(learner.family.predict(state.params, X), owners)
    assert running(state).weight.sum() == pytest.approx(120.0)


def test_the_warm_up_is_long_enough_for_the_components() -> None:
    assert StreamLearner(family_of("kmeans", 3)).warm_up_points == 1000
    assert StreamLearner(family_of("kmeans", 300)).warm_up_points == 3000
    assert StreamLearner(family_of("kmeans", 300), warm_up=7).warm_up_points == 7


@families
def test_the_warm_up_can_be_ended_early(name: str) -> None:
    X, _ = blobs(10, CENTRES)
    learner = StreamLearner(family_of(name, 3))
    state, _ = learner.update(learner.init(), X)
    state, info = learner.start(state)
    assert info.phase == "started"
    assert state.params is not None


@families
def test_too_few_distinct_points_are_waited_for_in_bounded_memory(name: str) -> None:
    learner = StreamLearner(family_of(name, 3), warm_up=20)
    two = np.repeat([[1.0, 2.0], [3.0, 4.0]], 10, axis=0)
    state = learner.init()
    for _ in range(5):
        state, info = learner.update(state, two)
        assert info.phase == "warming"
        assert info.reason.startswith("2 distinct points are too few for 3 components")
        assert len(state.warm_up.X) == 2
    assert state.warm_up.w.tolist() == [50.0, 50.0]
    state, info = learner.update(state, np.repeat([[9.0, 9.0]], 20, axis=0))
    assert info.phase == "started"
    assert_allclose(np.sort(running(state).weight), [20.0, 50.0, 50.0])
    assert state.points == 120


@families
def test_a_batch_without_points_changes_nothing(name: str) -> None:
    X, _ = blobs(40, CENTRES)
    learner = StreamLearner(family_of(name, 3), HalfLifeTime(seconds=1.0), warm_up=60)
    for state in (learner.init(), learner.update(learner.init(), X, time_ms=1.0)[0]):
        for batch, w in ((np.empty((0, 2)), None), (X, np.zeros(len(X)))):
            after, info = learner.update(state, batch, w, time_ms=9e9)
            assert after is state
            assert (info.points, info.loss, info.step_size) == (0, None, 0.0)


@families
@pytest.mark.parametrize("warm_up", [10_000, 60])
@pytest.mark.parametrize(
    ("X", "w", "message"),
    [
        ([[1.0, 2.0, 3.0]], None, "X has 3 features; expected 2"),
        ([[1.0, np.nan]], None, "NaN"),
        ([[1.0, -np.inf]], None, "infinity"),
        ([[1.0, 1e200]], None, "magnitude"),
        ([[1.0, 2.0]], [-1.0], "sample weights"),
        ([[1.0, 2.0]], [1.0, 1.0], "sample weights"),
    ],
)
def test_bad_points_are_refused_while_warming_up_and_after(
    name: str, warm_up: int, X: Any, w: Any, message: str
) -> None:
    points, _ = blobs(40, CENTRES)
    learner = StreamLearner(family_of(name, 3), warm_up=warm_up)
    state, _ = learner.update(learner.init(), points)
    before = bits(state)
    with pytest.raises(DataError, match=message):
        learner.update(state, X, w)
    assert bits(state) == before


@pytest.mark.parametrize(
    ("name", "scale"),
    combinations(
        FAMILIES,
        ["none", "standard"],
        always=lambda name, scale: (
            (name, scale) in (("kmeans", "none"), ("tied", "none"), ("full", "standard"))
        ),
    ),
)
def test_float32_points_are_learned_like_their_float64_values(name: str, scale: Any) -> None:
    X = blobs(300, CENTRES)[0].astype(np.float32)
    X[600:] += 40.0  # so that components die and are revived, and a drift is found
    learner = StreamLearner(
        family_of(name, 4),
        HalfLife(points=90.0),
        warm_up=90,
        n_init=2,
        scale=scale,
        drift=Drift(on_drift="recluster"),
        coreset=60,
        reseeds=1,
    )
    single, told = learn(learner, X)
    assert bits(single) == bits(learn(learner, X.astype(np.float64))[0])
    assert any(info.drifted for info in told)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_float32_points_are_refused_like_others(value: float) -> None:
    with pytest.raises(DataError, match=r"X holds (NaN|infinity) in row 0"):
        StreamLearner(family_of("kmeans", 1)).update(
            LearnerState(), np.array([[1.0, value]], np.float32)
        )


@families
def test_points_that_are_known_to_be_good_are_learned_alike(name: str) -> None:
    X, _ = blobs(100, CENTRES)
    w = np.arange(300.0) % 4
    learner = StreamLearner(family_of(name, 3), warm_up=60)
    looked = unlooked = learner.init()
    for start in range(0, 300, 50):
        part = slice(start, start + 50)
        looked, info = learner.update(looked, X[part], w[part])
        unlooked, same = learner.learn(unlooked, X[part], w[part])
        assert same == info
    assert bits(unlooked) == bits(looked)


@families
def test_one_component_in_one_dimension_learns_from_one_point(name: str) -> None:
    learner = StreamLearner(family_of(name, 1), warm_up=1)
    state, info = learner.update(learner.init(), [[5.0]])
    assert info.phase == "started"
    state, info = learner.update(state, [[7.0]])
    assert state.params is not None
    assert state.params.means.tolist() == [[6.0]]


@families
def test_event_time_has_to_be_given_where_it_is_what_forgets(name: str) -> None:
    X, _ = blobs(60, CENTRES)
    learner = StreamLearner(family_of(name, 3), HalfLifeTime(seconds=1.0), warm_up=90)
    state, _ = learn(learner, X[:90])
    with pytest.raises(DataError, match="time_ms"):
        learner.update(state, X)


@families
def test_a_refit_is_adopted_under_the_live_numbers_and_mass(name: str) -> None:
    # Given a learner that forgets, and a fit to more points in another order
    X, _ = blobs(300, CENTRES)
    X = np.random.default_rng(0).permutation(X)
    learner = StreamLearner(family_of(name, 3), HalfLife(100.0), warm_up=90)
    live, _ = learn(learner, X[:450])
    found = fit(learner.family, X, seed=5)
    # When it adopts the fit
    state = learner.adopt(live, found.params, found.stats)
    # Then the components are where they were, and weigh together what they did
    assert live.params is not None
    assert live.stats is not None
    assert state.params is not None
    assert_allclose(state.params.means, live.params.means, atol=0.5)
    assert_allclose(running(state).weight.sum(), live.stats.weight.sum())
    assert_allclose(learner.family.score_points(state.params, X).sum(), found.stats.objective)
    # and score, counts and time go on
    kept = (running(state).objective, running(state).count, state.points, state.clock.steps)
    assert kept == (live.stats.objective, live.stats.count, live.points, live.clock.steps)
    assert state.components.peak_total == running(state).weight.sum()
    # but it never counts for more points than it was of
    few = fit(learner.family, X[:60], seed=5)
    assert_allclose(running(learner.adopt(live, few.params, few.stats)).weight.sum(), 60.0)


def test_a_refit_begins_the_average_anew_and_ends_the_warm_up() -> None:
    X, _ = blobs(60, CENTRES)
    learner = StreamLearner(family_of("diag", 3), PowerSchedule(average=True), warm_up=1000)
    live, info = learner.update(learner.init(), X)
    assert info.phase == "warming"
    found = fit(learner.family, X)
    state = learner.adopt(live, found.params, found.stats)
    assert (len(state.warm_up.X), state.points, state.averaging.averaged) == (0, len(X), 1)
    published = learner.published(state)
    assert published is not None
    assert_allclose(published.means, learner.family.m_step(found.stats, found.params).means)
    _, info = learner.update(state, X)
    assert info.phase == "learning"


@pytest.mark.parametrize("warm_up", [20, 500])
def test_the_caller_may_reuse_the_array_of_a_batch(warm_up: int) -> None:
    X, _ = blobs(100, CENTRES)
    learner = StreamLearner(family_of("kmeans", 3), HalfLife(100), warm_up=warm_up)
    one, other, buffer = learner.init(), learner.init(), np.empty((20, 2))
    for start in range(0, 300, 20):
        one, _ = learner.update(one, X[start : start + 20].copy())
        buffer[:] = X[start : start + 20]
        other, _ = learner.update(other, buffer)
        buffer[:] = 0.0
    assert bits(one) == bits(other)


@pytest.mark.parametrize("state", [None, CENTRES])
def test_what_is_no_state_is_refused(state: Any) -> None:
    with pytest.raises(DataError, match=r"^state is .*; expected a LearnerState, as in update\("):
        StreamLearner(family_of("kmeans", 3)).update(state, CENTRES)


def test_a_state_of_another_family_is_refused() -> None:
    run = fit(family_of("full", 3), blobs(60, CENTRES)[0])
    state: Any = StreamLearner(family_of("full", 3)).init(run.params)
    with pytest.raises(DataError, match=r"params is a MixtureParams; expected .* of kmeans"):
        StreamLearner(family_of("kmeans", 3)).update(state, CENTRES)
    with pytest.raises(DataError, match="covariance_type 'full'; expected 'diag'"):
        StreamLearner(family_of("diag", 3)).update(state, CENTRES)


def test_a_class_in_place_of_a_family_is_refused() -> None:
    family: Any = type(family_of("kmeans", 3))
    for call in (StreamLearner, lambda family: fit(family, CENTRES)):
        with pytest.raises(DataError, match=r"^family is the class KMeans; .* as KMeans\(3\)"):
            call(family)
    swapped: Any = CENTRES.repeat(100, axis=0)
    with pytest.raises(DataError, match=r"^family is a ndarray; expected a KMeans or"):
        fit(swapped, family)
