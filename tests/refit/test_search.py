"""Gathering points and the runs over them: in memory and by chunks alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris

from streamclust import KMeans, KMeansParams
from streamclust.errors import DataError, StoppedError, TooFewPointsError
from streamclust.fitting.search import search_of
from streamclust.refit.data import Reports, gather
from streamclust.refit.runs import Pass, Plan, search
from tests.support.datasets import Table, a_table, by_chunks
from tests.support.exhaustive import combinations, some
from tests.support.strategies import FAMILIES, family_of


def test_points_that_fit_are_read_once() -> None:
    table = a_table()
    found = gather(table, 0)
    assert found.is_in_memory
    assert_array_equal(found.sample.X, table.X[table.w > 0.0])
    assert (found.count, found.weight) == ((table.w > 0.0).sum(), table.w.sum())
    search(KMeans(3), found, None, Plan(restarts=2))
    assert table.passes == 1


def test_of_more_points_there_is_a_sample() -> None:
    table = a_table()
    found = by_chunks(table)
    assert not found.is_in_memory
    assert len(found.sample.X) == 200
    assert found.count == (table.w > 0.0).sum()
    rows = {tuple(row): w for row, w in zip(table.X.tolist(), table.w, strict=True)}
    assert [rows[tuple(row)] for row in found.sample.X.tolist()] == found.sample.w.tolist()
    assert len({tuple(row) for row in found.sample.X.tolist()}) == 200


def test_each_pass_over_many_points_tells_how_far_it_is() -> None:
    told: list[int] = []
    table = Table(np.random.default_rng(0).normal(size=(500, 2)), np.ones(500))
    points_ = gather(table, 0, in_memory=1000, sample=200, reports=Reports(told.append))
    assert told == [100, 200, 300, 400, 500]
    points_.e_step(KMeans(2), KMeansParams(np.eye(2)), lambda: False)
    assert told == 2 * [100, 200, 300, 400, 500]


def test_the_sample_is_uniform() -> None:
    table = Table(np.arange(400.0)[:, None], np.ones(400), size=7)
    drawn = [gather(table, seed, in_memory=0, sample=40).sample.X for seed in range(100)]
    counts = np.bincount(np.concatenate(drawn).ravel().astype(int), minlength=400)
    assert counts.sum() == 4000
    # Each point is expected 10 times; eight blocks of 50 points, 500 times each.
    blocks = counts.reshape(8, 50).sum(axis=1)
    assert np.abs(blocks - 500).max() < 5 * np.sqrt(500)


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
def test_chunks_add_up_to_the_whole(name: str) -> None:
    table, family = a_table(), family_of(name, 3)
    whole, chunked = gather(table, 0), by_chunks(table)
    params = search_of(family).init(*whole.sample, np.random.default_rng(0))
    a, b = (each.e_step(family, params, lambda: False) for each in (whole, chunked))
    assert_allclose(b.weight, a.weight)
    assert_allclose(b.first, a.first, atol=1e-9)
    assert b.objective == pytest.approx(a.objective)
    found = [search(family, each, params, Plan(restarts=1, tol=1e-9)) for each in (whole, chunked)]
    assert family.loss(found[1].stats) == pytest.approx(family.loss(found[0].stats), rel=1e-4)


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
def test_it_beats_or_equals_the_live_model_and_says_by_what(name: str) -> None:
    family, whole = family_of(name, 3), gather(a_table(), 0)
    X, w = whole.sample
    live = search_of(family).init(X[:40], w[:40], np.random.default_rng(0))
    found = search(family, whole, live, Plan(restarts=0))
    assert [run.start for run in found.runs] == ["live"]
    assert found.live_loss is not None
    assert found.live_loss == pytest.approx(family.loss(family.e_step(live, X, w)))
    assert family.loss(found.stats) <= found.live_loss
    again = search(family, whole, found.params, Plan(restarts=2))
    assert family.loss(again.stats) <= family.loss(found.stats)


@pytest.mark.parametrize("seed", combinations(range(50), always=lambda seed: seed < 10))
def test_iris_by_default_settings(seed: int) -> None:
    X = load_iris().data
    whole = gather(Table(X, np.ones(150)), seed)
    live = KMeansParams(X[:3] + 0.01 * seed)
    found = search(KMeans(3), whole, live, Plan(seed=seed))
    assert found.stats.objective == pytest.approx(78.8514414, abs=1e-6)
    assert len(found.runs) == 5


def test_one_dimension_has_one_run_besides_the_live_one() -> None:
    x = np.random.default_rng(0).normal(size=(500, 1))
    live = KMeansParams(np.array([[0.0], [0.1], [0.2]]))
    found = search(KMeans(3), gather(Table(x, np.ones(500)), 0), live, Plan(restarts=8))
    assert [run.start for run in found.runs] == ["live", "1"]
    assert found.runs[1].loss <= found.runs[0].loss


def test_each_pass_is_told_and_the_best_goes_down() -> None:
    told: list[Pass] = []
    whole = gather(a_table(), 0)
    live = KMeansParams(whole.sample.X[:3])
    found = search(KMeans(3), whole, live, Plan(restarts=2), on_pass=told.append)
    assert [step.iteration for step in told if step.run == "live"][:3] == [1, 2, 3]
    assert {step.run for step in told} == {"live", "1", "2"}
    best = [step.best for step in told]
    assert best == sorted(best, reverse=True)
    assert best[-1] == KMeans(3).loss(found.stats)


@pytest.mark.parametrize("passes", [1, 2, 5])
def test_a_stop_leaves_the_best_so_far(passes: int) -> None:
    told: list[Pass] = []
    whole = gather(a_table(), 0)
    found = search(
        KMeans(3),
        whole,
        KMeansParams(whole.sample.X[:3]),
        Plan(tol=0.0),
        on_pass=told.append,
        stop=lambda: len(told) >= passes,
    )
    assert found.stopped
    assert found.live_loss == told[0].loss
    assert KMeans(3).loss(found.stats) == min(step.loss for step in told)
    assert len(told) == passes


def test_a_stop_before_the_first_pass_has_no_result() -> None:
    with pytest.raises(StoppedError, match="nothing was changed"):
        search(KMeans(3), gather(a_table(), 0), None, Plan(), stop=lambda: True)


def test_what_cannot_be_fitted_is_one_clear_line() -> None:
    none: Any = Table(np.empty((0, 2)), np.empty(0))
    with pytest.raises(TooFewPointsError, match=r"^no points in table$"):
        gather(none, 0)
    with pytest.raises(TooFewPointsError, match=r"^no points in table$"):
        gather(Table(np.ones((5, 2)), np.zeros(5)), 0)
    with pytest.raises(TooFewPointsError, match=r"^1 distinct points are too few for 3 components"):
        search(KMeans(3), gather(Table(np.ones((5, 2)), np.ones(5)), 0), None, Plan())
    with pytest.raises(DataError, match="table has 2 features; model 'm' needs 3"):
        gather(a_table().for_model(3, "m"), 0)
