"""Daemons and followers that start before their server can be worked with."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.conftest import free_port
from tests.worker.harness import (
    LIMIT,
    OwnServer,
    Site,
    Worker,
    add_blocks,
    blobs,
    error_line,
    kmeans,
    run,
)

WAITING, BACK = "server_unavailable", "server_back"
SECRET = "hunter2-hunter2"


class Encoder(Worker):
    command = "encode"


class Watch(Worker):
    command = "watch"


class Metrics(Worker):
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
def site(server: OwnServer, tmp_path: Path, namespace: str) -> Site:
    site = Site(tmp_path, server._login, namespace)
    eager: dict[str, Any] = {"commit": {"every": "20ms"}, "batch": {"linger": "20ms"}}
    return site.write({"m": kmeans(site.stream(), **eager)})


def test_daemons_wait_for_a_server_that_is_away(server: OwnServer, site: Site) -> None:
    # Given a worker, an encoder and a follower that start before their server
    with Worker(site) as worker, Encoder(site, "m") as encoder, Watch(site, "m", "--json") as watch:
        for each in (worker, encoder):
            # Then they say what they wait for, and since when
            line = each.says(WAITING)
            assert line["server"] == server.url.removesuffix("/0") + "/0"
            assert line["error"].startswith(f"can't reach {server.url}: connection refused")
            assert line["since"].endswith("Z")
        watch.wait(lambda: WAITING in watch.log)
        # and when it is there, they do their work
        server.start()
        worker.says(BACK)
        with site.client as client:
            add_blocks(client, site.stream(), blobs(300))
            worker.wait(lambda: site.committed("m") == 300)
            encoder.wait(lambda: client.xlen(site.keys("m").codes()) == 10)
        watch.wait(lambda: '"version": 1' in watch.log)
        assert [worker.leave(), encoder.leave()] == [0, 0]
        for each in (worker, encoder, watch):
            assert SECRET not in each.log


@pytest.mark.parametrize("hangs", [False, True], ids=["away", "hangs"])
def test_a_signal_ends_the_wait_at_once(server: OwnServer, site: Site, hangs: bool) -> None:
    if hangs:  # it takes connections, and answers nothing
        server.start()
        server.send(signal.SIGSTOP)
    with Worker(site) as worker, Encoder(site, "m") as encoder:
        for each, event in ((worker, "worker_started"), (encoder, "encoder_started")):
            each.says(event if hangs else WAITING)
        assert worker.leave(signal.SIGTERM) == 0
        assert encoder.leave(signal.SIGINT) == 0
        worker.says("worker_stopped")
        assert "Traceback" not in worker.log + encoder.log


@pytest.mark.parametrize(
    "command", [["worker"], ["encode", "m"], ["watch", "m"], ["refit", "m"], ["metrics"]]
)
def test_who_wants_the_exit_code_gets_it(site: Site, command: list[str]) -> None:
    for time in ("0", "50ms"):
        done = run(site.folder, *command, "--wait-for-server", time)
        assert done.returncode == 3
        assert "can't reach redis://" in done.stderr
        assert SECRET not in done.stderr


def test_a_time_that_is_none_is_refused(site: Site) -> None:
    done = run(site.folder, "worker", "--wait-for-server", "soon")
    assert done.returncode == 2
    assert "expected a duration (200ms, 10s, 5m, 6h, 1d, or seconds), or forever" in done.stderr


def test_a_wrong_password_is_not_waited_for(server: OwnServer, site: Site) -> None:
    server.start()
    site = Site(site.folder, server.url.replace("://", "://:wrong@"), site.namespace)
    site.write({"m": kmeans(site.stream())})
    for command in (["worker"], ["encode", "m"], ["watch", "m"], ["metrics", "--port", "0"]):
        line = error_line(run(site.folder, *command, "--wait-for-server", "forever"), 3)
        assert "refused the login" in line


def test_a_worker_that_starts_at_a_replica_waits_until_it_is_promoted(
    server: OwnServer, site: Site
) -> None:
    server.start()
    with site.client as client:
        add_blocks(client, site.stream(), blobs(300))
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        error_line(run(site.folder, "worker", "--until-idle", "--wait-for-server", "0"), 3)
        with Worker(site) as worker:
            assert "is a replica, which accepts no writes" in worker.says(WAITING)["error"]
            client.execute_command("REPLICAOF", "NO", "ONE")
            worker.wait(lambda: site.committed("m") == 300)
            assert worker.leave() == 0


def test_metrics_are_served_while_the_server_is_away(server: OwnServer, site: Site) -> None:
    def up() -> str:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT) as page:
            text: str = page.read().decode()
        return next(line for line in text.splitlines() if line.startswith("streamclust_server_up "))

    with Metrics(site, "--port", str(port := free_port())) as metrics:
        metrics.wait(lambda: "/metrics" in metrics.log)
        assert up() == "streamclust_server_up 0.0"
        server.start()
        assert up() == "streamclust_server_up 1.0"
        assert metrics.leave() == 0
