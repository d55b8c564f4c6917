"""``streamclust config``: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from streamclust.cli.exit_codes import EXIT_USAGE
from streamclust.cli.main import cli
from streamclust.config import load_settings

ROOT = Path(__file__).parent.parent.parent
FILE = "models: {palette: {kind: kmeans, n_clusters: 64, streams: [a, b]}}\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, ["config", *arguments], env=env)


def test_check_says_which_models_there_are() -> None:
    result = config("check", "-c", str(ROOT / "config.yaml"))
    assert result.exit_code == 0
    assert result.stdout == (
        f"{ROOT / 'config.yaml'} is valid: 2 models (palette: kmeans, K 64, streams pixels; "
        "shuttle: gaussian_mixture, K 10, streams shuttle)\n"
    )


def test_check_counts_one_model_and_none() -> None:
    assert config("check").stdout == "the settings are valid (no file): no models\n"
    Path("config.yaml").write_text(FILE)
    assert config("check").stdout == (
        "config.yaml is valid: 1 model (palette: kmeans, K 64, streams a b)\n"
    )


def test_check_for_machines() -> None:
    Path("config.yaml").write_text(FILE)
    assert json.loads(config("check", "--json").stdout) == {
        "valid": True,
        "file": "config.yaml",
        "models": {"palette": {"kind": "kmeans", "n_components": 64, "streams": ["a", "b"]}},
    }


def test_check_refuses_a_bad_file_with_a_line_for_each_problem() -> None:
    Path("config.yaml").write_text(FILE.replace("64", "0").replace("streams", "stream"))
    result = config("check")
    assert result.exit_code == EXIT_USAGE
    assert result.stdout == ""
    assert [line.split("; ")[0] for line in result.stderr.splitlines()] == [
        "error: config.yaml:1: models.palette.n_clusters: got 0",
        "error: config.yaml:1: models.palette.stream: unknown key",
    ]


def test_show_prints_what_is_in_force() -> None:
    Path("config.yaml").write_text(FILE)
    env = {"STREAMCLUST_LOG__LEVEL": "error", "STREAMCLUST_REDIS__PASSWORD": "hunter2"}
    result = config("show", "--set", "models.palette.n_clusters=32", env=env)
    shown = yaml.safe_load(result.stdout)
    assert shown["models"]["palette"]["n_clusters"] == 32
    assert shown["log"]["level"] == "error"
    assert "hunter2" not in result.output
    assert (
        json.loads(
            config("show", "--json", "--set", "models.palette.n_clusters=32", env=env).stdout
        )
        == shown
    )


def test_show_masks_the_password_of_a_url() -> None:
    result = config("show", "--redis-url", "redis://ann:hunter2@cache/0")
    assert yaml.safe_load(result.stdout)["redis"]["url"] == "redis://cache/0"
    assert "hunter2" not in result.output


def test_show_describes_each_key_if_asked() -> None:
    plain, described = config("show").stdout, config("show", "--describe").stdout
    assert yaml.safe_load(plain) == yaml.safe_load(described)
    assert "# Minimum log level." in described
    assert "#" not in plain


def test_reference_prints_the_page_of_the_documentation() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert config("reference").stdout == page


@pytest.mark.parametrize("command", ["check", "show", "reference"])
def test_every_command_has_help(command: str) -> None:
    result = config(command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_the_shipped_file_has_the_models_of_the_demo() -> None:
    models = load_settings(ROOT / "config.yaml", (), {}).models
    assert models["palette"].model_dump()["forgetting"] == {"kind": "points", "half_life": 2e5}
    assert models["shuttle"].model_dump()["covariance_type"] == "full"
