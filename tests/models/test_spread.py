"""The scale of each feature: equal to the variance of usual data, and set by no single point."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal

from streamclust.arrays import Array
from streamclust.models.spread import Spread, positive, robust_variance
from tests.support.strategies import laws

SENTINELS = [2147483647.0, -999999.0, 1e30, -1e100]


def normal(n: int, D: int = 3, seed: int = 0) -> Array:
    """Points of unit variance."""
    return np.random.default_rng(seed).normal(size=(n, D))


def fed(spread: Spread, X: Array, size: int = 20) -> Spread:
    """The spread after points in batches of a size."""
    for start in range(0, len(X), size):
        part = X[start : start + size]
        spread = spread.observe(part, np.ones(len(part)))
    return spread


@given(n=st.integers(2, 300), seed=st.integers(0, 99), bimodal=st.booleans())
@laws
def test_points_of_light_tails_have_the_plain_variance(n: int, seed: int, bimodal: bool) -> None:
    rng = np.random.default_rng(seed)
    X = np.sign(normal(n, seed=seed)) if bimodal else rng.uniform(-1.0, 1.0, (n, 3))
    w = rng.choice([1.0, 2.0], n)
    mean = np.average(X, axis=0, weights=w)
    plain = np.average((X - mean) ** 2, axis=0, weights=w)
    light = ((X - mean) ** 2 < 1.9 * plain).all(axis=0)  # at 2, rounding would decide
    assert_allclose(robust_variance(X, w)[light], plain[light], rtol=1e-12, atol=1e-30)


def test_gaussian_points_have_the_plain_variance() -> None:
    X = normal(1000)
    assert_allclose(robust_variance(X, np.ones(1000)), X.var(axis=0), rtol=1e-12)


@pytest.mark.parametrize("sentinel", SENTINELS)
@pytest.mark.parametrize(("n", "most"), [(20, 2.5), (100, 1.5), (1000, 1.05)])
@pytest.mark.parametrize("place", [0, -1])
def test_one_far_point_hardly_changes_the_variance(
    sentinel: float, n: int, most: float, place: int
) -> None:
    X = normal(n)
    usual = X.var(axis=0)
    X[place] = sentinel
    found = robust_variance(X, np.ones(n))
    assert (found > 0.9 * usual).all()
    assert (found < most * usual).all()


@given(
    seed=st.integers(0, 99),
    unit=st.sampled_from([1e-6, 1e6]),
    shift=st.sampled_from([0.0, 1e8]),
    weight=st.sampled_from([1e-300, 1e300]),
)
@laws
def test_units_scale_the_variance_and_weights_count_by_their_ratios(
    seed: int, unit: float, shift: float, weight: float
) -> None:
    X, w = normal(200, seed=seed), np.random.default_rng(seed).uniform(0.5, 1.0, 200)
    X[3] = 1e6
    found = robust_variance(X + shift, w)
    assert_allclose(robust_variance(unit * (X + shift), weight * w), unit**2 * found, rtol=1e-7)
    assert_allclose(found, robust_variance(X, w), rtol=1e-5)


def test_a_feature_that_is_seldom_different_keeps_its_variance() -> None:
    X = (np.random.default_rng(0).random((1000, 2)) < [0.01, 0.003]).astype(float)
    assert_allclose(robust_variance(X, np.ones(1000)), X.var(axis=0), rtol=1e-9)


def test_a_feature_that_differs_in_one_point_never_varies() -> None:
    X = np.full((1000, 2), 0.1)
    X[500, 1] = 2147483647.0
    assert_array_equal(robust_variance(X, np.ones(1000)), [0.0, 0.0])
    assert positive(np.array([0.0, 0.5])).tolist() == [0.25, 0.5]
    assert positive(np.zeros(2)).tolist() == [1.0, 1.0]


def test_a_point_alone_has_no_variance() -> None:
    assert_array_equal(robust_variance(np.array([[3.0, 4.0]]), np.ones(1)), [0.0, 0.0])
    assert_array_equal(robust_variance(np.empty((0, 3)), np.empty(0)), np.zeros(3))


def test_two_points_that_differ_are_enough_for_the_plain_variance() -> None:
    X = np.zeros((1000, 1))
    X[[7, 500]] = 1.0
    assert_allclose(robust_variance(X, np.ones(1000)), X.var(axis=0), rtol=1e-12)


def influence(x: Array, share: Array, variance: float, square: float) -> tuple[float, float]:
    """Return both sums of Huber's equations; a root in the center is found by bisection."""
    reach, low, high = np.sqrt(square * variance), x.min(), x.max()
    for _ in range(100):
        center = 0.5 * (low + high)
        total = float(share @ np.clip(x - center, -reach, reach))
        low, high = (center, high) if total > 0.0 else (low, center)
    z = (x - center) / np.sqrt(variance)
    return total / reach, float(share @ np.minimum(z * z, square))


@pytest.mark.parametrize(("n", "n_far", "square"), [(5, 1, 2.5), (20, 2, 10.0), (400, 9, 25.0)])
def test_the_variance_solves_the_equations_of_huber(n: int, n_far: int, square: float) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(size=n)
    x[:n_far] = 1e6 * rng.uniform(0.5, 1.0, n_far)
    found = float(robust_variance(x[:, None], np.ones(n))[0])
    total, size = influence(x, np.full(n, 1.0 / n), found, square)
    assert total == pytest.approx(0.0, abs=1e-9)
    assert size == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
@pytest.mark.parametrize("size", [1, 20, 500])
def test_a_change_of_units_is_followed(factor: float, size: int) -> None:
    spread = fed(Spread(np.full(3, factor**-2)), normal(12 * 256 * max(1, size // 32)), size)
    assert_allclose(spread.variance, 1.0, rtol=0.3)


def test_sentinels_now_and_then_never_set_the_scale() -> None:
    X = normal(20_000)
    X[::100, 0] = 2147483647.0
    spread = fed(Spread(np.ones(3)), X)
    assert (spread.variance < 2.0).all()


def test_a_feature_that_stops_varying_keeps_its_scale() -> None:
    X = normal(5000, D=2)
    X[:, 1] = 7.0
    X[::50, 0] = X[::50, 1] = 1e9
    spread = fed(Spread(np.array([1.0, 5.0])), np.where(np.abs(X) > 1e8, 7.0, X))
    assert spread.variance[1] == 5.0


@pytest.mark.parametrize(("D", "block"), [(1, 256), (512, 128), (1000, 65), (2000, 64)])
def test_a_complete_block_moves_the_logarithm_halfway(D: int, block: int) -> None:
    # Given batches of which every second point is in the block, and one point less than a block
    X, w = normal(2 * block, D), np.random.default_rng(0).uniform(0.5, 1.0, 2 * block)
    spread = Spread(np.full(D, 9.0))
    for start in range(0, 2 * (block - 1), 64):
        stop = min(start + 64, 2 * (block - 1))
        thinned = slice(start, stop, 1 if stop - start == 64 else 2)
        spread = spread.observe(X[thinned], w[thinned])
    assert_array_equal(spread.variance, 9.0)
    assert len(spread.w) == block - 1
    # When one more point comes Then the block is used up
    spread = spread.observe(X[-2:-1], w[-2:-1])
    wanted = np.sqrt(9.0 * robust_variance(X[::2], w[::2]))
    assert_allclose(spread.variance, wanted, rtol=1e-12)
    assert len(spread.w) == 0


def test_what_is_observed_depends_on_no_array_of_the_caller() -> None:
    X = normal(5)
    spread = Spread(np.ones(3)).observe(X, np.ones(5))
    before = spread.X.copy()
    X[:] = 9.0
    assert_array_equal(spread.X, before)


def test_the_points_that_are_kept_are_bounded() -> None:
    X, spread = normal(20, 2000), Spread(np.ones(2000))
    for _ in range(10):
        spread = spread.observe(X, np.ones(20))
        assert len(spread.w) < 64
