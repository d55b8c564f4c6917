"""Daemons and followers that start before their server can be worked with."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.servers import OwnServer, free_port
from tests.support.waiting import LIMIT
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace, error_line, run

WAITING, BACK = "server_unavailable", "server_back"
SECRET = "hunter2-hunter2"


class Encoder(WorkerProcess):
    command = "encode"


class Watch(WorkerProcess):
    command = "watch"


class Metrics(WorkerProcess):
    command = "metrics"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnServer]:
    """A server with a password, which a test starts when it is to be there."""
    server = OwnServer(tmp_path, SECRET)
    yield server
    if hasattr(server, "_process"):
        server.send(signal.SIGCONT)
        server.kill()


@pytest.fixture
def workspace(server: OwnServer, tmp_path: Path, namespace: str) -> Workspace:
    workspace = Workspace(tmp_path, server._login, namespace)
    eager: dict[str, Any] = {"commit": {"every": "20ms"}, "batch": {"linger": "20ms"}}
    return workspace.write({"m": kmeans(workspace.stream(), **eager)})


def test_daemons_wait_for_a_server_that_is_away(server: OwnServer, workspace: Workspace) -> None:
    # Given a worker, an encoder and a follower that start before their server
    with (
        WorkerProcess(workspace) as worker,
        Encoder(workspace, "m") as encoder,
        Watch(workspace, "m", "--json") as watch,
    ):
        for each in (worker, encoder):
            # Then they say what they wait for, and since when
            line = each.wait_for(WAITING)
            assert line["server"] == server.url.removesuffix("/0") + "/0"
            assert line["error"].startswith(f"can't reach {server.url}: connection refused")
            assert line["since"].endswith("Z")
        watch.wait(lambda: WAITING in watch.log)
        # and when it is there, they do their work
        server.start()
        worker.wait_for(BACK)
        with workspace.client as client:
            add_blocks(client, workspace.stream(), blobs(300))
            worker.wait(lambda: workspace.committed("m") == 300)
            encoder.wait(lambda: client.xlen(workspace.keys("m").codes()) == 10)
        watch.wait(lambda: '"version": 1' in watch.log)
        assert [worker.leave(), encoder.leave()] == [0, 0]
        for each in (worker, encoder, watch):
            assert SECRET not in each.log


@pytest.mark.parametrize("hangs", [False, True], ids=["away", "hangs"])
def test_a_signal_ends_the_wait_at_once(
    server: OwnServer, workspace: Workspace, hangs: bool
) -> None:
    if hangs:  # it takes connections, and answers nothing
        server.start()
        server.send(signal.SIGSTOP)
    with WorkerProcess(workspace) as worker, Encoder(workspace, "m") as encoder:
        for each, event in ((worker, "worker_started"), (encoder, "encoder_started")):
            each.wait_for(event if hangs else WAITING)
        assert worker.leave(signal.SIGTERM) == 0
        assert encoder.leave(signal.SIGINT) == 0
        worker.wait_for("worker_stopped")
        assert "Traceback" not in worker.log + encoder.log


@pytest.mark.parametrize(
    "command", [["worker"], ["encode", "m"], ["watch", "m"], ["refit", "m"], ["metrics"]]
)
def test_who_wants_the_exit_code_gets_it(workspace: Workspace, command: list[str]) -> None:
    for time in ("0", "50ms"):
        done = run(workspace.folder, *command, "--wait-for-server", time)
        assert done.returncode == 3
        assert "can't reach redis://" in done.stderr
        assert SECRET not in done.stderr


def test_a_time_that_is_none_is_refused(workspace: Workspace) -> None:
    done = run(workspace.folder, "worker", "--wait-for-server", "soon")
    assert done.returncode == 2
    assert "expected a duration (200ms, 10s, 5m, 6h, 1d, or seconds), or forever" in done.stderr


def test_a_wrong_password_is_not_waited_for(server: OwnServer, workspace: Workspace) -> None:
    server.start()
    workspace = Workspace(
        workspace.folder, server.url.replace("://", "://:wrong@"), workspace.namespace
    )
    workspace.write({"m": kmeans(workspace.stream())})
    for command in (["worker"], ["encode", "m"], ["watch", "m"], ["metrics", "--port", "0"]):
        line = error_line(run(workspace.folder, *command, "--wait-for-server", "forever"), 3)
        assert "refused the login" in line


def test_a_worker_that_starts_at_a_replica_waits_until_it_is_promoted(
    server: OwnServer, workspace: Workspace
) -> None:
    server.start()
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(300))
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        error_line(run(workspace.folder, "worker", "--until-idle", "--wait-for-server", "0"), 3)
        with WorkerProcess(workspace) as worker:
            assert "is a replica, which accepts no writes" in worker.wait_for(WAITING)["error"]
            client.execute_command("REPLICAOF", "NO", "ONE")
            worker.wait(lambda: workspace.committed("m") == 300)
            assert worker.leave() == 0


def test_metrics_are_served_while_the_server_is_away(
    server: OwnServer, workspace: Workspace
) -> None:
    def up() -> str:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT) as page:
            text: str = page.read().decode()
        return next(line for line in text.splitlines() if line.startswith("streamclust_server_up "))

    with Metrics(workspace, "--port", str(port := free_port())) as metrics:
        metrics.wait(lambda: "/metrics" in metrics.log)
        assert up() == "streamclust_server_up 0.0"
        server.start()
        assert up() == "streamclust_server_up 1.0"
        assert metrics.leave() == 0
