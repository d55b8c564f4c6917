"""The rules of the families: the prior of components with few points, units, gaps."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from streamclust.arrays import CovarianceType
from streamclust.fitting.search import search_of
from streamclust.models import MixtureParams
from streamclust.models.scaling import Scaling
from streamclust.online.rules import rules_of
from tests.support.strategies import (
    COVARIANCE_TYPES,
    FAMILIES,
    blobs,
    family_of,
    floats,
    laws,
    mixture_of,
    problems,
    random_params,
)

kinds = pytest.mark.parametrize("kind", COVARIANCE_TYPES)

CENTRES = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 5.0], [0.0, 10.0, -5.0], [10.0, 10.0, 0.0]])


@kinds
@given(data=st.data())
@laws
def test_a_prior_fills_components_of_few_points_up_to_its_weight(
    kind: CovarianceType, data: st.DataObject
) -> None:
    p = data.draw(problems(kind))
    family = mixture_of(kind, p.family.n_components)
    stats = family.e_step(p.params, p.X, p.w)
    more = data.draw(arrays(np.float64, stats.weight.shape, elements=floats(-3.0, 3.0)))
    more[0] = 1.0  # else there may be no prior
    prior = np.maximum(stats.weight + more, 0.1)
    found = rules_of(family).map_step(stats, p.params, prior)
    # The means are those of the points and of the missing weight at the last means.
    lacking = np.maximum(prior - stats.weight, 0.0)
    total = stats.weight + lacking
    own = stats.weight[:, None] * stats.averages(otherwise=p.params.means)
    expected = own + lacking[:, None] * p.params.means
    known = total > 1e-9
    assert_allclose(found.means[known], expected[known] / total[known, None], atol=1e-7)
    # The mixing weights are those of all points and of the missing mass at the last weights.
    shares = stats.weight + max(prior.sum() - stats.mass, 0.0) * p.params.weights
    assert_allclose(found.weights, shares / shares.sum(), rtol=1e-9, atol=1e-12)


@kinds
@given(data=st.data())
@settings(deadline=None, max_examples=10)
def test_components_of_enough_points_have_no_prior(
    kind: CovarianceType, data: st.DataObject
) -> None:
    X, _ = blobs(data.draw(st.integers(20, 60)), CENTRES, seed=data.draw(st.integers(0, 99)))
    family = mixture_of(kind, 4)
    params = search_of(family).init(X, np.ones(len(X)), np.random.default_rng(0))
    stats = family.e_step(params, X, np.ones(len(X)))
    plain = family.m_step(stats, params)
    topped = rules_of(family).map_step(stats, params, np.full(4, stats.weight.min()))
    assert topped.covariances.tobytes() == plain.covariances.tobytes()
    assert topped.means.tobytes() == plain.means.tobytes()
    assert topped.weights.tobytes() == plain.weights.tobytes()


def two(kind: CovarianceType, variance: float, means: list[list[float]]) -> MixtureParams:
    """Return two components of one feature, with the same variance; that of the feature is 2."""
    shape = {"full": (2, 1, 1), "tied": (1, 1), "diag": (2, 1), "spherical": (2,)}[kind]
    covariances, spread = np.full(shape, variance), np.array([2.0])
    return MixtureParams(np.array([0.5, 0.5]), np.array(means), covariances, kind, spread)


@kinds
def test_a_prior_adds_its_covariance_and_the_distance_of_the_means(kind: CovarianceType) -> None:
    # Given 2 points of each component, with the variance 1, at the distance 1 from the last mean
    family, last = mixture_of(kind, 2, reg_covar=0.25), two(kind, 3.0, [[0.0], [10.0]])
    stats = family.e_step(last, np.array([[0.0], [2.0], [10.0], [12.0]]), np.ones(4))
    # When a prior adds 2 points of the variance 3
    found = rules_of(family).map_step(stats, last, stats.weight + 2.0)
    # Then the covariance is (2 * 1 + 2 * 3 + 2 * 2 / 4 * 1^2) / 4, and half of the floor of 1 / 2
    assert_allclose(found.covariances, np.full_like(last.covariances, 2.25 + 0.25), rtol=0.02)
    assert_allclose(found.means, [[0.5], [10.5]], atol=0.02)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_few_points_at_the_last_mean_leave_the_covariance_as_it_is(kind: CovarianceType) -> None:
    family, last = mixture_of(kind, 2, reg_covar=0.5), two(kind, 3.0, [[0.0], [1000.0]])
    for distance, keeps in ((0.0, True), (1.0, True), (1.01, False)):  # the floor is 1
        X = np.array([[-distance], [distance], [998.0], [1002.0]])
        stats = family.e_step(last, X, np.ones(4))
        found = rules_of(family).map_step(stats, last, np.array([4.0, 2.0])).covariances
        assert bool(found[0] == last.covariances[0]) == keeps
        assert found[1] != last.covariances[1]  # it has enough points
    equal = family.e_step(last, np.array([[0.0], [0.0], [1000.0], [1000.0]]), np.ones(4))
    found = rules_of(family).map_step(equal, last, np.array([2.5, 2.0])).covariances
    assert (found == last.covariances).ravel().tolist() == [True, False]


def test_the_entropy_of_missing_values_makes_losses_comparable() -> None:
    family = mixture_of("diag", 1, missing="learn")
    variances = np.array([4.0, 0.25])
    params = family.from_arrays(
        {"weights": np.ones(1), "means": np.zeros((1, 2)), "covariances": variances[None]}
    )
    X, w = np.array([[1.0, 0.5], [np.nan, 0.5], [1.0, np.nan]]), np.array([1.0, 2.0, 4.0])
    rules = rules_of(family)
    for points, missing in ((X, np.array([2.0, 4.0])), (np.nan_to_num(X), np.zeros(2))):
        stats = family.e_step(params, points, w)
        entropy = missing @ (0.5 * np.log(2.0 * np.pi * np.e * variances)) / stats.count
        found = rules.comparable_loss(stats, params, points, w)
        assert found == pytest.approx(family.loss(stats) + entropy, rel=1e-12)


def test_a_batch_with_too_many_outliers_is_learned_without_the_farthest() -> None:
    X, w = np.random.default_rng(0).normal(size=(100, 1)), np.full(100, 2.0)
    X[:40] += 1000.0
    for outliers, points, learned in ((0.02, X, True), (0.02, X[40:], False), (0.0, X, False)):
        family = mixture_of("full", 1, outliers=outliers)
        params = family.from_arrays(
            {"weights": np.ones(1), "means": np.zeros((1, 1)), "covariances": np.ones((1, 1, 1))}
        )
        weights = w[: len(points)]
        stats = family.e_step(params, points, weights)
        found = rules_of(family).if_too_many_outliers(params, points, weights, stats)
        assert (found is not None) == learned
        if found is not None:
            assert found[0] == mixture_of("full", 1, outliers=0.0)
            assert found[1].sum() == weights.sum() - 20 * 2.0
            assert found[1][40:].tolist() == weights[40:].tolist()


def test_k_means_has_no_shape_no_volume_and_no_spread() -> None:
    rules = rules_of(family_of("kmeans", 2))
    scaling = Scaling("standard", np.zeros(2), np.array([2.0, 3.0]))
    assert (rules.points_for_shape(9), rules.log_volume(scaling)) == (0.0, 0.0)


def test_another_spread_replaces_that_of_a_mixture() -> None:
    rules, params = rules_of(mixture_of("diag", 2)), two("diag", 3.0, [[0.0], [1.0]])
    spread = params.spread
    assert spread is not None
    assert rules.with_spread(params, spread) is params
    other = np.array([5.0])
    assert rules.with_spread(params, other).spread is other


@kinds
def test_the_loss_of_scaled_points_with_gaps_is_that_of_the_points(kind: CovarianceType) -> None:
    rng = np.random.default_rng(0)
    family = mixture_of(kind, 3, missing="learn")
    params = random_params(family, rng.normal(size=(3, 2)), rng)
    equal = np.full(2, 5.0) if kind == "spherical" else np.array([5.0, 0.25])
    scaling, rules = Scaling("standard", np.array([-3.0, 8.0]), equal), rules_of(family)
    Z, w = rng.normal(size=(20, 2)), rng.uniform(0.5, 2.0, 20)
    Z[::3, 0], Z[1::3, 1] = np.nan, np.nan
    scaled = rules.with_missing_volume(family.e_step(params, Z, w), scaling, Z, w)
    plain = family.e_step(rules.in_units(params, scaling), scaling.undo(Z), w)
    loss = family.loss(scaled) + rules.log_volume(scaling)
    assert loss == pytest.approx(family.loss(plain), rel=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_in_the_original_units_are_scaled_back(name: str) -> None:
    rng = np.random.default_rng(0)
    family = family_of(name, 3)
    params = random_params(family, rng.normal(size=(3, 2)), rng)
    scaling, rules = Scaling("standard", np.array([-3.0, 8.0]), np.full(2, 5.0)), rules_of(family)
    original = rules.in_units(params, scaling)
    wanted = family.to_arrays(params)
    for scale, each in ((scaling, original), (None, params)):
        found = family.to_arrays(rules.scaled(each, scale))
        assert found.keys() == wanted.keys()  # K-means has no scales of its own
        assert all(np.allclose(found[key], wanted[key], rtol=1e-12) for key in wanted)
    mass = np.array([1.0, 2.0, 6.0])
    stats = rules.stats_of_mass(params, mass)
    assert stats.mass == pytest.approx(9.0)
    assert_allclose(family.m_step(stats, params).means, params.means, rtol=1e-12)
    assert name != "kmeans" or stats.weight.tolist() == mass.tolist()
