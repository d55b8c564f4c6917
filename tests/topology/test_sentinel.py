"""Primary and replica under three sentinels: the worker follows the primary, and learns once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from streamclust import failpoints
from streamclust.encoder.coding import Coder
from streamclust.encoder.loop import run_encoder
from streamclust.encoder.roster import encoder_jobs
from streamclust.errors import ServerError, ServerUnreachableError
from streamclust.failpoints import Instant
from streamclust.refit.command import Callbacks
from streamclust.store.model.keys import Keys
from streamclust.store.model.lease import Lease
from streamclust.store.server.connect import Address, open_server, translate
from tests.support.fleet import SERVICE, Watched
from tests.support.fleet_workspace import FleetWorkspace, eager, feeding, learned_once
from tests.support.points import add_blocks, blobs
from tests.support.refit_helpers import refit, waiting
from tests.support.servers import free_port
from tests.support.waiting import LIMIT, wait_until
from tests.support.workers import WorkerProcess, WorkerThread, open_job

# ---- a new primary


@contextmanager
def goes_on(workspace: FleetWorkspace, watched: Watched) -> Iterator[None]:
    """A worker in the midst of a feed loses the primary in the block, and goes on at the next."""
    stream, before = workspace.stream(), watched.primary
    workspace.write({"m": eager(stream)})
    with WorkerProcess(workspace) as worker:
        with feeding(workspace, stream):
            worker.wait(lambda: workspace.committed("m") > 300)
            version = workspace.newest("m").version
            yield
            worker.wait_for("server_lost")
            worker.wait_for("server_back")
            assert watched.primary != before
            worker.wait(lambda: workspace.newest("m").version > version + 1)
        worker.wait(lambda: workspace.position("m") == workspace.last_ids(stream))
        assert worker.leave() == 0
    learned_once(workspace, stream)


def test_a_killed_primary_costs_nothing_but_time(
    tmp_path: Path, namespace: str, watched: Watched
) -> None:
    with goes_on(FleetWorkspace(tmp_path, watched.url, namespace), watched):
        watched.primary.kill()


def test_a_demoted_primary_costs_nothing_but_time(
    tmp_path: Path, namespace: str, shared: Watched
) -> None:
    with goes_on(FleetWorkspace(tmp_path, shared.url, namespace), shared):
        shared.fail_over()


class Hold:
    """Holds a thread up that has read from a primary, until that has been replaced."""

    def __init__(self) -> None:
        self._armed, self._held, self._go_on = (threading.Event() for _ in range(3))

    def pass_by(self) -> None:
        if self._armed.is_set():
            self._held.set()
            assert self._go_on.wait(LIMIT)

    def while_replacing(self, watched: Watched, workspace: FleetWorkspace) -> None:
        """Promote another primary, let points be read at the old one, and demote that."""
        old = watched.promote()
        self._armed.set()
        with old.client as client:
            add_blocks(client, workspace.stream(), blobs(30, seed=1))
        assert self._held.wait(LIMIT)
        with workspace.client as client:
            add_blocks(client, workspace.stream(), blobs(60, seed=2))
        watched.demote(old)
        self._go_on.set()


def test_what_was_read_at_a_replaced_primary_is_not_committed_to_the_next(
    tmp_path: Path, namespace: str, shared: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that has taken a batch at the old primary, after another was promoted
    workspace, hold = FleetWorkspace(tmp_path, shared.url, namespace), Hold()
    stream = workspace.stream()

    def watcher(instant: Instant) -> None:
        if instant == "computing":
            hold.pass_by()

    monkeypatch.setattr(failpoints, "_watcher", watcher)
    workspace.write({"m": eager(stream)})
    with workspace.client as client:
        add_blocks(client, stream, blobs(90))
    with WorkerThread(workspace) as worker:
        worker.wait(lambda: workspace.committed("m") == 90)
        # When the old one is demoted before the batch is learned
        hold.while_replacing(shared, workspace)
        # Then the worker begins anew with what the next one has
        worker.wait(lambda: workspace.position("m") == workspace.last_ids(stream))
        worker.wait_for("server_lost")
    learned_once(workspace, stream)
    assert workspace.newest("m").points == 150


def test_codes_of_what_was_read_at_a_replaced_primary_are_not_written_to_the_next(
    tmp_path: Path, namespace: str, shared: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an encoder that has taken entries at the old primary, after another was promoted
    workspace, hold = FleetWorkspace(tmp_path, shared.url, namespace), Hold()
    stream, code = workspace.stream(), Coder.__call__

    def slowly(self: Coder, *arguments: Any) -> Any:
        hold.pass_by()
        return code(self, *arguments)

    monkeypatch.setattr(Coder, "__call__", slowly)
    workspace.write({"m": eager(stream)})
    with workspace.client as client:
        add_blocks(client, stream, blobs(90))
    workspace.learn()
    with encoding(workspace):
        wait_until(
            lambda: workspace.ids(workspace.keys("m").codes()) == workspace.ids(stream), LIMIT
        )
        # When the old one is demoted before the codes are written
        hold.while_replacing(shared, workspace)
        # Then the next has codes of its own entries, each, and of no others
        wait_until(lambda: len(workspace.ids(workspace.keys("m").codes())) == 5, LIMIT)
    assert workspace.ids(workspace.keys("m").codes()) == workspace.ids(stream)


@contextmanager
def encoding(workspace: FleetWorkspace) -> Iterator[None]:
    """An encoder in a thread of the test."""
    with open_job(workspace) as job:
        [found] = encoder_jobs(job.settings, job.server, "m", job.stop, False, job.log)
        thread = threading.Thread(target=run_encoder, args=(found,))
        thread.start()
        try:
            yield
        finally:
            job.stop.set()
            thread.join()


def test_a_refit_of_a_replaced_primary_s_points_is_not_proposed_to_the_next(
    tmp_path: Path, namespace: str, shared: Watched
) -> None:
    workspace = FleetWorkspace(tmp_path, shared.url, namespace)
    workspace.write({"m": eager(workspace.stream())})
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(90))
    workspace.learn()
    before = workspace.state("m")

    def replace_primary(points: int) -> None:
        del points
        shared.demote(shared.promote())

    with (
        pytest.raises(ServerUnreachableError, match="has another primary"),
        translate(workspace.url),
    ):
        refit(workspace, Callbacks(on_points=replace_primary), force=True)
    assert not waiting(workspace)
    assert workspace.state("m") == before


# ---- errors of one line


def test_sentinels_that_know_no_such_service(shared: Watched) -> None:
    with pytest.raises(ServerUnreachableError, match="know no running primary of this name"):
        open_server(Address(shared.url.replace(SERVICE, "other")))


def test_sentinels_that_are_not_there() -> None:
    url = f"redis+sentinel://127.0.0.1:{free_port()}/{SERVICE}"
    with pytest.raises(ServerUnreachableError, match="not all of its sentinels answer"):
        open_server(Address(url))


def test_sentinels_have_a_login_of_their_own(shared: Watched) -> None:
    def login(password: str) -> Address:
        return Address(shared.url, sentinel_username="guest", sentinel_password=password)

    for sentinel in shared.sentinels:
        with sentinel.client as client:
            client.execute_command(
                "ACL", "SETUSER", "guest", "on", ">right", "+sentinel|masters", "+client|setname"
            )
    with open_server(login("right")) as server:
        assert server.client().ping()
    with pytest.raises(ServerError, match=r"a sentinel of .* redis\.sentinel_password"):
        open_server(login("wrong"))


def test_an_old_primary_is_a_lost_server(shared: Watched, namespace: str) -> None:
    # Given a client that is connected to the primary
    with open_server(Address(shared.url)) as server:
        lease = Lease(server.client(), Keys(namespace, "m"), 60.0)
        assert lease.take()
        # When that one is made a replica, and nobody cuts the connection
        old, new = shared.primary, next(n for n in shared.nodes if n != shared.primary)
        with old.client as client:
            client.execute_command("REPLICAOF", "127.0.0.1", new.port)
        # Then what it refuses to write counts as a lost connection: to be tried again
        with pytest.raises(redis.ConnectionError, match="is now a slave"):
            lease.renew()
