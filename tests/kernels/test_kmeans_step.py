"""Native K-means against its NumPy twin (bit for bit) and against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from streamclust import kernels
from streamclust.arrays import Array, Points
from streamclust.kernels import twin
from tests.support.cases import cases
from tests.support.kernel_inputs import (
    NATIVE,
    each_size,
    exact_square,
    native,
    needs_native,
)

DTYPES = (np.float64, np.float32)


def agree(X: Points, w: Array, C: Array) -> None:
    """All kernels give the twin's bits, for labels, distances and sums."""
    expected, distances = twin.assign(X, C), twin.squared_distances(X, C)
    sums = (
        *twin.kmeans_step(X, w, C),
        *twin.kmeans_sums(X, w, C),
        *twin.cluster_moments(X, w, expected.labels, C),
    )
    for name in NATIVE:
        with native(name):
            labels, squared_distances = kernels.assign(X, C)
            assert_array_equal(labels, expected.labels)
            assert_array_equal(squared_distances, expected.squared_distances)
            assert_array_equal(kernels.squared_distances(X, C), distances)
            found = (
                *kernels.kmeans_step(X, w, C),
                *kernels.kmeans_sums(X, w, C),
                *kernels.cluster_moments(X, w, labels, C),
            )
            for one, right in zip(found, sums, strict=True):
                assert_array_equal(one, right)


@needs_native
@cases("dtype", DTYPES)
@pytest.mark.parametrize("D", each_size())
def test_all_kernels_give_the_same_bits_at_any_size(D: int, dtype: type[np.float64]) -> None:
    for K in each_size():
        rng = np.random.default_rng((K, D))
        C = rng.normal(size=(K, D))
        X = rng.normal(size=(2 * 97, D)).astype(dtype)
        w = rng.random(len(X)) * (rng.random(len(X)) > 0.2)
        for N in (0, *each_size()) if K in (1, 3, 97) else (194,):
            agree(X[:N], w[:N], C)


@needs_native
@cases("dtype", DTYPES)
@cases("D", [1, 2, 5, 64])
def test_all_kernels_give_the_same_bits_where_many_points_are_tied(
    D: int, dtype: type[np.float64]
) -> None:
    # A grid: most points are as near to one centroid as to another.
    rng = np.random.default_rng(D)
    C = rng.integers(-2, 3, size=(31, D)).astype(np.float64)
    X = 0.5 * rng.integers(-4, 5, size=(500, D)).astype(dtype)
    agree(X, np.ones(len(X)), C)


@needs_native
@cases("dtype", DTYPES)
@cases("offset", [1e4, 1e8, 1e12])
@cases("size", [1e-90, 1e-30, 1.0, 1e30])
def test_all_kernels_give_the_same_bits_far_from_the_origin_and_in_any_unit(
    offset: float, size: float, dtype: type[np.float64]
) -> None:
    rng = np.random.default_rng(0)
    C = rng.normal(size=(21, 9))
    X = rng.normal(size=(300, 9))
    C[::2] += offset  # two groups that far apart, and a feature that is constant
    X[::3] += offset
    C[:, 1] = X[:, 1] = offset
    with np.errstate(over="ignore", under="ignore"):
        points = (size * X).astype(dtype)
    if np.isfinite(points).all():
        agree(points, np.ones(len(X)), size * C)


@needs_native
def test_all_kernels_give_the_same_bits_for_points_far_beyond_all_centroids() -> None:
    rng = np.random.default_rng(0)
    C = rng.normal(size=(40, 10))
    X = rng.normal(size=(280, 10)) * 10.0 ** rng.integers(0, 100, size=(280, 1))
    agree(X, np.ones(len(X)), C)
    agree(np.tile(C[0], (70, 1)), np.ones(70), np.tile(C[0], (9, 1)))


@needs_native
@cases("dtype", DTYPES)
@cases("D", [5, 19, 130])
def test_all_kernels_give_the_same_bits_where_much_and_where_little_can_be_ruled_out(
    D: int, dtype: type[np.float64]
) -> None:
    rng = np.random.default_rng(D)
    C = rng.normal(size=(70, D))
    near = C[rng.integers(0, 70, 900)] + 0.1 * rng.normal(size=(900, D))
    hard = C.mean(axis=0) + 1e-7 * rng.normal(size=(900, D))  # on a sphere they would all be tied
    C[1::2] = C[0] + np.sign(C[1::2]) * rng.choice([1e-3, 1e-9], size=(35, 1))
    near[::50] *= 1e3  # far out, one in each tile or two
    hard[300:600] = C[0]
    X = np.concatenate([near, hard, near[::-1]]).astype(dtype)
    agree(X, rng.random(len(X)), C)


@needs_native
@cases("size", [1e-200, 1e-170, 1e-160, 1e-150, 1e-39, 1e39, 1e150])
def test_all_kernels_give_the_same_bits_where_squares_nearly_overflow_or_underflow(
    size: float,
) -> None:
    rng = np.random.default_rng(0)
    C, X = size * rng.normal(size=(40, 12)), size * rng.normal(size=(200, 12))
    with np.errstate(under="ignore"):
        agree(X, np.ones(len(X)), C)


def test_float32_points_get_the_labels_that_exact_arithmetic_gives() -> None:
    # The distances to two centroids differ by less than float32 can tell, but do differ.
    rng = np.random.default_rng(0)
    C = 100.0 + rng.normal(size=(24, 8))
    pairs = rng.integers(0, 24, size=(120, 2))
    X = (0.5 * (C[pairs[:, 0]] + C[pairs[:, 1]])).astype(np.float32)
    exact = [[exact_square(x, c) for c in C] for x in X]
    for name in kernels.available():
        with native(name):
            labels = kernels.assign(X, C).labels
            for label, squares in zip(labels, exact, strict=True):
                assert squares[label] <= min(squares) * (1 + Fraction(32, 2**53))


@needs_native
def test_the_order_of_points_in_memory_decides_nothing() -> None:
    rng = np.random.default_rng(0)
    X, w, C = rng.normal(size=(5, 300)), rng.random(600), rng.normal(size=(5, 17))
    agree(X.T, w[::2], C.T)


@cases("X, w, C", [((9, 2), 9, (4, 3)), ((9, 2), 8, (4, 2)), ((9, 2), 9, (0, 2))])
def test_shapes_that_do_not_fit_never_reach_the_native_code(
    native_kernel: str, X: tuple[int, int], w: int, C: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="shape"):
        kernels.kmeans_step(np.zeros(X), np.zeros(w), np.zeros(C))


def test_labels_that_name_no_cluster_never_reach_the_native_code(native_kernel: str) -> None:
    X, w, C = np.zeros((3, 2)), np.ones(3), np.zeros((2, 2))
    for labels in ([0, 1, 2], [0, -1, 0], [0, 1]):
        with pytest.raises(IndexError, match="labels"):
            kernels.cluster_moments(X, w, np.array(labels), C)


@cases("dtype", DTYPES)
@cases("K", [1, 7, 8, 9, 97])
def test_a_few_points_get_the_same_bits_as_many(
    native_kernel: str, K: int, dtype: type[np.float64]
) -> None:
    rng = np.random.default_rng(K)
    C = np.round(rng.normal(size=(K, 5)), 1)
    X = np.round(rng.normal(size=(64, 5)), 1).astype(dtype)  # many ties
    labels, squared_distances = kernels.assign(X, C)
    for n in range(1, 12):
        few = kernels.assign(X[:n], C)
        assert_array_equal(few.labels, labels[:n])
        assert_array_equal(few.squared_distances, squared_distances[:n])


@cases("D", [1, 7, 16])
def test_float32_points_give_the_bits_of_their_float64_values(each_kernel: str, D: int) -> None:
    rng = np.random.default_rng(D)
    C, w = rng.normal(size=(33, D)), rng.random(300)
    X = rng.normal(size=(300, D)).astype(np.float32)
    single, double = (kernels.kmeans_step(points, w, C) for points in (X, X.astype(np.float64)))
    for a, b in zip(single, double, strict=True):
        assert_array_equal(a, b)
