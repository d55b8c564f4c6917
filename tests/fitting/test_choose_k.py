"""K that adapts: the criterion, what moves promise, and the K that is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from streamclust import GaussianMixture, KMeans
from streamclust.arrays import Array
from streamclust.errors import DataError, TooFewPointsError
from streamclust.fitting.choose_k import adapt, is_better
from streamclust.fitting.fit import fit
from streamclust.fitting.moves import Sample, cut
from streamclust.fitting.search import search_of
from streamclust.models import KMeansParams
from streamclust.models.criteria import criteria, mixture_parameters
from tests.support.exhaustive import some
from tests.support.strategies import FAMILIES, blobs, family_of, mixture_of

families = pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
THREE = 12.0 * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


def sample(X: Array) -> Sample:
    return Sample(X, np.ones(len(X)), float(len(X)))


def places(K: int, D: int, gap: float, seed: int) -> Array:
    """K centres that are at least `gap` apart, and not much more."""
    rng, found = np.random.default_rng(seed), np.empty((0, D))
    reach = gap
    while len(found) < K:
        place = rng.uniform(-reach, reach, size=D)
        if not len(found) or np.linalg.norm(found - place, axis=1).min() > gap:
            found = np.vstack([found, place])
        reach *= 1.002
    return found


def stream(K: int, D: int, n: int, seed: int) -> Array:
    """`n` points of K clusters of unequal weight and width, at least six deviations apart."""
    rng = np.random.default_rng(seed)
    deviations, share = rng.uniform(0.7, 1.0, K), rng.uniform(0.5, 1.5, K)
    owners = rng.choice(K, size=n, p=share / share.sum())
    return np.asarray(
        places(K, D, 6.0, seed)[owners] + deviations[owners, None] * rng.normal(size=(n, D))
    )


def test_bic_of_kmeans_is_that_of_round_gaussians() -> None:
    X, owners = blobs(200, THREE)
    n, D = X.shape
    likelihood = 0.0
    for k in range(3):
        own = X[owners == k]
        variance = ((own - THREE[k]) ** 2).sum() / (D * (len(own) - 1))
        density = multivariate_normal(THREE[k], variance * np.eye(D)).logpdf(own)
        likelihood += float((density + np.log(len(own) / n)).sum())
    free = 3 * D + 3 + 2
    want = -2.0 * likelihood + free * np.log(n)
    params = KMeans(3).from_arrays({"centroids": THREE})
    assert search_of(KMeans(3)).bic(params, sample(X)) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical"])
def test_bic_of_a_mixture_is_that_of_its_likelihood(name: Any) -> None:
    X, _ = blobs(200, THREE)
    family = mixture_of(name, 3)
    params = fit(family, X, n_init=1).params
    likelihood = float(family.score_points(params, X).sum())
    want = criteria(likelihood, mixture_parameters(3, 2, name), len(X)).bic
    assert search_of(family).bic(params, sample(X)) == pytest.approx(want, rel=1e-12)


@families
def test_weights_are_shares_of_n(name: str) -> None:
    X, _ = blobs(200, THREE)
    family = family_of(name, 3)
    params = fit(family, X).params
    twice = Sample(np.repeat(X, 2, axis=0), np.full(2 * len(X), 7.0), float(len(X)))
    once = search_of(family).bic(params, sample(X))
    assert search_of(family).bic(params, twice) == pytest.approx(once, rel=1e-9)


def test_moves_of_kmeans_promise_what_they_change() -> None:
    X, _ = blobs(200, THREE)
    family, points = KMeans(9, min_clusters=1), sample(X)
    for K, moves in ((2, search_of(family).propose_splits), (3, search_of(family).propose_merges)):
        params = fit(KMeans(K), X).params
        promised = [m for m in moves(params, points) if K == 3 or m.change < 0.0]
        assert promised
        for move in promised:
            after = search_of(family).apply(params, [move])
            change = search_of(family).bic(after, points) - search_of(family).bic(params, points)
            assert move.change == pytest.approx(change, rel=1e-9)


@pytest.mark.parametrize("name", ["full", "diag", "spherical"])
def test_a_split_mixture_gains_at_least_what_was_promised(name: Any) -> None:
    X, _ = blobs(200, np.vstack([THREE, [[36.0, 0.0]]]))
    family, points = mixture_of(name, 9, min_components=1), sample(X)
    params = fit(mixture_of(name, 3), X).params
    moves = search_of(family).propose_splits(params, points)
    assert min(move.change for move in moves) < 0.0
    for move in moves:
        after = search_of(family).apply(params, [move])
        assert_allclose(after.weights.sum(), 1.0, rtol=1e-12)
        change = search_of(family).bic(after, points) - search_of(family).bic(params, points)
        assert change <= move.change + 0.1


def test_a_cut_is_across_the_widest_axis() -> None:
    X, owners = blobs(50, [[0.0, 0.0], [3.0, 9.0]])
    want = [X[owners == k].mean(axis=0) for k in (1, 0)]
    assert_allclose(cut(X, np.ones(len(X))), want)
    same = cut(np.ones((3, 2)), np.ones(3))
    assert_allclose(same, 1.0)


@pytest.mark.parametrize(("K", "D"), [(1, 3), (3, 2), (8, 4), (20, 2), (30, 8)])
def test_kmeans_finds_the_number_of_clusters(K: int, D: int) -> None:
    found = fit(KMeans(50, min_clusters=1), stream(K, D, 100 * K, seed=K), n_init=1)
    assert len(found.params.centroids) == K


@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical"])
def test_mixtures_find_the_number_of_components(name: Any) -> None:
    X = stream(8, 3, 1600, seed=1)
    assert len(fit(mixture_of(name, 20, min_components=2), X, n_init=1).params.weights) == 8


@families
def test_units_and_origin_do_not_matter(name: str) -> None:
    X = stream(5, 2, 500, seed=2)
    family = family_of(name, 12, least=2)
    plain, moved = (fit(family, each, n_init=1).params for each in (X, 1e-3 * X + 5.0))
    assert len(plain.means) == len(moved.means) == 5
    lines = [np.sort(each[:, 0]) for each in (plain.means, (moved.means - 5.0) * 1e3)]
    assert_allclose(lines[0], lines[1], rtol=1e-4, atol=1e-4)


@families
def test_k_stays_within_its_range(name: str) -> None:
    X = stream(6, 2, 900, seed=3)
    low = fit(family_of(name, 4, least=2), X, n_init=1).params
    high = fit(family_of(name, 12, least=8), X, n_init=1).params
    assert len(low.means) == 4
    assert len(high.means) == 8
    wide = family_of(name, 4, least=2)
    found = adapt(wide, high, sample(X), 0, (0,)).params
    assert len(found.means) <= 4
    assert is_better(wide, high, found, sample(X))


@families
def test_a_component_has_at_least_as_many_points_as_parameters(name: str) -> None:
    X = np.random.default_rng(0).normal(size=(30, 2)) ** 5  # far outliers
    family = family_of(name, 30, least=1)
    found = fit(family, X, n_init=1)
    assert found.stats.weight.min() >= 3.0


def test_equal_points_are_one_cluster() -> None:
    X = np.repeat(THREE, 40, axis=0)
    assert len(fit(KMeans(9, min_clusters=1), X).params.centroids) == 3
    with pytest.raises(TooFewPointsError):
        fit(KMeans(9, min_clusters=4), X)


@pytest.mark.parametrize("least", [0, 4])
def test_a_range_that_is_none_is_refused(least: int) -> None:
    with pytest.raises(
        DataError, match=f"min_clusters is {least}; expected 1 to n_clusters, which is 3"
    ):
        KMeans(3, min_clusters=least)
    with pytest.raises(DataError, match=f"min_components is {least}"):
        GaussianMixture(3, min_components=least)


@families
def test_one_sentinel_hides_no_cluster(name: str) -> None:
    X, _ = blobs(100, [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]], seed=3)
    X[5] = 2147483647.0
    mixture: Any = family_of(name, 6)
    least = "min_clusters" if mixture.kind == "kmeans" else "min_components"
    family = replace(mixture, **{least: 2})
    found = adapt(family, None, sample(X), 1, (0,)).params
    assert len(np.unique(family.predict(found, X))) == 5


def test_two_clusters_without_points_merge_where_they_are() -> None:
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    params = KMeansParams(np.array([[1.5], [50.0], [60.0]]))
    moves = search_of(KMeans(3, min_clusters=1)).propose_merges(params, sample(X))
    assert all(np.isfinite(move.change) for move in moves)
    assert {float(move.add.centroids[0, 0]) for move in moves} <= {1.5, 50.0, 60.0}
