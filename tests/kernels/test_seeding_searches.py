"""The searches of the seeding: all kernels make the same choices, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from streamclust import kernels
from streamclust.arrays import Array
from streamclust.kernels import twin, twin_seeding
from tests.support.kernel_inputs import NATIVE, SIZES, native, needs_native


def agree(X: Array, w: Array, K: int, rng: np.random.Generator) -> None:
    """Compare all three with the twin's, from the same random numbers."""
    uniform = rng.random(1 + 3 * (K - 1))
    chosen = twin.plusplus(X, w, K, uniform)
    for name in NATIVE:
        with native(name):
            assert_array_equal(kernels.plusplus(X, w, K, uniform), chosen)
    if len(chosen) < 2:
        return
    draws = rng.random(20)
    C = twin.swaps(X, w, X[chosen], draws)
    labels = twin.assign(X, C).labels
    weight = twin.cluster_moments(X, w, labels, C)[0] + 1e-3
    moves = twin.moves(X, w, labels, weight, C)
    for name in NATIVE:
        with native(name):
            assert_array_equal(kernels.swaps(X, w, X[chosen], draws), C)
            found = kernels.moves(X, w, labels, weight, C)
            for one, right in zip(found, moves, strict=True):
                assert_array_equal(one, right)


@needs_native
@pytest.mark.parametrize("D", SIZES)
def test_all_kernels_choose_the_same_points(D: int) -> None:
    for K in (1, 2, 7, 33):
        rng = np.random.default_rng((D, K))
        X = rng.normal(size=(194, D)) * rng.choice([1e-9, 1.0, 1e9])
        w = rng.random(194) * (rng.random(194) > 0.2)
        for N in (K, 194):
            agree(X[:N], w[:N], K, rng)


@needs_native
@pytest.mark.parametrize("D", [1, 2, 5])
def test_all_kernels_choose_the_same_points_where_many_are_tied(D: int) -> None:
    rng = np.random.default_rng(D)
    X = rng.integers(-2, 3, size=(300, D)).astype(np.float64)
    for K in (2, 7, 40):  # of a line there are five different points
        agree(X, np.ones(300), K, rng)


def test_a_point_of_no_cost_is_never_drawn(each_kernel: str) -> None:
    X, w = np.array([[0.0], [1.0], [5.0]]), np.array([1.0, 1.0, 0.0])
    almost = np.nextafter(1.0, 0.0)
    assert kernels.plusplus(X, w, 3, np.full(5, almost)).tolist() == [1, 0]


def test_the_twin_takes_large_tasks_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X, w, draws = rng.normal(size=(60, 2)), rng.random(60), rng.random(30)
    labels = twin.assign(X, X[:7]).labels
    weight = np.bincount(labels, weights=w, minlength=7).astype(np.float64)

    def search() -> list[list[float]]:
        found = (twin.swaps(X, w, X[:7], draws), *twin.moves(X, w, labels, weight, X[:7]))
        return [part.tolist() for part in found]

    whole = search()
    monkeypatch.setattr(twin_seeding, "_CELLS", 20)
    assert search() == whole
