"""Re-solving from the coreset: when, with what gain, and what it leaves as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamclust import Forgetting, HalfLife, KMeans, PowerSchedule, StreamLearner
from streamclust.arrays import Array
from streamclust.fitting.em import InMemory, run_em
from streamclust.fitting.fit import fit
from streamclust.fitting.search import search_of
from streamclust.models.coreset import Coreset
from streamclust.models.stats import reorder
from streamclust.online.coreset_fit import Problem, judge, solve
from streamclust.online.state import LearnerState
from tests.support.exhaustive import combinations, some
from tests.support.strategies import FAMILIES, blobs, family_of, learn, running

CENTRES = 12.0 * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [4.0, 3.0]])
families = pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "tied", "full"))


def feed(n: int = 600) -> Array:
    """Five blobs of `n` points in turn, of which the first 200 points show but two."""
    X, owners = blobs(n, CENTRES, seed=4)
    order = np.random.default_rng(0).permutation(len(X))
    first = order[owners[order] < 2][:200]
    rest = np.setdiff1d(order, first, assume_unique=True)
    return np.asarray(X[np.concatenate([first, rest])])


def loss_on(learner: StreamLearner[Any], state: LearnerState[Any], X: Array) -> float:
    """Loss of the learned parameters on points."""
    return learner.family.loss(learner.family.e_step(state.params, X, np.ones(len(X))))


@families
def test_a_start_that_missed_clusters_is_not_for_ever(name: str) -> None:
    X, family = feed(), family_of(name, 5)
    best = fit(family, X).loss
    blind = StreamLearner(family, warm_up=200, coreset=0)
    seeing = StreamLearner(family, warm_up=200, coreset=1000)
    before = loss_on(blind, learn(blind, X)[0], X)
    state, told = learn(seeing, X)
    after = loss_on(seeing, state, X)
    assert state.counts.reclustered == sum(info.reclustered for info in told) > 0
    assert family.improvement(best, after) > -0.05
    assert after < before


@pytest.mark.parametrize(
    ("name", "forgetting"),
    combinations(
        FAMILIES,
        [Forgetting(), HalfLife(points=400.0), PowerSchedule(0.7)],
        always=lambda name, forgetting: (
            name == "kmeans"
            or (name == "full" and forgetting == Forgetting())
            or (name == "tied" and isinstance(forgetting, HalfLife))
        ),
    ),
    ids=repr,
)
def test_the_coreset_fades_with_the_statistics_and_their_mass_stays(
    name: str, forgetting: Forgetting
) -> None:
    options: dict[str, Any] = {"warm_up": 200, "n_init": 1, "reseeds": 1}
    learner = StreamLearner(family_of(name, 5), forgetting, coreset=300, **options)
    never = StreamLearner(family_of(name, 5), forgetting, coreset=0, **options)
    X = feed(300)
    state, _ = learn(learner, X)
    assert state.counts.reclustered > 0
    assert state.coreset.points.mass == pytest.approx(running(state).weight.sum())
    assert state.coreset.points.mass == pytest.approx(running(learn(never, X)[0]).weight.sum())


def test_memory_is_bounded() -> None:
    learner = StreamLearner(KMeans(5), warm_up=200, coreset=300)
    state = learner.init()
    for batch in np.array_split(feed(), 60):
        state, _ = learner.update(state, batch)
        assert len(state.coreset.core.w) <= 300
        assert len(state.coreset.fresh.w) < 300
    assert len(state.coreset.core.w) == 300


@families
def test_without_a_coreset_there_is_none(name: str) -> None:
    state, told = learn(StreamLearner(family_of(name, 5), warm_up=200, coreset=0), feed())
    assert state.coreset.is_empty
    assert state.counts.reclustered == 0
    assert not any(info.reclustered for info in told)


def late_solver(name: str) -> tuple[StreamLearner[Any], LearnerState[Any], list[Array]]:
    """A start in two of five blobs, whose first solve is pending for some of the batches."""
    learner = StreamLearner(family_of(name, 5), warm_up=400, coreset=300)
    X, owners = blobs(600, CENTRES, seed=4)
    start = fit(learner.family, X[owners < 2], n_init=1).params
    return (
        learner,
        learner.init(start),
        np.array_split(np.random.default_rng(0).permutation(X), 150),
    )


@families
def test_an_answer_that_is_found_early_changes_nothing(name: str) -> None:
    learner, start, batches = late_solver(name)
    late = early = start
    waited = 0
    for batch in batches:
        late, _ = learner.update(late, batch)
        early, _ = learner.update(early, batch)
        if early.recluster.pending is not None:
            waited += 1
            pending = learner.solve(early.recluster.pending)
            early = replace(early, recluster=replace(early.recluster, pending=pending))
        assert running(early).first.tobytes() == running(late).first.tobytes()
    assert waited > 10
    assert early.counts.reclustered == late.counts.reclustered > 0


def test_what_was_learned_while_a_solve_was_pending_is_in_the_answers_statistics() -> None:
    learner, state, batches = late_solver("kmeans")
    after = 0
    for batch in batches:
        before, (state, info) = state, learner.update(state, batch)
        if before.recluster.pending is not None and info.reclustered:
            after += 1
            mass = running(state).weight.sum()
            assert mass == pytest.approx(state.points)
            assert state.params is not None
            mean = running(state).weight @ state.params.means / mass
            core = state.coreset.points
            assert_allclose(mean, core.w @ core.X / core.mass)
    assert after > 0


def test_a_surprise_is_answered_at_once() -> None:
    X = feed()
    learner = StreamLearner(KMeans(5), warm_up=200, coreset=300)
    state, _ = learn(learner, X)
    far = X.mean(axis=0) + 500.0 + np.random.default_rng(1).normal(size=(100, 2))
    state = replace(state, recluster=replace(state.recluster, learned=100))
    state, told = learn(learner, far, state=state)
    assert [info.reclustered for info in told] == [True, False]
    assert loss_on(learner, state, far) < 10.0


@families
def test_components_keep_their_numbers(name: str) -> None:
    X, family = feed(), family_of(name, 5)
    best, order = fit(family, X), np.array([3, 1, 4, 0, 2])
    learner = StreamLearner(family)
    state, _ = learner.update(learner.init(best.params), X[-50:])
    params, stats = family.reorder(best.params, order), reorder(best.stats, order)
    state = learner.adopt(state, params, stats)
    assert state.params is not None
    assert_allclose(state.params.means, best.params.means, rtol=1e-12)
    assert_allclose(running(state).weight / 55.0, best.stats.weight / len(X), rtol=1e-9)


@families
def test_the_optimum_stays(name: str) -> None:
    X, family = feed(), family_of(name, 5)
    best = fit(family, X)
    core = Coreset(X, np.ones(len(X)))
    found = solve(family, Problem(best.params, core, (0,)), 2).params
    assert found is not None
    assert judge(family, best.params, core, float(len(X)), found) is None


@families
def test_fewer_distinct_points_than_components_solve_nothing(name: str) -> None:
    family = family_of(name, 5)
    live = fit(family, feed()).params
    core = Coreset(np.repeat([[1.0, 2.0], [3.0, 4.0]], 9, axis=0), np.ones(18))
    assert solve(family, Problem(live, core, (0,)), 1).params is None


def test_parameters_that_were_given_outweigh_fewer_points() -> None:
    given = KMeans(5).from_arrays({"centroids": CENTRES[[0, 0, 0, 3, 3]] + np.arange(5)[:, None]})
    learner = StreamLearner(KMeans(5), warm_up=200)
    heavy, _ = learn(learner, feed(), state=learner.init(given, weight=5000.0))
    light, _ = learn(learner, feed(), state=learner.init(given, weight=1.0))
    assert heavy.counts.reclustered == 0
    assert light.counts.reclustered > 0


def test_an_average_is_left_alone() -> None:
    forgetting = PowerSchedule(0.7, average=True)
    state, _ = learn(StreamLearner(KMeans(5), forgetting, warm_up=200), feed())
    assert state.counts.reclustered == 0


def test_after_tries_in_vain_the_next_one_waits_longer() -> None:
    X, _ = blobs(4000, CENTRES)
    learner = StreamLearner(KMeans(5), HalfLife(points=300.0), warm_up=400)
    state, waits = learner.init(), set()
    for batch in np.array_split(X, 100):
        state, _ = learner.update(state, batch)
        waits.add(state.recluster.interval)
    assert max(waits) >= 8.0 * min(waits - {0.0})


@families
def test_optimism_is_the_gap_between_the_points_of_a_fit_and_others(name: str) -> None:
    places = np.array([[0.0, 0.0, 0.0], [30.0, 0.0, 0.0]])
    X, _ = blobs(20_000, places)
    family, n, gaps = family_of(name, 2), 200, []
    start = fit(family, X[:200], n_init=1).params
    others = X[20_000:]
    for part in np.array_split(X[:20_000], 100)[:50]:
        run = run_em(family, start, InMemory(family, part, np.ones(n), np.random.default_rng(0)))
        fresh = family.loss(family.e_step(run.params, others, np.ones(len(others))))
        here = family.loss(family.e_step(run.params, part, np.ones(n)))
        gaps.append(family.improvement(fresh, here))
    error = float(np.std(gaps)) / 7.0
    assert np.mean(gaps) == pytest.approx(
        search_of(family).optimism(n, 3), rel=0.1, abs=3.0 * error
    )
