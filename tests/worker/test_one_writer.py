"""One writer a model: who takes over, and when, by no clock but the server's."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from streamclust.store.model.lease import Lease
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.workers import WorkerThread
from tests.support.workspace import Workspace

LEASE = 3.0
STANDING_BY = "standby_started"


def test_a_standby_takes_over_within_twice_the_lease(workspace: Workspace) -> None:
    # Given a worker that dies right after it has renewed its lease, and a standby
    workspace.write({"m": kmeans(workspace.stream())}, worker={"lease": f"{LEASE}s"})
    with workspace.client as client:
        lease = Lease(client, workspace.keys("m"), LEASE)
        assert lease.take()
        with WorkerThread(workspace) as standby:
            standby.wait_for(STANDING_BY)
            renewed = server_time(client)
            assert lease.renew()
            # Then the standby has the model, by the server's clock in less than twice the lease
            standby.wait(lambda: client.get(workspace.keys("m").token) != str(lease.token).encode())
            assert LEASE * 0.99 <= server_time(client) - renewed < 2 * LEASE
            assert not lease.renew()


def server_time(client: Any) -> float:
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


def test_steps_of_the_wall_clock_disturb_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a clock that jumps by an hour, back and forth, whenever anyone looks
    now, steps = time.time, itertools.cycle([3600.0, -7200.0, 0.0, 86400.0])
    monkeypatch.setattr(time, "time", lambda: now() + next(steps))
    eager: dict[str, Any] = {"commit": {"every": "50ms"}, "publish": {"every": "100ms"}}
    workspace.write(
        {"m": kmeans(workspace.stream(), **eager)}, worker={"lease": "1s", "health_ttl": "1s"}
    )
    with (
        WorkerThread(workspace) as first,
        WorkerThread(workspace) as second,
        workspace.client as client,
    ):
        first.wait(lambda: first.events("model_created") or second.events("model_created"))
        for seed in range(5):
            add_blocks(client, workspace.stream(), blobs(300, seed=seed))
            first.wait(lambda seed=seed: workspace.committed("m") == 300 * (seed + 1))
            first.wait(lambda seed=seed: workspace.newest("m").points == 300 * (seed + 1))
        # Then one has worked, all the time, and the other has waited
        working, waiting = (first, second) if first.events("model_created") else (second, first)
        assert not working.events("lease_lost")
        assert not waiting.events("model_resumed")
        assert waiting.events(STANDING_BY)
