"""Batch fits of points with gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamclust import GaussianMixture, KMeans, fit
from streamclust.arrays import CovarianceType
from streamclust.errors import DataError, TooFewPointsError
from streamclust.models.matching import match
from tests.support.exhaustive import some
from tests.support.gaps import family_with_gaps, full_covariances, with_gaps
from tests.support.strategies import COVARIANCE_TYPES, FAMILIES, blobs, family_of, random_params


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
def test_a_fit_without_gaps_has_the_same_bits_whether_gaps_are_learned_or_not(name: str) -> None:
    X, _ = blobs(60, [[0.0, 0.0], [6.0, 1.0], [-3.0, 5.0]])
    one, other = fit(family_with_gaps(name, 3), X), fit(family_of(name, 3), X)
    assert one.history == other.history
    family = family_of(name, 3)
    for a, b in zip(*(family.to_arrays(run.params).values() for run in (one, other)), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("kind", some(COVARIANCE_TYPES, "tied", "full"))
def test_with_30_percent_missing_at_random_parameters_are_within_sampling_error(
    kind: CovarianceType,
) -> None:
    K, D, n = 3, 4, 3000
    rng = np.random.default_rng(0)
    truth = random_params(GaussianMixture(K, kind), 5.0 * rng.normal(size=(K, D)), rng)
    X = GaussianMixture(K, kind).sample(truth, n, rng)[0]
    complete = fit(GaussianMixture(K, kind), X).params
    found = fit(GaussianMixture(K, kind, missing="learn"), with_gaps(X, 0.3)).params
    order = match(found.means, complete.means)
    variances = full_covariances(complete).diagonal(axis1=1, axis2=2)
    points = n / K
    # Standard errors of estimates from all points; the gaps make them larger by up to 1.2.
    assert (np.abs(found.means[order] - complete.means) < 4.0 * np.sqrt(variances / points)).all()
    size = np.sqrt(variances[:, :, None] * variances[:, None, :])
    moved = full_covariances(found)[order] - full_covariances(complete)
    assert (np.abs(moved) < 4.0 * size * np.sqrt(2.0 / points)).all()
    assert_allclose(found.weights[order], complete.weights, atol=4.0 * np.sqrt(0.25 / n))


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_k_means_finds_the_clusters_of_complete_points(share: float) -> None:
    X, _ = blobs(200, 8.0 * np.eye(5, 8))
    complete = fit(KMeans(5), X).params.centroids
    found = fit(KMeans(5, missing="learn"), with_gaps(X, share)).params.centroids
    assert_allclose(found[match(found, complete)], complete, atol=0.5)


@pytest.mark.parametrize(
    "family", [KMeans(5, min_clusters=1), GaussianMixture(5, min_components=1)]
)
def test_the_number_of_components_is_found_in_points_with_gaps(family: Any) -> None:
    X, _ = blobs(100, [[0.0] * 4, [12.0] * 4, [-12.0, 12.0, -12.0, 12.0]])
    learns = type(family)(5, missing="learn", **{_least(family): 1})
    assert len(fit(learns, with_gaps(X, 0.2)).params.means) == 3


def _least(family: Any) -> str:
    return "min_clusters" if family.kind == "kmeans" else "min_components"


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
def test_gaps_are_refused_unless_they_are_learned(name: str) -> None:
    with pytest.raises(DataError, match="X holds NaN"):
        fit(family_of(name, 1), [[0.0, np.nan], [1.0, 2.0]])


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
def test_a_feature_that_no_point_has_is_named(name: str) -> None:
    X = np.column_stack([np.arange(9.0), np.full(9, np.nan), np.arange(9.0)])
    with pytest.raises(TooFewPointsError, match=r"feature 1 .* missing in all 9 points"):
        fit(family_with_gaps(name, 2), X)


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
def test_too_few_distinct_points_and_points_too_near_are_refused_with_gaps(name: str) -> None:
    X = np.array([[0.0, np.nan], [0.0, 1.0], [0.0, np.nan]])
    with pytest.raises(TooFewPointsError, match="1 distinct points are too few for 2"):
        fit(family_with_gaps(name, 2), X)
    if name != "kmeans":
        with pytest.raises(DataError, match="are within 1e-150 of each other"):
            fit(family_with_gaps(name, 1), np.array([[0.0, np.nan], [1e-150, 0.0]]))


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
def test_weight_two_is_the_point_twice(name: str) -> None:
    X = with_gaps(blobs(40, [[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])[0], 0.3)
    twice = fit(family_with_gaps(name, 2), np.repeat(X, 2, axis=0))
    weighted = fit(family_with_gaps(name, 2), X, sample_weight=np.full(len(X), 2.0))
    assert twice.loss == pytest.approx(weighted.loss, rel=1e-4)
