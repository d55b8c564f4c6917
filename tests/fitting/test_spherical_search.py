"""Fits of K-means with the metric cosine: against brute force, and the choice of K."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamclust import KMeans
from streamclust.errors import DataError, TooFewPointsError
from streamclust.fitting.em import InMemory, run_em
from streamclust.fitting.fit import fit
from streamclust.fitting.search import search_of
from streamclust.fitting.spherical_search import first_variation
from streamclust.models.kmeans import KMeansParams
from tests.support.directions import best_loss, directions, unit
from tests.support.exhaustive import is_exhaustive
from tests.support.strategies import same_partition


@pytest.mark.parametrize("D", [1, 2, 3, 8])
@pytest.mark.parametrize("K", [1, 2, 3])
def test_the_best_of_some_runs_is_the_optimum_of_brute_force(K: int, D: int) -> None:
    if D == 1 and K == 3:
        return  # there are two directions
    for seed in range(4 if is_exhaustive() else 2):
        rng = np.random.default_rng((K, D, seed))
        X, w = rng.normal(size=(8, D)), rng.uniform(0.5, 2.0, 8)
        X[:2] = np.abs(X[:2]) * [[1.0], [-1.0]]
        optimum = best_loss(X, w, K)
        assert_allclose(fit(KMeans(K, metric="cosine"), X, w, n_init=20).loss, optimum, atol=1e-14)


@pytest.mark.parametrize("factor", [1e-300, 1e-9, 7.0, 1e300])
def test_the_unit_of_the_data_changes_nothing(factor: float) -> None:
    X = unit(directions(200, 4, 6)[0])
    family = KMeans(4, metric="cosine")
    one, other = fit(family, X), fit(family, factor * X)
    assert_allclose(other.params.centroids, one.params.centroids, atol=1e-12)
    assert_allclose(other.loss, one.loss, rtol=1e-12)


def test_the_loss_never_rises() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        X = unit(rng.normal(size=(60, 4)))
        family = KMeans(5, metric="cosine")
        data = InMemory(family, X, rng.uniform(0.1, 3.0, 60), np.random.default_rng(seed))
        run = run_em(family, KMeansParams(X[:5]), data, tol=0.0)
        assert len(run.history) > 2
        assert max(np.diff(run.history)) <= 1e-15


def test_a_move_of_single_points_leaves_an_optimum_of_lloyds_algorithm() -> None:
    better = 0
    family = KMeans(3, metric="cosine")
    for seed in range(30):
        rng = np.random.default_rng(seed)
        X, w = unit(rng.normal(size=(12, 3))), rng.uniform(0.5, 2.0, 12)
        run = run_em(family, KMeansParams(X[:3]), InMemory(family, X, w, rng), tol=0.0)
        moved = first_variation(X, w, run.params.centroids)
        if moved is not None:
            loss = family.loss(family.e_step(KMeansParams(moved), X, w))
            assert loss < run.loss
            better += 1
    assert better > 5


def test_fewer_directions_than_clusters_are_refused_whatever_their_lengths() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 20))[rng.integers(3, size=100)] * rng.uniform(1e-9, 1e9, size=(100, 1))
    with pytest.raises(TooFewPointsError, match="3 distinct directions are too few for 4"):
        fit(KMeans(4, metric="cosine"), X)
    assert fit(KMeans(3, metric="cosine"), X).loss < 1e-14


def test_zero_vectors_are_refused_unless_they_have_no_weight() -> None:
    X = [[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]
    with pytest.raises(DataError, match="the first at index 1: zero vector"):
        fit(KMeans(2, metric="cosine"), X)
    assert fit(KMeans(2, metric="cosine"), X, [1.0, 0.0, 1.0]).loss == 0.0


@pytest.mark.parametrize(("K", "D"), [(2, 3), (5, 16), (9, 64)])
def test_k_that_adapts_finds_the_clusters(K: int, D: int) -> None:
    X, owners = directions(150 * K, K, D, spread=0.25)
    family = KMeans(20, min_clusters=1, metric="cosine")
    run = fit(family, X)
    assert len(run.params.means) == K
    assert same_partition(family.predict(run.params, X), owners)


def test_one_direction_of_noise_is_one_cluster() -> None:
    X, _ = directions(400, 1, 8, spread=1.0)
    family = KMeans(10, min_clusters=1, metric="cosine")
    assert len(fit(family, X).params.means) == 1


def test_the_excess_of_other_centroids_is_the_rise_of_the_loss() -> None:
    family = KMeans(3, metric="cosine")
    X = unit(directions(300, 3, 6)[0])
    best = fit(family, X)
    other = KMeansParams(unit(best.params.centroids + 1e-3))
    rise = family.e_step(other, X, np.ones(300)).objective / best.stats.objective - 1.0
    assert_allclose(search_of(family).excess(best.params, other, best.stats), rise, rtol=0.05)
