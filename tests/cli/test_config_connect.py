"""``streamclust config check --connect``: one line per check, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import yaml
from click.testing import CliRunner, Result

from streamclust.cli.exit_codes import EXIT_ERROR, EXIT_OK, EXIT_SERVER
from streamclust.cli.main import cli
from streamclust.store.model.keys import Keys
from tests.support.servers import free_port
from tests.support.workspace import Workspace


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def client(valkey_url: str, namespace: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url) as client:
        client.xadd(namespace, {"x": "1.5", "y": "2"})
        yield client


class Setup:
    """A config.yaml for a model `m` that reads the stream of the fixture `client`."""

    def __init__(self, url: str, namespace: str) -> None:
        self.stream = namespace
        self._top = {"namespace": namespace, "redis": {"url": url}}

    def check(self, *words: str, **model: Any) -> Result:
        whole = {"kind": "kmeans", "n_clusters": 2, "streams": [self.stream], **model}
        Path("config.yaml").write_text(yaml.safe_dump({**self._top, "models": {"m": whole}}))
        return CliRunner().invoke(cli, ["config", "check", "--connect", *words])


@pytest.fixture
def setup(client: redis.Redis, valkey_url: str, namespace: str) -> Setup:
    return Setup(valkey_url, namespace)


def test_all_is_well(setup: Setup) -> None:
    result = setup.check()
    assert result.exit_code == EXIT_OK
    assert "fail" not in result.stdout
    assert f"ok   stream {setup.stream}: 1 entry, the latest " in result.stdout
    assert "; format fields, 2 features (x, y)\n" in result.stdout
    assert "ok   rights: the user may run `worker`, `encode`, `refit`" in result.stdout
    assert "ok   model m: it has no state yet; the worker starts it\n" in result.stdout


def test_a_misspelled_stream_is_a_warning_with_the_right_name(setup: Setup) -> None:
    result = setup.check(streams=[f"{setup.stream}s"])
    assert result.exit_code == EXIT_OK
    assert (
        f"warn stream {setup.stream}s: it doesn't exist yet; the worker waits for it; "
        f"did you mean '{setup.stream}'?\n"
    ) in result.stdout


def test_entries_that_the_settings_do_not_fit_are_a_failure(setup: Setup) -> None:
    result = setup.check(points={"features": ["x", "z"]})
    assert result.exit_code == EXIT_ERROR
    text = "no point in the first entries: missing field 'z'; points.missing: learn accepts missing"
    assert text in result.stdout


def test_the_first_entry_of_a_feed_with_gaps_may_lack_a_feature(setup: Setup) -> None:
    unnamed = setup.check(points={"missing": "learn"})
    assert unnamed.exit_code == EXIT_OK
    assert f"warn stream {setup.stream}: the first entry names the features;" in unnamed.stdout
    named = setup.check(points={"missing": "learn", "features": ["x", "y", "z"]})
    assert "warn stream" not in named.stdout
    assert "3 features (x, y, z)" in named.stdout


def test_keys_of_another_type_are_failures(setup: Setup, client: redis.Redis) -> None:
    client.set(f"{setup.stream}-text", "1")
    client.lpush(Keys(setup.stream, "m").models, "1")
    result = setup.check(streams=[f"{setup.stream}-text"])
    assert result.exit_code == EXIT_ERROR
    failed = [line for line in result.stdout.splitlines() if line.startswith("fail ")]
    assert len(failed) == 2
    assert "holds a string, expected a stream" in failed[0]
    assert "holds a list, expected a stream" in failed[1]


def test_a_state_that_the_settings_do_not_fit_is_a_failure(learned: Workspace) -> None:
    file = str(learned.folder / "config.yaml")
    words = ["config", "check", "--connect", "-c", file]
    assert "ok   model km: the state fits the settings: 300 points" in run(*words).stdout
    changed = run(*words, "--set", "models.km.scale=standard")
    assert changed.exit_code == EXIT_ERROR
    assert "was learned with scale 'none', the config says 'standard'" in changed.stdout


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_init_files_are_read(setup: Setup) -> None:
    np.save("model.safetensors.npy", np.ones(3))
    init = {"kind": "file", "path": "model.safetensors.npy"}
    result = setup.check(init=init)
    assert result.exit_code == EXIT_ERROR
    assert "fail init of m: models.m.init: " in result.stdout
    given = {"kind": "parameters", "centroids": [[0, 0], [1, 1]]}
    assert "ok   init of m: given parameters" in setup.check(init=given).stdout


def test_a_server_that_does_not_answer_has_its_own_exit_code(setup: Setup) -> None:
    gone = f"redis://127.0.0.1:{free_port()}/0"
    result = setup.check("--redis-url", gone, "--json")
    assert result.exit_code == EXIT_SERVER
    report = json.loads(result.stdout)
    assert report["valid"]
    assert report["checks"][-1]["state"] == "fail"
    assert "connection refused" in report["checks"][-1]["text"]


def test_the_embedded_server_is_not_started(setup: Setup) -> None:
    result = setup.check("--redis-url", "embedded")
    assert result.exit_code == EXIT_OK
    assert "start it with: streamclust server run\n" in result.stdout
    assert not Path(".streamclust").exists()


def test_no_model_is_a_failure() -> None:
    result = run("config", "check", "--connect")
    assert result.exit_code == EXIT_ERROR
    assert "fail models: none is configured; write one with: streamclust init\n" in result.stdout
