"""The file, under the environment, under the flags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import yaml

from streamclust.config import Settings, load_settings
from streamclust.config.write import as_yaml
from streamclust.errors import ConfigError

ROOT = Path(__file__).parents[2]
FILE = """\
redis:
  url: redis://cache:6379
log: {level: warning}
models:
  My-Palette.v2:
    kind: kmeans
    n_clusters: 64
    streams: [pixels]
    batch: {size: 10, linger: 1s}
    forgetting: {kind: points, half_life: 1000}
"""
Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load FILE (or another text) from an empty current directory."""
    monkeypatch.chdir(tmp_path)

    def load(
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, str] | Iterable[str] = (),
        text: str = FILE,
    ) -> Settings:
        Path("settings.yaml").write_text(text)
        return load_settings(Path("settings.yaml"), flags, environ or {})

    return load


def told(load: Load, *args: object, **kwargs: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    return str(caught.value).splitlines()


def test_without_a_file_all_are_defaults(load: Load) -> None:
    settings = load_settings(None, (), {})
    assert settings == Settings()
    assert settings.file is None
    assert not settings.models


def test_the_environment_of_the_process_does_not_reach_the_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STREAMCLUST_NAMESPACE", "other")
    assert Settings().namespace == "streamclust"
    assert load_settings(ROOT / "config.yaml").namespace == "other"


def test_config_yaml_of_the_current_directory_is_found(load: Load) -> None:
    Path("config.yaml").write_text("namespace: here")
    settings = load_settings(None, (), {})
    assert (settings.namespace, settings.file) == ("here", Path("config.yaml"))


def test_the_file_is_named_by_flag_before_variable_before_default(load: Load) -> None:
    for name in ("config", "variable", "flag"):
        Path(f"{name}.yaml").write_text(f"namespace: {name}")
    environ = {"STREAMCLUST_CONFIG": "variable.yaml"}
    assert load_settings(None, (), environ).namespace == "variable"
    assert load_settings(Path("flag.yaml"), (), environ).namespace == "flag"


def test_flags_win_over_variables_over_the_file(load: Load) -> None:
    variable, flag = {"STREAMCLUST_LOG__LEVEL": "error"}, {"log.level": "debug"}
    assert load().log.level == "warning"
    assert load(variable).log.level == "error"
    assert load(variable, flag).log.level == "debug"


def test_layers_merge_key_by_key(load: Load) -> None:
    settings = load(
        {"STREAMCLUST_MODELS__MY_PALETTE_V2__BATCH__SIZE": "20"},
        ["models.My-Palette.v2.batch.linger=5m", "models.My-Palette.v2.streams=[a, b]"],
    )
    model = settings.models["My-Palette.v2"]
    assert (model.batch.size, model.batch.linger) == (20, 300.0)
    assert model.streams == ("a", "b")
    assert settings.redis.url == "redis://cache:6379"


def test_a_changed_kind_of_forgetting_drops_the_keys_of_the_old_kind(load: Load) -> None:
    changed = load(flags=["models.My-Palette.v2.forgetting.kind=none"])
    assert changed.models["My-Palette.v2"].forgetting.kind == "none"
    kept = load(flags=["models.My-Palette.v2.forgetting.half_life=5"])
    assert kept.models["My-Palette.v2"].forgetting.model_dump() == {
        "kind": "points",
        "half_life": 5.0,
    }


def test_a_model_called_init_merges_like_any_other(load: Load) -> None:
    text = "models: {init: {kind: kmeans, streams: [x]}}"
    flags = ["models.init.kind=gaussian_mixture", "models.init.n_components=2"]
    assert load(flags=flags, text=text).models["init"].streams == ("x",)


@pytest.mark.parametrize("text", ['{"size": 7}', "{size: 7}"])
def test_objects_in_variables_are_json_or_yaml(load: Load, text: str) -> None:
    model = load({"STREAMCLUST_MODELS__MY_PALETTE_V2__BATCH": text}).models["My-Palette.v2"]
    assert (model.batch.size, model.batch.linger) == (7, 1.0)


def test_a_whole_model_may_come_from_variables(load: Load) -> None:
    settings = load(
        {
            "STREAMCLUST_MODELS__NEW__KIND": "gaussian_mixture",
            "STREAMCLUST_MODELS__NEW__N_COMPONENTS": "3",
            "STREAMCLUST_MODELS__NEW__STREAMS": "x",
        },
        ["models.new.covariance_type=diag"],
    )
    assert settings.models["new"].n_components == 3
    assert set(settings.models) == {"My-Palette.v2", "new"}


def test_an_empty_variable_counts_as_not_set(load: Load) -> None:
    assert load({"STREAMCLUST_LOG__LEVEL": ""}).log.level == "warning"


def test_null_takes_a_value_away(load: Load) -> None:
    text = "redis: {password_file: secret}"
    assert load(text=text).redis.password_file == Path("secret")
    assert load(flags=["redis.password_file=null"], text=text).redis.password_file is None


@pytest.mark.parametrize("password", ["007", "[x", "{y}", '"quoted"', "true", "1e5", "a=b: c #d"])
def test_a_password_is_taken_as_it_stands(load: Load, password: str) -> None:
    assert load({"STREAMCLUST_REDIS__PASSWORD": password}).redis.read_password() == password
    assert load(flags=[f"redis.password={password}"]).redis.read_password() == password


def test_names_that_fall_together_in_a_variable_are_told(load: Load) -> None:
    model = "{kind: kmeans, n_clusters: 2, streams: x}"
    text = f"models: {{a-b: {model}, a.b: {model}}}"
    (line,) = told(load, {"STREAMCLUST_MODELS__A_B__SEED": "1"}, text=text)
    assert line == (
        "STREAMCLUST_MODELS__A_B__SEED: matches the models a-b and a.b; use --set instead"
    )


@pytest.mark.parametrize("text", ["models:", "models: {}", "redis:\nlog:\nmodels:\n"])
def test_sections_left_empty_are_defaults(load: Load, text: str) -> None:
    assert load(text=text).to_dict() == Settings().to_dict()


def test_yaml_is_read_as_yaml_1_2(load: Load) -> None:
    text = """\
models:
  007: &base
    kind: gaussian_mixture
    n_components: 1_000
    reg_covar: 1e-6
    streams: [no, on, 12:30]
  yes:
    <<: *base
    seed: 1
"""
    models = load(text=text).models
    assert list(models) == ["007", "yes"]
    assert models["007"].streams == ("no", "on", "12:30")
    assert models["yes"].n_components == 1000
    assert models["yes"].model_dump()["reg_covar"] == 1e-6


def test_what_is_shown_loads_again_to_the_same_settings(load: Load) -> None:
    settings = load_settings(ROOT / "config.yaml", (), {})
    for describe in (False, True):
        again = load(text=as_yaml(settings, describe=describe))
        assert again.to_dict() == settings.to_dict()


def test_what_is_shown_has_no_password_and_every_description(load: Load) -> None:
    settings = load({"STREAMCLUST_REDIS__PASSWORD": "hunter2"})
    text = as_yaml(settings, describe=True)
    assert yaml.safe_load(text)["redis"]["password"] == "**********"
    assert "hunter2" not in text + repr(settings) + str(settings.to_dict())
    keys = [line for line in text.splitlines() if "My-Palette.v2" not in line]
    assert all("  # " in line for line in keys)


def test_encode_true_is_a_section_that_other_layers_add_to(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("models: {m: {kind: kmeans, n_clusters: 2, streams: s, encode: true}}")
    top = {"STREAMCLUST_MODELS__M__ENCODE__TOP": "2"}
    encode = load_settings(file, (), top).models["m"].encode
    assert (encode.worker, encode.top) == (True, 2)
    assert not load_settings(file, ["models.m.encode=false"], top).models["m"].encode.worker


OLD_NAMES = """\
models:
  a: &a
    kind: kmeans
    n_clusters: 2
    streams: [points]
    coreset: {points: 100, reseeds: 7}
    drift: {detector: adwin, on_drift: resolve}
  b:
    <<: *a
    coreset: {restarts: 5}
"""


def test_old_names_are_read_with_a_line_that_names_the_new_one(load: Load) -> None:
    settings = load(text=OLD_NAMES)
    a, b = settings.models["a"], settings.models["b"]
    assert (a.coreset.restarts, b.coreset.restarts) == (7, 5)
    assert a.drift.on_drift == b.drift.on_drift == "recluster"
    assert [line for line in settings.warnings if "models.a." in line] == [
        "settings.yaml:6: models.a.coreset.reseeds: reseeds is now called restarts; "
        "the next release refuses it",
        "settings.yaml:7: models.a.drift.on_drift: resolve is now called recluster; "
        "the next release refuses it",
    ]
    assert load().warnings == ()


def test_old_names_keep_their_layer(load: Load) -> None:
    flags = ["models.a.coreset.reseeds=1", "models.b.coreset.reseeds=2"]
    settings = load(text=OLD_NAMES, flags=flags)
    assert [model.coreset.restarts for model in settings.models.values()] == [1, 2]
    assert any("--set models.b.coreset.reseeds: models.b" in line for line in settings.warnings)


def test_errors_name_the_place_of_an_old_name(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"settings.yaml:6: models.a.coreset.restarts: got -1"):
        load(text=OLD_NAMES.replace("reseeds: 7", "reseeds: -1"))
    with pytest.raises(ConfigError, match=r"coreset.reseeds: unknown key"):
        load(text=OLD_NAMES.replace("reseeds: 7", "reseeds: 7, restarts: 7"))
