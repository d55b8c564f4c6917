"""K-means in one dimension: the optimum, by brute force, by laws, and by another's program."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import KMeans
from streamclust.arrays import Array
from streamclust.errors import TooFewPointsError
from streamclust.fitting import one_dimensional
from streamclust.fitting.fit import fit
from streamclust.fitting.one_dimensional import optimal_centroids
from tests.support.strategies import laws, weights


def inertia(x: Array, w: Array, centroids: Array) -> float:
    return float((w * ((x[:, None] - centroids) ** 2).min(axis=1)).sum())


def cost(x: Array, w: Array) -> float:
    return float((w * (x - np.average(x, weights=w)) ** 2).sum())


def brute_force(x: Array, w: Array, K: int) -> float:
    """The least J over all ways to cut the sorted values into K intervals."""
    order = np.argsort(x)
    x, w = x[order], w[order]
    inner = combinations(range(1, len(x)), K - 1)
    edges = ((0, *cuts, len(x)) for cuts in inner)
    return min(sum(cost(x[a:b], w[a:b]) for a, b in pairwise(cut)) for cut in edges)


@given(data=st.data(), n=st.integers(1, 9))
@laws
def test_it_is_the_optimum_of_all_partitions(data: st.DataObject, n: int) -> None:
    x = data.draw(arrays(np.float64, n, elements=st.integers(-30, 30).map(float), unique=True))
    w = data.draw(arrays(np.float64, n, elements=st.floats(0.01, 100.0)))
    K = data.draw(st.integers(1, n))
    centroids = optimal_centroids(x, w, K)
    assert_array_equal(centroids, np.sort(centroids))
    assert inertia(x, w, centroids) == pytest.approx(brute_force(x, w, K), rel=1e-9, abs=1e-9)


@given(data=st.data(), n=st.integers(3, 40), shift=st.integers(-6, 6))
@laws
def test_other_units_and_doubled_points_change_nothing_else(
    data: st.DataObject, n: int, shift: int
) -> None:
    x = data.draw(arrays(np.float64, n, elements=st.integers(-99, 99).map(float), unique=True))
    w = data.draw(weights(n)) + 0.5
    plain = optimal_centroids(x, w, 3)
    assert_array_equal(optimal_centroids(np.ldexp(x, shift), w, 3), np.ldexp(plain, shift))
    assert_array_equal(optimal_centroids(x, np.ldexp(w, shift), 3), plain)
    twice = optimal_centroids(np.tile(x, 2), np.tile(w, 2), 3)
    assert inertia(x, w, twice) == pytest.approx(inertia(x, w, plain), rel=1e-12)


def exact_cost(x: Array, w: Array) -> Fraction:
    """`cost` in rational numbers."""
    values, shares = [[Fraction(each) for each in array.tolist()] for array in (x, w)]
    zero = Fraction(0)
    mean = sum((v * s for v, s in zip(values, shares, strict=True)), zero) / sum(shares, zero)
    return sum((s * (v - mean) ** 2 for v, s in zip(values, shares, strict=True)), zero)


PLACES = [0.0, 1.0, 1e8, 1e14, -1e14, 1e30, -1e60, 1e99, 1e-60]
STEPS = [1.0, 0.0, 1.0 / 64.0, 1e-60, 1e84]
WEIGHTS = [1.0, 1.0, 2.0, 0.3, 1e-30, 1e30]


@given(data=st.data(), n=st.integers(1, 8))
@laws
def test_it_is_the_optimum_however_far_apart_the_values_are(data: st.DataObject, n: int) -> None:
    places = data.draw(st.lists(st.sampled_from(PLACES), min_size=n, max_size=n))
    steps = data.draw(st.lists(st.sampled_from(STEPS), min_size=n, max_size=n))
    counts = data.draw(st.lists(st.integers(-9, 9), min_size=n, max_size=n))
    x = np.unique(np.array(places) + np.array(steps) * np.array(counts))
    w = np.array(data.draw(st.lists(st.sampled_from(WEIGHTS), min_size=len(x), max_size=len(x))))
    K = data.draw(st.integers(1, len(x)))
    cuts = combinations(range(1, len(x)), K - 1)
    costs = {(a, b): exact_cost(x[a:b], w[a:b]) for a, b in combinations(range(len(x) + 1), 2)}
    found, *others = (
        sum(costs[pair] for pair in pairwise(edges))
        for edges in (
            one_dimensional._partition(x, w, K).tolist(),
            *((0, *cut, len(x)) for cut in cuts),
        )
    )
    assert found <= min(others) * (1 + Fraction(1, 10**12))


@pytest.mark.parametrize("K", [1, 2, 7, 31])
def test_it_agrees_with_ckmeans_1d_dp(K: int) -> None:
    ckwrap = pytest.importorskip("ckwrap")
    rng = np.random.default_rng(K)
    x, w = rng.standard_t(3, size=1500), rng.integers(1, 9, size=1500).astype(float)
    theirs = np.sort(np.asarray(ckwrap.ckmeans(x, K, w).centers))
    assert_allclose(optimal_centroids(x, w, K), theirs, rtol=1e-9, atol=1e-12)


def test_far_from_the_origin_nothing_is_lost() -> None:
    x = np.concatenate([np.arange(5.0), 100.0 + np.arange(5.0)])
    here = optimal_centroids(x, np.ones(10), 4)
    assert_array_equal(optimal_centroids(x + 2.0**40, np.ones(10), 4), here + 2.0**40)


@pytest.mark.parametrize("far", [1e14, -1e14, 1e60])
def test_one_value_far_away_costs_nothing_but_a_cluster(far: float) -> None:
    X = np.array([*range(3), *range(10, 13), *range(20, 23), far])[:, None]
    best = fit(KMeans(4), X)
    assert best.stats.objective == pytest.approx(6.0, abs=1e-12)
    assert_allclose(np.sort(best.params.centroids, axis=None), np.sort([1.0, 11.0, 21.0, far]))


def test_narrow_clusters_at_several_far_places_are_told_apart() -> None:
    narrow = np.array([0.0, 1.0, 10.0, 11.0])
    x = np.concatenate([narrow, narrow + 1e14, narrow - 1e14, narrow + 2.0**46])
    centroids = optimal_centroids(x, np.ones(len(x)), 8)
    expected = np.array([[place + 0.5, place + 10.5] for place in (-1e14, 0.0, 2.0**46, 1e14)])
    assert_array_equal(centroids, expected.ravel())


@pytest.mark.parametrize("extreme", [1e-100, 1e100])
def test_extreme_magnitudes(extreme: float) -> None:
    x = extreme * np.array([-1.0, -0.9, 0.0, 0.9, 1.0])
    centroids = optimal_centroids(x, np.full(5, extreme), 3)
    assert_allclose(centroids, extreme * np.array([-0.95, 0.0, 0.95]), rtol=1e-12)


def test_beyond_the_limit_it_is_the_optimum_of_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=3000)
    exact = inertia(x, np.ones(3000), optimal_centroids(x, np.ones(3000), 5))
    monkeypatch.setattr(one_dimensional, "EXACT_CELLS", 1500)  # 300 bins
    binned = inertia(x, np.ones(3000), optimal_centroids(x, np.ones(3000), 5))
    assert exact < binned < 1.01 * exact
    assert fit(KMeans(5), x[:, None], tol=0.0).stats.objective == pytest.approx(exact, rel=1e-9)


def test_a_bin_never_joins_a_far_value_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_dimensional, "EXACT_CELLS", 320)
    x = np.append(np.random.default_rng(0).normal(size=3000), 1e9)
    assert optimal_centroids(x, np.ones(3001), 2)[1] == 1e9


def test_too_few_distinct_values_are_refused_with_both_numbers() -> None:
    x, w = np.array([1.0, 1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0, 0.0])
    with pytest.raises(TooFewPointsError, match=r"^2 distinct points are too few for 3 components"):
        optimal_centroids(x, w, 3)
    with pytest.raises(TooFewPointsError):
        fit(KMeans(3), x[:, None], w)


@pytest.mark.parametrize("seed", range(5))
def test_fit_finds_it_whatever_the_seed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.exponential(size=200), rng.random(200)
    found = fit(KMeans(6), x[:, None], w, n_init=1, seed=seed)
    best = inertia(x, w, optimal_centroids(x, w, 6))
    assert found.stats.objective == pytest.approx(best, rel=1e-12)
