"""The life of a worker: it learns, is stopped or killed, goes on, and drains what is there.

Each worker is a process of its own, started as a user starts it.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamclust.store.server.connect import Address, open_server
from streamclust.store.server.supervisor import read_endpoint
from tests.support.exhaustive import combinations, some
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, add_points, blobs
from tests.support.servers import own_server
from tests.support.workers import WorkerProcess, drain
from tests.support.workspace import Workspace

BACKLOG = 12_000
BATCH = 60  # whole batches only, so that no boundary depends on how long a feed pauses
SLOW: dict[str, Any] = {
    "batch": {"size": BATCH, "linger": "30s"},
    "commit": {"points": 600, "every": "1h"},
    "publish": {"points": 1500, "every": "1h"},
}


# ---- restarts: the state is that of an undisturbed run, bit for bit


def backlog_models(**more: Any) -> dict[str, Any]:
    """Both families, without and with forgetting, on one stream."""
    settings = {**SLOW, **more}
    by_points = {"kind": "points", "half_life": 5000}
    return {
        "plain": kmeans("backlog", **settings),
        "fading": kmeans("backlog", forgetting=by_points, **settings),
        "mixed": mixture("backlog", **settings),
        "mixed-fading": mixture("backlog", forgetting=by_points, **settings),
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Workspace:
    """The backlog, and what one undisturbed run makes of it."""
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed"), valkey_url, "undisturbed")
    with workspace.client as client:
        add_blocks(client, "backlog", blobs(BACKLOG))
    workspace.write(backlog_models()).drain()
    return workspace


def assert_same(workspace: Workspace, undisturbed: Workspace) -> None:
    for model in backlog_models():
        assert workspace.state(model) == undisturbed.state(model)
        assert workspace.committed(model) == BACKLOG


def in_the_middle(workspace: Workspace) -> bool:
    return any(0 < workspace.committed(model) < BACKLOG for model in backlog_models())


@pytest.mark.parametrize("number", some([signal.SIGTERM, signal.SIGINT], signal.SIGTERM))
def test_told_to_leave_it_commits_and_publishes_and_later_goes_on(
    undisturbed: Workspace, tmp_path: Path, namespace: str, number: signal.Signals
) -> None:
    # Given a worker in the middle of a backlog, that publishes no more than it must
    workspace = Workspace(tmp_path, undisturbed.url, namespace)
    workspace.write(backlog_models(publish={"points": 10**9, "every": "1h"}))
    with WorkerProcess(workspace) as worker:
        worker.wait(lambda: all(workspace.committed(name) > 600 for name in backlog_models()))
        # When it is told to leave
        assert worker.leave(number) == 0
        assert worker.events("worker_stopped")
    # Then all that it learned is committed and published
    assert in_the_middle(workspace)
    for model in backlog_models():
        newest = workspace.newest(model)
        assert newest.reason == "leave"
        assert newest.points == workspace.committed(model)
        assert newest.position == workspace.position(model)
    # and a restart goes on from there to where an undisturbed run gets
    workspace.drain()
    assert_same(workspace, undisturbed)


@pytest.mark.parametrize("seed", combinations([1, 2], always=lambda seed: seed == 1))
def test_killed_again_and_again_it_learns_each_point_once(
    undisturbed: Workspace, tmp_path: Path, namespace: str, seed: int
) -> None:
    # Given workers that are killed at random places of a backlog
    workspace = Workspace(tmp_path, undisturbed.url, namespace).write(backlog_models())
    marks = np.random.default_rng(seed).integers(BACKLOG // 25, BACKLOG // 2, 2)
    for mark in sorted(marks):
        with WorkerProcess(workspace) as worker:
            worker.wait(lambda mark=mark: workspace.committed("plain") > mark)
            worker.kill()
        assert in_the_middle(workspace)
    # When another one is left in peace
    workspace.drain()
    # Then the models are those of an undisturbed run
    assert_same(workspace, undisturbed)
    assert [model.version for model in workspace.versions("plain")] == list(
        range(1, workspace.newest("plain").version + 1)
    )


def test_killed_while_its_batches_grow_it_learns_what_an_undisturbed_one_does(
    tmp_path: Path, namespace: str, valkey_url: str
) -> None:
    # Given a backlog that is long enough for batches to grow, and points that weigh nothing
    stream = f"{namespace}-long"
    X, w = blobs(240_000), np.arange(240_000) % 8 / 4.0
    settings = kmeans(
        stream,
        batch={"linger": "30s"},
        commit={"points": 20_000, "every": "1h"},
        points={"weight_field": "w"},
    )
    workspace = Workspace(tmp_path, valkey_url, namespace).write({"m": settings})
    # When a worker is killed behind the first two thirds of it, and another goes on
    with workspace.client as client, WorkerProcess(workspace) as worker:
        add_blocks(client, stream, X[:160_000], block=1000, w=w[:160_000])
        worker.wait(lambda: workspace.committed("m") > 110_000)
        worker.kill()
        add_blocks(client, stream, X[160_000:], block=1000, w=w[160_000:])
    drain(workspace)
    # Then the state is that of an undisturbed run, to the last bit
    quiet = Workspace(tmp_path, valkey_url, f"{namespace}-quiet").write({"m": settings})
    drain(quiet)
    assert workspace.state("m") == quiet.state("m")
    assert workspace.committed("m") == 210_000


def test_the_second_signal_ends_it_at_once(tmp_path: Path, namespace: str) -> None:
    # Given a worker that can't finish, because the server doesn't answer
    with own_server(tmp_path) as server:
        workspace = Workspace(tmp_path, server.url, namespace).write({"m": kmeans("points")})
        with WorkerProcess(workspace) as worker:
            worker.wait_for("model_created")
            server.send(signal.SIGSTOP)
            # When it gets two signals
            worker.send(signal.SIGINT, signal.SIGTERM)
            # Then it ends without an answer
            assert worker.exit_code() == 130


def test_an_embedded_server_outlives_ctrl_c_until_all_is_written(
    tmp_path: Path, namespace: str
) -> None:
    # Given a worker with a server of its own, in a terminal's process group
    workspace = Workspace(tmp_path, "embedded", namespace).write({"m": kmeans("points")})
    with WorkerProcess(workspace) as worker:
        worker.wait_for("model_created")
        # the client's share ends first, and the server stays
        with open_server(Address("embedded", tmp_path / ".streamclust")) as server:
            add_blocks(server.client(), "points", blobs(600))
            worker.wait_for("model_published")
        # When Ctrl-C ends it
        assert worker.leave(signal.SIGINT) == 0
    # Then what it learned is on disk
    workspace.drain()
    with open_server(Address("embedded", tmp_path / ".streamclust")) as server:
        state = server.client().get(workspace.keys("m").state)
        assert state is not None
        assert b'\\"points\\":600' in state


def test_a_worker_starts_its_embedded_server_again_when_that_and_its_supervisor_were_killed(
    tmp_path: Path, namespace: str
) -> None:
    # Given a worker that has learned
    data_dir = tmp_path / ".streamclust"
    workspace = Workspace(tmp_path, "embedded", namespace).write({"m": kmeans("points")})
    with WorkerProcess(workspace) as worker:
        worker.wait_for("model_created")
        with open_server(Address("embedded", data_dir)) as server:
            add_blocks(server.client(), "points", blobs(300))
            worker.wait_for("model_published")
            pid = int(server.client().info("server")["process_id"])
        # When its supervisor and its server are killed Then it has another one, with its data
        endpoint = read_endpoint(data_dir)
        assert endpoint is not None
        os.kill(endpoint.supervisor, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        worker.wait_for("model_resumed")
        # and learns on
        with open_server(Address("embedded", data_dir)) as server:
            add_blocks(server.client(), "points", blobs(300, seed=1))
            worker.wait(lambda: any(e["points"] == 600 for e in worker.events("model_published")))
        assert worker.leave() == 0
    assert not worker.events("model_failed")


# ---- live


@pytest.mark.every_server
def test_points_that_arrive_while_it_runs_appear_in_a_new_version(any_workspace: Workspace) -> None:
    # Given a worker on an empty stream that publishes by time
    stream = any_workspace.stream()
    live = kmeans(stream, publish={"every": "200ms"}, commit={"every": "100ms"})
    any_workspace.write({"m": live})
    with WorkerProcess(any_workspace) as worker, any_workspace.client as client:
        worker.wait_for("model_created")
        # When the warm-up is there Then the first version comes without waiting for more
        add_points(client, stream, blobs(60))
        assert worker.wait_for("model_published")["version"] == 1
        assert any_workspace.newest("m").reason == "start"
        # and a trickle is published by time
        for version in (2, 3):
            add_points(client, stream, blobs(1, seed=version))
            assert worker.wait_for("model_published", version)["points"] == 58 + version + 1
        assert any_workspace.newest("m").reason == "step"
        assert worker.leave() == 0
    # and leaving publishes nothing twice
    assert any_workspace.newest("m").version == 3


def test_a_model_that_waits_for_points_writes_no_more_than_it_must(workspace: Workspace) -> None:
    # Given a model whose warm-up never ends, and short cadences
    stream = workspace.stream()
    idle = kmeans(stream, publish={"every": "50ms"}, commit={"every": "50ms"})
    workspace.write({"m": idle, "other": idle})
    with WorkerProcess(workspace) as worker, workspace.client as client:
        worker.wait_for("model_created", 2)
        add_points(client, stream, blobs(10))
        worker.wait(lambda: workspace.committed("m") == 10)
        # When its heart beats on Then there is nothing more to commit
        with client.monitor() as monitor:
            commands = monitor.listen()
            group = f"XGROUP SETID {stream} {workspace.keys('m').group}"
            beats = 0
            while beats < 3:
                command = next(commands)["command"]
                beats += command.startswith(f"SET {workspace.keys('m').health}")
                assert not command.startswith(group)


# ---- logs


def test_logs_are_json_lines_on_a_pipe_and_text_on_request(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_points(client, stream, blobs(60))
    done = workspace.write({"m": kmeans(stream)}).drain()
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        "worker_started",
        "model_created",
        "warm_up_finished",
        "model_published",
        "worker_stopped",
    ]
    assert {line["level"] for line in lines} == {"info"}
    assert {line.get("model", "m") for line in lines} == {"m"}
    assert done.stdout == ""
    human = workspace.write({"m": kmeans(stream)}, log={"format": "human"}).drain()
    assert "worker_stopped" in human.stderr
    assert "{" not in human.stderr
    assert "\x1b" not in human.stderr
    assert workspace.write({"m": kmeans(stream)}, log={"level": "warning"}).drain().stderr == ""
