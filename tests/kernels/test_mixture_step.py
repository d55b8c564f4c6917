"""Native Gaussian mixtures against their NumPy twin."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import kernels
from streamclust.arrays import Array, CovarianceType, Points
from streamclust.kernels import CHUNK, twin
from streamclust.models.covariance import COVARIANCES
from tests.support.cases import cases
from tests.support.exhaustive import is_exhaustive
from tests.support.kernel_inputs import NATIVE, SIZES, each_size, native, needs_native
from tests.support.strategies import COVARIANCE_TYPES, random_covariances

kinds = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def components(
    kind: CovarianceType, K: int, D: int, rng: np.random.Generator, spread: float = 2.0
) -> tuple[Array, Array, Array]:
    """Log-weights, means and factors."""
    root = COVARIANCES[kind].root(random_covariances(kind, K, D, rng))
    return np.log(rng.dirichlet(np.ones(K))), spread * rng.normal(size=(K, D)), root


def agree(
    X: Points,
    w: Array,
    model: tuple[Array, Array, Array],
    kind: CovarianceType,
    background: float = -np.inf,
) -> None:
    """The twin's statistics to 1e-9 of what was summed; symmetric to the last bit."""
    expected, right = twin.mixture_step(X, w, *model, kind, background=background)
    mass = expected.weight[:, None]
    size = np.abs(X[:, None] - model[1]).max(initial=0.0)
    shares = (1.0 + w.sum()) * size**2
    for name in NATIVE:
        with native(name):
            moments, score = kernels.mixture_step(X, w, *model, kind, background)
        assert_allclose(score, right, rtol=1e-9, atol=1e-12 * w.sum(), err_msg=name)
        assert_allclose(moments.weight, expected.weight, rtol=1e-9, atol=1e-12, err_msg=name)
        first = moments.first / (mass + 1), expected.first / (mass + 1)
        assert_allclose(*first, atol=1e-11 * size, err_msg=name)
        second = moments.second, expected.second
        assert_allclose(*second, rtol=1e-9, atol=1e-12 * shares, err_msg=name)
        if kind in ("full", "tied"):
            assert_array_equal(moments.second, np.swapaxes(moments.second, -1, -2), err_msg=name)


@needs_native
@kinds
@pytest.mark.parametrize("D", each_size())
def test_all_kernels_agree_at_any_size(kind: CovarianceType, D: int) -> None:
    for K in (1, 2, 3, 7, 8, 17, 33) if is_exhaustive() else (1, 7, 17, 33):
        rng = np.random.default_rng((K, D))
        model = components(kind, K, D, rng)
        X = 2.0 * rng.normal(size=(261, D))
        w = rng.random(len(X)) * (rng.random(len(X)) > 0.2)
        for N in (0, *SIZES[::3], 127, 128, 129) if K == 7 else (261,):
            agree(X[:N], w[:N], model, kind)


@needs_native
@kinds
@cases("D", [1, 9, 24])
@cases("spread", [2.0, 300.0])
def test_all_kernels_agree_with_a_background(kind: CovarianceType, D: int, spread: float) -> None:
    rng = np.random.default_rng(D)
    X, w = spread * rng.normal(size=(261, D)), rng.random(261)
    X[::7] *= 1e9
    for K in (1, 2, 9):
        model = components(kind, K, D, rng, spread)
        for background in (-1e5, -2.0 * D, 0.0, 50.0):
            agree(X, w, model, kind, background)


@kinds
@pytest.mark.parametrize("spread", [2.0, 300.0])
@pytest.mark.parametrize("background", [-np.inf, -1e3, 50.0])
def test_the_log_densities_of_the_points_change_no_sum(
    native_kernel: str, kind: CovarianceType, spread: float, background: float
) -> None:
    for D, N in ((1, 0), (3, 130), (12, 517), (5, CHUNK + 100)):
        rng = np.random.default_rng(D)
        model = components(kind, 9, D, rng, spread)
        X, w = spread * rng.normal(size=(N, D)), rng.random(N)
        density, expected = np.full((2, N), np.nan)
        found, score = kernels.mixture_step(X, w, *model, kind, background, density)
        plain, same = kernels.mixture_step(X, w, *model, kind, background)
        assert score == same
        for one, other in zip(found, plain, strict=True):
            assert one.tobytes() == other.tobytes()
        log_weights, means, root = model
        expected = twin.normalise(log_weights + twin.log_gaussians(X, means, root, kind))[1]
        assert_allclose(density, expected, rtol=1e-11)


@kinds
def test_a_background_takes_the_far_points_and_no_others(
    native_kernel: str, kind: CovarianceType
) -> None:
    rng = np.random.default_rng(0)
    model = components(kind, 5, 12, rng, spread=0.5)
    X, w = rng.normal(size=(300, 12)), rng.random(300)
    X[::3] += 1e6
    moments, score = kernels.mixture_step(X, w, *model, kind, -1e4)
    far = np.arange(300) % 3 == 0
    near, score_of_near = kernels.mixture_step(X[~far], w[~far], *model, kind)
    assert_allclose(moments.weight, near.weight, rtol=1e-12)
    assert_allclose(moments.second, near.second, rtol=1e-9, atol=1e-12)
    assert score == pytest.approx(score_of_near - 1e4 * w[far].sum(), rel=1e-12)


@kinds
def test_float32_points_are_taken_as_they_are(native_kernel: str, kind: CovarianceType) -> None:
    rng = np.random.default_rng(0)
    model = components(kind, 5, 6, rng)
    X = rng.normal(size=(300, 6)).astype(np.float32)
    one, score = kernels.mixture_step(X, np.ones(300), *model, kind)
    two, again = kernels.mixture_step(X.astype(np.float64), np.ones(300), *model, kind)
    assert score == again
    for a, b in zip(one, two, strict=True):
        assert_array_equal(a, b)


@needs_native
@kinds
@cases("D", [3, 12])
@cases("offset", [1e4, 1e8])
def test_all_kernels_agree_far_from_the_origin(kind: CovarianceType, D: int, offset: float) -> None:
    rng = np.random.default_rng(0)
    log_weights, means, root = components(kind, 6, D, rng)
    X = rng.normal(size=(400, D))
    means[::2] += offset
    X[::3] += offset
    agree(X, np.ones(400), (log_weights, means, root), kind)


@kinds
def test_components_of_no_weight_get_no_mass(native_kernel: str, kind: CovarianceType) -> None:
    rng = np.random.default_rng(0)
    log_weights, means, root = components(kind, 5, 4, rng)
    log_weights[[0, 3]] = -np.inf
    X = rng.normal(size=(200, 4))
    moments, _ = kernels.mixture_step(X, np.ones(200), log_weights, means, root, kind)
    assert moments.weight[[0, 3]].tolist() == [0.0, 0.0]
    agree(X, np.ones(200), (log_weights, means, root), kind)


@kinds
@cases("D", [5, 24])
def test_masses_add_up_where_components_are_far_apart(
    native_kernel: str, kind: CovarianceType, D: int
) -> None:
    rng = np.random.default_rng(0)
    log_weights, means, root = components(kind, 9, D, rng, spread=300.0)
    X, w = 300.0 * rng.normal(size=(500, D)), rng.random(500)
    moments, _ = kernels.mixture_step(X, w, log_weights, means, root, kind)
    assert moments.weight.sum() == pytest.approx(w.sum(), rel=1e-14)
    agree(X, w, (log_weights, means, root), kind)


@cases("dtype", [np.float64, np.float32])
@cases("kind", ["diag", "spherical"])
@cases("D", [9, 16, 45])
def test_moments_keep_their_digits_where_components_lie_far_apart(
    native_kernel: str, kind: CovarianceType, D: int, dtype: type[np.float64]
) -> None:
    # No tolerance that grows with the distance: a pair that were missed would show.
    rng = np.random.default_rng(D)
    means = (rng.integers(-50, 51, size=(11, D)) * 2.0**15).astype(np.float64)
    means[1] = means[0] + 1.0  # these two share points, the others none
    means[3:] += 1.0
    sd = rng.choice([0.01, 1.0, 30.0], size=(11, D) if kind == "diag" else 11)
    sd[:2] = 1.0
    wide = sd if kind == "diag" else sd[:, None]
    X = (means + wide * rng.normal(size=(31, 11, D))).reshape(-1, D).astype(dtype)
    w = rng.random(len(X))
    model = (np.log(np.full(11, 1 / 11)), means, sd)
    found, score = kernels.mixture_step(X, w, *model, kind)
    expected, right = twin.mixture_step(X, w, *model, kind)
    assert score == pytest.approx(right, rel=1e-12)
    assert_allclose(found.weight, expected.weight, rtol=1e-11)
    assert_allclose(found.second, expected.second, rtol=1e-11)
    assert_allclose(found.first, expected.first, atol=1e-9 * wide.max())


@needs_native
@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_all_kernels_agree_where_components_lie_apart_and_where_they_do_not(
    kind: CovarianceType,
) -> None:
    rng = np.random.default_rng(0)
    log_weights, means, root = components(kind, 20, 17, rng, spread=6.0)
    apart = means[rng.integers(0, 20, 600)] + rng.normal(size=(600, 17))
    between = 0.1 * rng.normal(size=(600, 17))
    far = 1e40 * rng.normal(size=(70, 17))
    X = np.concatenate([apart, between, apart, far, apart])
    agree(X[:-670], np.ones(len(X) - 670), (log_weights, means, root), kind)
    agree(X, rng.random(len(X)), (log_weights, means, root), kind)


@cases("kind", ["diag", "spherical"])
@cases("size", [1e-150, 1e-100, 1e-39, 1e39, 1e100])
def test_a_change_of_units_changes_nothing_else(
    native_kernel: str, kind: CovarianceType, size: float
) -> None:
    rng = np.random.default_rng(0)
    unit = 2.0 ** round(np.log2(size))
    log_weights, means, root = components(kind, 20, 10, rng, spread=6.0)
    X = means[rng.integers(0, 20, 300)] + rng.normal(size=(300, 10))
    one, _ = kernels.mixture_step(X, np.ones(300), log_weights, means, root, kind)
    two, _ = kernels.mixture_step(
        unit * X, np.ones(300), log_weights, unit * means, unit * root, kind
    )
    assert_allclose(two.weight, one.weight, rtol=1e-12, atol=1e-15)
    assert_allclose(two.first / unit, one.first, rtol=1e-12, atol=1e-12)
    assert_allclose(two.second / unit / unit, one.second, rtol=1e-12, atol=1e-15)


def test_the_native_exponential_is_good_to_an_ulp(native_kernel: str) -> None:
    # One feature, two components of which one has all the mass: the other's share is exp(-x^2/2).
    x = np.concatenate([np.linspace(0.0, 37.0, 4001), [38.0, 40.0, 1e3]])
    means = np.array([[0.0], [0.0]])
    sd = np.array([[1.0], [1e160]])
    with np.errstate(under="ignore"):
        shares = np.exp(-0.5 * x * x)
    weights = np.log([0.5, 0.5])
    for value, share in zip(x[::40], shares[::40], strict=True):
        moments, _ = kernels.mixture_step(
            np.array([[value]]), np.ones(1), weights, means, sd, "diag"
        )
        ratio = share * 1e160  # odds of the narrow one
        assert moments.weight[0] == pytest.approx(ratio / (1 + ratio), rel=1e-13, abs=1e-300)


def test_the_native_logarithm_is_good_to_an_ulp_or_two(native_kernel: str) -> None:
    # K components that are alike, with a density of 1 at the point: log p(x) = log K.
    for K in (1, 2, 3, 5, 7, 11, 1000, 4095):
        ones = np.ones((K, 1))
        root = ones / np.sqrt(2.0 * np.pi)
        model = (np.zeros(K), np.zeros((K, 1)), root)
        _, score = kernels.mixture_step(np.zeros((1, 1)), np.ones(1), *model, "diag")
        assert score == pytest.approx(np.log(K), rel=5e-16, abs=1e-15)


@cases("kind", COVARIANCE_TYPES)
def test_shapes_that_do_not_fit_never_reach_the_native_code(
    native_kernel: str, kind: CovarianceType
) -> None:
    log_weights, means, root = components(kind, 4, 3, np.random.default_rng(0))
    X, w = np.zeros((9, 3)), np.ones(9)
    for points, weights, model in (
        (X[:, :2], w, (log_weights, means, root)),
        (X, w[:8], (log_weights, means, root)),
        (X, w, (log_weights[:3], means, root)),
        (X, w, (log_weights, means, root[:-1])),
    ):
        with pytest.raises(ValueError, match="shape"):
            kernels.mixture_step(points, weights, *model, kind)
