"""Native kernels for points with gaps against their NumPy twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamclust import kernels
from streamclust.arrays import Array, CovarianceType
from streamclust.kernels import twin
from streamclust.kernels.patterns import Patterns
from tests.support.cases import cases
from tests.support.gaps import with_gaps
from tests.support.kernel_inputs import NATIVE, SIZES, native, needs_native
from tests.support.strategies import COVARIANCE_TYPES, random_covariances

kinds = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def points(D: int, rng: np.random.Generator, n: int = 300) -> Array:
    """Return points of three common patterns, and points of rare ones."""
    common = np.isnan(with_gaps(np.zeros((3, D)), 0.5))[rng.integers(3, size=n)]
    X = np.where(common, np.nan, 2.0 * rng.normal(size=(n, D)))
    return np.concatenate([X, with_gaps(2.0 * rng.normal(size=(60, D)), 0.3)])


def mixture(kind: CovarianceType, K: int, D: int, rng: np.random.Generator) -> Any:
    log_weights = np.log(rng.dirichlet(np.ones(K)))
    return log_weights, 2.0 * rng.normal(size=(K, D)), random_covariances(kind, K, D, rng), kind


@needs_native
@kinds
@pytest.mark.parametrize("D", [2, *SIZES[2::3], 33])
@cases("K", [1, 3, 9])
def test_all_kernels_agree_at_any_size(kind: CovarianceType, D: int, K: int) -> None:
    rng = np.random.default_rng((D, K))
    model, X = mixture(kind, K, D, rng), points(D, rng)
    w, patterns, floor = rng.random(len(X)), Patterns(X), np.full(D, 1e-3)
    wanted, right = twin.expected_step(X, w, patterns, model, floor)
    densities = np.zeros((len(X), K))
    twin.marginal_log_gaussians(X, patterns, *model[1:], densities)
    dets = twin.marginal_log_dets(patterns.absent, *model[1:])
    for name in NATIVE:
        with native(name):
            found, score = kernels.expected_step(X, w, patterns, model, floor)
            for one, other in zip(found, wanted, strict=True):
                assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(other).max())
            assert score == pytest.approx(right, rel=1e-11)
            out = np.zeros((len(X), K))
            kernels.marginal_log_gaussians(X, patterns, *model[1:], out)
            assert_allclose(out, densities, rtol=1e-10)
            assert not out[patterns.complete].any()
            assert_allclose(
                kernels.marginal_log_dets(patterns.absent, *model[1:]), dets, atol=1e-11
            )


@kinds
def test_float32_points_are_taken_as_they_are(native_kernel: str, kind: CovarianceType) -> None:
    rng = np.random.default_rng(0)
    model, X = mixture(kind, 4, 5, rng), points(5, rng).astype(np.float32)
    w, floor = np.ones(len(X)), np.zeros(5)
    one, score = kernels.expected_step(X, w, Patterns(X), model, floor)
    Y = X.astype(np.float64)
    two, again = kernels.expected_step(Y, w, Patterns(Y), model, floor)
    assert score == again
    for a, b in zip(one, two, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_all_kernels_agree_in_mixed_units_and_far_from_the_origin(
    native_kernel: str, kind: CovarianceType
) -> None:
    rng = np.random.default_rng(0)
    log_weights, means, covariances, _ = mixture(kind, 3, 4, rng)
    units = np.array([1e-9, 1.0, 1e6, 1e-3])
    scale = units if kind == "diag" else np.outer(units, units)
    covariances = covariances * (scale**2 if kind == "diag" else scale)
    X, means = (points(4, rng) + 1e4) * units, (means + 1e4) * units
    model, w = (log_weights, means, covariances, kind), np.ones(len(X))
    found, score = kernels.expected_step(X, w, Patterns(X), model, np.zeros(4))
    wanted, right = twin.expected_step(X, w, Patterns(X), model, np.zeros(4))
    assert_allclose(found.weight, wanted.weight, rtol=1e-6)
    assert_allclose(found.first / units, wanted.first / units, rtol=1e-6, atol=1e-6)
    assert_allclose(found.second / scale, wanted.second / scale, rtol=1e-5, atol=1e-5)
    assert score == pytest.approx(right, rel=1e-9)


def test_arguments_that_would_read_other_memory_are_refused(native_kernel: str) -> None:
    rng = np.random.default_rng(0)
    model: Any = mixture("full", 3, 4, rng)
    X = points(4, rng)
    w, floor, patterns = np.ones(len(X)), np.zeros(4), Patterns(X)
    bad: list[tuple[Any, ...]] = [
        (X[:5], w[:5], patterns, model, floor),
        (X, w[:5], patterns, model, floor),
        (X, w, patterns, model, floor[:2]),
        (X[:, :3], w, patterns, model, floor),
        (X, w, patterns, (*model[:2], model[2][:2], "full"), floor),
    ]
    for arguments in bad:
        with pytest.raises(ValueError, match=r"expected|fit"):
            kernels.expected_step(*arguments)
    with pytest.raises(ValueError, match="no present one"):
        kernels.marginal_log_dets(np.ones((1, 4), bool), *model[1:])
    with pytest.raises(ValueError, match="expected"):
        kernels.marginal_log_gaussians(X, patterns, model[1], model[2], "full", np.empty((3, 3)))
