"""Scores of points by name, against densities of SciPy and distances by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from streamclust.errors import DataError
from streamclust.models import GaussianMixture, KMeans, KMeansParams, MixtureParams
from streamclust.models.feature_distribution import FeatureDistribution
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.models.scores import NO_DISTRIBUTIONS, Distributions, anomaly_score, point_scores

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 2))
C = np.array([[[2.0, 0.5], [0.5, 1.0]], [[1.0, 0.0], [0.0, 4.0]]])
PARAMS = MixtureParams(np.array([0.3, 0.7]), np.array([[0.0, 0.0], [2.0, 1.0]]), C, "full")
MIXTURE = GaussianMixture(2)


def test_scores_of_a_mixture_are_log_densities_and_mahalanobis_distances() -> None:
    index = MIXTURE.predict(PARAMS, X)
    found = point_scores(MIXTURE, PARAMS, X, index, ["log_density", "mahalanobis", "anomaly"])
    density = sum(
        w * multivariate_normal(m, c).pdf(X)
        for w, m, c in zip(PARAMS.weights, PARAMS.means, C, strict=True)
    )
    np.testing.assert_allclose(found["log_density"], np.log(density))
    np.testing.assert_array_equal(found["anomaly"], -found["log_density"])
    d = X - PARAMS.means[index]
    square = np.einsum("nd,nde,ne->n", d, np.linalg.inv(C)[index], d)
    np.testing.assert_allclose(found["mahalanobis"], np.sqrt(square))


def test_scores_of_kmeans_are_distances_in_scaled_features() -> None:
    family, scale = KMeans(2), np.array([1.0, 10.0])
    params = KMeansParams(PARAMS.means, scale)
    index = family.predict(params, X)
    found = point_scores(family, params, X, index, ["scaled_distance", "anomaly"])
    wanted = np.linalg.norm((X - PARAMS.means[index]) / scale, axis=1)
    np.testing.assert_allclose(found["scaled_distance"], wanted)
    np.testing.assert_allclose(found["anomaly"], wanted**2)


def test_a_quantile_is_the_rank_among_the_remembered_scores() -> None:
    known = ScoreDistribution().add(anomaly_score(MIXTURE, PARAMS, RNG.normal(size=(5000, 2))))
    index = MIXTURE.predict(PARAMS, X)
    found = point_scores(MIXTURE, PARAMS, X, index, ["quantile"], Distributions(known))
    np.testing.assert_array_equal(
        found["quantile"], known.quantile(anomaly_score(MIXTURE, PARAMS, X))
    )
    for nothing in (NO_DISTRIBUTIONS, Distributions(ScoreDistribution())):
        none = point_scores(MIXTURE, PARAMS, X, index, ["quantile"], nothing)
        assert np.isnan(none["quantile"]).all()


@pytest.mark.parametrize("name", ["log_density", "mahalanobis", "x"])
def test_a_score_that_the_family_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"kmeans has no score '{name}'"):
        point_scores(KMeans(2), KMeansParams(PARAMS.means), X, np.zeros(50, int), [name])


def test_tail_scores_take_the_place_of_the_anomaly_score() -> None:
    features = FeatureDistribution().add(X)
    scores = features.scores(X)
    known = Distributions(ScoreDistribution().add(scores), features, "tail_score")
    index, names = MIXTURE.predict(PARAMS, X), ["anomaly", "tail_score", "quantile", "log_density"]
    found = point_scores(MIXTURE, PARAMS, X, index, names, known)
    assert list(found) == names
    np.testing.assert_array_equal(found["anomaly"], scores)
    np.testing.assert_array_equal(found["tail_score"], scores)
    np.testing.assert_array_equal(
        found["quantile"], ScoreDistribution().add(scores).quantile(scores)
    )
    np.testing.assert_array_equal(found["log_density"], MIXTURE.score_points(PARAMS, X))
    np.testing.assert_array_equal(anomaly_score(MIXTURE, PARAMS, X, known), scores)
    # beside the score of the family
    beside = point_scores(MIXTURE, PARAMS, X, index, names, Distributions(None, features))
    np.testing.assert_array_equal(beside["anomaly"], anomaly_score(MIXTURE, PARAMS, X))
    np.testing.assert_array_equal(beside["tail_score"], scores)
    nothing = point_scores(MIXTURE, PARAMS, X, index, ["tail_score"])
    assert np.isnan(nothing["tail_score"]).all()
