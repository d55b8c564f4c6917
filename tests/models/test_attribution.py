"""Attribution as laws, and against the conditional Gaussian of each feature given the others."""

from __future__ import annotations

import numpy as np
import pytest

from streamclust.arrays import Array
from streamclust.models import GaussianMixture, KMeans, KMeansParams, MixtureParams
from streamclust.models.attribution import attribution
from streamclust.models.covariance import COVARIANCES
from streamclust.models.precision import mahalanobis

TYPES = ["full", "tied", "diag", "spherical"]


def mixture(kind: str, K: int = 3, D: int = 4, seed: int = 0) -> MixtureParams:
    """A mixture whose features have very different units."""
    rng = np.random.default_rng(seed)
    units = 10.0 ** np.arange(-2, D - 2) if kind != "spherical" else np.ones(D)
    means = rng.normal(size=(K, D)) * units
    roots = rng.normal(size=(K, D, D)) * units[:, None]
    covariances = {
        "full": roots @ roots.swapaxes(1, 2) + 0.1 * np.diag(units**2),
        "tied": roots[0] @ roots[0].T + 0.1 * np.diag(units**2),
        "diag": rng.uniform(0.5, 2.0, (K, D)) * units**2,
        "spherical": rng.uniform(0.5, 2.0, K),
    }[kind]
    return MixtureParams(np.full(K, 1.0 / K), means, covariances, kind)  # type: ignore[arg-type]


def matrices(params: MixtureParams) -> Array:
    """One covariance matrix per component."""
    K, D = params.means.shape
    if params.covariance_type in ("full", "tied"):
        return np.broadcast_to(params.covariances, (K, D, D))
    variances = COVARIANCES[params.covariance_type].variances(params.covariances, K, D)
    return np.stack([np.diag(each) for each in variances])


def squared(x: Array, mean: Array, C: Array) -> float:
    return float((x - mean) @ np.linalg.solve(C, x - mean)) if len(x) else 0.0


@pytest.mark.parametrize("kind", TYPES)
def test_a_contribution_is_what_the_distance_falls_by_without_the_feature(kind: str) -> None:
    params = mixture(kind)
    X = params.means.repeat(5, axis=0) * 1.5 + 0.1
    index = np.arange(3).repeat(5)
    found = attribution(GaussianMixture(3, kind), params, X, index)  # type: ignore[arg-type]
    for x, k, contribution, expected in zip(
        X, index, found.contribution, found.expected, strict=True
    ):
        mean, C = params.means[k], matrices(params)[k]
        for j in range(len(x)):
            rest = np.delete(np.arange(len(x)), j)
            fall = squared(x, mean, C) - squared(x[rest], mean[rest], C[np.ix_(rest, rest)])
            np.testing.assert_allclose(contribution[j], fall, rtol=1e-7, atol=1e-9)
            gain = np.linalg.solve(C[np.ix_(rest, rest)], C[rest, j])
            conditional = mean[j] + gain @ (x[rest] - mean[rest])
            np.testing.assert_allclose(expected[j], conditional, rtol=1e-9)
            variance = C[j, j] - gain @ C[rest, j]
            np.testing.assert_allclose(contribution[j], (x[j] - conditional) ** 2 / variance)
    assert (found.contribution >= 0.0).all()
    np.testing.assert_allclose(found.share.sum(axis=1), 1.0)


@pytest.mark.parametrize("kind", TYPES)
def test_a_missing_feature_counts_as_if_it_did_not_exist(kind: str) -> None:
    params = mixture(kind)
    X, index = params.means[[0, 1, 1, 2]] + 0.3, np.array([0, 1, 1, 2])
    gaps = X.copy()
    gaps[0, 1] = gaps[2, 0] = gaps[2, 3] = np.nan
    found = attribution(GaussianMixture(3, kind), params, gaps, index)  # type: ignore[arg-type]
    distance = mahalanobis(params, gaps, index)
    for n, k in enumerate(index):
        there = np.flatnonzero(~np.isnan(gaps[n]))
        mean, C = params.means[k][there], matrices(params)[k][np.ix_(there, there)]
        np.testing.assert_allclose(distance[n] ** 2, squared(gaps[n][there], mean, C), atol=1e-12)
        alone = MixtureParams(np.ones(1), mean[None], C[None], "full")
        part = attribution(GaussianMixture(1), alone, gaps[n : n + 1, there], np.zeros(1, int))
        np.testing.assert_allclose(found.contribution[n, there], part.contribution[0], rtol=1e-9)
        np.testing.assert_allclose(found.expected[n, there], part.expected[0], rtol=1e-9)
    assert (found.contribution[np.isnan(gaps)] == 0.0).all()
    assert not np.isnan(found.expected).any()


def test_independent_features_share_the_squared_distance() -> None:
    params = mixture("diag")
    X, index = params.means + 1.0, np.arange(3)
    found = attribution(GaussianMixture(3, "diag"), params, X, index)
    total = found.contribution.sum(axis=1)
    np.testing.assert_allclose(total, mahalanobis(params, X, index) ** 2)


def test_a_feature_that_only_contradicts_the_others_is_found() -> None:
    """Both values are within two standard deviations, but they always rise together."""
    C = np.array([[[1.0, 0.99, 0.0], [0.99, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    params = MixtureParams(np.ones(1), np.zeros((1, 3)), C, "full")
    found = attribution(GaussianMixture(1), params, np.array([[1.0, -1.0, 2.0]]), np.zeros(1, int))
    assert set(found.top(2)[0].tolist()) == {0, 1}
    np.testing.assert_allclose(found.expected[0], [-0.99, 0.99, 0.0], atol=1e-12)


def test_units_of_a_feature_do_not_matter() -> None:
    params, unit = mixture("full"), np.array([1.0, 1e8, 1e-8, 3.0])
    X, index = params.means + 0.5, np.arange(3)
    other = MixtureParams(
        params.weights, params.means * unit, params.covariances * np.outer(unit, unit), "full"
    )
    family = GaussianMixture(3)
    one, two = (
        attribution(family, params, X, index),
        attribution(family, other, X * unit, index),
    )
    np.testing.assert_allclose(one.contribution, two.contribution, rtol=1e-9)
    np.testing.assert_allclose(one.expected * unit, two.expected, rtol=1e-9)


def test_contributions_of_kmeans_sum_to_the_score() -> None:
    rng = np.random.default_rng(0)
    U, X, scale = rng.normal(size=(4, 3)), rng.normal(size=(20, 3)), np.array([1.0, 10.0, 0.1])
    family = KMeans(4)
    for params in (KMeansParams(U), KMeansParams(U, scale)):
        index = family.predict(params, X)
        found = attribution(family, params, X, index)
        np.testing.assert_allclose(
            found.contribution.sum(axis=1), family.score_points(params, X), rtol=1e-12
        )
        np.testing.assert_array_equal(found.expected, U[index])


def test_contributions_of_directions_sum_to_the_cosine_distance() -> None:
    rng = np.random.default_rng(0)
    family = KMeans(4, metric="cosine")
    params = family.from_arrays({"centroids": rng.normal(size=(4, 3))})
    X: Array = rng.normal(size=(20, 3)) * 10.0 ** rng.integers(-200, 200, (20, 1))
    index = family.predict(params, X)
    found = attribution(family, params, X, index)
    np.testing.assert_allclose(
        found.contribution.sum(axis=1), family.score_points(params, X), rtol=1e-9
    )
    length = np.linalg.norm(X / np.abs(X).max(axis=1, keepdims=True), axis=1)
    np.testing.assert_allclose(
        found.expected / np.abs(X).max(axis=1, keepdims=True),
        length[:, None] * params.means[index],
    )


def test_the_top_features_come_first_and_shares_of_nothing_are_zero() -> None:
    family, params = KMeans(1), KMeansParams(np.zeros((1, 4)))
    X = np.array([[1.0, -3.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    found = attribution(family, params, X, np.zeros(2, int))
    assert found.top(2).tolist() == [[1, 3], [0, 1]]
    np.testing.assert_allclose(found.share, [[1 / 14, 9 / 14, 0.0, 4 / 14], [0.0] * 4])
