"""``streamclust init``: a commented file that isn't replaced by accident."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamclust.cli.exit_codes import EXIT_ERROR, EXIT_USAGE
from streamclust.cli.main import cli
from streamclust.config import load_settings

FILE = Path("config.yaml")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_the_file_is_valid_and_the_next_commands_are_named() -> None:
    result = run("init", "sensors", "-k", "8", "--features", "temperature, load", "--stream", "p")
    assert (result.exit_code, result.stdout) == (0, "wrote config.yaml\n")
    assert "streamclust ingest points.csv --stream p\n" in result.stderr
    model = load_settings(FILE, (), {}).models["sensors"]
    assert (model.n_components, model.streams) == (8, ("p",))
    assert model.points.features == ("temperature", "load")
    assert run("config", "check").exit_code == 0


def test_a_file_that_exists_is_kept_without_force() -> None:
    FILE.write_text("log: {level: debug}\n")
    refused = run("init")
    assert refused.exit_code == EXIT_ERROR
    assert refused.stderr == (
        "error: config.yaml exists; replace it with --force, or name another file with --out\n"
    )
    assert FILE.read_text() == "log: {level: debug}\n"
    assert run("init", "--force").exit_code == 0
    assert set(load_settings(FILE, (), {}).models) == {"machines"}


def test_a_dry_run_prints_what_would_be_written() -> None:
    printed = run("init", "--dry-run").stdout
    assert not FILE.exists()
    run("init")
    assert FILE.read_text() == printed


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["a b"], "models.a b: got 'a b'"),
        (["--features", "x,x"], "features has 'x' twice"),
        (["--redis-url", "http://h"], "redis.url: got 'http://h'"),
        (["--stream", "{streamclust:machines}:state"], "is a key that streamclust writes"),
    ],
)
def test_wrong_values_are_refused_before_a_file_is_written(words: list[str], problem: str) -> None:
    result = run("init", *words)
    assert result.exit_code == EXIT_USAGE
    assert problem in result.stderr
    assert not FILE.exists()
