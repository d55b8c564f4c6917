"""K-means of points with gaps: partial distances by brute force, and the laws of the step."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import KMeans, KMeansParams, kernels
from streamclust.arrays import Array
from streamclust.errors import DataError
from streamclust.fitting.em import InMemory, run_em
from streamclust.kernels import find_patterns
from streamclust.models import partial
from streamclust.models.family import StepOutputs
from streamclust.models.quantize import quantize
from streamclust.models.revive import reseed
from streamclust.models.stats import merge
from tests.support.gaps import family_with_gaps, problems_with_gaps, with_gaps
from tests.support.strategies import assert_same_stats, blobs, laws


def distances(X: Array, centroids: Array) -> Array:
    """Return D / |o| sum_o (x - u)^2, by its definition."""
    square = np.nansum((X[:, None, :] - centroids) ** 2, axis=2)
    return np.asarray(square * (X.shape[1] / (~np.isnan(X)).sum(axis=1))[:, None])


@given(data=st.data())
@laws
def test_partial_distances_are_those_of_the_definition(data: st.DataObject) -> None:
    p: Any = data.draw(problems_with_gaps("kmeans"))
    wanted = distances(p.X, p.params.centroids)
    assert_allclose(p.family.squared_distances(p.params, p.X), wanted, rtol=1e-12, atol=1e-12)
    assert_allclose(
        p.family.score_points(p.params, p.X), wanted.min(axis=1), rtol=1e-12, atol=1e-12
    )
    labels = p.family.predict(p.params, p.X)
    assert_allclose(wanted[np.arange(len(p.X)), labels], wanted.min(axis=1), rtol=1e-12, atol=1e-12)
    stats, assigned = p.family.batch_step(p.params, p.X, p.w, StepOutputs())[:2]
    assert_array_equal(assigned.labels, labels)
    assert stats.objective == pytest.approx(float(p.w @ wanted.min(axis=1)))
    codes = quantize(p.family, p.params, p.X)
    assert_array_equal(codes.index, labels)
    assert_allclose(codes.distance**2, wanted.min(axis=1), rtol=1e-9, atol=1e-9)


@given(data=st.data())
@laws
def test_the_statistics_have_the_centroid_in_place_of_a_missing_value(data: st.DataObject) -> None:
    p = data.draw(problems_with_gaps("kmeans"))
    stats = p.family.e_step(p.params, p.X, p.w)
    centroids, labels = p.params.centroids, p.family.predict(p.params, p.X)
    for k, centroid in enumerate(centroids):
        own = labels == k
        filled = np.where(np.isnan(p.X[own]), centroid, p.X[own])
        assert_allclose(stats.weight[k], p.w[own].sum(), rtol=1e-12)
        assert_allclose(stats.first[k], p.w[own] @ (filled - centroid), rtol=1e-9, atol=1e-9)


@given(data=st.data())
@laws
def test_the_step_of_a_cut_is_the_sum_of_the_steps(data: st.DataObject) -> None:
    p = data.draw(problems_with_gaps("kmeans", min_points=2))
    cut = data.draw(st.integers(1, len(p.X) - 1))
    parts = (p.family.e_step(p.params, p.X[part], p.w[part]) for part in (np.s_[:cut], np.s_[cut:]))
    assert_same_stats(p.family.e_step(p.params, p.X, p.w), merge(*parts))


@pytest.mark.parametrize("D", [2, 9, 30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_of_one_pattern_have_the_bits_of_their_present_features(D: int, dtype: Any) -> None:
    rng = np.random.default_rng(D)
    X = with_gaps(rng.normal(size=(400, D)), 0.4).astype(dtype)
    centroids = rng.normal(size=(7, D))
    found = partial.assign(X, centroids)
    for rows, absent in zip(find_patterns(X).rows, find_patterns(X).absent, strict=True):
        labels, squared_distances = kernels.assign(X[rows][:, ~absent], centroids[:, ~absent])
        assert_array_equal(found.labels[rows], labels)
        assert (
            found.squared_distances[rows].tobytes()
            == (squared_distances * (D / (~absent).sum())).tobytes()
        )


def test_without_a_gap_the_bits_are_those_of_complete_points() -> None:
    X, w = np.random.default_rng(0).normal(size=(100, 4)), np.ones(100)
    params = KMeansParams(X[:5])
    one, other = (
        KMeans(5, missing=missing).e_step(params, X, w) for missing in ("learn", "reject")
    )
    assert one.first.tobytes() == other.first.tobytes()
    assert one.objective == other.objective


def test_a_step_never_raises_the_squared_differences_of_the_present_values() -> None:
    X = with_gaps(blobs(100, 5.0 * np.eye(4, 6))[0], 0.5)
    family, params = family_with_gaps("kmeans", 4), KMeansParams(np.nan_to_num(X[:4]))
    costs = []
    for _ in range(100):
        stats, assigned = family.batch_step(params, X, np.ones(len(X)), StepOutputs())[:2]
        costs.append(float(np.nansum((X - params.centroids[assigned.labels]) ** 2)))
        params = family.m_step(stats, params)
    assert (np.diff(costs) <= 1e-9 * costs[0]).all()
    # The fixed point: the average of the present values of each cluster.
    for k in range(4):
        own = X[assigned.labels == k]
        assert_allclose(params.centroids[k], np.nanmean(own, axis=0), atol=1e-6)


def test_published_scales_count_in_partial_distances() -> None:
    family = family_with_gaps("kmeans", 2)
    params = KMeansParams(np.array([[0.0, 0.0], [1.0, 100.0]]), np.array([0.1, 100.0]))
    X = np.array([[0.6, np.nan], [np.nan, 40.0], [0.9, 0.0]])
    assert family.predict(params, X).tolist() == [1, 0, 1]
    assert_allclose(family.score_points(params, X)[:2], [2.0 * 16.0, 2.0 * 0.16])


def test_squares_that_would_underflow_are_compared_in_other_units() -> None:
    family, unit = family_with_gaps("kmeans", 2), 1e-200
    X = unit * np.array([[0.0, np.nan], [np.nan, 9.0], [1.0, 0.0], [9.0, 9.0]])
    params = KMeansParams(unit * np.array([[0.0, 0.0], [9.0, 9.0]]))
    stats = family.e_step(params, X, np.ones(4))
    assert stats.weight.tolist() == [2.0, 2.0]
    assert family.predict(params, X).tolist() == [0, 1, 0, 1]


def test_the_metric_cosine_and_gaps_exclude_each_other() -> None:
    with pytest.raises(DataError, match="metric cosine needs all values"):
        KMeans(2, metric="cosine", missing="learn")
    with pytest.raises(DataError, match="missing is 'skip'; expected reject, learn"):
        KMeans(2, missing="skip")  # type: ignore[arg-type]


def test_a_dying_cluster_moves_to_a_complete_place() -> None:
    X = with_gaps(blobs(50, [[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])[0], 0.3)
    family = family_with_gaps("kmeans", 2)
    params = KMeansParams(np.array([[0.0, 0.0, 0.0], [500.0, 500.0, 500.0]]))
    stats = family.e_step(params, X, np.ones(100))
    found, revived = reseed(stats, [1], X, np.ones(100), np.random.default_rng(0))
    assert revived == (1,)
    assert found.mass == pytest.approx(stats.mass)
    data = InMemory(family, X, np.ones(100), np.random.default_rng(0))
    centroids = run_em(family, family.m_step(found, params), data).params.centroids
    assert_allclose(np.sort(centroids.mean(axis=1)), [0.0, 9.0], atol=0.5)
