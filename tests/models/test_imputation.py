"""Imputation and regression by a mixture, against closed forms and integrals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad

from streamclust import GaussianMixture, KMeans, KMeansParams
from streamclust.arrays import CovarianceType
from streamclust.errors import DataError
from streamclust.models import conditionals
from streamclust.models.imputation import impute, predict_conditional
from tests.support.gaps import correlated_blobs, full_covariances, with_gaps
from tests.support.strategies import COVARIANCE_TYPES, random_params

ONE = GaussianMixture(1)


def gaussian(mean: Any, covariance: Any) -> Any:
    return ONE.from_arrays({"weights": [1.0], "means": [mean], "covariances": [covariance]})  # type: ignore[dict-item]


def mixture(kind: CovarianceType, K: int = 3, D: int = 4) -> tuple[GaussianMixture, Any]:
    family, rng = GaussianMixture(K, kind), np.random.default_rng(0)
    return family, random_params(family, 3.0 * rng.normal(size=(K, D)), rng)


def test_one_gaussian_is_linear_regression() -> None:
    params = gaussian([1.0, 2.0, 3.0], [[2.0, 0.6, 0.2], [0.6, 1.0, 0.1], [0.2, 0.1, 4.0]])
    found = predict_conditional(ONE, params, [[1.5], [0.0]], targets=[2, 1])
    slopes = np.array([0.2, 0.6]) / 2.0
    assert_allclose(found.mean, [3.0, 2.0] + np.array([[0.5], [-1.0]]) * slopes)
    left = np.array([[4.0, 0.1], [0.1, 1.0]]) - 2.0 * np.outer(slopes, slopes)
    assert_allclose(found.covariance, [left, left])
    assert_allclose(found.variance, [left.diagonal()] * 2)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_mean_and_variance_are_those_of_the_conditional_density(kind: CovarianceType) -> None:
    family, params = mixture(kind)
    for x in np.random.default_rng(1).normal(size=(3, 3)):

        def density(y: float, x: Any = x) -> float:
            return float(np.exp(family.score_points(params, np.array([[x[0], y, *x[1:]]]))[0]))

        moments = [
            quad(lambda y, p=p: y**p * density(y), -40.0, 40.0, limit=200, points=[-3, 0, 3])[0]
            for p in range(3)
        ]
        found = predict_conditional(family, params, [x], targets=[1])
        mean = moments[1] / moments[0]
        assert found.mean[0, 0] == pytest.approx(mean, rel=1e-5, abs=1e-6)
        assert found.variance[0, 0] == pytest.approx(moments[2] / moments[0] - mean**2, rel=1e-4)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_imputed_values_are_predictions_of_each_gap(kind: CovarianceType) -> None:
    family, params = mixture(kind)
    X = with_gaps(np.random.default_rng(0).normal(size=(40, 4)), 0.4)
    found = impute(family, params, X)
    assert found.variances is not None
    present = ~np.isnan(X)
    assert_array_equal(found.X[present], X[present])
    assert (found.variances[present] == 0.0).all()
    for n, d in np.argwhere(~present)[:20]:
        others = np.delete(X[n], d)
        one = predict_conditional(family, params, [others], targets=[d])
        assert found.X[n, d] == pytest.approx(one.mean[0, 0])
        assert found.variances[n, d] == pytest.approx(one.variance[0, 0])


def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    family, params = mixture("full")
    X = with_gaps(np.random.default_rng(0).normal(size=(300, 4)), 0.4)
    before = impute(family, params, X)
    monkeypatch.setattr(conditionals, "_CELLS", 40)
    after = impute(family, params, X)
    assert before.variances is not None
    assert after.variances is not None
    assert_allclose(after.X, before.X, rtol=1e-12)
    assert_allclose(after.variances, before.variances, rtol=1e-12)


def test_the_error_of_imputed_values_is_as_large_as_their_variance_says() -> None:
    X, params = correlated_blobs(4000, 3, 5)
    gaps = with_gaps(X, 0.3)
    found = impute(GaussianMixture(3), params, gaps)
    assert found.variances is not None
    missing = np.isnan(gaps)
    z = (found.X - X)[missing] / np.sqrt(found.variances[missing])
    assert np.mean(z**2) == pytest.approx(1.0, abs=0.1)
    assert full_covariances(params).shape == (3, 5, 5)


def test_k_means_gives_the_values_of_the_nearest_centroid() -> None:
    params = KMeansParams(np.array([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]))
    found = impute(KMeans(2), params, [[9.0, np.nan, np.nan], [np.nan, 3.0, 1.0]])
    assert found.X.tolist() == [[9.0, 11.0, 12.0], [0.0, 3.0, 1.0]]
    assert found.variances is None


def test_complete_points_stay_as_they_are() -> None:
    family, params = mixture("diag")
    X = np.random.default_rng(0).normal(size=(5, 4))
    found = impute(family, params, X)
    assert found.X.tobytes() == X.tobytes()
    assert found.variances is not None
    assert not found.variances.any()


@pytest.mark.parametrize("targets", [[], [0, 0], [0, 1, 2, 3], [4], [-1], [1.5]])
def test_other_targets_are_refused(targets: Any) -> None:
    family, params = mixture("full")
    with pytest.raises(DataError, match="targets"):
        predict_conditional(family, params, np.zeros((1, 3)), targets)


def test_what_has_no_answer_is_refused() -> None:
    family, params = mixture("full")
    with pytest.raises(DataError, match="the first at index 1: all values are missing"):
        impute(family, params, [[1.0, 2.0, 3.0, 4.0], [np.nan] * 4])
    with pytest.raises(DataError, match="X has 4 features; expected 3"):
        predict_conditional(family, params, np.zeros((1, 4)), targets=[0])
    kmeans = KMeans(1)
    with pytest.raises(DataError, match="kind kmeans has no conditional distribution"):
        predict_conditional(kmeans, KMeansParams(np.zeros((1, 2))), [[0.0]], targets=[0])
    cosine = KMeans(1, metric="cosine")
    with pytest.raises(DataError, match="metric cosine needs all values"):
        impute(cosine, KMeansParams(np.array([[1.0, 0.0]])), [[1.0, np.nan]])
