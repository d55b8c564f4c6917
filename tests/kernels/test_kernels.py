"""The inner loops against brute force, over sizes that are awkward for tiles and vector units."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from threadpoolctl import threadpool_limits

from streamclust import HalfLife, KMeans, StreamLearner, kernels
from streamclust.arrays import Array, CovarianceType
from streamclust.kernels import twin
from streamclust.models.covariance import COVARIANCES
from tests.support.cases import cases
from tests.support.kernel_inputs import SIZES, exact_square
from tests.support.strategies import (
    COVARIANCE_TYPES,
    laws,
    matrix,
    mixture_of,
    random_covariances,
)

kinds = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def by_differences(X: Array, C: Array) -> Array:
    """Squared distances (N, K), the slow and safe way."""
    return np.asarray([((X - c) ** 2).sum(axis=1) for c in C]).T


def awkward_shapes() -> list[tuple[int, int, int]]:
    """Every size as N, as K and as D, with neighbours taken from elsewhere in the list."""
    n = len(SIZES)
    return [(SIZES[i], SIZES[(5 * i + s) % n], SIZES[(3 * i + 2 * s) % n])
            for i in range(n) for s in (0, 4, 9)]  # fmt: skip


@cases("N, K, D", awkward_shapes())
def test_assign_finds_the_nearest_centroid_at_any_size(
    each_kernel: str, N: int, K: int, D: int
) -> None:
    rng = np.random.default_rng((N, K, D))
    X, C = rng.normal(size=(N, D)), rng.normal(size=(K, D))
    expected = by_differences(X, C)
    found = kernels.assign(X, C)
    assert_array_equal(found.labels, expected.argmin(axis=1))
    assert_allclose(found.squared_distances, expected.min(axis=1), rtol=1e-13)


@cases("N, K, D", awkward_shapes())
def test_squared_distances_are_right_at_any_size(N: int, K: int, D: int) -> None:
    rng = np.random.default_rng((N, K, D))
    X, C = rng.normal(size=(N, D)), rng.normal(size=(K, D))
    assert_allclose(kernels.squared_distances(X, C), by_differences(X, C), rtol=1e-9)


@cases("gap", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
@cases("D", [1, 3, 17])
def test_assign_decides_near_ties_without_rounding_them_away(
    each_kernel: str, gap: float, D: int
) -> None:
    # Each point lies almost in the middle of two centroids, far from their common mean.
    rng = np.random.default_rng(D)
    C = 1e3 + rng.normal(size=(16, D))
    pairs = rng.integers(0, 16, size=(200, 2))
    share = 0.5 + gap * rng.choice([-1.0, 1.0], size=(200, 1))
    X = share * C[pairs[:, 0]] + (1.0 - share) * C[pairs[:, 1]]
    labels = kernels.assign(X, C).labels
    best = by_differences(X, C).argmin(axis=1)
    for n in np.flatnonzero(labels != best):
        # Differences are rounded too: where they disagree, the labels may not be worse exactly.
        chosen, other = exact_square(X[n], C[labels[n]]), exact_square(X[n], C[best[n]])
        assert chosen <= other * (1 + Fraction(4 * (D + 2), 2**53))


def test_assign_keeps_unit_spread_apart_where_clusters_are_1e8_apart(each_kernel: str) -> None:
    rng = np.random.default_rng(0)
    places = 1e8 * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
    C = np.concatenate([places + rng.normal(size=(3, 2)) for _ in range(5)])
    X = np.concatenate([places + rng.normal(size=(3, 2)) for _ in range(300)])
    found, expected = kernels.assign(X, C), by_differences(X, C)
    assert_array_equal(found.labels, expected.argmin(axis=1))
    assert_allclose(found.squared_distances, expected.min(axis=1), rtol=1e-12)
    assert_allclose(kernels.squared_distances(X, C), expected, rtol=1e-9)


def test_assign_tells_centroids_apart_that_their_common_mean_would_merge(each_kernel: str) -> None:
    C = np.array([[0.0], [1e-20], [1.0]])  # 1e-20 - 1/3 == 0 - 1/3 in float64
    assert kernels.assign(C, C).labels.tolist() == [0, 1, 2]
    assert kernels.squared_distances(C[:2], C)[0, 1] == pytest.approx(1e-40)


@cases("D", [1, 2, 7, 33])
def test_of_centroids_that_are_equal_the_first_wins(each_kernel: str, D: int) -> None:
    rng = np.random.default_rng(D)
    C = rng.normal(size=(9, D))[[0, 1, 2, 0, 1, 2, 3, 0, 3]]
    labels = kernels.assign(np.concatenate([C, rng.normal(size=(50, D))]), C).labels
    assert set(labels.tolist()) <= {0, 1, 2, 6}
    assert labels[:9].tolist() == [0, 1, 2, 0, 1, 2, 6, 0, 6]


@given(places=matrix(6, 3, low=-1e9, high=1e9), data=st.data())
@laws
def test_equal_points_are_at_distance_exactly_zero(places: Array, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
    X = places[rows]
    assert (kernels.squared_distances(X, places)[np.arange(len(rows)), rows] == 0.0).all()
    assert (kernels.assign(X, places).squared_distances == 0.0).all()


def test_cluster_moments_are_the_weighted_sums_of_each_cluster(each_kernel: str) -> None:
    rng = np.random.default_rng(0)
    X, w, labels = rng.normal(size=(97, 3)), rng.random(97), rng.integers(0, 4, 97)
    reference = rng.normal(size=(6, 3))  # clusters 4 and 5 have no points
    weight, first = kernels.cluster_moments(X, w, labels, reference)
    for k in range(6):
        own = labels == k
        assert weight[k] == pytest.approx(w[own].sum())
        assert_allclose(first[k], w[own] @ (X[own] - reference[k]), atol=1e-12)


@kinds
@cases("D", [1, 2, 3, 8, 17])
def test_log_gaussians_are_scipy_s(each_kernel: str, kind: CovarianceType, D: int) -> None:
    rng = np.random.default_rng(D)
    X, means = 3.0 * rng.normal(size=(31, D)), rng.normal(size=(4, D))
    covariances = random_covariances(kind, 4, D, rng)
    found = kernels.log_gaussians(X, means, COVARIANCES[kind].root(covariances), kind)
    each = np.broadcast_to(covariances, (4, D, D)) if kind == "tied" else covariances
    for k in range(4):
        matrix_k = np.diag(np.broadcast_to(each[k], D)) if each[k].ndim < 2 else each[k]
        expected = multivariate_normal(means[k], matrix_k).logpdf(X)
        assert_allclose(found[:, k], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [0.0, 1e3, 1e6, 1e20, 1e199])
def test_responsibilities_sum_to_one_however_far_a_point_is(size: float) -> None:
    joint = np.random.default_rng(0).normal(size=(20, 5)) - size
    joint[::2, 1] = -np.inf  # a component of no weight
    shares, log_density = kernels.normalise(joint)
    assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-15)
    assert (shares[::2, 1] == 0.0).all()
    assert_allclose(log_density, logsumexp(joint, axis=1), rtol=1e-14)


@kinds
def test_a_point_beyond_the_range_of_floats_leaves_the_statistics_finite(
    each_kernel: str,
    kind: CovarianceType,
) -> None:
    # A feature that never varied has a variance as small as it can be; then it jumps.
    small = random_covariances(kind, 2, 2, np.random.default_rng(0)) * 1e-300
    root = COVARIANCES[kind].root(small)
    X, w, means = np.array([[1e100, -1e100]]), np.ones(1), np.zeros((2, 2))
    moments, score = kernels.mixture_step(X, w, np.log([0.5, 0.5]), means, root, kind)
    assert_allclose(moments.weight, [0.5, 0.5])
    assert all(np.isfinite(part).all() for part in (*moments, score))


@kinds
@cases("D", [1, 3, 65])
def test_moments_are_those_of_the_definition(kind: CovarianceType, D: int) -> None:
    rng = np.random.default_rng(D)
    X, weighted, reference = rng.normal(size=(97, D)), rng.random((97, 3)), rng.normal(size=(3, D))
    difference = X[:, None, :] - reference
    full = np.einsum("nk,nki,nkj->kij", weighted, difference, difference)
    diagonal = np.einsum("kdd->kd", full)
    expected = {"full": full, "tied": full.sum(0), "diag": diagonal, "spherical": diagonal.mean(1)}
    found = kernels.mixture_moments(X, weighted, reference, kind)
    assert_allclose(found.weight, weighted.sum(axis=0))
    assert_allclose(found.first, np.einsum("nk,nkd->kd", weighted, difference), atol=1e-12)
    assert_allclose(found.second, expected[kind], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_second_moments_are_symmetric_to_the_last_bit(kind: CovarianceType) -> None:
    rng = np.random.default_rng(0)
    second = kernels.mixture_moments(
        rng.normal(size=(50, 9)), rng.random((50, 3)), rng.normal(size=(3, 9)), kind
    ).second
    assert_array_equal(second, second.swapaxes(-1, -2))


@pytest.mark.parametrize("cells", [1, 7, 64, 1000])
def test_the_size_of_a_tile_decides_nothing(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X, w, C = rng.normal(size=(333, 5)), rng.random(333), rng.normal(size=(7, 5))
    root = COVARIANCES["full"].root(random_covariances("full", 7, 5, rng))
    shares = np.log(np.full(7, 1.0 / 7.0))
    labels, squared_distances = kernels.assign(X, C)
    moments, score = kernels.mixture_step(X, w, shares, C, root, "full")
    monkeypatch.setattr(twin, "_TILE_CELLS", cells)
    again, squared_distances_again = kernels.assign(X, C)
    moments_again, score_again = kernels.mixture_step(X, w, shares, C, root, "full")
    assert_array_equal(again, labels)
    assert_array_equal(squared_distances_again, squared_distances)
    for one, other in zip(moments_again, moments, strict=True):
        assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    assert score_again == pytest.approx(score, rel=1e-12)


def bits_of_learning(D: int, threads: int) -> list[tuple[str, str]]:
    """Return a hash of all parameters and losses of a learner, for each family."""
    rng = np.random.default_rng(D)
    X = rng.normal(size=(1_000, D)) + 2.0 * rng.integers(0, 3, size=(1_000, 1)) / np.sqrt(D)
    families: dict[str, Any] = {kind: mixture_of(kind, 3) for kind in COVARIANCE_TYPES}
    bits = []
    with threadpool_limits(threads, "blas"):
        for name, family in {"kmeans": KMeans(4), **families}.items():
            learner: Any = StreamLearner(
                family, HalfLife(points=9000), warm_up=500, n_init=1, coreset=200
            )
            state, digest = learner.init(), hashlib.sha256()
            for batch in (X[:500], X[500:601], X[601:]):
                state, info = learner.update(state, batch)
                for _, array in sorted(learner.family.to_arrays(state.params).items()):
                    digest.update(array.tobytes())
                digest.update(repr((state.stats.objective, info.loss)).encode())
            bits.append((name, digest.hexdigest()))
    return bits


@pytest.mark.parametrize("D", [3, 33])
def test_the_same_learning_gives_the_same_bits_whatever_threads_blas_has(D: int) -> None:
    one, two = (bits_of_learning(D, threads) for threads in (1, 2))
    assert len(dict(one)) == 5
    assert one == two


@cases("odd", [np.nan, np.inf, 1e300])
@cases("N, K, D", [(1, 1, 1), (9, 5, 2), (40, 6, 1), (100, 33, 16)])
def test_a_label_names_a_cluster_whatever_the_numbers_are(
    native_kernel: str, N: int, K: int, D: int, odd: float
) -> None:
    rng = np.random.default_rng((N, K, D))
    X, C = rng.normal(size=(N, D)), rng.normal(size=(K, D))
    for points, centroids in (
        (np.full_like(X, odd), C),
        (X, np.full_like(C, odd)),
        (np.where(rng.random(X.shape) < 0.3, odd, X), np.where(rng.random(C.shape) < 0.3, odd, C)),
    ):
        for found in (
            kernels.assign(points, centroids),
            kernels.kmeans_step(points, np.ones(N), centroids).assigned,
        ):
            assert set(found.labels.tolist()) <= set(range(K))
