"""Templates, overrides, defaults and anchors in a file of settings."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from streamclust.config.load import load_settings, parse_settings
from streamclust.config.settings import Settings
from streamclust.config.write import as_yaml
from streamclust.errors import ConfigError

CLICKS = {"kind": "kmeans", "streams": "clicks:{tenant}", "n_clusters": 8}


def load(models: dict[str, Any], **top: Any) -> Settings:
    return parse_settings(yaml.safe_dump({**top, "models": models}, sort_keys=False), "c.yaml")


def refusal(models: dict[str, Any], **top: Any) -> str:
    with pytest.raises(ConfigError) as error:
        load(models, **top)
    return str(error.value)


def test_a_template_has_a_model_for_each_name() -> None:
    models = load({"clicks-{tenant}": CLICKS, "m": {**CLICKS, "streams": "points"}}).models
    # the names are those that the settings name
    assert list(models) == ["m"]
    assert models
    # but any model of the template is there
    assert "clicks-acme" in models
    assert models["clicks-acme"].streams == ("clicks:acme",)
    assert models["clicks-BTC_x2F_USD"].streams == ("clicks:BTC/USD",)
    # and no other
    for name in ("clicks-", "views-acme", "clicks-{tenant}", "clicks-" + "x" * 300):
        assert name not in models
        assert models.get(name) is None
        with pytest.raises(KeyError):
            models[name]


def test_a_model_that_the_settings_name_comes_before_a_template() -> None:
    models = load({"clicks-{tenant}": CLICKS, "clicks-acme": {**CLICKS, "streams": "other"}}).models
    assert models["clicks-acme"].streams == ("other",)


def test_all_streams_of_a_template_are_filled() -> None:
    encode = {"streams": ["queries:{tenant}", "shared"]}
    streams = ["{{{tenant}}}:clicks", "views:{tenant}"]
    model = load({"{tenant}": {**CLICKS, "streams": streams, "encode": encode}}).models["acme"]
    assert model.streams == ("{acme}:clicks", "views:acme")
    assert model.encode.streams == ("queries:acme", "shared")


def test_overrides_are_parts_of_the_settings_of_single_models() -> None:
    template = {
        **CLICKS,
        "batch": {"size": 100, "linger": "1s"},
        "overrides": {"acme": {"n_clusters": 32, "batch": {"size": 7}}, "BTC/USD": None},
    }
    models = load({"clicks-{tenant}": template}).models
    acme, other = models["clicks-acme"], models["clicks-other"]
    assert (acme.n_components, acme.batch.size, acme.batch.linger) == (32, 7, 1.0)
    assert acme.streams == ("clicks:acme",)
    assert (other.n_components, other.batch.size) == (8, 100)
    assert models["clicks-BTC_x2F_USD"].n_components == 8


def test_with_several_placeholders_an_override_has_the_name_of_the_model() -> None:
    template = {**CLICKS, "streams": "{region}:{tenant}", "overrides": {"eu-acme": {"seed": 3}}}
    models = load({"{region}-{tenant}": template}).models
    assert (models["eu-acme"].seed, models["us-acme"].seed) == (3, 0)
    assert models["eu-acme"].streams == ("eu:acme",)


def test_what_is_shown_can_be_read_again() -> None:
    overrides = {"acme": {"n_clusters": 32, "init": {"restarts": 9}}}
    before = load(
        {"m": {**CLICKS, "streams": "s"}, "c-{tenant}": {**CLICKS, "overrides": overrides}}
    )
    shown = as_yaml(before)
    again = parse_settings(shown)
    assert again.to_dict() == before.to_dict()
    assert again.models["c-acme"] == before.models["c-acme"]
    assert "max_models" not in yaml.safe_load(shown)["models"]["m"]
    assert set(yaml.safe_load(shown)["models"]["c-{tenant}"]["overrides"]["acme"]) == {
        "n_clusters",
        "init",
    }
    assert parse_settings(as_yaml(before, describe=True)).to_dict() == before.to_dict()


def test_defaults_are_below_each_model() -> None:
    models = load(
        {"a": {**CLICKS, "streams": "a"}, "b-{t}": {**CLICKS, "streams": "b:{t}", "seed": 1}},
        defaults={"seed": 5, "batch": {"linger": "1s"}, "n_clusters": 3},
    ).models
    assert [models[name].seed for name in ("a", "b-x")] == [5, 1]
    assert [models[name].batch.linger for name in ("a", "b-x")] == [1.0, 1.0]
    assert [models[name].n_components for name in ("a", "b-x")] == [8, 8]


def test_a_default_is_ignored_for_a_kind_that_does_not_have_it() -> None:
    defaults = {"kind": "kmeans", "n_clusters": 3, "max_models": 7}
    mixture = {"kind": "gaussian_mixture", "n_components": 2, "streams": "b"}
    models = load({"a": {"streams": "a"}, "b": mixture}, defaults=defaults).models
    assert (models["a"].kind, models["a"].n_components) == ("kmeans", 3)
    assert models["b"].n_components == 2


def test_a_section_of_another_kind_replaces_that_of_the_defaults() -> None:
    model = {**CLICKS, "streams": "a", "forgetting": {"half_life": "10m"}}
    models = load({"a": model}, defaults={"forgetting": {"kappa": 0.7}}).models
    assert models["a"].forgetting.kind == "time"


def test_anchors_can_be_under_keys_of_their_own() -> None:
    text = """
x-slow: &slow
  batch: {size: 100}
  seed: 4
models:
  m:
    <<: *slow
    kind: kmeans
    n_clusters: 2
    streams: m
    seed: 5
"""
    model = parse_settings(text).models["m"]
    assert (model.batch.size, model.seed) == (100, 5)


def test_flags_and_variables_reach_templates(tmp_path: Any) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"models": {"clicks-{tenant}": CLICKS}}), encoding="utf-8")
    environ = {
        "STREAMCLUST_MODELS__CLICKS_TENANT__SEED": "7",
        "STREAMCLUST_DEFAULTS__BATCH__SIZE": "9",
    }
    settings = load_settings(path, ["models.clicks-{tenant}.n_clusters=5"], environ)
    model = settings.models["clicks-acme"]
    assert (model.seed, model.batch.size, model.n_components) == (7, 9, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"streams": "clicks"},
            "models.clicks-{tenant}.streams: got 'clicks'; expected {tenant} in each stream, as in "
            "the name of the model",
        ),
        (
            {"streams": ["clicks:{tenant}", "{user}:{tenant}"]},
            "models.clicks-{tenant}.streams: got '{user}:{tenant}'; {user} isn't in the name of "
            "the model; for braces write {{user}}",
        ),
        (
            {"overrides": {"acme": {"n_clusters": 0}}},
            "models.clicks-{tenant}.overrides.acme.n_clusters: got 0; expected an integer >= 1, or "
            "auto",
        ),
        (
            {"overrides": {"acme": {"batch": {"sice": 1}}}},
            "models.clicks-{tenant}.overrides.acme.batch.sice: unknown key; did you mean size? "
            "allowed: size, linger, max_entry_bytes",
        ),
        (
            {"overrides": {"acme": {"streams": "a"}}},
            "models.clicks-{tenant}: overrides.acme.streams can't be set for one model",
        ),
        (
            {"overrides": {"acme": 3}},
            "models.clicks-{tenant}.overrides.acme: got one value; expected keys with values",
        ),
        (
            {"max_models": 0},
            "models.clicks-{tenant}.max_models: got 0; expected an integer >= 1 and <= 1000000",
        ),
        (
            {"discover": 0},
            "models.clicks-{tenant}.discover: got 0; expected a duration (200ms, 10s, 5m, 6h, 1d, "
            "or seconds) > 0",
        ),
    ],
)
def test_a_wrong_template_is_one_line(change: dict[str, Any], message: str) -> None:
    lines = refusal({"clicks-{tenant}": {**CLICKS, **change}}).splitlines()
    assert [line.partition(": ")[2] for line in lines] == [message]
    assert lines[0].startswith("c.yaml:")


def test_an_error_of_a_template_is_not_repeated_by_its_overrides() -> None:
    overrides = {"acme": {"seed": 1}, "b": {"seed": 2}}
    template = {**CLICKS, "batch": {"size": 0}, "overrides": overrides}
    assert len(refusal({"clicks-{tenant}": template}).splitlines()) == 1


def test_an_error_of_the_defaults_is_reported_once_and_there() -> None:
    models = {name: {**CLICKS, "streams": name} for name in ("a", "b")}
    message = refusal(models, defaults={"batch": {"size": 0}})
    assert message == "c.yaml:3: defaults.batch.size: got 0; expected an integer >= 1, or auto"
    assert refusal({}, defaults={"sede": 1}).startswith(
        "c.yaml:2: defaults.sede: unknown key; did you mean seed? allowed: "
    )
    assert refusal({}, defaults={"streams": "s"}) == (
        "c.yaml:2: defaults.streams: each model has its own streams"
    )


@pytest.mark.parametrize("key", ["overrides", "discover", "max_models"])
def test_settings_of_templates_are_refused_elsewhere(key: str) -> None:
    value = {"overrides": {}, "discover": "1s", "max_models": 3}[key]
    assert f"models.m.{key}: " in refusal({"m": {**CLICKS, "streams": "m", key: value}})
