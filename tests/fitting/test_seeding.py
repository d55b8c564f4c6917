"""Seeding: which points it may choose, how often, and how good they are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare

from streamclust import kernels
from streamclust.arrays import Array
from streamclust.errors import TooFewPointsError
from streamclust.fitting import seeding
from streamclust.fitting.search import search_of
from streamclust.fitting.seeding import (
    draw_in_rounds,
    kmeans_plusplus,
    local_search,
    seed_centroids,
)
from streamclust.models.kmeans import KMeans
from tests.support.strategies import blobs, laws, weights

Seeding = Callable[[Array, Array, int, np.random.Generator], Array]


def grids(n: int, D: int) -> st.SearchStrategy[Array]:
    """Points on a small grid of integers: many of them are equal."""
    return arrays(np.float64, (n, D), elements=st.integers(-2, 2).map(float))


def distinct(X: Array) -> int:
    """How many different points `X` holds."""
    return len(np.unique(X, axis=0))


@pytest.mark.parametrize("draw", [kmeans_plusplus, draw_in_rounds])
@given(data=st.data(), n=st.integers(1, 25), D=st.integers(1, 3), seed=st.integers(0, 999))
@laws
def test_the_centroids_are_distinct_points_of_positive_weight(
    draw: Seeding, data: st.DataObject, n: int, D: int, seed: int
) -> None:
    X, w = data.draw(grids(n, D)), data.draw(weights(n))
    heavy = X[w > 0.0]
    assume(len(heavy))
    K = data.draw(st.integers(1, distinct(heavy)))
    centroids = draw(X, w, K, np.random.default_rng(seed))
    assert distinct(centroids) == K
    assert {tuple(c) for c in centroids.tolist()} <= {tuple(x) for x in heavy.tolist()}


@given(data=st.data(), n=st.integers(1, 12))
@laws
def test_too_few_distinct_points_are_refused_with_both_numbers(data: st.DataObject, n: int) -> None:
    X, w = data.draw(grids(n, 1)), data.draw(weights(n))
    enough = distinct(X[w > 0.0])
    with pytest.raises(TooFewPointsError, match=f"^{enough} distinct .* for {enough + 1} comp"):
        kmeans_plusplus(X, w, enough + 1, np.random.default_rng(0))


def test_points_are_distinct_however_close_they_are() -> None:
    X = np.array([[0.0], [1e-20], [1.0]])
    centroids = kmeans_plusplus(X, np.ones(3), 3, np.random.default_rng(0))
    assert sorted(centroids.ravel().tolist()) == [0.0, 1e-20, 1.0]


def test_the_first_centroid_is_drawn_by_weight() -> None:
    X, w = np.arange(4.0)[:, None], np.array([1.0, 0.0, 2.0, 5.0])
    rng = np.random.default_rng(0)
    drawn = [int(kmeans_plusplus(X, w, 1, rng)[0, 0]) for _ in range(4000)]
    seen = np.bincount(drawn, minlength=4)
    assert seen[1] == 0
    assert chisquare(seen[[0, 2, 3]], 4000 * w[[0, 2, 3]] / w.sum()).pvalue > 0.01


def test_the_second_centroid_is_the_best_of_two_drawn_by_weight_times_squared_distance() -> None:
    # The first is at 0, by force of weight. Then candidates 1, 2 and 5 have w d^2 = 2, 4 and 25,
    # and J = 17, 11 and 6 if they are taken: 5 wins unless both draws are others, 1 if both are 1.
    X, w = np.array([[0.0], [1.0], [2.0], [5.0]]), np.array([1e12, 2.0, 1.0, 1.0])
    p = np.array([2.0, 4.0, 25.0]) / 31.0
    expected = [p[0] ** 2, (p[0] + p[1]) ** 2 - p[0] ** 2, 1.0 - (p[0] + p[1]) ** 2]
    rng = np.random.default_rng(0)
    second = [kmeans_plusplus(X, w, 2, rng)[1, 0] for _ in range(4000)]
    seen = [second.count(c) for c in (1.0, 2.0, 5.0)]
    assert chisquare(seen, 4000 * np.array(expected)).pvalue > 0.01


@pytest.mark.parametrize("K", [2, 8, 32])
def test_the_start_is_within_the_promised_factor_of_the_best(K: int) -> None:
    """Arthur & Vassilvitskii (2007, theorem 3.1): E[J] <= 8 (ln K + 2) J_best."""
    X, owners = blobs(50, 20.0 * np.random.default_rng(K).normal(size=(K, 2)), seed=K)
    centres = np.stack([X[owners == k].mean(axis=0) for k in range(K)])
    best = kernels.assign(X, centres).squared_distances.sum()
    rng = np.random.default_rng(0)
    J = [
        kernels.assign(X, kmeans_plusplus(X, np.ones(len(X)), K, rng)).squared_distances.sum()
        for _ in range(20)
    ]
    assert np.mean(J) <= 8.0 * (np.log(K) + 2.0) * best
    assert np.mean(J) <= 3.0 * best  # the greedy choice does far better on clear clusters


def test_the_same_seed_gives_the_same_centroids_and_another_seed_others() -> None:
    X, _ = blobs(100, [[0.0, 0.0], [5.0, 5.0]])
    one, same, other = (
        kmeans_plusplus(X, np.ones(len(X)), 5, np.random.default_rng(s)) for s in (1, 1, 2)
    )
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()


def test_weight_two_draws_like_the_point_twice() -> None:
    X, _ = blobs(30, [[0.0], [9.0]])
    w = np.random.default_rng(0).integers(0, 4, len(X))
    weighted = kmeans_plusplus(X, w.astype(float), 4, np.random.default_rng(7))
    repeated = np.repeat(X, w, axis=0)
    assert np.array_equal(
        kmeans_plusplus(repeated, np.ones(len(repeated)), 4, np.random.default_rng(7)), weighted
    )


def inertia(X: Array, w: Array, centroids: Array) -> float:
    """J, from the definition."""
    return float(w @ ((X[:, None] - centroids) ** 2).sum(axis=2).min(axis=1))


def best_swap(X: Array, w: Array, centroids: Array, place: Array) -> tuple[float, int]:
    """The lowest J after a swap of one centroid for `place`, and which, by trying all."""
    tried = []
    for k in range(len(centroids)):
        swapped = centroids.copy()
        swapped[k] = place
        tried.append((inertia(X, w, swapped), k))
    return min(tried)


@given(data=st.data(), n=st.integers(3, 25), D=st.integers(1, 3), seed=st.integers(0, 999))
@laws
def test_local_search_makes_the_swaps_that_trying_all_would_find(
    data: st.DataObject, n: int, D: int, seed: int
) -> None:
    X, w = np.random.default_rng(seed).normal(size=(n, D)), data.draw(weights(n))
    K = data.draw(st.integers(2, n))
    assume(np.count_nonzero(w) >= K)
    before = kmeans_plusplus(X, w, K, np.random.default_rng(seed))
    found = local_search(X, w, before, np.random.default_rng(seed), trials=10)
    rng, here = np.random.default_rng(seed), before.copy()
    for _ in range(10):
        cost = w * ((X[:, None] - here) ** 2).sum(axis=2).min(axis=1)
        if not cost.any():
            break
        place = X[np.searchsorted(np.cumsum(cost) / cost.sum(), rng.random(1), side="right")[0]]
        after, k = best_swap(X, w, here, place)
        if after < (1.0 - 1e-9) * cost.sum():
            here[k] = place
    assert found.tolist() == here.tolist()


@given(data=st.data(), n=st.integers(2, 25), seed=st.integers(0, 999))
@laws
def test_seeds_are_distinct_points_also_where_many_are_equal(
    data: st.DataObject, n: int, seed: int
) -> None:
    X, w = data.draw(grids(n, 2)), data.draw(weights(n))
    heavy = X[w > 0.0]
    assume(len(heavy))
    K = data.draw(st.integers(1, distinct(heavy)))
    centroids = seed_centroids(X, w, K, np.random.default_rng(seed))
    assert distinct(centroids) == K
    assert {tuple(c) for c in centroids.tolist()} <= {tuple(x) for x in heavy.tolist()}


def test_local_search_finds_the_blob_that_two_seeds_left_out() -> None:
    X, _ = blobs(50, [[0.0, 0.0], [40.0, 0.0], [0.0, 40.0]])
    before = X[[0, 3, 1]]  # two in the first blob, one in the second
    found = local_search(X, np.ones(len(X)), before, np.random.default_rng(0))
    assert inertia(X, np.ones(len(X)), found) < 0.01 * inertia(X, np.ones(len(X)), before)


def test_rounds_refuse_too_few_distinct_points_too() -> None:
    X = np.repeat(np.eye(3), 5, axis=0)
    with pytest.raises(TooFewPointsError, match="3 distinct points are too few for 4"):
        draw_in_rounds(X, np.ones(15), 4, np.random.default_rng(0))


def test_rounds_draw_by_weight_times_squared_distance() -> None:
    # The first point has nearly all the weight; the second one is one of the others.
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    w = np.array([1e12, 4.0, 2.0, 1.0])
    drawn = [
        float(draw_in_rounds(X, w, 2, np.random.default_rng(seed)).sum()) for seed in range(2000)
    ]
    counts = [drawn.count(place) for place in (1.0, 2.0, 3.0)]
    share = np.array([4.0, 8.0, 9.0])
    assert sum(counts) == 2000
    assert chisquare(counts, 2000 * share / share.sum()).pvalue > 1e-3


def test_rounds_find_most_blobs_that_are_far_apart() -> None:
    # Two draws of one round may fall into one blob: uniform draws would find 40 (1 - 1/e) = 25.
    X, owners = blobs(60, 1e4 * np.arange(40.0)[:, None])
    found = draw_in_rounds(X, np.ones(len(X)), 40, np.random.default_rng(0))
    assert len({owners[np.abs(X - c).sum(axis=1).argmin()] for c in found}) >= 34


def test_a_large_codebook_is_seeded_in_memory_that_is_linear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seeding, "GREEDY_WORK", 1 << 20)
    rng = np.random.default_rng(0)
    X, K = rng.normal(size=(20_000, 3)), 2000
    tracemalloc.start()
    params = search_of(KMeans(K)).init(X, np.ones(len(X)), rng)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert distinct(params.centroids) == K
    assert peak < len(X) * K * 8 / 20
    assert search_of(KMeans(K)).leave_optimum(params, X, np.ones(len(X))) is None
