"""Each forgetting policy against its closed form, and what it does to a learner."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose

from streamclust import Forgetting, HalfLife, HalfLifeTime, PowerSchedule, StreamLearner
from streamclust.arrays import Array
from streamclust.errors import DataError
from streamclust.fitting.em import InMemory, run_em
from streamclust.models import GaussianMixture, MixtureParams
from streamclust.models.stats import decay, merge
from streamclust.online.forgetting import Cut, Fall, ForgettingState, Step
from streamclust.online.learner import LearnerState
from tests.support.exhaustive import some
from tests.support.strategies import (
    FAMILIES,
    assert_same_stats,
    family_of,
    floats,
    laws,
    random_params,
)

CENTRES = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
families = pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "tied", "full"))


def learner_of(
    name: str, forgetting: Forgetting, weight: float = 10.0
) -> tuple[StreamLearner[Any], LearnerState[Any]]:
    """A learner that starts from known parameters, and its first state."""
    family = family_of(name, len(CENTRES))
    learner = StreamLearner(family, forgetting)
    return learner, learner.init(random_params(family, CENTRES, np.random.default_rng(0)), weight)


def means_of(state: LearnerState[Any]) -> Array:
    """The centres that the learner has now."""
    assert state.params is not None
    means: Array = state.params.means
    return means


def around(centres: Array, n: int, seed: int = 0) -> Array:
    """`n` points near each centre."""
    noise = 0.1 * np.random.default_rng(seed).normal(size=(n, *centres.shape))
    return np.asarray((centres + noise).reshape(-1, centres.shape[1]))


@given(m=floats(0.1, 1e4), half_life=floats(0.1, 1e6))
@laws
def test_a_half_life_of_h_points_halves_what_is_h_points_old(m: float, half_life: float) -> None:
    policy = HalfLife(points=half_life)
    assert policy.factor(Step(number=1, weight=half_life, running=1.0)) == 0.5
    assert policy.factor(Step(1, m, 1.0)) == pytest.approx(2.0 ** (-m / half_life))
    # Two batches forget as much as one of both sizes.
    twice = policy.factor(Step(1, m, 1.0)) * policy.factor(Step(2, 2.0 * m, 1.0))
    assert twice == pytest.approx(policy.factor(Step(1, 3.0 * m, 1.0)))


@given(ms=floats(0.0, 1e9), seconds=floats(0.1, 1e6))
@laws
def test_a_half_life_in_event_time_halves_what_is_that_old(ms: float, seconds: float) -> None:
    policy = HalfLifeTime(seconds=seconds)
    assert policy.factor(Step(1, 5.0, 1.0, elapsed_ms=1000.0 * seconds)) == 0.5
    expected = 2.0 ** (-ms / (1000.0 * seconds))
    assert policy.factor(Step(1, 5.0, 1.0, elapsed_ms=ms)) == pytest.approx(expected)
    assert policy.factor(Step(1, 5.0, 1.0, elapsed_ms=-ms)) == 1.0


def test_a_half_life_in_event_time_refuses_a_feed_without_times() -> None:
    with pytest.raises(DataError, match="time_ms"):
        HalfLifeTime(seconds=1.0).factor(Step(1, 1.0, 1.0))


@given(
    t=st.integers(1, 10**6),
    kappa=floats(0.501, 1.0),
    t0=floats(0.0, 100.0),
    m=floats(0.5, 1e4),
    n=floats(0.5, 1e9),
)
@laws
def test_the_power_schedule_takes_exactly_the_step_gamma(
    t: int, kappa: float, t0: float, m: float, n: float
) -> None:
    lam = PowerSchedule(kappa, t0=t0).factor(Step(t, m, n))
    assert lam >= 0.0
    assert m / (lam * n + m) == pytest.approx((t + t0) ** -kappa, rel=1e-12)


def test_the_power_schedule_keeps_the_first_batch_whole_where_nothing_ran_before() -> None:
    assert PowerSchedule().factor(Step(1, 5.0, 0.0)) == 1.0


def test_a_cut_leaves_a_share_of_what_the_policy_leaves() -> None:
    policy = PowerSchedule(kappa=0.7, hold=20.0, average=True)
    cut, step = Cut(policy, 0.25), Step(3, 5.0, 40.0)
    assert 0.0 < cut.factor(step) == 0.25 * policy.factor(step) < 1.0
    assert (cut.hold, cut.average) == (20.0, True)


def test_without_a_policy_nothing_is_forgotten() -> None:
    policy = Forgetting()
    assert policy.factor(Step(9, 5.0, 7.0, elapsed_ms=1e12)) == 1.0
    assert (policy.hold, policy.average) == (0.0, False)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_half_life_has_to_be_a_positive_number(value: float) -> None:
    with pytest.raises(DataError, match="half-life in points"):
        HalfLife(points=value)
    with pytest.raises(DataError, match="half-life in seconds"):
        HalfLifeTime(seconds=value)


@pytest.mark.parametrize("options", [{"kappa": 0.5}, {"kappa": 1.1}, {"t0": -1.0}, {"hold": -1.0}])
def test_a_schedule_that_would_not_converge_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(DataError, match="expected"):
        PowerSchedule(**options)  # type: ignore[arg-type]


@families
def test_old_points_fade_in_every_cluster_also_where_the_batch_has_none(name: str) -> None:
    learner, state = learner_of(name, HalfLife(points=30.0), weight=100.0)
    assert state.stats is not None
    before = state.stats.weight
    state, info = learner.update(state, around(CENTRES[:1], 30))
    assert state.stats is not None
    assert_allclose(state.stats.weight, 0.5 * before + [30.0, 0.0, 0.0], rtol=1e-6)
    assert info.step_size == pytest.approx(30.0 / (0.5 * 300.0 + 30.0))


@families
def test_event_time_forgets_by_the_clock_of_the_feed(name: str) -> None:
    learner, state = learner_of(name, HalfLifeTime(seconds=10.0), weight=100.0)
    batch = around(CENTRES, 1)
    totals = []
    for time_ms in (50_000.0, 60_000.0, 55_000.0, 60_000.0, 80_000.0):
        state, _ = learner.update(state, batch, time_ms=time_ms)
        assert state.stats is not None
        totals.append(state.stats.weight.sum())
    # The first batch sets the clock; a time that runs backwards, or stands, forgets nothing.
    assert_allclose(totals, [303.0, 154.5, 157.5, 160.5, 0.25 * 160.5 + 3.0])
    assert state.clock.time_ms == 80_000.0


def test_a_replay_of_a_feed_forgets_exactly_alike() -> None:
    feed = [(around(CENTRES, 5, seed), 1000.0 * seed * seed) for seed in range(6)]
    ends = []
    for _ in range(2):
        learner, state = learner_of("full", HalfLifeTime(seconds=3.0))
        for batch, time_ms in feed:
            state, _ = learner.update(state, batch, time_ms=time_ms)
        assert state.stats is not None
        ends.append((state.stats.weight.tobytes(), means_of(state).tobytes()))
    assert ends[0] == ends[1]


@families
def test_the_step_size_that_is_told_is_the_schedule_s(name: str) -> None:
    learner, state = learner_of(name, PowerSchedule(kappa=0.7, t0=1.0))
    for t in range(1, 8):
        state, info = learner.update(state, around(CENTRES, t, seed=t))
        assert info.step_size == pytest.approx((t + 1.0) ** -0.7, rel=1e-12)


@families
def test_a_first_step_of_size_one_forgets_the_start(name: str) -> None:
    learner, state = learner_of(name, PowerSchedule(kappa=1.0, t0=0.0), weight=1e6)
    batch = around(CENTRES, 40)
    state, info = learner.update(state, batch)
    assert info.step_size == 1.0
    assert state.stats is not None
    assert_allclose(state.stats.weight.sum(), len(batch))


@families
def test_no_m_step_is_taken_while_the_policy_holds(name: str) -> None:
    learner, state = learner_of(name, PowerSchedule(hold=20.0, average=True))
    moved = []
    start = state.params
    for seed in range(5):
        state, _ = learner.update(state, around(CENTRES[:2], 4, seed))
        moved.append(state.params is not start)
    assert moved == [False, False, False, True, True]  # 8, 16 and 24 points are held
    assert state.clock.held == 24.0
    assert state.averaging.averaged == 3  # the average begins as soon as the hold is reached


@families
def test_what_is_published_is_the_mean_of_the_path_of_normalised_statistics(name: str) -> None:
    learner, state = learner_of(name, PowerSchedule(average=True))
    path = []
    for seed in range(7):
        state, info = learner.update(state, around(CENTRES, 20, seed))
        assert not info.revived
        assert state.stats is not None
        path.append(decay(state.stats, 1.0 / float(state.stats.weight.sum())))
    mean = path[0]
    for share in path[1:]:
        mean = merge(mean, share)
    mean = decay(mean, 1.0 / len(path))
    assert state.averaging.average is not None
    assert state.averaging.averaged == len(path)
    assert_same_stats(state.averaging.average, mean)
    published = learner.published(state)
    assert published is not None
    assert state.params is not None
    expected = learner.family.m_step(mean, state.params)
    assert_allclose(published.means, expected.means, rtol=1e-9, atol=1e-9)
    assert np.abs(published.means - means_of(state)).max() > 1e-6


def test_a_policy_that_does_not_average_publishes_the_parameters_themselves() -> None:
    learner, state = learner_of("full", PowerSchedule())
    assert learner.published(state) is state.params
    assert learner.published(LearnerState()) is None


def squared_errors(seed: int) -> list[float]:
    """Squared error of the means: by batch maximum likelihood, stepwise EM, and its average."""
    truth = np.array([[-2.0], [2.0]])
    rng = np.random.default_rng(seed)
    X = truth[rng.integers(0, 2, 4000)] + rng.normal(size=(4000, 1))
    family = GaussianMixture(2, "spherical")
    start = MixtureParams(np.full(2, 0.5), 0.75 * truth, np.ones(2), "spherical")
    best = run_em(family, start, InMemory(family, X, np.ones(len(X)), rng), tol=1e-9).params
    forgetting = PowerSchedule(kappa=0.6, hold=20.0, average=True)
    learner = StreamLearner(family, forgetting, coreset=0)  # averages aren't fitted to it
    state = learner.init(start)
    for batch in X.reshape(-1, 5, 1):
        state, _ = learner.update(state, batch)
    averaged = learner.published(state)
    assert averaged is not None
    estimates = (best.means, means_of(state), averaged.means)
    return [float(((means - truth) ** 2).sum()) for means in estimates]


def test_averaging_brings_one_pass_of_stepwise_em_near_to_maximum_likelihood() -> None:
    """Cappe & Moulines (2009, section 4): averaging makes up for the slow decrease of the steps.

    Two unit Gaussians 4 apart, 4,000 points in batches of 5, kappa = 0.6. Over 100 replications
    the mean squared error is 4 times that of maximum likelihood, and 1.2 times with averaging.
    """
    likelihood, plain, averaged = np.mean([squared_errors(seed) for seed in range(4)], axis=0)
    assert averaged < 2.0 * likelihood
    assert plain > 2.0 * averaged


# ---- what was forgotten


def test_the_weight_that_was_forgotten_adds_up() -> None:
    state = ForgettingState().forget(0.75, 100.0).forget(1.0, 75.0).forget(0.5, 80.0)
    assert state == ForgettingState(weight=65.0)
    assert state.forget(1.5, 10.0) == state  # the first steps of a power schedule add weight


def test_a_fall_of_the_mass_is_stored_and_a_rounding_error_is_not() -> None:
    state = ForgettingState(weight=3.0).fall(1000, 0.25, drifted=True)
    assert state == ForgettingState(3.0, (Fall(1000, 0.25, drifted=True),), 1)
    assert state.fall(2000, 1.0) == state.fall(2000, 1.0 - 1e-12) == state
    assert state.fall(2000, 1.0 - 1e-6).n_falls == 2


def test_the_newest_falls_are_stored_and_all_are_counted() -> None:
    state = ForgettingState()
    for number in range(100):
        state = state.fall(number, 0.5)
    assert [fall.points for fall in state.falls] == list(range(36, 100))
    assert not any(fall.drifted for fall in state.falls)
    assert state.n_falls == 100
