"""From settings to what learns: each setting arrives where it belongs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from streamclust.config import GaussianMixtureSettings, KMeansSettings, ModelSettings
from streamclust.errors import ConfigError
from streamclust.formats.layout import PointsFormat
from streamclust.formats.model import Model, encode_model
from streamclust.models import Family, GaussianMixture, KMeans, MixtureParams
from streamclust.online.drift import Drift
from streamclust.online.forgetting import Forgetting, HalfLife, HalfLifeTime, PowerSchedule
from streamclust.online.learner import LearnerState, StreamLearner
from streamclust.runtime.assemble import (
    first_state,
    largest_batch,
    make_family,
    make_forgetting,
    make_learner,
    points_format,
)
from tests.support.strategies import random_params

Settings = KMeansSettings | GaussianMixtureSettings
ADAPTER: TypeAdapter[Settings] = TypeAdapter(ModelSettings)


def kmeans(**more: Any) -> Settings:
    return ADAPTER.validate_python({"kind": "kmeans", "n_clusters": 2, "streams": "s", **more})


def mixture(**more: Any) -> Settings:
    basic = {"kind": "gaussian_mixture", "n_components": 2, "streams": "s"}
    return ADAPTER.validate_python({**basic, **more})


def start(settings: Settings) -> LearnerState[Any]:
    return first_state("palette", settings, make_learner(settings))


def params_of(state: LearnerState[Any]) -> Any:
    return state.params


# ---- families and forgetting


def test_families() -> None:
    assert make_family(kmeans(n_clusters=7)) == KMeans(7)
    assert make_family(mixture()) == GaussianMixture(2, "full", reg_covar=1e-6)
    settings = mixture(n_components=5, covariance_type="tied", reg_covar=0.01)
    assert make_family(settings) == GaussianMixture(5, "tied", reg_covar=0.01)
    assert make_family(mixture(outliers=0.02)) == GaussianMixture(2, outliers=0.02)


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        (kmeans(), 65_536),
        (kmeans(n_clusters=256), 16_384),
        (kmeans(n_clusters=65_536), 4096),
        (kmeans(batch={"size": 300}), 300),
        (kmeans(commit={"points": 10_000}), 10_000),
        (kmeans(publish={"points": 50}), 4096),
        (kmeans(forgetting={"kind": "points", "half_life": 640_000}), 10_000),
        (kmeans(forgetting={"kind": "points", "half_life": 500}), 4096),
        (
            kmeans(forgetting={"kind": "points", "half_life": 10**9}, points={"weight_field": "w"}),
            4096,
        ),
        (kmeans(forgetting={"kind": "time", "half_life": "9s"}), 4096),
        (mixture(forgetting={"kind": "power"}), 4096),
        (mixture(drift={"detector": "page_hinkley"}), 4096),
    ],
    ids=str,
)
def test_batches_grow_where_it_makes_no_difference_how_points_are_batched(
    settings: Settings, most: int
) -> None:
    assert largest_batch(settings) == most


@pytest.mark.parametrize(
    ("forgetting", "policy"),
    [
        ({"kind": "none"}, Forgetting()),
        ({"kind": "points", "half_life": 5000}, HalfLife(5000.0)),
        ({"kind": "time", "half_life": "5m"}, HalfLifeTime(300.0)),
        ({"kind": "power"}, PowerSchedule()),
        (
            {"kind": "power", "kappa": 0.9, "t0": 5, "hold": 20, "average": True},
            PowerSchedule(0.9, t0=5.0, hold=20.0, average=True),
        ),
    ],
    ids=str,
)
def test_forgetting(forgetting: dict[str, Any], policy: Forgetting) -> None:
    settings = kmeans(forgetting=forgetting)
    assert make_forgetting(settings.forgetting) == policy
    assert make_learner(settings).forgetting == policy


def test_learners() -> None:
    learner = make_learner(kmeans(init={"kind": "warm_up", "points": 50, "restarts": 9}, seed=3))
    assert (learner.warm_up_points, learner.n_init, learner.seed) == (50, 9, 3)
    assert make_learner(kmeans()).warm_up_points == 1000
    given = make_learner(kmeans(init={"kind": "parameters", "centroids": [[0], [1]]}, seed=4))
    assert given.seed == 4
    assert given.family == KMeans(2)


def test_defaults_of_the_settings_are_those_of_the_library() -> None:
    settings = kmeans(forgetting={"kind": "power"}, drift={"detector": "page_hinkley"})
    learner, plain = make_learner(settings), StreamLearner(KMeans(2))
    assert learner.forgetting == PowerSchedule()
    assert learner.drift == Drift()
    for name in ("n_init", "reassignment_ratio", "scale", "coreset", "reseeds"):
        assert getattr(learner, name) == getattr(plain, name), name


def test_points_formats() -> None:
    assert points_format(kmeans()) == PointsFormat()
    said = {"format": "float32", "field": "v", "weight_field": "w", "n_features": 3}
    assert points_format(kmeans(points=said)) == PointsFormat("float32", "v", "w", (), 3)
    named = kmeans(points={"features": ["x", "y"]})
    assert points_format(named) == PointsFormat(features=("x", "y"))


def test_given_parameters_say_the_length_of_a_point_unless_the_settings_do() -> None:
    assert points_format(kmeans(), 4).n_features == 4
    assert points_format(kmeans(points={"n_features": 3}), 4).n_features == 3


# ---- the first state


def test_a_warm_up_begins_with_nothing() -> None:
    state = start(kmeans())
    assert state.params is state.stats is None
    assert state.points == len(state.warm_up.X) == 0


def test_given_centroids() -> None:
    state = start(kmeans(init={"kind": "parameters", "centroids": [[0, 1], [2, 3]], "weight": 9}))
    assert params_of(state).centroids.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert state.stats is not None
    assert state.stats.weight.tolist() == [9.0, 9.0]
    assert state.points == 0


def test_given_mixture() -> None:
    given = {
        "kind": "parameters",
        "weights": [0.25, 0.75],
        "means": [[0, 0], [5, 5]],
        "covariances": [[1, 2], [3, 4]],
        "weight": 10,
    }
    state = start(mixture(covariance_type="diag", init=given))
    assert params_of(state).weights.tolist() == [0.25, 0.75]
    assert params_of(state).covariances.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert state.stats is not None
    assert state.stats.weight.tolist() == [5.0, 15.0]


@pytest.mark.parametrize(
    ("covariances", "reason"),
    [
        ([[[1, 2], [2, 1]], [[1, 0], [0, 1]]], "not positive definite"),
        ([[[1, 0.5], [0, 1]], [[1, 0], [0, 1]]], "not symmetric"),
    ],
)
def test_a_given_mixture_that_is_none_is_refused(covariances: Any, reason: str) -> None:
    given = {"weights": [0.5, 0.5], "means": [[0, 0], [5, 5]], "covariances": covariances}
    with pytest.raises(ConfigError, match=rf"^models\.palette\.init: .*{reason}"):
        start(mixture(init={"kind": "parameters", **given}))


# ---- a model in a file


def saved(path: Path, family: Family[Any], D: int = 2) -> Model:
    rng = np.random.default_rng(0)
    K = family.n_components
    model = Model(
        name="old",
        version=3,
        reason="step",
        family=family,
        params=random_params(family, rng.normal(size=(K, D)), rng),
        mass=np.ones(K),
        position={},
        points=12,
        loss=None,
        time_ms=None,
    )
    path.write_bytes(encode_model(model))
    return model


def from_file(path: Path, make: Any, **more: Any) -> LearnerState[Any]:
    return start(make(init={"kind": "file", "path": str(path), "weight": 4}, **more))


def test_a_file_of_kmeans(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = saved(path, KMeans(2))
    state = from_file(path, kmeans)
    assert params_of(state).centroids.tolist() == model.params.centroids.tolist()
    assert state.stats is not None
    assert state.stats.weight.tolist() == [4.0, 4.0]


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_a_file_of_a_mixture(tmp_path: Path, covariance_type: Any) -> None:
    path = tmp_path / "m.safetensors"
    model = saved(path, GaussianMixture(2, covariance_type, reg_covar=0.5))
    state = from_file(path, mixture, covariance_type=covariance_type)
    assert isinstance(state.params, MixtureParams)
    assert state.params.covariances.tolist() == model.params.covariances.tolist()


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        (KMeans(2), "kind 'kmeans'; expected 'gaussian_mixture'"),
        (GaussianMixture(3, "diag"), "n_components 3; expected 2"),
        (GaussianMixture(2, "tied"), "covariance_type 'tied'; expected 'diag'"),
        (GaussianMixture(2, "full"), "covariance_type 'full'; expected 'diag'"),
    ],
    ids=str,
)
def test_a_file_of_another_model_is_refused(
    tmp_path: Path, family: Family[Any], reason: str
) -> None:
    # With K = D = 2 the covariances of 'tied' and 'diag' have the same shape.
    path = tmp_path / "m.safetensors"
    saved(path, family)
    with pytest.raises(ConfigError) as failure:
        from_file(path, mixture, covariance_type="diag")
    assert str(failure.value) == f"models.palette.init: {path} holds a model with {reason}"


def test_a_file_of_other_features_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(encode_model(replace(saved(path, KMeans(2)), features=("x", "y"))))
    assert params_of(from_file(path, kmeans)).centroids.shape == (2, 2)
    assert params_of(from_file(path, kmeans, points={"features": ["x", "y"]})) is not None
    with pytest.raises(ConfigError, match=r"of the features \['x', 'y'\]; .* \['y', 'x'\]"):
        from_file(path, kmeans, points={"features": ["y", "x"]})


def test_a_file_of_a_mixture_is_no_kmeans(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    saved(path, GaussianMixture(2))
    with pytest.raises(ConfigError, match="kind 'gaussian_mixture'; expected 'kmeans'"):
        from_file(path, kmeans)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for reason in ("No such file", "does not hold"):
        with pytest.raises(ConfigError, match=rf"models\.palette\.init: .*{path}.*") as failure:
            from_file(path, kmeans)
        assert reason in str(failure.value)
        assert "\n" not in str(failure.value)
        path.write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="directory"):
        from_file(tmp_path, kmeans)
