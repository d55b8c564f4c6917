"""Native kernels for points with gaps against their NumPy twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import kernels
from streamclust.arrays import Array, CovarianceType
from streamclust.kernels import find_patterns, twin
from streamclust.models.covariance import COVARIANCES
from tests.support.cases import cases
from tests.support.exhaustive import some
from tests.support.gaps import with_gaps
from tests.support.kernel_inputs import NATIVE, SIZES, native, needs_native
from tests.support.strategies import COVARIANCE_TYPES, random_covariances

kinds = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def points(D: int, rng: np.random.Generator, n: int = 300) -> Array:
    """Return points of three common patterns, and points of rare ones."""
    common = np.isnan(with_gaps(np.zeros((3, D)), 0.5))[rng.integers(3, size=n)]
    X = np.where(common, np.nan, 2.0 * rng.normal(size=(n, D)))
    return np.concatenate([X, with_gaps(2.0 * rng.normal(size=(35, D)), 0.3)])


def mixture(kind: CovarianceType, K: int, D: int, rng: np.random.Generator) -> Any:
    log_weights = np.log(rng.dirichlet(np.ones(K)))
    covariances = random_covariances(kind, K, D, rng)
    root = COVARIANCES[kind].root(covariances)
    return kernels.Components(log_weights, 2.0 * rng.normal(size=(K, D)), covariances, root, kind)


def agree(found: kernels.Expected, wanted: kernels.Expected, rtol: float = 1e-9) -> None:
    for one, other in zip(found.moments, wanted.moments, strict=True):
        assert_allclose(one, other, rtol=rtol, atol=rtol * np.abs(other).max())
    assert found.log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-2 * rtol)
    assert found.entropy == pytest.approx(wanted.entropy, rel=rtol, abs=rtol)


@needs_native
@kinds
@pytest.mark.parametrize("D", some([2, *SIZES[2::3], 33], 2, 33, 65))
@cases("K", [1, 9])
def test_all_kernels_agree_at_any_size(kind: CovarianceType, D: int, K: int) -> None:
    rng = np.random.default_rng((D, K))
    model, X = mixture(kind, K, D, rng), points(D, rng)
    w, patterns, floor = rng.random(len(X)), find_patterns(X), np.full(D, 1e-3)
    for background in (None, rng.normal(-2.0 * D, 5.0, size=len(patterns))):
        arguments = (X, w, patterns, model, floor, background)
        scores, expected_scores = np.zeros((2, 2, len(X)))
        expected = twin.expected_step(*arguments, kernels.PointScores(*expected_scores))
        for name in NATIVE:
            with native(name):
                agree(kernels.expected_step(*arguments, kernels.PointScores(*scores)), expected)
                assert_allclose(scores[0], expected_scores[0], rtol=1e-10)
                assert_allclose(scores[1], expected_scores[1], atol=1e-10)
                agree(kernels.expected_step(*arguments), expected)
    densities, expected_densities = np.zeros((2, len(X), K))
    twin.marginal_log_gaussians(X, patterns, model, expected_densities)
    dets = twin.marginal_log_dets(patterns.absent, model)
    for name in NATIVE:
        with native(name):
            densities[:] = 0.0
            kernels.marginal_log_gaussians(X, patterns, model, densities)
            assert_allclose(densities, expected_densities, rtol=1e-10)
            assert not densities[patterns.complete].any()
            assert_allclose(kernels.marginal_log_dets(patterns.absent, model), dets, atol=1e-10)


@needs_native
@kinds
@cases("width", [0.1, 1.0, 6.0])
def test_all_kernels_agree_with_components_that_overlap_and_that_lie_apart(
    kind: CovarianceType, width: float
) -> None:
    rng, K, D = np.random.default_rng(0), 9, 12
    model, X = mixture(kind, K, D, rng), with_gaps(rng.normal(size=(280, D)), 0.3)
    means = width * model.means
    model, X = model._replace(means=means), X + means[rng.integers(K, size=len(X))]
    w, patterns, floor = rng.random(len(X)), find_patterns(X), np.linspace(1e-3, 1e-1, D)
    arguments = (X, w, patterns, model, floor, rng.normal(-2.0 * D, 5.0, size=len(patterns)))
    scores, expected_scores = np.zeros((2, 2, len(X)))
    expected = twin.expected_step(*arguments, kernels.PointScores(*expected_scores))
    for name in NATIVE:
        with native(name):
            agree(kernels.expected_step(*arguments, kernels.PointScores(*scores)), expected)
            assert_allclose(scores, expected_scores, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["full", "tied"])
@pytest.mark.parametrize("narrow", [1e-5, 1e-7, 1e-9])
def test_all_kernels_agree_where_features_nearly_determine_each_other(
    native_kernel: str, kind: CovarianceType, narrow: float
) -> None:
    rng = np.random.default_rng(0)
    model: Any = mixture(kind, 3, 6, rng)
    covariances = model.covariances.copy()
    covariances[..., 3, :] = covariances[..., 2, :]  # two features that are nearly equal
    covariances[..., :, 3] = covariances[..., :, 2]
    covariances[..., 3, 3] += narrow
    model = model._replace(covariances=covariances, root=np.linalg.cholesky(covariances))
    X = points(6, rng)
    X[:, 3] = np.where(np.isnan(X[:, 3]), np.nan, X[:, 2] + np.sqrt(narrow) * X[:, 4])
    X[np.isnan(X).all(axis=1), 0] = 0.0
    w, patterns = np.ones(len(X)), find_patterns(X)
    arguments = (X, w, patterns, model, np.zeros(6))
    agree(kernels.expected_step(*arguments), twin.expected_step(*arguments), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@cases("K", [1, 7, 8, 33])
@pytest.mark.parametrize("D", [2, 5, 16, 33])
def test_partial_distances_have_the_same_bits_in_all_kernels(
    native_kernel: str, K: int, D: int, dtype: type[np.float64]
) -> None:
    rng = np.random.default_rng((K, D))
    X, C = points(D, rng).astype(dtype), rng.normal(size=(K, D))
    C[K // 2] = C[0]  # of equal distances, the first wins
    w, (complete, gappy) = rng.random(len(X)), kernels.split_rows(X)
    for one, other in zip((complete, gappy), twin.split_rows(X), strict=True):
        assert_array_equal(one, other)
    found = []
    for implementation in (kernels, twin):
        assigned = kernels.Assigned(np.full(len(X), -1), np.full(len(X), -1.0))
        sums = implementation.partial_step(X, w, gappy, C, assigned)
        again = kernels.Assigned(np.full(len(X), -1), np.full(len(X), -1.0))
        implementation.partial_step(X, None, gappy, C, again)
        assert_array_equal(again, assigned)
        assert (assigned.labels[complete] == -1).all()
        found.append((*sums[:2], np.array(sums[2]), *assigned))
    for one, other in zip(*found, strict=True):
        assert one.tobytes() == other.tobytes()


@kinds
def test_float32_points_are_taken_as_they_are(native_kernel: str, kind: CovarianceType) -> None:
    rng = np.random.default_rng(0)
    model, X = mixture(kind, 4, 5, rng), points(5, rng).astype(np.float32)
    w, floor = np.ones(len(X)), np.zeros(5)
    one = kernels.expected_step(X, w, find_patterns(X), model, floor)
    Y = X.astype(np.float64)
    two = kernels.expected_step(Y, w, find_patterns(Y), model, floor)
    assert one[1:] == two[1:]
    for a, b in zip(one.moments, two.moments, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_all_kernels_agree_in_mixed_units_and_far_from_the_origin(
    native_kernel: str, kind: CovarianceType
) -> None:
    rng = np.random.default_rng(0)
    log_weights, means, covariances, *_ = mixture(kind, 3, 4, rng)
    units = np.array([1e-9, 1.0, 1e6, 1e-3])
    scale = units if kind == "diag" else np.outer(units, units)
    covariances = covariances * (scale**2 if kind == "diag" else scale)
    X, means = (points(4, rng) + 1e4) * units, (means + 1e4) * units
    root = COVARIANCES[kind].root(covariances)
    model, w = kernels.Components(log_weights, means, covariances, root, kind), np.ones(len(X))
    found, score, _ = kernels.expected_step(X, w, find_patterns(X), model, np.zeros(4))
    wanted, right, _ = twin.expected_step(X, w, find_patterns(X), model, np.zeros(4))
    assert_allclose(found.weight, wanted.weight, rtol=1e-6)
    assert_allclose(found.first / units, wanted.first / units, rtol=1e-6, atol=1e-6)
    assert_allclose(found.second / scale, wanted.second / scale, rtol=1e-5, atol=1e-5)
    assert score == pytest.approx(right, rel=1e-9)


def test_arguments_that_would_read_other_memory_are_refused(native_kernel: str) -> None:
    rng = np.random.default_rng(0)
    model: Any = mixture("full", 3, 4, rng)
    X = points(4, rng)
    w, floor, patterns = np.ones(len(X)), np.zeros(4), find_patterns(X)
    bad: list[tuple[Any, ...]] = [
        (X[:5], w[:5], patterns, model, floor),
        (X, w[:5], patterns, model, floor),
        (X, w, patterns, model, floor[:2]),
        (X[:, :3], w, patterns, model, floor),
        (X, w, patterns, model._replace(root=model.root[:2]), floor),
        (X, w, patterns, model, floor, np.zeros(1)),
        (X, w, patterns, model, floor, None, kernels.PointScores(w[:5], w[:5])),
    ]
    for arguments in bad:
        with pytest.raises(ValueError, match=r"expected|fit|number of features"):
            kernels.expected_step(*arguments)
    with pytest.raises(ValueError, match="has no feature"):
        kernels.marginal_log_dets(np.ones((1, 4), bool), model)
    with pytest.raises(ValueError, match="expected"):
        kernels.marginal_log_gaussians(X, patterns, model, np.empty((3, 3)))
    (_, gappy), C = kernels.split_rows(X), np.zeros((2, 4))
    assigned = kernels.Assigned(np.zeros(len(X), np.int64), np.zeros(len(X)))
    for wrong in (
        (X[:, :3], w, gappy, C, assigned),
        (X, w[:5], gappy, C, assigned),
        (X, w, gappy + len(X), C, assigned),
        (X, w, gappy, C, kernels.Assigned(assigned.labels[:5], assigned.squared_distances)),
    ):
        with pytest.raises(ValueError, match=r"expected|isn't"):
            kernels.partial_step(*wrong)
