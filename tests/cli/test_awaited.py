"""What is waited for is said: by the worker, by `status`, by commands without a server or model."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from streamclust.cli import _server
from streamclust.store.server.embedded import EmbeddedServer
from streamclust.store.server.keeper import running_endpoint
from tests.support.commands import invoke, shown
from tests.support.model_settings import kmeans
from tests.support.points import add_entry, add_points, blobs
from tests.support.waiting import LIMIT, wait_until
from tests.support.workers import WorkerProcess, drain
from tests.support.workspace import Workspace, error_line, run

READING = (
    ("status",),
    ("status", "m"),
    ("watch", "m"),
    ("models", "list", "m"),
    ("models", "show", "m"),
    ("models", "delete", "m", "--yes"),
    ("models", "rename", "m", "n", "--yes"),
    ("codes", "m"),
    ("codes", "m", "--follow"),
    ("alerts", "m"),
    ("peek", "points"),
    ("dead", "m"),
    ("dead", "purge", "m", "--yes"),
    ("metrics",),
    ("score", "m"),
    ("select", "m"),
    ("worker", "--check"),
)


@pytest.fixture
def workspace(tmp_path: Path, server_url: str, namespace: str) -> Workspace:
    return Workspace(tmp_path, server_url, namespace)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_command_that_reads_starts_no_server_and_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Workspace(tmp_path, "embedded", "streamclust").write({"m": kmeans("points")})
    done = invoke(*command)
    assert done.exit_code == 3
    folder = tmp_path / ".streamclust"
    assert done.stderr.startswith(f"error: no server runs in {folder}: start it with `streamclust ")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_command_says_which_server_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    noted, lines = threading.Event(), list[str]()

    def note(line: str) -> None:
        lines.append(line)
        noted.set()

    def hang_up() -> None:
        with silent.accept()[0]:
            assert noted.wait(LIMIT)

    monkeypatch.setattr(_server, "_SILENCE", 0.01)
    monkeypatch.setattr(_server, "say", note)
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as threads:
        port = silent.getsockname()[1]
        other_end = threads.submit(hang_up)
        done = invoke("status", "--redis-url", f"redis://:secret@127.0.0.1:{port}/0")
        other_end.result(LIMIT)
    assert done.exit_code == 3
    assert lines == [f"waiting for an answer from redis://127.0.0.1:{port}/0"]


def test_a_short_wait_ends_after_one_try_at_a_server_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Workspace(tmp_path, "embedded", "streamclust").write({"m": kmeans("points")})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        done = invoke("refit", "m", "--wait-for-server", "50ms", "--redis-url", url)
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert done.exit_code == 3
    assert "no answer in time" in done.stderr


def test_the_data_of_a_server_that_stopped_are_shown_and_it_stops_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".streamclust"
    with EmbeddedServer.acquire(folder):
        assert "no models yet" in invoke("status").stdout
    wait_until(lambda: running_endpoint(folder) is None)
    for command in ("status", "metrics"):
        done = invoke(command)
        assert done.exit_code == 0
    wait_until(lambda: running_endpoint(folder) is None)
    done = invoke("watch", "m")
    assert done.exit_code == 3
    assert f"no server runs in {folder}: its data are stored there" in done.stderr
    assert running_endpoint(folder) is None


def test_a_server_that_was_joined_is_not_started_again(tmp_path: Path) -> None:
    with EmbeddedServer.acquire(tmp_path) as first:
        joined = EmbeddedServer.join(tmp_path)
        assert (joined.host, joined.port) == (first.host, first.port)
    # Then the server runs until the last user leaves, also one that only reads
    assert running_endpoint(tmp_path) is not None
    joined.close()
    wait_until(lambda: running_endpoint(tmp_path) is None)
    joined.revive()
    assert running_endpoint(tmp_path) is None


def test_until_idle_on_a_missing_stream_fails_and_writes_nothing(workspace: Workspace) -> None:
    stream = workspace.stream("pixels")
    workspace.write({"m": kmeans(stream)})
    line = error_line(run(workspace.folder, "worker", "--until-idle"), 1)
    assert f"models.m.streams: stream '{stream}' doesn't exist on {workspace.url}" in line
    with workspace.client as client:
        assert not list(client.scan_iter(match=f"*{workspace.namespace}*"))
        # also where only an encoder's group made the key, and where a name is misspelled
        client.xgroup_create(stream, "group", mkstream=True)
        add_entry(client, workspace.stream("pixel"), x="1")
        line = error_line(run(workspace.folder, "worker", "--until-idle"), 1)
        assert f"did you mean '{workspace.stream('pixel')}'?" in line


def test_until_idle_learns_the_streams_that_exist_and_then_fails(workspace: Workspace) -> None:
    streams = workspace.stream("a"), workspace.stream("missing")
    with workspace.client as client:
        add_points(client, streams[0], blobs(60))
    workspace.write({"m": kmeans(*streams)})
    line = error_line(run(workspace.folder, "worker", "--until-idle"), 1)
    assert f"stream '{streams[1]}' doesn't exist" in line
    assert workspace.committed("m") == workspace.newest("m").points == 60


def test_encode_until_idle_on_a_missing_stream_fails(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_points(client, stream, blobs(60))
        drain(workspace.write({"m": kmeans(stream)}))
        client.delete(stream)
        line = error_line(run(workspace.folder, "encode", "m", "--until-idle"), 1)
        assert f"stream '{stream}' doesn't exist" in line
        assert not client.exists(stream)


def test_a_worker_logs_the_wait_and_status_shows_it(workspace: Workspace) -> None:
    stream = workspace.stream("pixels")
    workspace.write({"m": kmeans(stream)})
    missing = f"stream '{stream}' doesn't exist yet on {workspace.url}"
    assert f"m: no stream: {missing}" in shown(workspace, "status").stdout

    def row() -> dict[str, Any]:
        [found] = json.loads(shown(workspace, "status", "--json").stdout)
        return dict(found)

    with WorkerProcess(workspace) as worker, workspace.client as client:
        event = worker.wait_for("stream_awaited")
        assert (event["stream"], event["server"]) == (stream, workspace.url)
        assert event["reason"] == f"{missing}; waiting"
        worker.wait(lambda: f"m: waiting: {missing}" in shown(workspace, "status").stdout)
        assert row()["missing_streams"] == [stream]
        assert (row()["server"], row()["namespace"]) == (workspace.url, workspace.namespace)
        # When points come Then that is said, and how many are still needed
        add_points(client, stream, blobs(50))
        assert worker.wait_for("stream_appeared")["stream"] == stream
        event = worker.wait_for("warm_up_progress")
        assert event["reason"] == "warming up: 50 of 60 points"
        worker.wait(lambda: row()["warm_up"] == {"points": 50, "of": 60})
        assert "m: warming up: 50 of 60 points" in shown(workspace, "status").stdout
        assert row()["waiting"] == ["warming up: 50 of 60 points"]
        assert len(worker.events("stream_awaited")) == 1
        add_points(client, stream, blobs(50))
        worker.wait_for("warm_up_finished")
        worker.wait(lambda: row()["waiting"] == [])
        assert worker.leave() == 0


def test_a_warm_up_without_a_worker_is_shown_from_the_state(workspace: Workspace) -> None:
    with workspace.client as client:
        add_points(client, workspace.stream(), blobs(1))
    workspace.write({"m": kmeans(workspace.stream())})
    waits = "m: no worker: never published; 1 entry waits; run `streamclust worker`"
    assert waits in shown(workspace, "status").stdout
    drain(workspace)
    assert "m: warming up: 1 of 60 points" in shown(workspace, "status").stdout


def test_a_folder_without_a_config_is_named(workspace: Workspace) -> None:
    env = {"STREAMCLUST_REDIS__URL": workspace.url, "STREAMCLUST_NAMESPACE": workspace.namespace}
    for command in (["worker"], ["worker", "--until-idle"], ["worker", "--check"]):
        line = error_line(run(workspace.folder, *command, **env), 2)
        assert "no config.yaml in this folder" in line
    done = run(workspace.folder, "status", **env)
    assert (done.returncode, "no config.yaml in this folder" in done.stdout) == (0, True)
    assert done.stdout.startswith(f"{workspace.url}  namespace {workspace.namespace}  20")
    line = error_line(run(workspace.folder, "watch", "m", **env), 1)
    where = "neither configured here (no config.yaml in this folder) nor on"
    assert f"model 'm' is {where} {workspace.url} in namespace" in line
    assert "isn't configured: no config.yaml" in error_line(
        run(workspace.folder, "score", "m", **env), 2
    )


def test_watch_of_a_model_that_nobody_knows_names_a_similar_one(workspace: Workspace) -> None:
    workspace.write({"machines": kmeans(workspace.stream())})
    done = shown(workspace, "watch", "machine")
    assert done.exit_code == 1
    assert "did you mean 'machines'?" in done.stderr
