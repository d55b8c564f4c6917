"""The search for mixtures with a background: far points get no component."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from streamclust.arrays import Array, CovarianceType
from streamclust.errors import DataError
from streamclust.fitting.fit import fit
from streamclust.fitting.search import search_of
from streamclust.fitting.split_merge import has_few_points
from streamclust.models import GaussianMixture, MixtureParams
from tests.support.exhaustive import examples, some
from tests.support.strategies import COVARIANCE_TYPES, blobs, mixture_of

kinds = pytest.mark.parametrize("kind", some(COVARIANCE_TYPES, "tied", "full"))

CENTRES = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])


def with_far_points(
    n: int, seed: int = 0, distance: float = 200.0
) -> tuple[Array, NDArray[np.bool_]]:
    """Return three clouds of 200 points and `n` far points, and which points are far."""
    X, _ = blobs(200, CENTRES, seed)
    rng = np.random.default_rng((seed, 1))
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    places = (
        distance * rng.uniform(1.0, 3.0, (n, 1)) * np.column_stack([np.cos(angle), np.sin(angle)])
    )
    return np.concatenate([X, places]), np.arange(len(X) + n) >= len(X)


@kinds
@given(n=st.integers(1, 9), seed=st.integers(0, 1000), K=st.sampled_from([3, 4]))
@examples(15)
def test_no_component_is_left_on_a_few_far_points(
    kind: CovarianceType, n: int, seed: int, K: int
) -> None:
    X, far = with_far_points(n, seed)
    family = mixture_of(kind, K, outliers=0.01)
    found = fit(family, X, n_init=2).params
    memberships = family.memberships(found, X)
    assert not has_few_points(family, X, np.ones(len(X)), memberships).any()
    assert memberships[far].max() < 1e-6


def test_far_points_leave_the_fit_of_the_others_as_it_is() -> None:
    X, far = with_far_points(6)
    family = GaussianMixture(3, outliers=0.01)
    found, clean = fit(family, X).params, fit(family, X[~far]).params
    order, other = (np.lexsort(each.means.round().T) for each in (found, clean))
    assert_allclose(found.means[order], clean.means[other], atol=0.02)
    assert_allclose(found.covariances[order], clean.covariances[other], atol=0.05)
    without = fit(GaussianMixture(3), X).params
    assert np.abs(without.means).max() > 50.0  # without a background, they take a component


def test_a_group_of_enough_far_points_keeps_its_component() -> None:
    X, _ = blobs(200, CENTRES, 2)
    group, _ = blobs(30, [[60.0, 60.0]], 3)
    found = fit(GaussianMixture(4, outliers=0.01), np.concatenate([X, group])).params
    nearest = np.linalg.norm(found.means - 60.0, axis=1).argmin()
    assert_allclose(found.means[nearest], [60.0, 60.0], atol=1.0)
    assert found.weights[nearest] == pytest.approx(30 / 630, rel=0.05)


@kinds
@pytest.mark.parametrize("n", some([2, 15, 40], 2, 40))
def test_a_sentinel_value_gets_no_component_however_often_it_comes(
    kind: CovarianceType, n: int
) -> None:
    X, _ = blobs(2000, CENTRES[:2], 7)
    found = fit(mixture_of(kind, 3, outliers=0.01), np.concatenate([X, np.full((n, 2), -9999.0)]))
    assert np.abs(found.params.means).max() < 20.0


def test_many_equal_points_keep_their_component() -> None:
    X, _ = blobs(200, CENTRES[:2], 8)
    found = fit(GaussianMixture(3, outliers=0.01), np.concatenate([X, np.full((100, 2), 30.0)]))
    assert np.abs(found.params.means - 30.0).max(axis=1).min() < 1e-6


def test_an_adapting_k_counts_no_far_points() -> None:
    X, _ = with_far_points(9, 4)
    found = fit(GaussianMixture(8, min_components=1, outliers=0.01), X).params
    assert len(found.weights) == 3


@kinds
def test_weights_count_points_with_a_background_too(kind: CovarianceType) -> None:
    X, _ = with_far_points(5, 5)
    family = mixture_of(kind, 3, outliers=0.01)
    w = np.where(np.arange(len(X)) % 2, 1.0, 2.0)
    one = fit(family, X, w, n_init=1)
    two = fit(family, np.concatenate([X, X[w == 2.0]]), n_init=1)
    order, other = (np.lexsort(each.params.means.round().T) for each in (one, two))
    assert_allclose(one.params.weights[order], two.params.weights[other], atol=1e-3)
    assert_allclose(one.params.means[order], two.params.means[other], atol=0.02)


def test_few_distinct_points_are_enough_with_a_background_too() -> None:
    X = np.repeat([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [500, 5, 500], axis=0)
    found = fit(GaussianMixture(3, outliers=0.05), X)
    assert np.isfinite(found.params.means).all()


def test_a_move_of_components_costs_its_kl_divergence_to_second_order() -> None:
    family = GaussianMixture(2, "diag")
    means, covariances = np.array([[0.0, 0.0], [9.0, 9.0]]), np.full((2, 2), 4.0)
    params = MixtureParams(np.array([0.5, 0.5]), means, covariances, "diag")
    stats = family.e_step(params, means, np.ones(2))
    excess = search_of(family).excess
    assert excess(params, params, stats) == 0.0
    # One of two means moves by (0.1, 0.2): KL = 0.5 * (0.01 + 0.04) / 4, for half of the points
    moved = MixtureParams(
        params.weights, means + np.array([[0.1, 0.2], [0.0, 0.0]]), covariances, "diag"
    )
    assert excess(params, moved, stats) == pytest.approx(0.5 * 0.025 / 4.0)
    # Variances differ by 0.1, of 4, in one feature of one component: KL = 0.25 * 0.01 / 16
    change = np.array([[0.05, 0.0], [0.0, 0.0]])
    wider, thinner = covariances + change, covariances - change
    one, two = (MixtureParams(params.weights, means, c, "diag") for c in (wider, thinner))
    assert excess(one, two, stats) == pytest.approx(0.5 * 0.0025 / 16.0)
    # Weights of 0.4 and 0.6 in place of two halves: KL = 0.5 * (0.01 / 0.45 + 0.01 / 0.55)
    other = MixtureParams(np.array([0.4, 0.6]), means, covariances, "diag")
    expected = 0.5 * (0.01 / 0.45 + 0.01 / 0.55)
    assert excess(params, other, stats) == pytest.approx(expected)


def test_points_so_close_that_covariances_would_underflow_are_refused() -> None:
    check = search_of(GaussianMixture(1)).check
    for reach in (0.0, 1e-140, 1.0):
        check(np.array([[3.0, 0.0], [3.0, reach]]))
    check(np.empty((0, 2)))
    with pytest.raises(DataError, match="multiply the points by a power of ten"):
        check(np.array([[3.0, 0.0], [3.0, 9e-141]]))
