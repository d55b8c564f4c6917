"""Spherical K-means: unit vectors, the m-step, and distances of 1 - cos."""

from __future__ import annotations

import warnings
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import KMeans
from streamclust.errors import DataError
from streamclust.fitting.fit import fit
from streamclust.models.directions import distinct_directions, normalized
from streamclust.models.family import StepOutputs, from_hyperparameters, to_hyperparameters
from streamclust.models.kmeans import KMeansParams
from streamclust.models.quantize import quantize
from streamclust.models.stats import decay, merge
from tests.support.directions import directions, unit
from tests.support.strategies import assert_same_stats, laws

COSINE = KMeans(3, metric="cosine")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [1e-300, 1e-38, 1e-20, 1.0, 3.0, 1e20, 1e38, 1e300])
def test_points_of_any_length_become_unit_vectors_of_their_type(dtype: Any, factor: float) -> None:
    U = unit(np.random.default_rng(0).normal(size=(50, 7)))
    with np.errstate(over="ignore", under="ignore"):
        X = (U * factor).astype(dtype)
    if not np.isfinite(X).all() or not X.any(axis=1).all():
        return  # no such numbers in float32
    found = normalized(X)
    assert found.dtype == dtype
    few_digits = 1e-2 if dtype == np.float32 and factor == 1e-38 else 1e-6
    assert_allclose(found, U, atol=few_digits if dtype == np.float32 else 1e-14)
    assert normalized(found) is found


def test_the_smallest_and_the_largest_numbers_have_a_direction() -> None:
    tiny, huge = np.finfo(np.float64).smallest_subnormal, np.finfo(np.float64).max
    X = np.array([[tiny, 0.0], [-tiny, tiny], [huge, huge], [huge, 0.0], [0.0, 1.0]])
    wanted = [[1, 0], [-(0.5**0.5), 0.5**0.5], [0.5**0.5, 0.5**0.5], [1, 0], [0, 1]]
    assert_allclose(normalized(X), wanted, rtol=1e-15)


def test_a_zero_vector_is_refused_by_its_place() -> None:
    with pytest.raises(DataError, match="2 rows of X, the first at index 1: zero vector"):
        normalized(np.array([[1.0, 0.0], [0.0, 0.0], [3.0, 4.0], [-0.0, 0.0]]))
    assert normalized(np.empty((0, 3))).shape == (0, 3)


def test_directions_that_differ_by_rounding_are_one() -> None:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(6, 40))
    X = normalized(few[rng.integers(6, size=500)] * rng.uniform(0.1, 9.0, size=(500, 1)))
    assert len(np.unique(X, axis=0)) > 6
    found, weight = distinct_directions(X, np.full(500, 2.0))
    assert found.shape == (6, 40)
    assert weight.sum() == 1000.0


@given(seed=st.integers(0, 10**6), K=st.integers(1, 4), D=st.integers(1, 5))
@laws
def test_the_e_step_is_that_of_cosines(seed: int, K: int, D: int) -> None:
    rng = np.random.default_rng(seed)
    X, U, w = rng.normal(size=(30, D)), unit(rng.normal(size=(K, D))), rng.uniform(0.1, 2.0, 30)
    family, params = KMeans(K, metric="cosine"), KMeansParams(U)
    points = np.asarray(family.prepare(X))
    stats = family.e_step(params, points, w)
    cosines = points @ U.T
    assert_allclose(stats.objective, w @ (1.0 - cosines.max(axis=1)), atol=1e-13)
    assert_allclose(family.score_points(params, 7.0 * X), 1.0 - cosines.max(axis=1), atol=1e-13)
    assert_allclose(family.distances(params, X), 1.0 - cosines, atol=1e-13)
    assert_allclose(family.squared_distances(params, X), 2.0 - 2.0 * cosines, atol=1e-13)
    scores = family.batch_step(params, points, w, StepOutputs(scores=True)).scores
    assert scores is not None
    assert_allclose(scores, 1.0 - cosines.max(axis=1), atol=1e-13)
    labels = family.predict(params, X)
    assert_allclose(cosines[np.arange(30), labels], cosines.max(axis=1), atol=1e-13)
    # The m-step is the direction of each cluster's sum, also of statistics about other points.
    sums = np.stack([w[labels == k] @ points[labels == k] for k in range(K)])
    length = np.linalg.norm(sums, axis=1)
    wanted = np.where(length[:, None] > 0.0, sums / np.where(length, length, 1.0)[:, None], U)
    assert_allclose(family.m_step(stats, params).centroids, wanted, atol=1e-12)
    older = family.e_step(KMeansParams(unit(U + 0.1)), points, w)
    sums_of_both = merge(decay(older, 0.5), stats)
    assert_allclose(family.m_step(sums_of_both, params).means ** 2 @ np.ones(D), 1.0, atol=1e-14)


def test_statistics_are_additive_and_decay_as_sums() -> None:
    X = COSINE.prepare(directions(90, 3, 4)[0])
    params = KMeansParams(X[:3])
    parts = [COSINE.e_step(params, part, np.ones(len(part))) for part in np.split(X, [10, 60])]
    whole = COSINE.e_step(params, X, np.ones(90))
    assert_same_stats(merge(merge(parts[0], parts[1]), parts[2]), whole)
    assert_allclose(
        COSINE.m_step(decay(whole, 1e-9), params).centroids,
        COSINE.m_step(whole, params).centroids,
        atol=1e-14,
    )


@pytest.mark.parametrize("x", [[1.0], [3.0, 4.0], [0.1] * 7])
def test_a_cluster_whose_sum_is_zero_keeps_its_centroid(x: list[float]) -> None:
    family, X = KMeans(1, metric="cosine"), np.array([x, np.multiply(x, -2.0)])
    points = family.prepare(X)
    params = KMeansParams(points[:1])
    stats = family.e_step(params, points, np.ones(2))
    assert_array_equal(family.m_step(stats, params).centroids, points[:1])
    run = fit(family, X)
    assert_allclose(run.loss, 1.0)
    assert_allclose(np.linalg.norm(run.params.means, axis=1), 1.0)


def test_given_centroids_become_unit_vectors_and_keep_their_bits_then() -> None:
    params = COSINE.from_arrays({"centroids": np.array([[2.0, 0.0], [1.0, 1.0], [0.0, -1e-200]])})
    assert_allclose(params.centroids, [[1, 0], [0.5**0.5] * 2, [0, -1]])
    again = COSINE.from_arrays(COSINE.to_arrays(params))
    assert_array_equal(again.centroids, params.centroids)
    with pytest.raises(DataError, match="centroid 1 is a zero vector"):
        COSINE.from_arrays({"centroids": np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]])})


def test_codes_have_the_similarity() -> None:
    X, _ = directions(40, 3, 5)
    run = fit(COSINE, X)
    for codes in (quantize(COSINE, run.params, X), quantize(COSINE, run.params, 1e200 * X, top=2)):
        cosines = unit(X) @ run.params.centroids.T
        assert codes.similarity is not None
        assert_allclose(codes.similarity, cosines.max(axis=1), atol=1e-14)
        assert_allclose(codes.distance, 1.0 - codes.similarity, atol=1e-15)
        assert_array_equal(codes.index, cosines.argmax(axis=1))
        assert len(codes[3:5].similarity) == 2  # type: ignore[arg-type]
    assert codes.top_values is not None
    assert_allclose(codes.top_values, 1.0 - np.sort(cosines)[:, :0:-1], atol=1e-14)
    assert quantize(KMeans(3), run.params, X).similarity is None


def test_a_model_from_before_there_was_a_metric_is_euclidean() -> None:
    assert "metric" not in to_hyperparameters(KMeans(3))
    stored = to_hyperparameters(COSINE)
    assert stored["metric"] == "cosine"
    assert from_hyperparameters(KMeans, stored) == COSINE
    assert from_hyperparameters(KMeans, {"n_clusters": 3}).metric == "euclidean"
    assert COSINE.with_components(5) == KMeans(5, metric="cosine")
    with pytest.raises(DataError, match="metric is 'angle'; expected euclidean, cosine"):
        KMeans(3, metric="angle")  # type: ignore[arg-type]


def test_nothing_warns_of_overflow() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        normalized(np.array([[1e300, 1e300], [1e-300, 0.0]]))
