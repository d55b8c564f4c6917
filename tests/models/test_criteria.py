"""The usual figures, against scikit-learn's and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture as Theirs

from streamclust import KMeans, KMeansParams
from streamclust.fitting.fit import fit
from streamclust.models.criteria import (
    criteria,
    kmeans_log_likelihood,
    kmeans_parameters,
    mixture_parameters,
    silhouette,
)
from tests.support.strategies import COVARIANCE_TYPES, blobs


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_criteria_of_a_mixture_are_scikit_learn_s(kind: str) -> None:
    X = np.random.default_rng(0).normal(size=(200, 3))
    theirs = Theirs(4, covariance_type=kind, random_state=0, max_iter=5, tol=1e9).fit(X)
    found = criteria(200 * theirs.score(X), mixture_parameters(4, 3, kind), 200)
    assert found.bic == pytest.approx(theirs.bic(X))
    assert found.aic == pytest.approx(theirs.aic(X))


def test_k_means_counts_as_equal_spherical_gaussians() -> None:
    # Given clusters so far apart that their densities don't overlap
    X, _ = blobs(50, np.array([[0.0, 0.0], [1e3, 0.0], [0.0, 1e3]]))
    run = fit(KMeans(3), X)
    # Then the likelihood is that of the mixture with the variance of all points of all clusters
    variance = run.stats.objective / (2 * len(X))
    densities = [multivariate_normal(mean, variance).pdf(X) / 3.0 for mean in run.params.centroids]
    expected = np.log(np.sum(densities, axis=0)).sum()
    assert kmeans_log_likelihood(run.stats) == pytest.approx(expected)
    assert kmeans_parameters(3, 2) == 3 * 2 + 2 + 1


def test_points_that_sit_on_their_centroids_are_infinitely_likely() -> None:
    X = np.array([[0.0], [1.0], [1.0]])
    family = KMeans(2)
    stats = family.e_step(KMeansParams(np.array([[0.0], [1.0]])), X, np.ones(3))
    assert kmeans_log_likelihood(stats) == float("inf")


@pytest.mark.parametrize("seed", range(5))
def test_the_silhouette_is_scikit_learn_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, labels = rng.normal(size=(60, 3)), rng.integers(0, 5, 60)
    labels[0] = 7  # alone
    assert silhouette(X, labels) == pytest.approx(silhouette_score(X, labels))


def test_the_edges_of_the_silhouette() -> None:
    X = np.array([[0.0], [0.0], [5.0], [5.0]])
    assert silhouette(X, np.zeros(4, dtype=np.intp)) is None
    assert silhouette(X, np.array([0, 0, 1, 1])) == 1.0
    assert silhouette(X, np.arange(4)) == 0.0
    assert silhouette(np.zeros((4, 1)), np.array([0, 0, 1, 1])) == 0.0
