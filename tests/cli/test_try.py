"""``streamclust try``: from a file to settings, a stream, a model, a picture and three commands."""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from click.testing import CliRunner, Result

from streamclust.cli.exit_codes import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_SERVER
from streamclust.cli.main import cli
from streamclust.config import load_settings
from streamclust.engine import opening
from streamclust.engine.threads import Threads
from streamclust.quickstart import learning
from streamclust.runtime.job import Job
from streamclust.store.model.keys import Keys
from streamclust.store.model.versions import read_model
from streamclust.store.server.keeper import running_endpoint
from streamclust.worker.run_models import run_model
from tests.support.forked import ForkedCommand
from tests.support.servers import free_port
from tests.support.waiting import LIMIT, wait_until
from tests.support.workspace import environment
from tests.support.workspace import run as run_command

ROWS = 600


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def name(namespace: str, valkey_url: str) -> Iterator[str]:
    """The name of a file, and so of a model and a stream, that no other test has."""
    rng = np.random.default_rng(0)
    z = rng.integers(0, 3, ROWS)
    X = np.array([[40.0, 20.0], [55.0, 70.0], [75.0, 95.0]])[z] + rng.normal(size=(ROWS, 2))
    lines = [f"{x:.3f},{y:.3f},web-{k}" for (x, y), k in zip(X, z, strict=True)]
    lines[10:10] = ["bad,1,web", "1,2"]
    Path(f"{namespace}.csv").write_text("\n".join(["temperature,load,host", *lines]) + "\n")
    yield namespace
    with redis.Redis.from_url(valkey_url) as client:
        for key in client.scan_iter(match=f"*{namespace}*"):
            client.delete(key)


@pytest.fixture
def run(name: str, valkey_url: str) -> Callable[..., Result]:
    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, ["try", f"{name}.csv", "--redis-url", valkey_url, *words])

    return run


def test_a_file_becomes_settings_a_model_and_a_picture(
    run: Callable[..., Result], name: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def run_and_look(job: Job) -> None:
        sent.append(job.server.client().xlen(name))
        run_model(job)

    monkeypatch.setattr(learning, "run_model", run_and_look)
    result = run()
    assert result.exit_code == 0, result.stderr
    assert sent > [0]  # so the worker doesn't report that it waits for the stream
    assert "3 clusters: Lowest BIC" in result.stderr
    assert "2 bad rows skipped; the first: " in result.stderr

    settings = load_settings(Path("config.yaml"), (), {})
    model = settings.models[name]
    assert model.points.features == ("temperature", "load")
    assert model.encode.labels == ("host",)
    with redis.Redis.from_url(valkey_url) as client:
        assert client.xlen(name) == ROWS
        assert client.exists(Keys("streamclust", name).state)
    assert Path(f"{name}.png").read_bytes().startswith(b"\x89PNG")

    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80 + len(name)
    assert {"0", "1", "2"} <= set("".join(line for line in lines if line.startswith("│")))
    assert any(re.match(r"0 +\d+\.0 +3\d\.\d\d% ", line) for line in lines)
    assert f"learned {ROWS} points in " in result.stdout


def test_the_three_commands_at_the_end_work(
    run: Callable[..., Result], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = run("--no-png").stdout.partition("Continue with:\n")[2]
    assert "server run" not in end  # a server of one's own doesn't stop
    commands = [
        shlex.split(line)
        for line in end.replace(" \\\n", " ").splitlines()
        if not line.strip().startswith("#")
    ]
    assert [words[:2] for words in commands] == [
        ["streamclust", "ingest"],
        ["streamclust", "worker"],
        ["streamclust", "encode"],
    ]
    Path(f"{name}.csv").rename("MORE.csv")
    for words in (commands[0], [*commands[1], "--until-idle"], commands[2]):
        done = CliRunner().invoke(cli, words[1:])
        assert done.exit_code == 0, done.stderr
    versions = CliRunner().invoke(cli, ["status", name, "--json"])
    [status] = json.loads(versions.stdout)
    assert (status["points_seen"], status["dead"], status["lag"]) == (2 * ROWS, 0, 0)


def test_a_dry_run_prints_the_settings_and_touches_nothing(name: str) -> None:
    result = CliRunner().invoke(cli, ["try", f"{name}.csv", "--dry-run"])
    assert result.exit_code == 0
    assert "    n_clusters: 3\n" in result.stdout
    assert [path.name for path in Path().iterdir()] == [f"{name}.csv"]
    assert Path("config.yaml").write_text(result.stdout)
    assert load_settings(Path("config.yaml"), (), {}).models[name].scale == "none"


def test_every_engine_proposes_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[str, int]] = []

    class Counting(Threads):
        def map(self, *arguments: Any, **options: Any) -> Any:
            for done in super().map(*arguments, **options):
                used.append((self.name, len(done.value.means)))
                yield done

    monkeypatch.setitem(opening._ENGINES, "threads", Counting)
    monkeypatch.setattr(opening, "Threads", Counting)  # of auto
    few = Path(f"{name}.csv").read_text().splitlines()[:60]
    Path("few.csv").write_text("\n".join(few))
    common = ["try", "few.csv", "--dry-run"]
    expected = CliRunner().invoke(cli, [*common, "--engine", "inline"])
    assert expected.exit_code == 0
    assert not used
    for kind in ("threads", "processes", None):
        words = [] if kind is None else ["--engine", kind]
        environ = {"STREAMCLUST_ENGINE__WORKERS": "2"}
        found = CliRunner(env=environ).invoke(cli, [*common, *words])
        assert (found.stdout, found.stderr) == (expected.stdout, expected.stderr)
    assert used == 2 * [("threads", K) for K in range(1, 6)]


def test_what_exists_is_replaced_only_by_force(run: Callable[..., Result], name: str) -> None:
    assert run("--no-png", "-k", "2").exit_code == 0
    for words, message in (
        ([], "config.yaml exists; replace it with --force"),
        (["--out", "b.yaml"], f"stream '{name}' has {ROWS} entries already; --force deletes them"),
    ):
        refused = run("--no-png", *words)
        assert refused.exit_code == EXIT_ERROR
        assert message in refused.stderr
    assert not Path("b.yaml").exists()
    again = run("--no-png", "--force", "--json")
    assert again.exit_code == 0, again.stderr
    report: dict[str, Any] = json.loads(again.stdout)
    assert report["settings"]["n_components"] == 3
    assert (report["ingested"]["points"], report["ingested"]["bad"]) == (ROWS, 2)
    assert report["model"]["points"] == ROWS
    assert report["picture"] is None
    assert np.array(report["means"]).shape == (3, 2)


def test_the_embedded_server_of_the_folder_is_the_default(name: str) -> None:
    result = CliRunner().invoke(cli, ["try", f"{name}.csv", "--no-png", "-k", "3"])
    assert result.exit_code == 0, result.stderr
    assert f"learned {ROWS} points in " in result.stdout
    assert "other programs: streamclust server run --detach\n" in result.stdout
    wait_until(lambda: running_endpoint(Path(".streamclust")) is None)


def test_a_server_that_does_not_answer_leaves_no_file(name: str) -> None:
    gone = f"redis://127.0.0.1:{free_port()}/0"
    result = CliRunner().invoke(cli, ["try", f"{name}.csv", "--redis-url", gone])
    assert result.exit_code == EXIT_SERVER
    assert not Path("config.yaml").exists()


def test_a_file_without_numbers_is_one_line() -> None:
    Path("a.csv").write_text("name,city\nann,oslo\nbob,rome\n")
    result = CliRunner().invoke(cli, ["try", "a.csv"])
    assert result.exit_code == EXIT_ERROR
    assert result.stderr.startswith("error: a.csv has no column of features: ")
    assert len(result.stderr.splitlines()) == 1


def test_ctrl_c_keeps_the_points_that_were_sent_and_names_the_next_step(
    name: str, valkey_url: str, tmp_path: Path
) -> None:
    # Given a file that takes a while
    rows = 60_000
    X = np.random.default_rng(0).normal(size=(rows, 2))
    np.savetxt(f"{name}.csv", X, fmt="%.4f", delimiter=",", header="x,y", comments="")
    log = tmp_path / "log"
    words = ["try", f"{name}.csv", "-k", "2", "--no-png", "--redis-url", valkey_url]
    process = ForkedCommand(words, tmp_path, environment(), log, log)
    with redis.Redis.from_url(valkey_url) as client:
        # When it is interrupted while it sends the points
        wait_until(lambda: client.xlen(name) > 0)
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == EXIT_INTERRUPTED, log.read_text()
        sent = client.xlen(name)
        assert 0 < sent < rows
        # Then one line says so, and a worker with the new settings learns those points
        [line] = [line for line in log.read_text().splitlines() if line.startswith("stopped")]
        assert f"in stream '{name}', and `streamclust worker` learns them" in line
        assert run_command(tmp_path, "worker", "--until-idle").returncode == 0
        assert read_model(client, Keys("streamclust", name)).points == sent


def test_missing_values_are_learned_if_that_is_asked_for(
    name: str, run: Callable[..., Result], valkey_url: str
) -> None:
    lines = Path(f"{name}.csv").read_text().splitlines()
    for n in range(20, 400, 2):  # more than 20 % of the rows lack a load
        cells = lines[n].split(",")
        lines[n] = f"{cells[0]},,{cells[2]}"
    Path(f"{name}.csv").write_text("\n".join(lines) + "\n")
    plain = run("--dry-run")
    assert "have no value; to use it, give --missing learn" in " ".join(plain.stderr.split())
    done = run("--missing", "learn", "--no-png")
    assert done.exit_code == 0, done.output
    settings = load_settings(Path("config.yaml"), {})
    points = settings.models[name].points
    assert (points.missing, points.features) == ("learn", ("temperature", "load"))
    with redis.Redis.from_url(valkey_url) as client:
        model = read_model(client, Keys(settings.namespace, name))
    assert (model.points, len(model.means)) == (ROWS, 3)
    assert "rows of the file have missing values" in Path("config.yaml").read_text()
    refused = run("--missing", "learn", "--metric", "cosine", "--force")
    assert (refused.exit_code, "needs all values of a point" in refused.stderr) == (1, True)
