"""Starts from a coreset, for points that don't fit in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import KMeans, KMeansParams
from streamclust.arrays import Array
from streamclust.engine import Engine, Inline
from streamclust.engine.base import never
from streamclust.engine.sampling import Condense, Draw
from streamclust.engine.survey import Survey
from streamclust.engine.threads import Threads
from streamclust.errors import StoppedError
from streamclust.fitting.restarts import starts
from streamclust.refit.coreset import candidates, memory_or_coreset
from streamclust.refit.data import Dataset, gather
from streamclust.refit.runs import Pass, Plan, search
from tests.support.datasets import Table, a_table
from tests.support.engines import ByBytes
from tests.support.exhaustive import some
from tests.support.strategies import FAMILIES, family_of

K, RARE = 20, 6


def uneven(seed: int, n: int = 40_000) -> Array:
    """Twenty clusters; six of them have about ten points each."""
    rng = np.random.default_rng(seed)
    centres, shares = rng.uniform(-50.0, 50.0, size=(K, 3)), np.ones(K)
    shares[:RARE] = 12.0 * K / n
    labels = rng.choice(K, size=n, p=shares / shares.sum())
    return centres[labels] + rng.normal(size=(n, 3))


def elsewhere(X: Array, seed: int = 0, engine: Engine | None = None, sample: int = 1000) -> Dataset:
    """Points that count as too many for memory, in parts of 5,000."""
    return gather(
        Table(X, np.ones(len(X)), size=5000), seed, in_memory=0, sample=sample, engine=engine
    )


def test_starts_are_as_good_as_those_of_the_sample_and_the_result_as_that_of_memory() -> None:
    family, by_sample, by_core, losses = KMeans(K), [], [], []
    for seed in (1, 2):
        points = elsewhere(uneven(seed, 20_000), seed)

        def loss(params: Any, points: Dataset = points) -> float:
            return family.loss(points.e_step(family, params, never))

        core = memory_or_coreset(family, points, seed)
        by_sample += [loss(start) for start in starts(family, *points.sample, 4, (seed,))]
        by_core += [loss(start) for start in starts(family, *core, 4, (seed,))]
        plan = Plan(seed=seed, restarts=4)
        memory = gather(Table(uneven(seed, 20_000), np.ones(20_000)), seed)
        found, expected = (search(family, each, None, plan) for each in (points, memory))
        losses.append((found.loss, expected.loss))
    found_loss, expected_loss = np.mean(losses, axis=0)
    assert found_loss < 1.01 * expected_loss
    assert np.mean(by_core) < 1.05 * np.mean(by_sample)


def test_rounds_find_the_clusters_that_the_sample_misses() -> None:
    X = np.random.default_rng(0).normal(size=(50_000, 2))
    X[[11, 20_000, 49_000]] += [[1e4, 0.0], [0.0, 1e4], [-1e4, -1e4]]
    points = elsewhere(X, sample=500)
    assert np.abs(points.sample.X).max() < 10.0
    found = candidates(points, 5, 0)
    assert len(found) > 5
    assert np.linalg.norm(found, axis=1).max() > 1e4 - 10.0
    core = memory_or_coreset(KMeans(5), points, 0)
    assert (np.abs(core.X).max(axis=1) > 9e3).sum() == 3
    assert_allclose(core.w.sum(), 50_000)


def test_points_are_drawn_in_proportion_to_their_cost() -> None:
    X = np.array([[1.0], [2.0], [3.0], [0.0], [0.0]])
    w = np.array([2.0, 1.0, 1.0, 1.0, 5.0])
    points = gather(Table(X, w, size=2), 0)
    rounds = (points.fold(Draw(np.zeros((1, 1)), 1, (seed,)), never) for seed in range(1500))
    drawn = np.concatenate([each.X[0] for each in rounds])
    counts = np.array([np.sum(drawn == x) for x in (1.0, 2.0, 3.0)])
    expected = np.array([2.0, 4.0, 9.0]) / 15.0 * 1500
    assert counts.sum() == 1500
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # chi squared, 0.1 %
    two = points.fold(Draw(np.zeros((1, 1)), 9, (0,)), never)
    assert sorted(two.X.ravel().tolist()) == [1.0, 2.0, 3.0]
    assert two.cost == 15.0
    assert not len(points.fold(Draw(X, 9, (0,)), never).X)


def test_the_cost_of_a_coreset_is_nearly_that_of_all_points() -> None:
    X = uneven(0)
    points, family = elsewhere(X), KMeans(K)
    core = memory_or_coreset(family, points, 0)
    assert 700 < len(core.w) < 1300
    for seed in range(5):
        params = KMeansParams(X[np.random.default_rng(seed).choice(len(X), K)])
        whole = points.e_step(family, params, never).objective
        assert family.e_step(params, *core).objective == pytest.approx(whole, rel=0.15)


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
def test_a_search_has_the_same_bits_with_every_engine(name: str) -> None:
    family = family_of(name, 3)
    X = a_table(4000).X
    found = []
    with Threads(3) as three:
        for engine in (Inline(), three, ByBytes()):
            for kept in (0, 1 << 20):
                table = Table(X, np.ones(len(X)), size=500)
                points = gather(table, 0, in_memory=kept, sample=500, engine=engine)
                result = search(family, points, None, Plan(restarts=2, max_iter=10))
                found.append((result.params.means.tobytes(), result.loss, result.runs))
    for kept in (0, 1):
        assert all(each == found[kept] for each in found[kept::2])


def test_tasks_and_their_results_are_the_same_as_bytes() -> None:
    X = uneven(1)
    engines = (Inline(), ByBytes())
    surveys = [elsewhere(X, engine=engine).sample for engine in engines]
    assert_array_equal(surveys[0].X, surveys[1].X)
    cores = [memory_or_coreset(KMeans(K), elsewhere(X, engine=engine), 0) for engine in engines]
    for one, other in zip(*cores, strict=True):
        assert_array_equal(one, other)
    for task in (Draw(X[:3], 5, (1, 2)), Condense(X[:3], 0.1, (3,)), Survey(1, 2, 3)):
        assert type(task).from_fields(task.to_fields()).to_fields().values == (
            task.to_fields().values
        )


def test_restarts_side_by_side_can_be_stopped() -> None:
    told: list[Pass] = []
    with Threads(3) as engine:
        table = a_table(5000)
        points = gather(table, 0, engine=engine)
        live = KMeansParams(points.sample.X[:3])
        found = search(
            KMeans(3), points, live, Plan(tol=0.0), on_pass=told.append, stop=lambda: len(told) > 4
        )
        assert found.stopped
        assert found.loss == min(step.loss for step in told)
        with pytest.raises(StoppedError):
            search(KMeans(3), points, live, Plan(), stop=lambda: True)
