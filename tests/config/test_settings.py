"""What each setting accepts; test_load.py has the file, the environment and flags."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamclust.config import (
    ForgettingByTime,
    GaussianMixtureSettings,
    KMeansSettings,
    Settings,
    WarmUp,
    load_settings,
)
from streamclust.config.values import format_duration, parse_duration

PALETTE: dict[str, Any] = {"kind": "kmeans", "n_clusters": 4, "streams": "pixels"}
SHUTTLE: dict[str, Any] = {"kind": "gaussian_mixture", "n_components": 2, "streams": ["shuttle"]}


def kmeans(**changes: Any) -> KMeansSettings:
    model = Settings.model_validate({"models": {"palette": PALETTE | changes}}).models["palette"]
    assert isinstance(model, KMeansSettings)
    return model


def mixture(**changes: Any) -> GaussianMixtureSettings:
    model = Settings.model_validate({"models": {"shuttle": SHUTTLE | changes}}).models["shuttle"]
    assert isinstance(model, GaussianMixtureSettings)
    return model


@pytest.mark.parametrize("setting", [{"on_drift": "forget"}, {"threshold": 5}, {"delta": 0.1}])
def test_keys_of_drift_need_a_detector_or_say_that_there_is_none(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="no effect without a detector"):
        kmeans(drift=setting)
    assert kmeans(drift={"detector": "adwin"} | setting).drift.detector == "adwin"
    assert kmeans(drift={"detector": "none"} | setting).drift.detector == "none"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200ms", 0.2),
        ("10s", 10.0),
        ("5m", 300.0),
        ("6h", 21600.0),
        ("1d", 86400.0),
        ("1.5s", 1.5),
        (" 3 s ", 3.0),
        ("2.5", 2.5),
        (7, 7.0),
        (0.25, 0.25),
        (0, 0.0),
    ],
)
def test_a_duration_is_a_text_with_a_unit_or_a_number_of_seconds(
    text: object, seconds: float
) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "bad", ["", "ten", "10 x", "-1s", -1, "1h30m", "1e3s", True, None, [1], float("inf")]
)
def test_other_durations_are_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(bad)


@pytest.mark.parametrize("bad", ["0.5ms", "36501d", 1e12])
def test_durations_have_a_grain_and_an_end(bad: object) -> None:
    with pytest.raises(ValueError, match="between 1ms and 36500d"):
        parse_duration(bad)


@given(st.floats(min_value=0.001, max_value=3e9) | st.just(0.0))
def test_a_duration_prints_back_as_exactly_what_it_was(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["200ms", "10s", "5m", "6h", "1d", "90s", "0s"])
def test_a_duration_prints_back_as_it_was_written(text: str) -> None:
    assert format_duration(parse_duration(text)) == text


def test_the_defaults_are_those_of_the_documentation() -> None:
    model = kmeans()
    assert model.streams == ("pixels",)
    assert model.start == "earliest"
    assert (model.batch.size, model.batch.least, model.batch.linger) == ("auto", 4096, 0.2)
    assert (model.commit.points, model.commit.every) == (1_000_000, "auto")
    assert (model.publish.points, model.publish.every, model.publish.keep) == (1_000_000, 5.0, 100)
    assert model.dead.keep == 10_000
    assert model.forgetting.kind == "none"
    assert model.init == WarmUp(points=None, restarts=4)
    assert model.seed == 0


def test_both_kinds_tell_their_size_under_one_name() -> None:
    assert kmeans(n_clusters=64).n_components == 64
    assert mixture(n_components=10).n_components == 10


@pytest.mark.parametrize(
    "changes",
    [
        {"n_clusters": 0},
        {"n_clusters": True},
        {"n_clusters": 2.5},
        {"n_components": 3},
        {"streams": []},
        {"streams": ""},
        {"streams": ["a", ""]},
        {"streams": ["a", "b", "a"]},
        {"start": "yesterday"},
        {"start": "12-"},
        {"seed": -1},
        {"batch": {"size": 0}},
        {"commit": {"every": 0}},
        {"commit": {"points": 0}},
        {"publish": {"keep": 0}},
        {"dead": {"keep": 0}},
        {"dead": {"keep": 100_001}},
        {"encode": {"top": 0}},
        {"encode": "yes"},
        {"encode": {"worker": True, "streams": ["s"]}},
        {"encode": {"labels": ["key", "code"]}},
        {"encode": {"labels": ["key", "key"]}},
        {"encode": {"streams": ["a", "a"]}},
        {"encode": {"takeover": 0}},
        {"points": {"features": ["x", "x"]}},
        {"points": {"features": [""]}},
        {"points": {"features": ["x", "y"], "n_features": 3}},
        {"points": {"n_features": 0}},
        {"points": {"format": "csv"}},
        {"forgetting": {"kind": "none", "half_life": 3}},
        {"forgetting": {"kind": "points"}},
        {"forgetting": {"kind": "points", "half_life": 0}},
        {"forgetting": {"kind": "points", "half_life": float("nan")}},
        {"forgetting": {"kind": "time", "half_life": "0s"}},
        {"forgetting": {"kind": "power", "kappa": 0.5}},
        {"forgetting": {"kind": "power", "kappa": 1.01}},
        {"forgetting": {"kind": "power", "t0": -1}},
        {"forgetting": {"kind": "power", "hold": -1}},
        {"init": {"kind": "warm_up", "points": 3}},
        {"init": {"kind": "warm_up", "restarts": 0}},
        {"init": {"kind": "file"}},
        {"init": {"kind": "file", "path": "m.safetensors", "weight": 0}},
        {"init": {"kind": "parameters", "centroids": [[0, 0]]}},
        {"init": {"kind": "parameters", "centroids": [[0, 0], [0], [0, 1], [1, 1]]}},
        {"init": {"kind": "parameters", "centroids": [[float("inf")], [1], [2], [3]]}},
        {"init": {"kind": "parameters", "means": [[0], [1], [2], [3]]}},
    ],
    ids=repr,
)
def test_bad_values_of_kmeans_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kmeans(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"streams": "pixels"},
        {"start": "latest"},
        {"start": "1526919030474-55"},
        {"start": "0"},
        {"batch": {"linger": 0}},
        {"encode": True},
        {"encode": {"top": 3, "labels": ["key"], "streams": ["s"], "takeover": "1s"}},
        {"points": {"features": ["x", "y"], "n_features": 2}},
        {"forgetting": {"kind": "time", "half_life": "10m"}},
        {"forgetting": {"kind": "power", "kappa": 1, "t0": 0}},
        {"init": {"kind": "warm_up", "points": 4}},
        {"init": {"kind": "parameters", "centroids": [[0], [1], [2], [3]], "weight": 5}},
        {"n_clusters": "4"},
    ],
    ids=repr,
)
def test_good_values_of_kmeans_are_accepted(changes: dict[str, Any]) -> None:
    model = kmeans(**changes)
    assert set(changes) <= model.model_fields_set


COVARIANCES = {
    "full": [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]] * 2,
    "tied": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "diag": [[1, 1, 1], [1, 1, 1]],
    "spherical": [1, 1],
}
GIVEN: dict[str, Any] = {
    "kind": "parameters",
    "weights": [0.25, 0.75],
    "means": [[0, 0, 0], [1, 1, 1]],
}


@pytest.mark.parametrize("given_type", COVARIANCES)
@pytest.mark.parametrize("wanted_type", COVARIANCES)
def test_given_covariances_have_the_shape_of_their_type(given_type: str, wanted_type: str) -> None:
    init = GIVEN | {"covariances": COVARIANCES[given_type]}
    if given_type == wanted_type:
        assert mixture(covariance_type=wanted_type, init=init).init.kind == "parameters"
        return
    with pytest.raises(ValidationError, match=r"init\.covariances is .*; expected"):
        mixture(covariance_type=wanted_type, init=init)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weights": [0.3, 0.8]}, "the sum is 1.1"),
        ({"weights": [0.0, 1.0]}, "the least 0"),
        ({"weights": [1.0]}, "init.weights is 1; expected 2"),
        ({"means": [[0, 0], [1, 1]]}, "init.covariances is 2; expected 2 x 2"),
        ({"means": [[0, 0, 0]]}, "init.means is 1 x 3; expected 2 x 3"),
        ({"means": [[0, 0, 0], [1, 1]]}, "init.means has lists of different lengths"),
        ({"covariances": [1, "a"]}, "expected finite numbers"),
    ],
    ids=repr,
)
def test_bad_given_mixtures_are_told_apart(changes: dict[str, Any], told: str) -> None:
    init = GIVEN | {"covariances": COVARIANCES["spherical"]} | changes
    covariance_type = "diag" if told.endswith("2 x 2") else "spherical"
    with pytest.raises(ValidationError) as caught:
        mixture(covariance_type=covariance_type, init=init)
    assert told in str(caught.value)


def test_weights_may_miss_one_by_rounding() -> None:
    init = GIVEN | {"weights": [0.3333333, 0.6666667], "covariances": COVARIANCES["full"]}
    assert mixture(init=init).init.kind == "parameters"


def test_given_parameters_agree_with_the_number_of_features() -> None:
    init = {"kind": "parameters", "centroids": [[0, 0]] * 4}
    with pytest.raises(ValidationError, match=r"init\.centroids is 4 x 2; expected 4 x 3"):
        kmeans(init=init, points={"n_features": 3})


@pytest.mark.parametrize("name", ["a b", "a:b", "{a}", "", "a\n", "é"])
def test_names_that_would_break_a_key_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"models": {name: PALETTE}})
    with pytest.raises(ValidationError):
        Settings(namespace=name)


def test_settings_cannot_be_changed() -> None:
    settings = Settings.model_validate({"models": {"palette": PALETTE}})
    with pytest.raises(ValidationError, match="frozen"):
        settings.namespace = "other"
    with pytest.raises(ValidationError, match="frozen"):
        settings.models["palette"].seed = 1


def test_durations_are_seconds_inside_and_text_outside() -> None:
    forgetting = ForgettingByTime.model_validate({"half_life": "10m"})
    assert forgetting.half_life == 600.0
    assert forgetting.model_dump(mode="json") == {"kind": "time", "half_life": "10m"}


def test_settings_load_no_heavy_library() -> None:
    heavy = "{'numpy', 'scipy', 'redis', 'river', 'rich'}"
    code = f"import sys, streamclust.config; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_text_files_of_every_editor_are_read_alike(
    tmp_path: Path, encoding: str, line_end: str
) -> None:
    mark = "\ufeff" if encoding == "utf-16-le" else ""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes((mark + text.replace("\n", line_end)).encode(encoding))
        return path

    password = write("password", "hunter2 é\n")
    file = write("c.yaml", f"namespace: shop # é\nredis:\n  password_file: {password}\n")
    settings = load_settings(file, (), {})
    assert settings.namespace == "shop"
    assert settings.redis.read_password() == "hunter2 é"
