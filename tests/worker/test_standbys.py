"""Standbys: one thread asks for all leases, and each model hears of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis

from streamclust.errors import ServerError
from streamclust.store.model.keys import Keys
from streamclust.store.model.lease import Lease
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


def test_each_lease_that_is_released_wakes_its_model(client: redis.Redis, namespace: str) -> None:
    # Given leases of another worker
    keys = [Keys(namespace, f"m{number}") for number in range(MODELS)]
    held = [Lease(client, each, 60.0) for each in keys]
    assert all(lease.take() for lease in held)
    standbys = Standbys(0.04)
    woken = [threading.Event() for _ in keys]
    waiting = [
        Standby(client, Lease(client, each, 60.0), event.set)
        for each, event in zip(keys, woken, strict=True)
    ]
    with ExitStack() as stack:
        for standby in waiting:
            stack.enter_context(standbys.waiting(standby))
        # When some are released, and one becomes something else
        for number in (3, 50, 199):
            held[number].drop()
        client.set(keys[7].lease, "mine")
        wait_until(lambda: all(woken[number].is_set() for number in (3, 50, 199, 7)))
        # Then these models have them, and nobody else hears of it
        assert [n for n, event in enumerate(woken) if event.is_set()] == [3, 7, 50, 199]
        assert [n for n, standby in enumerate(waiting) if standby.lease.token] == [3, 50, 199]
        waiting[3].check()
        with pytest.raises(ServerError, match="another program wrote it"):
            waiting[7].check()
    # and after they have left, nobody takes a lease
    for number in range(100, 110):
        held[number].drop()
    late = Standby(client, Lease(client, Keys(namespace, "late"), 60.0), threading.Event().set)
    with standbys.waiting(late):
        wait_until(lambda: late.lease.token)
    assert not client.exists(*[keys[number].lease for number in range(100, 110)])
    standbys.close()


def test_a_second_worker_takes_all_models_of_one_that_was_killed(workspace: Workspace) -> None:
    names = [f"m{number}" for number in range(20)]
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
