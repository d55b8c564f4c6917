"""Scaled features: what is learned, and that the answers are in the data's units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import RobustScaler, StandardScaler

from streamclust import GaussianMixture, HalfLife, KMeans, StreamLearner
from streamclust.errors import DataError
from streamclust.models import KMeansParams
from streamclust.quantize import quantize
from streamclust.scaling import learn_scaling
from streamclust.store.published import Model

UNITS = np.array([1e-3, 1.0, 1e4])


def blobs(n: int = 400, seed: int = 0) -> Any:
    """Three clusters in three features of very different units, far from the origin."""
    rng = np.random.default_rng(seed)
    means = np.array([[-6.0, 0.0, 6.0], [0.0, 6.0, -6.0], [6.0, -6.0, 0.0]])
    return (rng.normal(size=(n, 3)) + means[rng.integers(0, 3, n)] + 50.0) * UNITS


# ---- what is learned


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


# ---- the learner


def learned(family: Any, scale: Any, X: Any = None) -> tuple[Any, Any]:
    learner = StreamLearner(family, HalfLife(500), warm_up=100, scale=scale)
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
    with pytest.raises(DataError, match="take diag"):
        learner.in_units(state)
