"""Hartigan's moves of single points, against trying all of them."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import assume, given
from numpy.testing import assert_allclose

from streamclust import KMeans, kernels
from streamclust.arrays import Array, Labels
from streamclust.fitting.em import InMemory, run_em
from streamclust.fitting.hartigan import hartigan
from tests.support.strategies import laws, weights


def inertia_of(X: Array, w: Array, labels: Labels) -> float:
    """J of a partition: squared distances to the averages of its clusters."""
    return sum(
        float(w[own] @ ((X[own] - np.average(X[own], axis=0, weights=w[own])) ** 2).sum(axis=1))
        for own in (labels == k for k in np.unique(labels))
        if w[own].any()
    )


def best_move(X: Array, w: Array, labels: Labels, K: int) -> float:
    """The lowest J that the move of a single point can reach, by trying all."""
    reached = []
    for n in range(len(X)):
        for k in range(K):
            moved = labels.copy()
            moved[n] = k
            reached.append(inertia_of(X, w, moved))
    return min(reached)


@given(data=st.data(), n=st.integers(3, 14), K=st.integers(2, 4), seed=st.integers(0, 10**6))
@laws
def test_a_move_is_made_where_one_lowers_the_inertia_and_none_elsewhere(
    data: st.DataObject, n: int, K: int, seed: int
) -> None:
    X, w = np.random.default_rng(seed).normal(size=(n, 2)), data.draw(weights(n))
    X, w = X[w > 0.0], w[w > 0.0]
    assume(len(X) >= K)
    family, rng = KMeans(K), np.random.default_rng(seed)
    start = family.from_arrays({"centroids": X[:K]})
    rest = run_em(family, start, InMemory(family, X, w, rng), tol=0.0)
    labels = kernels.assign(X, rest.params.centroids).labels
    before, best = inertia_of(X, w, labels), best_move(X, w, labels, K)
    moved = hartigan(X, w, rest.params.centroids)
    if best < (1.0 - 1e-9) * before:
        assert moved is not None
        after = float(w @ kernels.assign(X, moved).squared_distances)
        assert after <= best * (1.0 + 1e-9)
    elif best > (1.0 - 1e-14) * before:
        assert moved is None


def test_a_point_moves_although_the_other_centroid_is_farther_away() -> None:
    # 3.9 is nearer to 2.95, the centre of two points, but it is what pulls that one so far.
    X = np.array([[2.0], [3.9], *[[5.0]] * 20])
    moved = hartigan(X, np.ones(22), np.array([[2.95], [5.0]]))
    assert moved is not None
    assert_allclose(moved.ravel(), [2.0, (3.9 + 100.0) / 21.0])


def test_the_last_point_of_a_cluster_stays() -> None:
    X = np.array([[0.0], [1.0], [1.1]])
    assert hartigan(X, np.ones(3), np.array([[0.0], [1.05]])) is None
