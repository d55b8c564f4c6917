"""The background of a mixture: closed forms, and the laws of EM with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal

from streamclust import kernels
from streamclust.arrays import Array, CovarianceType
from streamclust.errors import DataError
from streamclust.models import GaussianMixture, MixtureParams
from streamclust.models.background import log_backgrounds
from streamclust.models.family import from_hyperparameters, to_hyperparameters
from streamclust.models.stats import merge
from tests.support.strategies import (
    COVARIANCE_TYPES,
    assert_em_never_worsens,
    assert_same_stats,
    floats,
    laws,
    mixture_of,
    random_params,
)

kinds = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def problem(
    kind: CovarianceType, seed: int, K: int = 3, D: int = 2, **options: Any
) -> tuple[GaussianMixture, MixtureParams, Array, Array]:
    """Return a mixture with parameters, and weighted points of which a tenth is far away."""
    rng = np.random.default_rng(seed)
    family = mixture_of(kind, K, **({"outliers": 0.05} | options))
    params = random_params(family, 3.0 * rng.normal(size=(K, D)), rng)
    X = 3.0 * rng.normal(size=(60, D))
    X[::10] *= 1000.0
    params = replace(params, spread=rng.uniform(1.0, 9.0, D))
    return family, params, X, rng.choice([0.5, 1.0, 2.0], len(X))


def dense(params: MixtureParams) -> Array:
    """Return the covariances as matrices, (K, D, D)."""
    K, D = params.means.shape
    each = params.covariances
    if params.covariance_type == "tied":
        return np.tile(each, (K, 1, 1))
    if params.covariance_type == "full":
        return each
    diagonals = each if each.ndim == 2 else np.tile(each[:, None], D)
    return np.array([np.diag(row) for row in diagonals])


@kinds
@pytest.mark.parametrize("D", [1, 3, 12])
def test_the_e_step_is_that_of_a_mixture_with_one_more_density(
    kind: CovarianceType, D: int
) -> None:
    family, params, X, w = problem(kind, 1, D=D)
    joint = 0.95 * np.column_stack(
        [
            share * multivariate_normal(mean, covariance).pdf(X)
            for share, mean, covariance in zip(
                params.weights, params.means, dense(params), strict=True
            )
        ]
    )
    assert params.spread is not None
    background = 0.05 / np.prod(10.0 * np.sqrt(params.spread))
    density = joint.sum(axis=1) + background
    stats, shares = family.e_step(params, X, w), joint / density[:, None]
    assert_allclose(stats.weight, w @ shares, rtol=1e-9, atol=1e-15)
    mass = 1.0 + stats.weight[:, None]
    expected = np.einsum("n,nk,nkd->kd", w, shares, X[:, None] - params.means)
    assert_allclose(stats.first / mass, expected / mass, atol=1e-9)
    assert stats.objective == pytest.approx(float(w @ np.log(density)), rel=1e-10)
    assert stats.count == w.sum()
    assert_allclose(family.memberships(params, X), shares, rtol=1e-9, atol=1e-15)


@kinds
def test_densities_and_responsibilities_are_those_of_the_mixture_alone(
    kind: CovarianceType,
) -> None:
    family, params, X, _ = problem(kind, 2)
    plain = replace(family, outliers=0.0)
    assert_array_equal(family.score_points(params, X), plain.score_points(params, X))
    assert_array_equal(family.responsibilities(params, X), plain.responsibilities(params, X))
    assert_array_equal(family.predict(params, X), plain.predict(params, X))


@kinds
def test_without_outliers_the_e_step_has_the_bits_that_it_has_always_had(
    kind: CovarianceType,
) -> None:
    family, params, X, w = problem(kind, 3, outliers=0.0)
    stats = family.e_step(params, X, w)
    moments, log_likelihood = kernels.mixture_step(
        X, w, params.log_weights, params.means, params.root, kind
    )
    for found, expected in zip((stats.weight, stats.first, stats.second), moments, strict=True):
        assert_array_equal(found, expected)
    assert stats.objective == log_likelihood
    assert_array_equal(family.memberships(params, X), family.responsibilities(params, X))


@kinds
@given(data=st.data())
@laws
def test_the_likelihood_with_the_background_never_falls(
    kind: CovarianceType, data: st.DataObject
) -> None:
    seed, e = data.draw(st.integers(0, 10**6)), data.draw(st.sampled_from([1e-6, 0.01, 0.5]))
    K, D = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    family, params, X, w = problem(kind, seed, K, D, outliers=e, reg_covar=0.0)
    assert_em_never_worsens(family, params, X, w, least=D + 1)


@kinds
@given(shift=floats(-50.0, 50.0), scale=st.sampled_from([1e-3, 0.5, 7.0]), seed=st.integers(0, 99))
@laws
def test_units_and_origin_change_nothing_but_units(
    kind: CovarianceType, shift: float, scale: float, seed: int
) -> None:
    family, params, X, w = problem(kind, seed)
    assert params.spread is not None
    other = replace(
        params,
        means=scale * params.means + shift,
        covariances=scale**2 * params.covariances,
        spread=scale**2 * params.spread,
    )
    one, two = family.e_step(params, X, w), family.e_step(other, scale * X + shift, w)
    assert_allclose(two.weight, one.weight, rtol=1e-7)
    volume = X.shape[1] * np.log(scale)
    assert family.loss(two) == pytest.approx(family.loss(one) + volume, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_units_of_single_features_change_nothing_but_units(kind: CovarianceType) -> None:
    family, params, X, w = problem(kind, 4)
    assert params.spread is not None
    scale = np.array([1e-3, 50.0])
    stretch = np.outer(scale, scale) if kind == "full" else scale**2
    other = replace(
        params,
        means=scale * params.means,
        covariances=stretch * params.covariances,
        spread=scale**2 * params.spread,
    )
    weights = family.e_step(params, X, w).weight
    assert_allclose(family.e_step(other, scale * X, w).weight, weights, rtol=1e-9)


@kinds
def test_the_statistics_of_parts_add_up(kind: CovarianceType) -> None:
    family, params, X, w = problem(kind, 5)
    parts = [family.e_step(params, X[part], w[part]) for part in (slice(25), slice(25, None))]
    assert_same_stats(family.e_step(params, X, w), merge(*parts), tol=1e-9)


@kinds
@pytest.mark.parametrize("R", [1e3, 1e9, 1e100])
def test_a_far_point_changes_no_parameter(kind: CovarianceType, R: float) -> None:
    family, params, X, w = problem(kind, 6)
    X = np.delete(X, np.s_[::10], axis=0)
    w = w[: len(X)]
    far = np.full((1, X.shape[1]), R)
    without = family.m_step(family.e_step(params, X, w), params)
    stats = family.e_step(params, np.concatenate([X, far]), np.append(w, 1.0))
    found = family.m_step(stats, params)
    assert_allclose(found.weights, without.weights, rtol=1e-12)
    assert_allclose(found.means, without.means, rtol=1e-9)
    assert_allclose(found.covariances, without.covariances, rtol=1e-9)
    assert params.spread is not None
    least = log_backgrounds(0.05, params.spread) + np.log1p(-0.05)
    before = family.e_step(params, X, w).objective
    assert stats.objective - before == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_points_with_gaps_have_the_background_of_their_present_features(
    kind: CovarianceType,
) -> None:
    family, params, X, w = problem(kind, 8, D=3)
    family = replace(family, missing="learn")
    X[:, 1] = np.where(np.arange(len(X)) % 2, np.nan, X[:, 1])
    gaps, present = np.isnan(X[:, 1]), [0, 2]
    assert params.spread is not None
    columns = np.ix_(range(3), present, present) if kind == "full" else np.ix_(range(3), present)
    marginal = replace(
        params,
        means=params.means[:, present],
        covariances=params.covariances[columns],
        spread=params.spread[present],
    )
    one = family.e_step(marginal, X[gaps][:, present], w[gaps])
    two = family.e_step(params, X[~gaps], w[~gaps])
    found = family.e_step(params, X, w)
    assert_allclose(found.weight, one.weight + two.weight, rtol=1e-9)
    assert found.objective == pytest.approx(one.objective + two.objective, rel=1e-9)
    assert_allclose(found.first[:, present], one.first + two.first[:, present], atol=1e-9)
    assert_allclose(
        family.memberships(params, X)[gaps],
        family.memberships(marginal, X[gaps][:, present]),
        atol=1e-12,
    )


def test_a_small_share_tends_to_the_mixture_without_a_background() -> None:
    family, params, X, w = problem("full", 7)
    X = np.delete(X, np.s_[::10], axis=0)
    w = w[: len(X)]
    limit = replace(family, outliers=0.0).e_step(params, X, w)
    assert_same_stats(replace(family, outliers=1e-300).e_step(params, X, w), limit)


def test_the_share_is_stored_only_if_it_is_set() -> None:
    assert "outliers" not in to_hyperparameters(GaussianMixture(2))
    family = GaussianMixture(2, outliers=0.01)
    stored = to_hyperparameters(family)
    assert stored["outliers"] == 0.01
    assert from_hyperparameters(GaussianMixture, stored) == family
    assert family.with_components(3).outliers == 0.01


@pytest.mark.parametrize("value", [-0.01, 0.51, np.nan, True, "0.1", None])
def test_a_share_that_is_none_is_refused_by_name(value: Any) -> None:
    with pytest.raises(DataError, match=r"^outliers is .*; expected a number from 0 to 0\.5"):
        GaussianMixture(2, outliers=value)
