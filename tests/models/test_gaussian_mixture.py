"""The mixture against scikit-learn and SciPy, and the laws of EM."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture

from streamclust.arrays import Array, CovarianceType
from streamclust.errors import DataError
from streamclust.fitting.em import InMemory, run_em
from streamclust.fitting.search import search_of
from streamclust.models import GaussianMixture, MixtureParams, conditionals
from streamclust.models.family import StepOutputs
from streamclust.models.stats import Stats
from tests.support.strategies import (
    COVARIANCE_TYPES,
    assert_em_never_worsens,
    blobs,
    floats,
    laws,
    matrix,
    mixture_of,
    problems,
    random_covariances,
    random_params,
)

kinds = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def overlapping(K: int = 3, D: int = 2, n: int = 100) -> Array:
    """Points that EM needs many steps for, standardised as a scaler would."""
    X, _ = blobs(n, 2.0 * np.random.default_rng(D).normal(size=(K, D)))
    return np.asarray((X - X.mean(axis=0)) / X.std(axis=0))


def start_of(family: GaussianMixture, X: Array) -> MixtureParams:
    """Parameters that are far from the answer."""
    params: MixtureParams = random_params(
        family, X[: family.n_components].copy(), np.random.default_rng(1)
    )
    return params


def precisions(params: MixtureParams) -> Array:
    """What scikit-learn starts from."""
    if params.covariance_type in ("full", "tied"):
        return np.asarray(np.linalg.inv(params.covariances))
    return 1.0 / params.covariances


def sklearn_after(steps: int, X: Array, start: MixtureParams, reg_covar: float) -> Any:
    """scikit-learn's estimator after so many steps from `start`."""
    theirs = SklearnMixture(
        len(start.weights),
        covariance_type=start.covariance_type,
        tol=0.0,
        reg_covar=reg_covar,
        max_iter=steps,
        init_params="random_from_data",
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=precisions(start),
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it's asked to stop early
        return theirs.fit(X)


@kinds
@pytest.mark.parametrize("reg_covar", [0.0, 1e-6])
@pytest.mark.parametrize("D", [1, 2, 5])
def test_ten_steps_of_em_are_those_of_scikit_learn(
    kind: CovarianceType, reg_covar: float, D: int
) -> None:
    # On standardised data our relative floor is their absolute one.
    X = overlapping(D=D)
    family = GaussianMixture(3, kind, reg_covar=reg_covar)
    start = start_of(family, X)
    data = InMemory(family, X, np.ones(len(X)), np.random.default_rng(0))
    run = run_em(family, start, data, tol=-np.inf, max_iter=10)
    for steps in (1, 2, 10):
        theirs = sklearn_after(steps, X, start, reg_covar)
        assert -run.history[steps] == pytest.approx(theirs.score(X), rel=1e-9)
    assert_allclose(run.params.weights, theirs.weights_, rtol=1e-9)
    assert_allclose(run.params.means, theirs.means_, rtol=1e-9, atol=1e-9)
    assert_allclose(run.params.covariances, theirs.covariances_, rtol=1e-9, atol=1e-9)


@kinds
@given(data=st.data())
@laws
def test_the_likelihood_never_falls(kind: CovarianceType, data: st.DataObject) -> None:
    K, D, n = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2)), 30
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    X = rng.normal(size=(n, D)) * rng.choice([1.0, 4.0], size=(n, 1))
    w = rng.choice([0.5, 1.0, 2.0], size=n)
    family = GaussianMixture(K, kind, reg_covar=0.0)
    params = random_params(family, data.draw(matrix(K, D, low=-3.0, high=3.0)), rng)
    # D points may lie on a line, or be one and the same
    assert_em_never_worsens(family, params, X, w, least=D)


def lower_bound(log_joint: Array, q: Array) -> float:
    """EM's lower bound, sum_nk q_nk (log joint_nk - log q_nk) (Bishop 2006, equation 9.71)."""
    used = q > 0.0
    return float(np.sum(q[used] * (log_joint[used] - np.log(q[used]))))


@kinds
@given(data=st.data())
@laws
def test_the_lower_bound_is_the_likelihood_at_the_responsibilities_and_below_it_elsewhere(
    kind: CovarianceType, data: st.DataObject
) -> None:
    p = data.draw(problems(kind))
    family = mixture_of(kind, p.family.n_components)
    likelihood = float(family.score_points(p.params, p.X).sum())
    gamma = family.responsibilities(p.params, p.X)
    log_joint = family.log_joint(p.params, p.X)
    touching = lower_bound(log_joint, gamma)
    assert touching == pytest.approx(likelihood, rel=1e-9, abs=1e-9)
    other = data.draw(arrays(np.float64, gamma.shape, elements=floats(0.01, 1.0)))
    other /= other.sum(axis=1, keepdims=True)
    assert lower_bound(log_joint, other) <= likelihood + 1e-9 * (1.0 + abs(likelihood))


@kinds
@given(data=st.data())
@laws
def test_responsibilities_are_shares(kind: CovarianceType, data: st.DataObject) -> None:
    p = data.draw(problems(kind))
    gamma = mixture_of(kind, p.family.n_components).responsibilities(p.params, p.X)
    assert (gamma >= 0.0).all()
    assert_allclose(gamma.sum(axis=1), 1.0, rtol=1e-14)


@kinds
def test_the_density_of_a_point_is_scipy_s(kind: CovarianceType) -> None:
    rng = np.random.default_rng(0)
    X, family = 3.0 * rng.normal(size=(50, 3)), GaussianMixture(4, kind)
    params = random_params(family, rng.normal(size=(4, 3)), rng)
    density = np.zeros(50)
    for k in range(4):
        own = params.covariances if kind == "tied" else params.covariances[k]
        covariance = own if np.ndim(own) == 2 else np.eye(3) * own
        density += params.weights[k] * multivariate_normal(params.means[k], covariance).pdf(X)
    assert_allclose(family.score_points(params, X), np.log(density), rtol=1e-9)


def scored(kind: CovarianceType, X: Array, weights: Array, means: Array, c: Array) -> Array:
    """Log-density of each point."""
    family = GaussianMixture(len(means), kind)
    return family.score_points(MixtureParams(weights, means, c, kind), X)


def test_the_covariance_types_agree_where_they_mean_the_same() -> None:
    rng = np.random.default_rng(0)
    X, means, share = rng.normal(size=(60, 3)), rng.normal(size=(4, 3)), np.full(4, 0.25)
    variances = random_covariances("diag", 4, 3, rng)
    full = np.stack([np.diag(row) for row in variances])
    assert_allclose(
        scored("full", X, share, means, full),
        scored("diag", X, share, means, variances),
        rtol=1e-12,
    )
    equal = variances[:, 0]
    assert_allclose(
        scored("diag", X, share, means, np.repeat(equal[:, None], 3, axis=1)),
        scored("spherical", X, share, means, equal),
        rtol=1e-12,
    )
    one = random_covariances("tied", 4, 3, rng)
    assert_allclose(
        scored("full", X, share, means, np.stack([one] * 4)),
        scored("tied", X, share, means, one),
        rtol=1e-12,
    )


def test_full_covariances_learned_from_uncorrelated_data_are_those_of_diag() -> None:
    # Each cluster is symmetric about its own axes, so that nothing correlates in either.
    corner = np.array([[1.0, 2.0], [-1.0, 2.0], [1.0, -2.0], [-1.0, -2.0]])
    X = np.concatenate([corner, 100.0 + 3.0 * corner])
    learned = []
    for kind in ("full", "diag"):
        family = mixture_of(kind, 2)
        start = random_params(
            family, np.array([[0.0, 0.0], [100.0, 100.0]]), np.random.default_rng(0)
        )
        learned.append(family.m_step(family.e_step(start, X, np.ones(8)), start))
    full, diag = learned
    assert_allclose(np.einsum("kdd->kd", full.covariances), diag.covariances, rtol=1e-12)
    assert_allclose(
        GaussianMixture(2).score_points(full, X),
        GaussianMixture(2, "diag").score_points(diag, X),
        rtol=1e-9,
    )


@kinds
def test_covariances_that_leave_are_symmetric_positive_definite(kind: CovarianceType) -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(-2, 3, size=(40, 4)).astype(float)
    X[:, 3] = X[:, 2]  # a copy: without a floor nothing here is positive definite
    family = GaussianMixture(5, kind)
    params = search_of(family).init(X, np.ones(40), rng)
    for _ in range(20):
        params = family.m_step(family.e_step(params, X, np.ones(40)), params)
        if kind in ("full", "tied"):
            assert_array_equal(params.covariances, params.covariances.swapaxes(-1, -2))
            assert np.linalg.eigvalsh(params.covariances).min() > 0.0
        else:
            assert params.covariances.min() > 0.0


@kinds
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_floor_is_relative_to_the_variance_of_the_data(
    kind: CovarianceType, unit: float
) -> None:
    # Two clusters without any spread of their own, 2 apart: the variance over all data is 1.
    X = unit * np.repeat([[-1.0, -1.0], [1.0, 1.0]], 10, axis=0)
    family = GaussianMixture(2, kind, reg_covar=1e-3)
    params = search_of(family).init(X, np.ones(20), np.random.default_rng(0))
    roots = (
        np.linalg.eigvalsh(params.covariances) if kind in ("full", "tied") else params.covariances
    )
    assert_allclose(roots, 1e-3 * unit**2, rtol=1e-9)


@kinds
def test_a_sample_has_the_moments_of_its_parameters(kind: CovarianceType) -> None:
    rng, n = np.random.default_rng(5), 200_000
    family = GaussianMixture(3, kind)
    params = random_params(family, 3.0 * rng.normal(size=(3, 2)), rng)
    X, labels = family.sample(params, n, rng)
    for k in range(3):
        own = params.covariances if kind == "tied" else params.covariances[k]
        covariance = own if np.ndim(own) == 2 else np.eye(2) * own
        points, share = X[labels == k], params.weights[k]
        assert abs(len(points) / n - share) < 4.0 * np.sqrt(share * (1.0 - share) / n)
        error = 4.0 * np.sqrt(np.diag(covariance) / len(points))
        assert (np.abs(points.mean(axis=0) - params.means[k]) < error).all()
        variances = np.diag(covariance)
        spread = np.sqrt((np.outer(variances, variances) + covariance**2) / len(points))
        assert (np.abs(np.cov(points.T) - covariance) < 4.0 * spread).all()


def test_a_component_of_no_weight_is_never_chosen() -> None:
    family = GaussianMixture(2, "spherical")
    params = MixtureParams(np.array([0.0, 1.0]), np.zeros((2, 1)), np.ones(2), "spherical")
    X = np.array([[0.0], [3.0]])
    assert family.responsibilities(params, X).tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert set(family.sample(params, 100, np.random.default_rng(0))[1].tolist()) == {1}


def arrays_of(**changed: Any) -> dict[str, Array]:
    """Good parameters of two components in two dimensions, with something else in them."""
    good = {
        "weights": np.array([0.25, 0.75]),
        "means": np.zeros((2, 2)),
        "covariances": np.stack([np.eye(2), np.eye(2)]),
    }
    return {**good, **{name: np.array(value, dtype=float) for name, value in changed.items()}}


def test_weights_that_almost_sum_to_one_are_normalised() -> None:
    params = GaussianMixture(2).from_arrays(arrays_of(weights=[0.25, 0.75 + 9e-7]))
    assert params.weights.sum() == pytest.approx(1.0, abs=1e-15)
    nothing = GaussianMixture(2).from_arrays(arrays_of(weights=[0.0, 1.0]))
    assert nothing.weights.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("weights", [[0.25, 0.751], [0.5, 0.4], [-0.25, 1.25]])
def test_weights_that_are_no_shares_are_refused(weights: list[float]) -> None:
    with pytest.raises(DataError, match=r"weights sum to .*; expected a sum of 1, none negative"):
        GaussianMixture(2).from_arrays(arrays_of(weights=weights))


def test_a_covariance_that_is_not_symmetric_is_refused() -> None:
    crooked = [[[1.0, 0.5], [0.4, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]
    with pytest.raises(DataError, match="not symmetric"):
        GaussianMixture(2).from_arrays(arrays_of(covariances=crooked))


def test_a_covariance_that_is_symmetric_but_for_rounding_is_made_so() -> None:
    near = [[[1.0, 1e-18], [-2e-18, 1.0]], [[1.0, 0.5], [0.5 + 1e-12, 1.0]]]
    covariances = GaussianMixture(2).from_arrays(arrays_of(covariances=near)).covariances
    assert_array_equal(covariances, covariances.swapaxes(-1, -2))


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("full", [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]),
        ("tied", [[0.0, 0.0], [0.0, 1.0]]),
        ("diag", [[1.0, 0.0], [1.0, 1.0]]),
        ("spherical", [1.0, -1.0]),
    ],
)
def test_a_covariance_that_is_not_positive_definite_is_refused(
    kind: CovarianceType, bad: Any
) -> None:
    with pytest.raises(DataError, match="not positive"):
        GaussianMixture(2, kind).from_arrays(arrays_of(covariances=bad))


@pytest.mark.parametrize(
    ("kind", "shape"), [("full", "2, 2, 2"), ("tied", "2, 2"), ("diag", "2, 2"), ("spherical", "2")]
)
def test_covariances_of_another_shape_are_refused_with_the_shape_that_is_expected(
    kind: CovarianceType, shape: str
) -> None:
    with pytest.raises(DataError, match=rf"covariances has shape \(3, 3\); expected \({shape}\)"):
        GaussianMixture(2, kind).from_arrays(arrays_of(covariances=np.eye(3)))


@pytest.mark.parametrize(
    ("kind", "K", "D", "needed", "enough"),
    [
        ("full", 3, 7, 8, 16.0),
        ("full", 3, 2, 3, 10.0),
        ("diag", 3, 7, 2, 10.0),
        ("spherical", 3, 7, 2, 10.0),
        ("tied", 2, 22, 2, 24.0),
        ("tied", 22, 22, 2, 10.0),
    ],
)
def test_the_number_of_points_that_a_covariance_needs(
    kind: CovarianceType, K: int, D: int, needed: int, enough: float
) -> None:
    family = GaussianMixture(K, kind)
    assert (family.points_needed(D), family.points_for_shape(D)) == (needed, enough)


def of_stats(
    weight: list[float],
    first: list[list[float]],
    second: list[list[float]],
    reg_covar: float,
    share: float = 1.0,
    origin: float = 0.0,
) -> Array:
    """Return the variances that the m-step takes from moments about `origin`; each feature's is 1.

    `share` is the part of the floor that the first component gets.
    """
    K, D = np.shape(first)
    family, about = GaussianMixture(K, "diag", reg_covar=reg_covar), np.full((K, D), origin)
    moments = np.array(weight), np.array(first), np.array(second)
    params = MixtureParams(np.full(K, 1.0 / K), about, np.ones((K, D)), "diag", np.ones(D))
    stats, shares = Stats(*moments, about, "diag", 0.0, sum(weight)), np.ones(K)
    shares[0] = share
    return family.m_step_with_ridge(stats, params, shares).covariances


def test_the_floor_is_at_least_the_rounding_error_of_the_moments() -> None:
    # Given a mean that moves by 2^20 in the first of two features: 64 eps D 2^40 = 1 / 32
    far = [4.0], [[4.0 * 2.0**20, 0.0]], [[4.0 * (4.0 + 2.0**40), 4.0]]
    assert of_stats(*far, reg_covar=2.0**-20).tolist() == [[4.0 + 1.0 / 32.0, 1.0 + 2.0**-20]]
    assert of_stats(*far, reg_covar=0.0).tolist() == [[4.0, 1.0]]
    # Given moments about the mean itself, however far from 0: nothing is lost
    still = of_stats([4.0], [[0.0]], [[4.0]], reg_covar=2.0**-20, origin=2.0**30)
    assert still.tolist() == [[1.0 + 2.0**-20]]
    # Given a variance of 2^40: 1e-12 of it
    wide = of_stats([1.0], [[0.0]], [[2.0**40]], reg_covar=1e-6)
    assert_allclose(wide - 2.0**40, 1e-12 * 2.0**40, rtol=1e-3)


def test_a_component_of_equal_points_gets_the_variance_of_the_others_if_they_are_most() -> None:
    floor, nothing = 2.0**-10, [[0.0], [0.0]]
    # Given a variance of 4, and one that is the floor
    most = of_stats([3.0, 1.0], nothing, [[12.0], [floor]], floor)
    assert most.tolist() == [[4.0 + floor], [4.0 + floor]]
    half = of_stats([2.0, 2.0], nothing, [[8.0], [2.0 * floor]], floor)
    assert half.tolist() == [[4.0 + floor], [2.0 * floor]]
    above = of_stats([3.0, 1.0], nothing, [[12.0], [1.5 * floor]], floor)
    assert above.tolist() == [[4.0 + floor], [2.5 * floor]]


@pytest.mark.parametrize(
    ("kind", "covariances", "expected"),
    [
        ("full", [[[1.0, 0.5], [0.5, 3.0]], [[2.0, 0.0], [0.0, 3.0]]], [4.75, 3.0]),
        ("tied", [[1.75, 0.5], [0.5, 3.0]], [4.75, 3.0]),
        ("diag", [[1.0, 3.0], [2.0, 3.0]], [4.75, 3.0]),
        ("spherical", [1.0, 2.0], [4.75, 1.75]),
    ],
)
def test_the_spread_of_a_mixture_is_the_variance_within_and_between_components(
    kind: CovarianceType, covariances: Any, expected: list[float]
) -> None:
    means, weights = np.array([[10.0, 0.1], [14.0, 0.1]]), np.array([0.25, 0.75])
    params = MixtureParams(weights, means, np.array(covariances), kind)
    found = GaussianMixture(2, kind).spread(params)
    assert found is not None
    assert_allclose(found, expected, rtol=1e-12)
    known = replace(params, spread=np.array([7.0, 8.0]))
    assert GaussianMixture(2, kind).spread(known) is known.spread


def test_a_component_may_get_a_part_of_the_floor() -> None:
    found = of_stats([2.0, 2.0], [[0.0], [0.0]], [[8.0], [6.0]], 0.5, share=0.25)
    assert found.tolist() == [[4.125], [3.5]]
    assert of_stats([2.0], [[0.0]], [[8.0]], 0.5, share=0.25).tolist() == [[4.125]]


def test_a_feature_that_never_varies_has_the_average_variance_of_the_others() -> None:
    rng = np.random.default_rng(0)
    for weights in rng.dirichlet(np.ones(3), size=20):
        means = np.column_stack([np.full(3, 0.1), rng.normal(size=3), rng.normal(size=3)])
        variances = np.array([[0.0, 1.0, 2.0]] * 3)
        found = GaussianMixture(3, "diag").spread(MixtureParams(weights, means, variances, "diag"))
        assert found is not None
        assert found[0] == pytest.approx((found[1] + found[2]) / 3.0, rel=1e-12)


@kinds
def test_scores_of_points_with_gaps_sum_to_the_entropy_less_the_log_likelihood(
    kind: CovarianceType,
) -> None:
    rng = np.random.default_rng(0)
    family = GaussianMixture(3, kind, missing="learn")
    params = random_params(family, rng.normal(size=(3, 2)), rng)
    X, w = 2.0 * rng.normal(size=(40, 2)), rng.uniform(0.5, 2.0, 40)
    for gaps in (False, True):
        X[:5, 0] = np.nan if gaps else 0.0
        step = family.batch_step(params, X, w, StepOutputs(scores=True))
        assert step.scores is not None
        assert w @ step.scores == pytest.approx(step.entropy - step.stats.objective, rel=1e-9)
        assert (step.entropy != 0.0) == gaps
        assert step.stats.count == pytest.approx(w.sum())
        # and they are scores under the mixture, also if learning has a background
        other = replace(family, outliers=0.2).batch_step(params, X, w, StepOutputs(scores=True))
        assert other.scores is not None
        assert_allclose(other.scores, step.scores, rtol=1e-12)
        assert (other.stats.weight < step.stats.weight).all()


def test_another_order_of_all_components_keeps_the_bits_of_the_weights() -> None:
    weights = np.full(4, 0.25 * (1.0 - 2.0**-52))  # a division by their sum would change them
    params = MixtureParams(weights, np.zeros((4, 1)), np.ones(4), "spherical")
    family = GaussianMixture(4, "spherical")
    assert_array_equal(family.reorder(params, np.arange(4)[::-1]).weights, weights)
    assert_array_equal(family.reorder(params, np.arange(2)).weights, 0.5)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_a_negative_eigenvalue_that_is_larger_than_the_floor_is_repaired_if_there_is_a_floor(
    kind: CovarianceType,
) -> None:
    zero, second = np.zeros((1, 2)), np.array([[4.0, 4.0 + 4e-9], [4.0 + 4e-9, 4.0]])
    second = second[None] if kind == "full" else second
    stats = Stats(np.array([4.0]), zero, second, zero, kind, 0.0, 4.0)
    start = MixtureParams(np.ones(1), zero, second, kind)
    repaired = GaussianMixture(1, kind, reg_covar=1e-12).m_step(stats, start)
    assert np.linalg.eigvalsh(repaired.covariances).min() == pytest.approx(1e-9, rel=0.01)
    with pytest.raises(DataError, match="raise reg_covar"):
        _ = GaussianMixture(1, kind, reg_covar=0.0).m_step(stats, start).root


@pytest.mark.parametrize("reg_covar", [0.0, 0.5])
def test_moments_of_missing_values_leave_out_the_floor_that_the_m_step_adds(
    reg_covar: float,
) -> None:
    rng = np.random.default_rng(0)
    family = GaussianMixture(2, "diag", reg_covar=reg_covar, missing="learn")
    spread = np.array([0.25, 1.0])
    params = MixtureParams(np.full(2, 0.5), np.eye(2), np.full((2, 2), 2.0), "diag", spread)
    X, w = rng.normal(size=(9, 2)), np.ones(9)
    X[:3, 0] = X[4:6, 1] = np.nan
    wanted = conditionals.e_step(params, X, w, reg_covar * spread).moments
    stats, without = family.e_step(params, X, w), conditionals.e_step(params, X, w).moments
    assert_array_equal(stats.second, wanted.second)
    assert (reg_covar == 0.0) == np.array_equal(wanted.second, without.second)


@kinds
def test_a_component_without_mass_has_no_weight_and_keeps_its_mean(kind: CovarianceType) -> None:
    family, rng = mixture_of(kind, 2), np.random.default_rng(0)
    params = random_params(family, np.array([[0.0, 0.0, 0.0], [1e4, 0.0, 0.0]]), rng)
    found = family.m_step(family.e_step(params, rng.normal(size=(50, 3)), np.ones(50)), params)
    assert_array_equal(found.weights, [1.0, 0.0])
    assert_array_equal(found.means[1], params.means[1])


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_equal_points_get_the_covariance_within_all_other_components(kind: CovarianceType) -> None:
    rng, centres = np.random.default_rng(1), 100.0 * np.array([[0, 0], [1, 0], [0, 1], [9, 9]])
    X, owners = blobs(30, centres[:3])
    within = X - np.array([X[owners == k].mean(axis=0) for k in range(3)])[owners]
    X = np.concatenate([X, np.tile(centres[3], (5, 1))])
    family = mixture_of(kind, 4, reg_covar=1e-9)
    params = random_params(family, centres, rng)
    found = family.m_step(family.e_step(params, X, np.ones(95)), params).covariances[3]
    expected = within.T @ within / 90.0
    assert_allclose(found, expected if kind == "full" else np.diag(expected), rtol=1e-2, atol=1e-2)


def test_the_floor_is_a_millionth_of_the_variance_unless_another_one_is_given() -> None:
    assert GaussianMixture(2).reg_covar == 1e-6
    with pytest.raises(TypeError, match="positional"):
        GaussianMixture(2, "full", 1e-6, 1)  # type: ignore[call-arg]
