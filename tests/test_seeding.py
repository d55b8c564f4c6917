"""Greedy k-means++: which points it may choose, how often, and how good they are."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare

from streamclust import kernels
from streamclust.arrays import Array
from streamclust.errors import TooFewPointsError
from streamclust.seeding import kmeans_plusplus
from tests.numerics import strict_floats
from tests.strategies import blobs, laws, weights

__all__ = ["strict_floats"]


def grids(n: int, D: int) -> st.SearchStrategy[Array]:
    """Points on a small grid of integers: many of them are equal."""
    return arrays(np.float64, (n, D), elements=st.integers(-2, 2).map(float))


def distinct(X: Array) -> int:
    """How many different points `X` holds."""
    return len(np.unique(X, axis=0))


@given(data=st.data(), n=st.integers(1, 25), D=st.integers(1, 3), seed=st.integers(0, 999))
@laws
def test_the_centroids_are_distinct_points_of_positive_weight(
    data: st.DataObject, n: int, D: int, seed: int
) -> None:
    X, w = data.draw(grids(n, D)), data.draw(weights(n))
    heavy = X[w > 0.0]
    assume(len(heavy))
    K = data.draw(st.integers(1, distinct(heavy)))
    centroids = kmeans_plusplus(X, w, K, np.random.default_rng(seed))
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
    best = kernels.assign(X, centres).sqdist.sum()
    rng = np.random.default_rng(0)
    J = [
        kernels.assign(X, kmeans_plusplus(X, np.ones(len(X)), K, rng)).sqdist.sum()
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
