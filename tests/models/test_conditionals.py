"""Mixtures and points with gaps: the e-step by brute force, and the laws of EM."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from streamclust.arrays import Array, CovarianceType
from streamclust.fitting.em import InMemory, run_em
from streamclust.models import conditionals
from streamclust.models.gaussian_mixture import GaussianMixture, MixtureParams
from streamclust.models.scores import anomaly_score, point_scores
from streamclust.models.stats import Stats, merge
from streamclust.online.rules import rules_of
from tests.support.gaps import (
    correlated_blobs,
    family_with_gaps,
    full_covariances,
    problems_with_gaps,
    with_gaps,
)
from tests.support.strategies import (
    COVARIANCE_TYPES,
    Problem,
    assert_same_stats,
    laws,
    random_params,
)

kinds = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def given_present(params: MixtureParams, x: Array) -> tuple[float, Array, Array, Array]:
    """Return log p(x_o), and for each component gamma, E[x | x_o] and Cov[x | x_o], by formulas."""
    o, m = ~np.isnan(x), np.isnan(x)
    joint, means, covariances = [], [], []
    for weight, mean, S in zip(params.weights, params.means, full_covariances(params), strict=True):
        density = multivariate_normal.logpdf(x[o], mean[o], S[np.ix_(o, o)])
        joint.append(np.log(weight) + density)
        slopes = S[np.ix_(m, o)] @ np.linalg.inv(S[np.ix_(o, o)])
        expected, left = x.copy(), np.zeros_like(S)
        expected[m] = mean[m] + slopes @ (x[o] - mean[o])
        left[np.ix_(m, m)] = S[np.ix_(m, m)] - slopes @ S[np.ix_(o, m)]
        means.append(expected)
        covariances.append(left)
    score = float(logsumexp(joint))
    return score, np.exp(np.array(joint) - score), np.array(means), np.array(covariances)


def by_formulas(p: Problem) -> Stats:
    """Return the e-step, point by point."""
    means, (K, D) = p.params.means, p.params.means.shape
    weight, first, second, objective = np.zeros(K), np.zeros((K, D)), np.zeros((K, D, D)), 0.0
    for x, w in zip(p.X, p.w, strict=True):
        score, shares, expected, covariances = given_present(p.params, x)
        mass, offset = w * shares, expected - means
        objective += w * score
        weight += mass
        first += mass[:, None] * offset
        second += mass[:, None, None] * (offset[:, :, None] * offset[:, None, :] + covariances)
    kind: CovarianceType = p.params.covariance_type
    shaped: dict[str, Any] = {
        "full": second,
        "tied": second.sum(axis=0),
        "diag": np.einsum("kdd->kd", second),
        "spherical": np.einsum("kdd->k", second) / D,
    }
    return Stats(weight, first, shaped[kind], means, kind, objective, float(p.w.sum()))


@kinds
@given(data=st.data())
@laws
def test_the_e_step_is_that_of_the_formulas(kind: CovarianceType, data: st.DataObject) -> None:
    p: Any = data.draw(problems_with_gaps(kind))
    found = p.family.e_step(p.params, p.X, p.w)
    assert_same_stats(found, by_formulas(p), tol=1e-9)
    scores = p.family.score_points(p.params, p.X)
    assert found.objective == pytest.approx(float(p.w @ scores), rel=1e-9, abs=1e-9)
    shares = np.array([given_present(p.params, x)[1] for x in p.X])
    assert_allclose(p.family.responsibilities(p.params, p.X), shares, rtol=1e-7, atol=1e-12)


@kinds
@given(data=st.data())
@laws
def test_the_e_step_of_a_cut_is_the_sum_and_the_order_does_not_matter(
    kind: CovarianceType, data: st.DataObject
) -> None:
    p: Any = data.draw(problems_with_gaps(kind, min_points=2))
    cut = data.draw(st.integers(1, len(p.X) - 1))
    whole = p.family.e_step(p.params, p.X, p.w)
    parts = (p.family.e_step(p.params, p.X[part], p.w[part]) for part in (np.s_[:cut], np.s_[cut:]))
    assert_same_stats(whole, merge(*parts), tol=1e-9)
    order = np.array(data.draw(st.permutations(range(len(p.X)))))
    assert_same_stats(whole, p.family.e_step(p.params, p.X[order], p.w[order]), tol=1e-9)


@kinds
@given(data=st.data())
@laws
def test_a_move_of_the_origin_and_other_units_change_nothing_else(
    kind: CovarianceType, data: st.DataObject
) -> None:
    p: Any = data.draw(problems_with_gaps(kind))
    factor, move = data.draw(st.sampled_from([2.0**-20, 1.0, 2.0**30])), 2.0 ** np.arange(4)
    move = move[: p.X.shape[1]]
    params = p.family.from_arrays(
        {
            "weights": p.params.weights,
            "means": factor * (p.params.means + move),
            "covariances": factor**2 * p.params.covariances,
        }
    )
    one: Any = p.family.e_step(p.params, p.X, p.w)
    other: Any = p.family.e_step(params, factor * (p.X + move), p.w)
    assert_allclose(other.weight, one.weight, rtol=1e-8, atol=1e-12)
    assert_allclose(other.first / factor, one.first, rtol=1e-8, atol=1e-9)
    assert_allclose(other.second / factor**2, one.second, rtol=1e-8, atol=1e-8)
    values = float(p.w @ (~np.isnan(p.X)).sum(axis=1))
    assert_allclose(other.objective, one.objective - values * np.log(factor), rtol=1e-9, atol=1e-8)


@kinds
def test_points_of_single_precision_give_the_same_statistics(kind: CovarianceType) -> None:
    family = family_with_gaps(kind, 3)
    X = with_gaps(np.random.default_rng(0).normal(size=(300, 5)), 0.3).astype(np.float32)
    params, w = random_params(family, np.eye(3, 5), np.random.default_rng(1)), np.ones(300)
    one, other = (family.e_step(params, Y, w) for Y in (X, X.astype(np.float64)))
    assert_same_stats(one, other, tol=1e-12)


@kinds
def test_small_chunks_of_patterns_change_nothing(
    kind: CovarianceType, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = family_with_gaps(kind, 3)
    X, w = with_gaps(np.random.default_rng(0).normal(size=(300, 6)), 0.4), np.ones(300)
    params = random_params(family, np.eye(3, 6), np.random.default_rng(1))
    whole = family.e_step(params, X, w), family.responsibilities(params, X)
    monkeypatch.setattr(conditionals, "_CELLS", 1)
    assert_same_stats(family.e_step(params, X, w), whole[0])
    assert_array_equal(family.responsibilities(params, X), whole[1])


@kinds
def test_without_a_gap_the_bits_are_those_of_complete_points(kind: CovarianceType) -> None:
    X, w = np.random.default_rng(0).normal(size=(100, 4)), np.ones(100)
    learns, rejects = family_with_gaps(kind, 3), GaussianMixture(3, kind)
    params = random_params(rejects, np.eye(3, 4), np.random.default_rng(1))
    one, other = (family.e_step(params, X, w) for family in (learns, rejects))
    for name in ("weight", "first", "second"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    assert one.objective == other.objective


@kinds
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_em_never_lowers_the_likelihood_of_the_present_values(
    kind: CovarianceType, share: float
) -> None:
    X = with_gaps(correlated_blobs(300, 3, 4)[0], share)
    family = family_with_gaps(kind, 3, reg_covar=0.0)
    start = random_params(family, np.nan_to_num(X[:3]), np.random.default_rng(0))
    data = InMemory(family, X, np.ones(len(X)), np.random.default_rng(0))
    run = run_em(family, start, data, tol=0.0, max_iter=60)
    assert len(run.history) > 10
    assert (np.diff(run.history) <= 1e-9).all()


def test_one_gaussian_with_a_monotone_pattern_is_the_closed_form_of_anderson() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 3)) + [5.0, -3.0, 0.5]
    X[250:, 1:] = np.nan
    X[120:, 2] = np.nan
    # p(x1) p(x2 | x1) p(x3 | x1, x2): each factor by all points that have its features.
    mean, covariance = X[:, :1].mean(axis=0), np.cov(X[:, :1].T, bias=True).reshape(1, 1)
    for d, n in ((1, 250), (2, 120)):
        design = np.column_stack([np.ones(n), X[:n, :d]])
        slopes = np.linalg.lstsq(design, X[:n, d], rcond=None)[0]
        left = float(np.mean((X[:n, d] - design @ slopes) ** 2))
        cross = covariance @ slopes[1:]
        mean = np.append(mean, slopes[0] + slopes[1:] @ mean)
        covariance = np.block(
            [[covariance, cross[:, None]], [cross[None], np.array([[left + slopes[1:] @ cross]])]]
        )
    family = GaussianMixture(1, reg_covar=0.0, missing="learn")
    start = family.from_arrays(
        {"weights": [1.0], "means": np.zeros((1, 3)), "covariances": [np.eye(3)]}  # type: ignore[dict-item]
    )
    data = InMemory(family, X, np.ones(400), rng)
    params = run_em(family, start, data, tol=1e-15, max_iter=2000).params
    assert_allclose(params.means[0], mean, rtol=1e-6)
    assert_allclose(params.covariances[0], covariance, rtol=1e-5)


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_a_feature_that_a_component_never_has_keeps_its_variance(kind: CovarianceType) -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(200, 2)), rng.normal([30.0, 0.0], 1.0, size=(200, 2))])
    X[:200, 1] = np.nan
    family = family_with_gaps(kind, 2, reg_covar=1e-2)
    start = rules_of(family).with_spread(
        random_params(family, np.array([[0.0, 5.0], [30.0, 0.0]]), rng), np.ones(2)
    )
    before = full_covariances(start)[0, 1, 1]
    data = InMemory(family, X, np.ones(400), rng)
    params = run_em(family, start, data, tol=-1.0, max_iter=200).params
    after = full_covariances(params)[0, 1, 1]
    assert params.means[0, 1] == pytest.approx(5.0, abs=1.0)
    assert after == pytest.approx(before, rel=0.6)


@kinds
def test_the_comparable_loss_of_a_gaussian_does_not_depend_on_the_share_of_gaps(
    kind: CovarianceType,
) -> None:
    family = family_with_gaps(kind, 1)
    params = random_params(family, np.zeros((1, 5)), np.random.default_rng(3))
    X, w = family.sample(params, 40_000, np.random.default_rng(0))[0], np.ones(40_000)
    losses, plain = [], []
    for share in (0.0, 0.2, 0.6):
        Y = with_gaps(X, share)
        stats = family.e_step(params, Y, w)
        losses.append(rules_of(family).comparable_loss(stats, params, Y, w))
        plain.append(family.loss(stats))
    assert_allclose(losses, losses[0], atol=0.03)
    assert max(plain) - min(plain) > 1.0


def test_a_point_without_any_value_is_refused() -> None:
    family = family_with_gaps("full", 1)
    params = random_params(family, np.zeros((1, 2)), np.random.default_rng(0))
    with pytest.raises(ValueError, match="all its values are missing"):
        family.e_step(params, np.full((1, 2), np.nan), np.ones(1))


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_anomaly_scores_of_points_with_different_gaps_are_comparable(kind: CovarianceType) -> None:
    family = family_with_gaps(kind, 1)
    params = random_params(family, np.zeros((1, 5)), np.random.default_rng(3))
    X = family.sample(params, 40_000, np.random.default_rng(0))[0]
    means = [anomaly_score(family, params, with_gaps(X, share)).mean() for share in (0, 0.2, 0.6)]
    assert_allclose(means, means[0], atol=0.03)
    gaps = with_gaps(X[:100], 0.4)
    found = point_scores(family, params, gaps, np.zeros(100, int), ("log_density", "anomaly"))
    assert_allclose(found["log_density"], family.score_points(params, gaps))
    stats = family.e_step(params, gaps, np.ones(100))
    loss = rules_of(family).comparable_loss(stats, params, gaps, np.ones(100))
    assert found["anomaly"].mean() == pytest.approx(loss)
    complete = anomaly_score(family, params, X[:50])
    assert complete.tolist() == (-family.score_points(params, X[:50])).tolist()
