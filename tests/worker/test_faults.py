"""When the server, a key or another worker isn't as it should be.

Given, when and then are of real processes: servers and workers that are killed, stopped and
started again.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from streamclust.formats.checkpoint import FORMAT
from streamclust.formats.container import pack, unpack
from streamclust.store.model.health import read_health
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, add_points, blobs
from tests.support.servers import free_port, own_server
from tests.support.waiting import LIMIT
from tests.support.workers import WorkerProcess, drain
from tests.support.workspace import Workspace, error_line, run

SECRET = "hunter2-hunter2"
EAGER: dict[str, Any] = {
    "batch": {"size": 30, "linger": "50ms"},
    "commit": {"points": 30},
    "publish": {"every": "200ms"},
}

# ---- at the start: one line that says why, and an exit code


def test_an_unreachable_server_is_one_line(tmp_path: Path, namespace: str) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    Workspace(tmp_path, url, namespace).write({"m": kmeans("points")})
    at_once = ["--wait-for-server", "0"]
    for arguments in (["worker", *at_once], ["status"], ["watch", "m", *at_once]):
        line = error_line(run(tmp_path, *arguments), 3)
        assert f"can't reach {url}: connection refused" in line


def test_a_wrong_password_is_one_line_without_it(tmp_path: Path, namespace: str) -> None:
    # Given a server with a password
    with own_server(tmp_path, password=SECRET) as server:
        with redis.Redis.from_url(server.url, password=SECRET) as client:
            add_points(client, "points", blobs(3))
        Workspace(tmp_path, server.url, namespace).write({"m": kmeans("points")})
        # When there is none, or another one, Then it is refused
        assert "refused the login" in error_line(run(tmp_path, "worker"), 3)
        done = run(tmp_path, "worker", STREAMCLUST_REDIS__PASSWORD=SECRET[:-1])
        line = error_line(done, 3)
        assert "STREAMCLUST_REDIS__PASSWORD" in line
        assert SECRET[:-1] not in done.stdout + done.stderr
        # and with the right one it is welcome, and silent about it
        done = run(tmp_path, "worker", "--until-idle", STREAMCLUST_REDIS__PASSWORD=SECRET)
        assert done.returncode == 0
        assert SECRET not in done.stdout + done.stderr


def test_a_key_of_another_type_is_named_and_left_alone(workspace: Workspace) -> None:
    stream, keys = workspace.stream(), workspace.keys("m")
    workspace.write({"m": kmeans(stream)}, worker={"lease": "1h"})
    with workspace.client as client:
        for key in (stream, keys.state, keys.models):
            # Given a key that another program uses
            client.rpush(key, "mine")
            # When the worker is started Then it says which key that is
            line = error_line(run(workspace.folder, "worker", "--fail-fast"), 3)
            assert f"key {key} holds a list" in line
            assert client.lrange(key, 0, -1) == [b"mine"]
            client.delete(key)
        add_points(client, stream, blobs(3))
    # and once that is mended, no lease of before is in the way
    assert "standby_started" not in workspace.drain().stderr


def test_a_state_of_another_model_is_refused_with_what_to_do(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_points(client, stream, blobs(3))
    drain(workspace.write({"m": kmeans(stream)}))
    workspace.write({"m": kmeans(stream, K=4)})
    for option in ("--fail-fast", "--until-idle"):
        line = error_line(run(workspace.folder, "worker", option), 1)
        assert "learned with n_clusters 3, the config says 4" in line


def test_a_state_of_a_newer_version_is_refused_and_kept(workspace: Workspace) -> None:
    # Given a state that a newer version wrote
    stream, key = workspace.stream(), workspace.keys("m").state
    workspace.write({"m": kmeans(stream)})
    with workspace.client as client:
        add_blocks(client, stream, blobs(90))
        drain(workspace)
        state: Any = client.get(key)
        newer = pack("streamclust.state/3", *unpack(state, FORMAT, key))
        client.set(key, newer)
        add_blocks(client, stream, blobs(90, seed=1))
        # When this one is started, by hand or by a supervisor again and again
        for _ in range(2):
            line = error_line(run(workspace.folder, "worker", "--until-idle"), 1)
            # Then it says which key and what to do, and writes nothing
            assert f"key {key} holds format 'streamclust.state/3'" in line
            assert "use the version that wrote it, or move the key away" in line
            assert client.get(key) == newer
        assert [model.version for model in workspace.versions("m")] == [1]


def test_with_fail_fast_one_model_that_fails_brings_the_others_to_a_clean_end(
    workspace: Workspace,
) -> None:
    # Given a worker with a model that learns
    good, bad = workspace.stream("good"), workspace.stream("bad")
    with workspace.client as client:
        add_blocks(client, good, blobs(600))
        worker_settings = {"lease": "1s", "health_ttl": "1s", "fail_fast": True}
        workspace.write({"good": kmeans(good, **EAGER), "bad": kmeans(bad)}, worker=worker_settings)
        with WorkerProcess(workspace) as worker:
            worker.wait(lambda: workspace.committed("good") == 600)
            # When the stream of another becomes something else
            client.rpush(bad, "mine")
            # Then it says so and leaves
            assert worker.exit_code() == 3
            failed = next(line for line in worker.log.splitlines() if "model_failed" in line)
            assert json.loads(failed)["model"] == "bad"
            assert "WRONGTYPE" in json.loads(failed)["error"]
    assert workspace.newest("good").points == 600


# ---- a server that goes and comes back


@contextmanager
def slammed_door(port: int, times: int) -> Iterator[None]:
    """After the block: `times` clients have come to the port, and the door was shut on each."""
    with socket.create_server(("127.0.0.1", port)) as door:
        door.settimeout(LIMIT)
        yield
        for _ in range(times):
            door.accept()[0].close()


def test_a_server_that_dies_and_comes_back_costs_nothing(tmp_path: Path, namespace: str) -> None:
    # Given a worker in the middle of its work
    with own_server(tmp_path) as server:
        workspace = Workspace(tmp_path, server.url, namespace).write(
            {"m": kmeans("points", **EAGER)}
        )
        with WorkerProcess(workspace) as worker:
            with workspace.client as client:
                worker.wait_for("model_created")
                add_blocks(client, "points", blobs(3000))
            worker.wait(lambda: workspace.committed("m") > 300)
            # When its server is killed, and is away for a while
            server.kill()
            with slammed_door(server.port, times=4):
                pass
            server.start()
            # Then it goes on
            worker.wait(lambda: workspace.committed("m") == 3000)
            worker.wait_for("server_back")
            # and the same once more
            server.kill()
            server.start()
            with workspace.client as client:
                add_blocks(client, "points", blobs(600, seed=1))
            worker.wait(lambda: workspace.committed("m") == 3600)
            worker.wait_for("server_back", 2)
            assert worker.leave() == 0
            # and each outage was said once
            assert len(worker.events("server_lost")) == 2
            assert len(worker.events("server_back")) == 2
            assert not worker.events("standby_started")
        # and each point counts once
        assert workspace.newest("m").points == 3600
        assert workspace.newest("m").mass.sum() == pytest.approx(3600, abs=1e-6)


def test_it_can_be_told_to_leave_while_the_server_is_away(tmp_path: Path, namespace: str) -> None:
    with own_server(tmp_path) as server:
        workspace = Workspace(tmp_path, server.url, namespace).write({"m": kmeans("points")})
        with WorkerProcess(workspace) as worker:
            worker.wait_for("model_created")
            server.kill()
            worker.wait_for("server_lost")
            assert worker.leave() == 0
            assert "Traceback" not in worker.log


# ---- two workers


def test_a_standby_takes_over_from_a_worker_that_was_killed(any_workspace: Workspace) -> None:
    # Given a worker that learns, and another that stands by
    stream = any_workspace.stream()
    any_workspace.write({"m": kmeans(stream, **EAGER)})
    with WorkerProcess(any_workspace) as first, any_workspace.client as client:
        first.wait_for("model_created")
        with WorkerProcess(any_workspace) as second:
            second.wait_for("standby_started")
            add_blocks(client, stream, blobs(3000))
            first.wait(lambda: any_workspace.committed("m") > 300)
            # When the first is killed Then the second has its lease, soon, and learns the rest
            first.kill()
            add_blocks(client, stream, blobs(300, seed=1))
            second.wait(lambda: any_workspace.committed("m") == 3300)
            assert second.leave() == 0
    assert any_workspace.newest("m").mass.sum() == pytest.approx(3300, abs=1e-6)


def test_a_standby_takes_over_at_once_from_a_worker_that_leaves(workspace: Workspace) -> None:
    # Given a lease that would last for an hour
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream, **EAGER)}, worker={"lease": "1h"})
    with WorkerProcess(workspace) as first:
        first.wait_for("model_created")
        with WorkerProcess(workspace) as second, workspace.client as client:
            second.wait_for("standby_started")
            # When the first leaves Then the second need not wait for the hour
            assert first.leave() == 0
            second.wait_for("model_resumed")
            add_blocks(client, stream, blobs(90))
            second.wait_for("model_published")
            assert second.leave() == 0


def written(workspace: Workspace) -> list[object]:
    """Return all that a worker writes of a model, but for what lapses."""
    keys = workspace.keys("m")
    with workspace.client as client:
        return [
            client.dump(key)
            for key in (keys.state, keys.coreset, keys.models, keys.dead, keys.token)
        ]


def test_a_worker_that_slept_past_its_lease_writes_nothing(workspace: Workspace) -> None:
    # Given a worker that is stopped in the middle of its work, and a standby
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream, **EAGER)})
    with WorkerProcess(workspace) as sleeper, workspace.client as client:
        sleeper.wait_for("model_created")
        add_blocks(client, stream, blobs(3000))
        sleeper.wait(lambda: workspace.committed("m") > 300)
        sleeper.send(signal.SIGSTOP)
        with WorkerProcess(workspace) as second:
            second.wait(lambda: workspace.committed("m") == 3000)
            second.wait_for("model_published")
            second.wait(lambda: workspace.newest("m").points == 3000)
            # When it wakes up, with another one at its work
            before = written(workspace)
            sleeper.send(signal.SIGCONT)
            # Then it notices, says so and stands by
            assert "another worker took the model over" in sleeper.wait_for("lease_lost")["error"]
            sleeper.wait_for("standby_started")
            # and has written nothing, nor spoken for the other
            assert written(workspace) == before
            health = read_health(client, workspace.keys("m"))
            assert health is not None
            assert health.pid == second.process.pid
            assert second.leave() == 0
        # and is of use again when the other has left
        sleeper.wait_for("model_resumed")
        add_blocks(client, stream, blobs(600, seed=1))
        sleeper.wait(lambda: workspace.committed("m") == 3600)
        assert sleeper.leave() == 0
    assert workspace.newest("m").mass.sum() == pytest.approx(3600, abs=1e-6)
    assert [model.version for model in workspace.versions("m")] == list(
        range(1, workspace.newest("m").version + 1)
    )
