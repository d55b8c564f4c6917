"""Standbys: one thread asks for all leases, and each model hears of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import redis
import structlog

from streamclust.errors import ServerError
from streamclust.runtime.connections import Connections
from streamclust.store.model.keys import Keys, WorkerKeys
from streamclust.store.model.lease import Lease
from streamclust.store.server.connect import Address, open_server
from streamclust.worker.standbys import Standby, Standbys
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.waiting import wait_until
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace

MODELS = 200


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url, protocol=2) as client:
        yield client


def test_each_lease_that_is_released_wakes_its_model(
    valkey_url: str, client: redis.Redis, namespace: str
) -> None:
    # Given leases of another worker
    keys = [Keys(namespace, f"m{number}") for number in range(MODELS)]
    held = [Lease(client, each, 60.0) for each in keys]
    assert all(lease.take() for lease in held)
    with open_server(Address(valkey_url)) as server, ExitStack() as stack:
        connections = Connections(server)
        stack.callback(connections.close)
        standbys = Standbys(namespace, connections, 0.2, lambda: MODELS, structlog.get_logger())
        stack.callback(standbys.close)
        with ExitStack() as waiting:
            places = [_placed(standbys, client, each, waiting) for each in keys]
            wait_until(lambda: all(each.looks for each in places))
            # When some are released, and one becomes something else
            before = [each.looks for each in places]
            for number in (3, 50, 199):
                held[number].drop()
            client.set(keys[7].lease, "mine")
            wait_until(lambda: all(places[n].looks > before[n] for n in (3, 50, 199, 7)))
            # Then these models have them, and no other model is woken again
            woken = [n for n, each in enumerate(places) if each.looks > before[n]]
            assert woken == [3, 7, 50, 199]
            assert [n for n, p in enumerate(places) if p.standby.lease.token] == [3, 50, 199]
            places[3].standby.check()
            with pytest.raises(ServerError, match="another program wrote it"):
                places[7].standby.check()
        # and after they have left, nobody takes a lease
        for number in range(100, 110):
            held[number].drop()
        late = _placed(standbys, client, Keys(namespace, "late"), stack)
        wait_until(lambda: late.standby.lease.token)
        assert not client.exists(*[keys[number].lease for number in range(100, 110)])


@dataclass
class _Placed:
    """A model that waits for its lease, and how often it was woken."""

    standby: Standby
    looks: int = 0


def _placed(standbys: Standbys, client: redis.Redis, keys: Keys, stack: ExitStack) -> _Placed:
    def wake() -> None:
        placed.looks += 1

    standby = Standby(keys.model, client, Lease(client, keys, 60.0), wake)
    placed = _Placed(standby)
    stack.enter_context(standbys.place(standby))
    return placed


def test_a_second_worker_takes_all_models_of_one_that_was_killed(workspace: Workspace) -> None:
    names = [f"m{number}" for number in range(12)]
    workspace.write({name: kmeans(workspace.stream(name)) for name in names})
    with workspace.client as client, WorkerProcess(workspace) as first:
        for name in names:
            add_blocks(client, workspace.stream(name), blobs(90))
        first.wait(lambda: all(workspace.committed(name) == 90 for name in names))
        with WorkerProcess(workspace) as second:
            second.wait_for("standby_started", len(names))
            first.kill()
            second.wait_for("model_resumed", len(names))
            for name in names:
                add_blocks(client, workspace.stream(name), blobs(90, seed=1))
            second.wait(lambda: all(workspace.committed(name) == 180 for name in names))
            assert second.leave() == 0


def test_workers_that_may_not_report_take_what_is_free(workspace: Workspace) -> None:
    # Given a server that refuses the reports of workers
    workspace.write(
        {"m": kmeans(workspace.stream())},
        worker={"lease": "1s", "health_ttl": "1s", "idle_after": "100ms"},
    )
    with workspace.client as client:
        client.hset(WorkerKeys(workspace.namespace).workers, "x", "1")
        add_blocks(client, workspace.stream(), blobs(90))
        with WorkerProcess(workspace) as first:
            first.wait(lambda: workspace.committed("m") == 90)
            with WorkerProcess(workspace) as second:
                second.wait_for("standby_started")
                # When the first worker dies while its model sleeps
                held: Any = client.get(workspace.keys("m").lease)
                assert not held.endswith(b":asleep")
                first.kill()
                # Then the lease ends soon, and the second worker takes the model
                second.wait_for("model_resumed")
                add_blocks(client, workspace.stream(), blobs(90, seed=1))
                second.wait(lambda: workspace.committed("m") == 180)
                assert len(second.events("workers_unknown")) == 1
                assert second.leave() == 0
