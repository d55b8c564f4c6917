"""Scaled features: what is learned, and that the answers are in the data's units."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from sklearn.preprocessing import RobustScaler, StandardScaler

from streamclust import GaussianMixture, HalfLife, KMeans, StreamLearner, fit
from streamclust.errors import DataError
from streamclust.fitting.medoids import fit_medoids, mean_distance
from streamclust.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from streamclust.formats.model import Model
from streamclust.models import KMeansParams
from streamclust.models.quantize import quantize
from streamclust.models.scaling import Scaling, learn_scaling
from streamclust.online.drift import Drift
from tests.support.exhaustive import combinations
from tests.support.strategies import COVARIANCE_TYPES, mixture_of

UNITS = np.array([1e-3, 1.0, 1e4])


def blobs(n: int = 400, seed: int = 0) -> Any:
    """Three clusters in three features of very different units, far from the origin."""
    rng = np.random.default_rng(seed)
    means = np.array([[-6.0, 0.0, 6.0], [0.0, 6.0, -6.0], [6.0, -6.0, 0.0]])
    return (rng.normal(size=(n, 3)) + means[rng.integers(0, 3, n)] + 50.0) * UNITS


# ---- what is learned


@pytest.mark.parametrize("kind", ["standard", "robust"])
@pytest.mark.parametrize("sentinel", [-9999.0, 2147483647.0, 1e90])
def test_one_sentinel_sets_no_scale(kind: Any, sentinel: float) -> None:
    X = blobs() / UNITS
    X[:, 1] = np.repeat([0.0, 1.0, 2.0, 1.0], [40, 40, 40, 280])  # equal quartiles
    usual = learn_scaling(kind, X, np.ones(len(X)))
    X[7, :2] = sentinel
    found = learn_scaling(kind, X, np.ones(len(X)))
    assert usual is not None
    assert found is not None
    assert_allclose(found.scale, usual.scale, rtol=0.25)
    assert (np.abs(found.center - usual.center) < usual.scale).all()


def test_standard_is_scikit_learn_s() -> None:
    X = blobs()
    scaling = learn_scaling("standard", X, np.ones(len(X)))
    assert scaling is not None
    assert np.allclose(scaling.apply(X), StandardScaler().fit_transform(X), atol=1e-12)
    assert np.allclose(scaling.undo(scaling.apply(X)), X, rtol=1e-14)


def test_robust_is_scikit_learn_s_with_unit_variance_and_deaf_to_outliers() -> None:
    X = np.random.default_rng(0).normal(7.0, 3.0, size=(4001, 2))
    w = np.ones(len(X))
    clean = learn_scaling("robust", X, w)
    assert clean is not None
    assert np.allclose(clean.apply(X), RobustScaler(unit_variance=True).fit_transform(X), atol=1e-2)
    X[::100] = 1e9
    spoilt = learn_scaling("robust", X, w)
    assert spoilt is not None
    assert np.allclose(spoilt.scale, clean.scale, rtol=0.05)


@pytest.mark.parametrize("kind", ["standard", "robust"])
def test_a_weight_of_2_is_the_point_twice(kind: Any) -> None:
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(99, 2)), rng.integers(1, 4, 99)
    one = learn_scaling(kind, X, w.astype(float))
    other = learn_scaling(kind, np.repeat(X, w, axis=0), np.ones(w.sum()))
    assert one is not None
    assert other is not None
    assert np.allclose(one.scale, other.scale, rtol=1e-12)
    assert np.allclose(one.center, other.center, rtol=1e-12)


@pytest.mark.parametrize("kind", ["standard", "robust"])
def test_features_that_hardly_vary(kind: Any) -> None:
    X = np.column_stack([np.full(100, 0.1), np.arange(100.0), np.arange(100) >= 99])
    scaling = learn_scaling(kind, X, np.ones(100))
    assert scaling is not None
    assert scaling.scale[2] == pytest.approx(np.sqrt(0.0099))  # no quartiles: the deviation
    assert scaling.scale[0] == pytest.approx(scaling.scale[1:].mean())
    flat = learn_scaling(kind, np.ones((5, 2)), np.ones(5))
    assert flat is not None
    assert flat.scale.tolist() == [1.0, 1.0]
    assert learn_scaling("none", X, np.ones(100)) is None


@pytest.mark.parametrize("kind", ["standard", "robust"])
def test_missing_values_do_not_count(kind: Any) -> None:
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(50, 3)), rng.uniform(0.5, 2.0, 50)
    X[::2, 0] = X[1::3, 1] = X[:, 2] = np.nan
    found = learn_scaling(kind, X, w)
    assert found is not None
    for d in range(2):
        present = ~np.isnan(X[:, d])
        alone = learn_scaling(kind, X[present, d : d + 1], w[present])
        assert alone is not None
        assert (found.center[d], found.scale[d]) == (alone.center[0], alone.scale[0])
    # and a feature without a value has the average scale
    assert (found.center[2], found.scale[2]) == (0.0, found.scale[:2].mean())


def test_standard_is_the_weighted_mean_and_deviation() -> None:
    X, w = np.random.default_rng(0).normal(size=(50, 2)), np.repeat([1.0, 3.0], 25)
    found = learn_scaling("standard", X, w)
    assert found is not None
    assert_allclose(found.center, np.average(X, axis=0, weights=w), rtol=1e-12)
    assert_allclose(found.scale**2, np.average((X - found.center) ** 2, axis=0, weights=w))


def test_robust_is_the_weighted_median_and_the_range_of_the_quartiles() -> None:
    # Given values 0 to 8, of which cumulated weights reach a quarter at 2, and so on
    found = learn_scaling("robust", np.arange(9.0)[::-1, None], np.ones(9))
    assert found is not None
    assert found.center.tolist() == [4.0]
    assert found.scale[0] == pytest.approx((6.0 - 2.0) / (2.0 * norm.ppf(0.75)), rel=1e-12)
    # and at exactly a quarter, a half and three quarters, the lower value counts
    found = learn_scaling("robust", np.arange(4.0)[:, None], np.ones(4))
    assert found is not None
    assert found.center.tolist() == [1.0]
    assert found.scale[0] == pytest.approx(2.0 / (2.0 * norm.ppf(0.75)), rel=1e-12)


@pytest.mark.parametrize("kind", ["standard", "robust"])
def test_features_of_any_size_have_scales_in_their_units(kind: Any) -> None:
    X, units = np.random.default_rng(0).normal(size=(60, 3)), np.array([2.0**-600, 1.0, 2.0**300])
    usual = learn_scaling(kind, X, np.ones(60))
    found = learn_scaling(kind, X * units, np.ones(60))
    assert usual is not None
    assert found is not None
    assert_array_equal(found.scale, usual.scale * units)
    assert_array_equal(found.center, usual.center * units)


def test_only_points_below_2_to_the_minus_400_are_scaled_without_a_kind() -> None:
    X, w = np.array([[1.0, -0.25, 0.0], [-1.5, np.nan, 0.0]]), np.ones(2)
    assert learn_scaling("none", 2.0**-400 * X, w) is None
    assert learn_scaling("none", np.zeros((2, 2)), w) is None
    for exponent in (-401, -700):  # the largest magnitude is below 2^(exponent + 1)
        found = learn_scaling("none", 2.0**exponent * X, w)
        assert found is not None
        assert found.center.tolist() == [0.0, 0.0, 0.0]
        assert found.scale.tolist() == [2.0 ** (exponent + 301)] * 3


def test_scaled_points_are_clipped_and_volumes_are_products_of_scales() -> None:
    scaling = Scaling("standard", np.array([1.0, 2.0]), np.array([0.5, 4.0]))
    Z = scaling.apply(np.array([[2.0, 6.0], [1e200, -1e200]]))
    assert Z.tolist() == [[2.0, 1.0], [1e100, -1e100]]
    assert scaling.undo(np.array([[2.0, 1.0]])).tolist() == [[2.0, 6.0]]
    assert scaling.log_volume == pytest.approx(np.log(2.0))
    gaps, w = np.array([[np.nan, np.nan], [np.nan, 1.0], [1.0, np.nan]]), np.array([2.0, 3.0, 5.0])
    wanted = (2.0 + 3.0) * np.log(0.5) + (2.0 + 5.0) * np.log(4.0)
    assert scaling.missing_log_volume(gaps, w) == pytest.approx(wanted)


# ---- the learner


def learned(family: Any, scale: Any, X: Any = None) -> tuple[Any, Any]:
    learner = StreamLearner(family, HalfLife(500), warm_up=100, scale=scale, coreset=300)
    state = learner.init()
    for batch in np.split(blobs(1000) if X is None else X, 20):
        state, _ = learner.update(state, batch)
    return learner, state


@pytest.mark.parametrize("kind", ["standard", "robust"])
def test_it_is_learning_from_points_that_were_scaled_before(kind: Any) -> None:
    X = blobs(1000)
    learner, state = learned(KMeans(3), kind)
    scaling = learn_scaling(kind, X[:100], np.ones(100))
    assert scaling is not None
    _, before = learned(KMeans(3), "none", scaling.apply(X))
    assert state.params.centroids.tobytes() == before.params.centroids.tobytes()
    centroids = learner.in_units(state).centroids
    assert np.allclose(centroids, scaling.undo(before.params.centroids))


@pytest.mark.parametrize("kind", ["standard", "robust"])
@pytest.mark.parametrize(
    "family", [KMeans(3), *(GaussianMixture(3, type) for type in ("full", "tied", "diag"))], ids=str
)
def test_parameters_in_units_predict_as_those_of_scaled_points(family: Any, kind: Any) -> None:
    learner, state = learned(family, kind)
    params, X = learner.in_units(state), blobs(500, seed=1)
    Z = state.scaling.apply(X)
    assert family.predict(params, X).tolist() == family.predict(state.params, Z).tolist()
    points = family.score_points(params, X)
    if family.kind == "kmeans":
        assert np.allclose(points, family.score_points(state.params, Z), rtol=1e-9)
        assert learner.loss(state) == family.loss(state.stats)
    else:
        expected = family.score_points(state.params, Z) - np.log(state.scaling.scale).sum()
        assert np.allclose(points, expected, rtol=1e-9)
        gammas = family.responsibilities(params, X), family.responsibilities(state.params, Z)
        assert np.allclose(*gammas, atol=1e-9)
        # and the prequential score is that of the density of x
        assert learner.loss(state) == pytest.approx(-points.mean(), rel=0.02)


def test_units_of_the_feed_change_only_units_of_the_answer() -> None:
    learner, state = learned(KMeans(3), "robust")
    other, rescaled = learned(KMeans(3), "robust", blobs(1000) * [1e9, 1e-9, 7.0])
    expected = learner.in_units(state).centroids * [1e9, 1e-9, 7.0]
    assert np.allclose(other.in_units(rescaled).centroids, expected, rtol=1e-9)
    assert other.loss(rescaled) == pytest.approx(learner.loss(state), rel=1e-9)


def test_without_scaling_the_feature_of_the_largest_unit_decides() -> None:
    X = blobs(1000)
    truth = StandardScaler().fit_transform(X)
    inertia = {}
    for kind in ("none", "standard"):
        learner, state = learned(KMeans(3), kind, X)
        labels = learner.family.predict(learner.in_units(state), X)
        centers = np.array([truth[labels == k].mean(axis=0) for k in range(3)])
        inertia[kind] = ((truth - centers[labels]) ** 2).sum()
    assert inertia["standard"] <= inertia["none"]


def test_codes_are_of_the_scaled_metric_too() -> None:
    learner, state = learned(KMeans(3), "standard")
    params, X = learner.in_units(state), blobs(200, seed=1)
    codes = quantize(learner.family, params, X, top=3)
    distance = np.linalg.norm((X[:, None] - params.centroids) / params.scale, axis=2)
    assert codes.top is not None
    assert codes.top.tolist() == np.argsort(distance, axis=1).tolist()


def test_an_outlier_beyond_all_bounds_stays_finite() -> None:
    learner, state = learned(KMeans(3), "standard", np.random.default_rng(0).normal(size=(400, 2)))
    state, info = learner.update(state, [[1e100, -1e100]])
    params: Any = learner.in_units(state)
    assert np.isfinite(params.centroids).all()
    assert info.loss is not None


# ---- parameters


def test_scales_travel_with_the_centroids_and_are_checked() -> None:
    family = KMeans(2)
    params = KMeansParams(np.zeros((2, 2)), np.array([1.0, 2.0]))
    again = family.from_arrays(family.to_arrays(params))
    assert again.scale is not None
    assert again.scale.tolist() == [1.0, 2.0]
    for scale in ([1.0], [1.0, 0.0], [1.0, np.nan]):
        with pytest.raises(DataError, match="scale"):
            family.from_arrays({"centroids": params.centroids, "scale": np.array(scale)})


def test_scikit_learn_gets_a_pipeline_that_scales() -> None:
    learner, state = learned(KMeans(3), "robust")
    params, X = learner.in_units(state), blobs(300, seed=2)
    mass, at = state.stats.weight, {"points": "1-0"}
    model = Model("m", 1, "step", learner.family, params, mass, at, 1000, None, None)
    assert model.to_sklearn().predict(X).tolist() == model.predict(X).tolist()


def test_spherical_covariances_refuse_several_scales() -> None:
    learner, state = learned(GaussianMixture(3, "spherical"), "standard")
    with pytest.raises(DataError, match="use covariance_type 'diag'"):
        learner.in_units(state)


# ---- points so small, or so large, that squares of their distances are at the edge of float64


TINY, SMALL, HUGE = 2.0**-664, 2.0**-400, 2.0**322  # 1e-200, 4e-121, 9e96


def clusters(n: int, D: int) -> Any:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, D)) + rng.choice([0.0, 20.0, 40.0], size=(n, 1))


@pytest.mark.parametrize("unit", [TINY, SMALL, HUGE])
@pytest.mark.parametrize("D", [1, 2])
def test_kmeans_finds_the_same_clusters_at_any_scale(D: int, unit: float) -> None:
    X, family = clusters(300, D), KMeans(3)
    plain, other = fit(family, X), fit(family, unit * X)
    assert_array_equal(other.params.centroids, unit * plain.params.centroids)
    assert_array_equal(family.predict(other.params, unit * X), family.predict(plain.params, X))
    stats = family.e_step(other.params, unit * X, np.ones(300))
    assert_array_equal(stats.weight, plain.stats.weight)
    centroids = family.m_step(stats, other.params).centroids
    assert_allclose(centroids, other.params.centroids, rtol=1e-12)
    for top in (1, 2):
        expected, found = (
            quantize(family, plain.params, X, top=top),
            quantize(family, other.params, unit * X, top=top),
        )
        assert_array_equal(found.index, expected.index)
        assert_array_equal(found.distance, unit * expected.distance)


def test_small_points_beside_large_ones_are_told_apart() -> None:
    X = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0])
    best = fit(KMeans(3), np.append(TINY * X, 1.0)[:, None])
    assert_array_equal(np.sort(best.params.centroids, axis=None), [TINY, 11 * TINY, 1.0])


@cache
def learned_in_units(family: KMeans, scale: Any, factor: float) -> tuple[Any, Any, int]:
    """Learn a stream with a drift, with a checkpoint after each batch.

    Return the centroids, the labels of some points, and the number of drifts.
    """
    drift = Drift(on_drift="recluster")
    learner = StreamLearner(
        family, HalfLife(300), warm_up=100, scale=scale, drift=drift, coreset=200
    )
    state = learner.init()
    for batch in np.split(np.concatenate([clusters(500, 2), clusters(500, 2) + 90.0]), 40):
        state, _ = learner.update(state, factor * batch)
        data = encode_checkpoint(Checkpoint(learner=state), family)
        state = decode_checkpoint(data, family, "the state").learner
    params: Any = learner.in_units(state)
    labels = family.predict(params, factor * clusters(500, 2))
    return params.centroids / factor, labels, state.counts.drifts


@pytest.mark.parametrize(
    ("family", "scale", "unit"),
    combinations(
        [KMeans(3), KMeans(5, min_clusters=2)],
        ["none", "standard", "robust"],
        [TINY, HUGE],
        always=lambda family, scale, unit: (
            (unit == TINY if scale == "none" else family == KMeans(3))
            and (scale == "standard") == (unit == HUGE)
        ),
    ),
    ids=str,
)
def test_a_stream_is_learned_alike_at_any_scale(family: Any, scale: Any, unit: float) -> None:
    plain, other = (learned_in_units(family, scale, factor) for factor in (1.0, unit))
    assert_allclose(other[0], plain[0], rtol=1e-9)
    assert_array_equal(other[1], plain[1])
    assert other[2] == plain[2] > 0


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_mixture_of_points_whose_squares_underflow_is_refused(covariance_type: Any) -> None:
    X, family = clusters(300, 2), mixture_of(covariance_type, 3)
    with pytest.raises(DataError, match=r"within .*e-199 of each other.*multiply the points"):
        fit(family, TINY * X)
    learner = StreamLearner(family, warm_up=100)
    with pytest.raises(DataError, match=r"within .*e-199 of each other"):
        learner.update(learner.init(), TINY * X)
    # from there on, and up to the largest numbers, it is the same mixture
    plain = fit(family, X).params
    for unit in (2.0**-464, HUGE):
        other = fit(family, unit * X).params
        assert_allclose(other.means / unit, plain.means, rtol=1e-9)
        assert_allclose(other.covariances / unit / unit, plain.covariances, rtol=1e-9)
    # and points that are all equal are no smaller than others
    fit(mixture_of(covariance_type, 1), np.full((5, 2), TINY))


@pytest.mark.parametrize("unit", [TINY, HUGE])
def test_medoids_are_the_same_at_any_scale(unit: float) -> None:
    X = clusters(100, 2)
    medoids = fit_medoids(X, 3)
    assert_array_equal(fit_medoids(unit * X, 3), unit * medoids)
    expected = mean_distance(X, np.ones(100), medoids)
    assert mean_distance(unit * X, np.ones(100), unit * medoids) / unit == pytest.approx(expected)
