"""Published versions: a subscriber gets the model that the worker had."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load

from streamclust.errors import DataError, FormatError
from streamclust.formats.container import pack, unpack
from streamclust.formats.layout import Layout, PointsFormat
from streamclust.formats.model import FORMAT, Model, decode_model, encode_model, family_of
from streamclust.models import GaussianMixture, KMeans, KMeansParams
from streamclust.models.feature_distribution import FeatureDistribution
from streamclust.models.score_distribution import ScoreDistribution
from tests.support.states import a_model, same
from tests.support.strategies import FAMILIES
from tests.support.strategies import family_of as family_named

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3), scale=3.0)
WHERE = "key {ns:palette}:models entry 7-0"


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return a_model(family_named(request.param, 4))


def test_a_version_comes_back(model: Model) -> None:
    found = decode_model(encode_model(model), WHERE)
    arrays, said = model.family.to_arrays(model.params), model.family.to_arrays(found.params)
    for name, array in arrays.items():
        assert_allclose(said[name], array, rtol=1e-15)
    assert found.mass.tobytes() == model.mass.tobytes()
    assert found.family == model.family
    plain = ("name", "version", "reason", "position", "points", "loss", "time_ms", "features")
    for name in plain:
        assert getattr(found, name) == getattr(model, name)
    assert found.summary() == model.summary()


def test_a_version_without_points_comes_back(model: Model) -> None:
    fresh = replace(model, loss=None, time_ms=None, features=(), position={}, points=0)
    found = decode_model(encode_model(fresh), WHERE)
    assert found.summary() == fresh.summary()
    assert found.score is found.time_ms is None


def test_it_says_of_points_what_the_family_says(model: Model) -> None:
    found = decode_model(encode_model(model), WHERE)
    for each in (model, found):
        assert (each.predict(X) == model.family.predict(model.params, X)).all()
        expected = model.family.score_points(model.params, X)
        assert_allclose(each.score_samples(X), expected, rtol=1e-12, atol=1e-12)
    assert found.predict(X[:0]).shape == (0,)
    assert (found.predict(X.tolist()) == found.predict(X)).all()


def test_points_of_another_length_are_refused(model: Model) -> None:
    with pytest.raises(DataError, match="2 features; expected 3"):
        model.predict(X[:, :2])
    with pytest.raises(DataError, match="2 features; expected 3"):
        model.score_samples(X[:, :2])


def test_the_summary_is_json(model: Model) -> None:
    summary = model.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["model"] == "palette"
    assert summary["version"] == 7
    assert summary["n_components"] == 4
    assert summary["n_features"] == 3
    assert summary["effective_weight"] == pytest.approx(model.mass.sum())
    assert not any(isinstance(value, np.ndarray) for value in summary.values())


def test_the_score_has_the_name_and_the_sign_of_its_family() -> None:
    kmeans, mixture = a_model(KMeans(2), loss=2.5), a_model(GaussianMixture(2), loss=2.5)
    assert (kmeans.kind, kmeans.score_name, kmeans.score) == ("kmeans", "inertia", 2.5)
    assert (mixture.kind, mixture.score_name) == ("gaussian_mixture", "log_likelihood")
    assert mixture.score == -2.5
    assert kmeans.summary()["inertia"] == 2.5
    assert mixture.summary()["log_likelihood"] == -2.5


def test_equal_versions_are_equal_bytes(model: Model) -> None:
    other = replace(model, position=dict(reversed(model.position.items())))
    assert encode_model(other) == encode_model(model)


def test_a_plain_reader_finds_the_arrays_and_the_metadata(model: Model) -> None:
    data = encode_model(model)
    names = {"centroids"} if model.kind == "kmeans" else {"weights", "means", "covariances"}
    assert set(load(data)) == names | {"mass"}
    arrays, meta = unpack(data, FORMAT, WHERE)
    assert meta["family"]["kind"] == model.kind
    assert meta["position"] == model.position
    assert arrays["mass"].dtype == np.float64


# ---- damaged


def damage(meta: dict[str, Any] | None = None, **arrays: Any) -> str:
    """Return what is said of a payload that is whole but makes no sense."""
    sane, said = unpack(encode_model(a_model(GaussianMixture(4))), FORMAT, "")
    changed = {name: array for name, array in {**sane, **arrays}.items() if array is not None}
    with pytest.raises(FormatError) as failure:
        decode_model(pack(FORMAT, changed, {**said, **(meta or {})}), WHERE)
    text = str(failure.value)
    assert text.startswith(WHERE)
    assert text.endswith("move it away")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("ids", [[0, 1, 2, 3], [2, 5, 6, 900]])
def test_numbers_of_components_are_read_again(ids: list[int]) -> None:
    model = replace(a_model(GaussianMixture(4)), ids=np.array(ids))
    assert decode_model(encode_model(model), WHERE).numbers.tolist() == ids


@pytest.mark.parametrize("ids", [[-1, 0, 1, 2], [0, 1, 2], [0, 1, 1, 2], [3, 2, 1, 0]])
def test_numbers_of_components_that_are_no_ascending_ids_are_refused(ids: list[int]) -> None:
    assert "expected 4 ascending numbers from 0 on" in damage(ids=np.array(ids))


@pytest.mark.parametrize(
    "field", ["model", "version", "reason", "family", "position", "points", "features", "loss"]
)
def test_missing_metadata_are_refused(field: str) -> None:
    arrays, meta = unpack(encode_model(a_model(KMeans(3))), FORMAT, "")
    del meta[field]
    with pytest.raises(FormatError, match=f"damaged model.*'{field}'"):
        decode_model(pack(FORMAT, arrays, meta), WHERE)


@pytest.mark.parametrize(
    "meta",
    [
        {"version": None},
        {"version": "seven"},
        {"version": float("inf")},
        {"points": float("nan")},
        {"points": []},
        {"position": 5},
        {"position": "0-0"},
        {"features": None},
        {"features": 3},
        {"family": None},
        {"family": []},
        {"family": "kmeans"},
        {"family": {}},
        {"family": {"kind": "dbscan"}},
        {"family": {"kind": []}},
        {"family": {"kind": "gaussian_mixture"}},
        {"family": {"kind": "kmeans", "n_clusters": 4}},
        {"family": {"kind": "gaussian_mixture", "n_components": 0}},
        {"family": {"kind": "gaussian_mixture", "n_components": "4"}},
        {"family": {"kind": "gaussian_mixture", "n_components": 5}},
        {"family": {"kind": "gaussian_mixture", "n_components": 4, "covariance_type": "x"}},
        {"family": {"kind": "gaussian_mixture", "n_components": 4, "covariance_type": "diag"}},
        {"family": {"kind": "gaussian_mixture", "n_components": 4, "reg_covar": None}},
        {"scores": 5},
        {"scores": {}},
        {"scores": ScoreDistribution().numbers},
    ],
    ids=str,
)
def test_damaged_metadata_are_refused(meta: dict[str, Any]) -> None:
    damage(meta)


@pytest.mark.parametrize(
    "arrays",
    [
        {"mass": None},
        {"means": None},
        {"mass": np.ones(3)},
        {"mass": np.ones((4, 1))},
        {"mass": np.full(4, np.nan)},
        {"weights": np.full(4, 0.5)},
        {"weights": np.array([0.5, 0.5, 0.5, -0.5])},
        {"means": np.full((4, 3), np.inf)},
        {"covariances": -np.ones((4, 3, 3))},
        {"covariances": np.ones((4, 3))},
        {"covariances": np.tile([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 1]], (4, 1, 1))},
    ],
    ids=str,
)
def test_damaged_arrays_are_refused(arrays: dict[str, Any]) -> None:
    assert next(iter(arrays)).rstrip("s") in damage(None, **arrays)


def test_bytes_of_another_format_are_refused() -> None:
    with pytest.raises(FormatError, match=r"streamclust\.state/1"):
        decode_model(pack("streamclust.state/1", {"a": np.ones(1)}, {}), WHERE)
    with pytest.raises(FormatError, match="damaged, or another program"):
        decode_model(b"", WHERE)


def test_hyperparameters_of_a_later_version_are_left_out() -> None:
    later = {"kind": "kmeans", "n_clusters": 3, "temperature": 0.5}
    assert family_of(later) == KMeans(3)


# ---- what it was learned with


LAYOUT = Layout("fields", None, None, ("r", "g", "b"), 3, strict=True)


def test_how_it_was_learned_comes_back(model: Model) -> None:
    before = replace(model, layout=LAYOUT, scale="robust", model_id=7)
    found = decode_model(encode_model(before), WHERE)
    assert (found.layout, found.scale, found.model_id) == (LAYOUT, "robust", 7)


def test_the_distribution_of_scores_comes_back(model: Model) -> None:
    before = replace(model, scores=ScoreDistribution().add(RNG.exponential(size=500)))
    found = decode_model(encode_model(before), WHERE).scores
    assert found is not None
    assert same(found, before.scores)
    assert decode_model(encode_model(model), WHERE).scores is None


def test_the_distribution_of_features_comes_back(model: Model) -> None:
    scores = ScoreDistribution().add(RNG.exponential(size=500))
    features = FeatureDistribution().add(X)
    before = replace(
        model, scores=scores, feature_distribution=features, anomaly_score="tail_score"
    )
    found = decode_model(encode_model(before), WHERE)
    assert same(found.feature_distribution, features)
    assert found.anomaly_score == "tail_score"
    plain = decode_model(encode_model(model), WHERE)
    assert (plain.feature_distribution, plain.anomaly_score) == (None, "model")
    arrays, meta = unpack(encode_model(before), FORMAT, "")
    for damaged in (
        pack(FORMAT, arrays, {**meta, "anomaly_score": "odd"}),
        pack(FORMAT, {**arrays, "feature_distribution.unit": np.ones(2)}, meta),
    ):
        with pytest.raises(FormatError, match="damaged model"):
            decode_model(damaged, WHERE)


def test_a_version_of_before_tells_no_more_than_it_knows(model: Model) -> None:
    arrays, meta = unpack(encode_model(model), FORMAT, WHERE)
    assert not {"layout", "scale"} & meta.keys()
    found = decode_model(pack(FORMAT, arrays, meta), WHERE)
    assert (found.layout, found.scale, found.model_id) == (None, None, 0)
    assert (
        found.check_settings(PointsFormat("float32", weight_field="w"), "robust", "pixels") is None
    )


@pytest.mark.parametrize(
    ("spec", "scale", "text"),
    [
        (PointsFormat(features=("b", "g", "r")), "none", r"\['r', 'g', 'b'\].*\['b', 'g', 'r'\]"),
        (PointsFormat(n_features=2), "none", "n_features 3, the config says 2"),
        (PointsFormat("json"), "none", "format 'fields', the config says 'json'"),
        (PointsFormat(), "robust", "scale 'none', the config says 'robust'"),
    ],
)
def test_settings_that_contradict_it_are_refused(spec: PointsFormat, scale: str, text: str) -> None:
    model = a_model(KMeans(2), layout=LAYOUT, scale="none")
    with pytest.raises(FormatError, match=f"version 7 of 'palette' was learned with .*{text}"):
        model.check_settings(spec, scale, "pixels")


def test_a_stream_that_it_does_not_learn_from_may_have_another_format() -> None:
    model = a_model(KMeans(2), layout=LAYOUT, scale="none")
    assert model.check_settings(PointsFormat(), "none", "pixels") == LAYOUT
    assert model.check_settings(PointsFormat("json"), "none", "elsewhere") is None
    assert model.check_settings(PointsFormat("json"), "none") is None
    with pytest.raises(FormatError, match="features"):
        model.check_settings(PointsFormat("json", features=("b", "g", "r")), "none", "elsewhere")


def test_a_version_of_another_model_of_the_same_name_is_known() -> None:
    before = a_model(KMeans(2), model_id=4)
    assert not replace(before).replaces(before)
    assert not replace(before, version=8).replaces(before)
    assert not replace(before, version=8, model_id=0).replaces(before)
    assert replace(before, version=8, model_id=6).replaces(before)
    assert replace(before, version=6).replaces(before)
    moved = replace(before.params, centroids=before.means + 1.0)
    assert replace(before, params=moved).replaces(before)


def test_displacements_are_those_of_components_with_the_same_id() -> None:
    before = a_model(KMeans(3), ids=np.array([2, 5, 6]))
    moved = before.means[[1, 2, 0]] + [[3.0, 4.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 0.0]]
    after = replace(before, params=KMeansParams(moved), ids=np.array([5, 6, 9]))
    assert_allclose(after.displacement_from(before), [5.0, 2.0, np.nan])
    # K doesn't adapt in one of the two versions, or the points have other features
    fixed = replace(before, ids=before.ids[:0])
    assert_allclose(fixed.displacement_from(before), np.zeros(3))
    other = replace(before, params=KMeansParams(before.means[:, :2]))
    with pytest.raises(DataError, match="differ in size: 3 x 3 and 3 x 2"):
        other.displacement_from(before)


def test_a_feature_has_a_name_or_a_number() -> None:
    model = a_model(GaussianMixture(2))
    given, targets = np.array([[0.5, -1.0]]), (["g"], [1])
    by_name, by_number = (model.predict_conditional(given, each) for each in targets)
    assert_array_equal(by_name, by_number)
    with pytest.raises(DataError, match="no feature 'x'; it has r, g, b"):
        model.predict_conditional(given, ["x"])
    with pytest.raises(DataError, match="it has no names; give numbers"):
        replace(model, features=()).predict_conditional(given, ["g"])


@pytest.mark.parametrize("name", ["version", "points"])
@pytest.mark.parametrize("number", [10**2000, 1 << 53, -1, 1.5, "1", True, None])
def test_a_number_out_of_range_is_refused(name: str, number: Any) -> None:
    arrays, meta = unpack(encode_model(a_model(KMeans(2))), FORMAT, WHERE)
    with pytest.raises(FormatError, match=f"{name} is .* expected") as failure:
        decode_model(pack(FORMAT, arrays, {**meta, name: number}), WHERE)
    assert len(str(failure.value)) < 300


def test_columns_of_a_frame_are_found_by_name(model: Model) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3))
    r, g, b = (column.tolist() for column in rows.T)
    table: dict[str, Any] = {"b": b, "label": ["x"] * 20, "r": r, "g": g}
    for frame in (pd.DataFrame(table), pl.DataFrame(table), pa.table(table)):
        assert_array_equal(model.predict(frame), model.predict(rows))
        assert_array_equal(model.score_samples(frame), model.score_samples(rows))
        assert_array_equal(model.impute(frame), rows)


def test_a_frame_without_a_feature_is_refused_by_its_name(model: Model) -> None:
    with pytest.raises(DataError, match="X has no column 'g', which is a feature of the model"):
        model.predict(pd.DataFrame(np.ones((2, 3)), columns=["r", "G", "b"]))


def test_a_frame_whose_columns_have_no_names_has_them_in_order(model: Model) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3))
    assert_array_equal(model.predict(pd.DataFrame(rows)), model.predict(rows))
    unnamed = replace(model, features=())
    frame = pd.DataFrame(rows, columns=["x", "y", "z"])
    assert_array_equal(unnamed.predict(frame), model.predict(rows))
