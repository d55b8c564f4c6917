"""One writer a model: who takes over, and when, by no clock but the server's."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from streamclust.store.model.lease import Lease
from tests.worker.harness import Site, add_blocks, blobs, kmeans
from tests.worker.inline import InlineWorker

LEASE = 3.0
STANDING_BY = "standby_started"


def test_a_standby_takes_over_within_twice_the_lease(site: Site) -> None:
    # Given a worker that dies right after it has renewed its lease, and a standby
    site.write({"m": kmeans(site.stream())}, worker={"lease": f"{LEASE}s"})
    with site.client as client:
        lease = Lease(client, site.keys("m"), LEASE)
        assert lease.take()
        with InlineWorker(site) as standby:
            standby.says(STANDING_BY)
            renewed = server_time(client)
            assert lease.renew()
            # Then the standby has the model, by the server's clock in less than twice the lease
            standby.wait(lambda: client.get(site.keys("m").token) != str(lease.token).encode())
            assert LEASE * 0.99 <= server_time(client) - renewed < 2 * LEASE
            assert not lease.renew()


def server_time(client: Any) -> float:
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


def test_steps_of_the_wall_clock_disturb_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a clock that jumps by an hour, back and forth, whenever anyone looks
    now, steps = time.time, itertools.cycle([3600.0, -7200.0, 0.0, 86400.0])
    monkeypatch.setattr(time, "time", lambda: now() + next(steps))
    eager: dict[str, Any] = {"commit": {"every": "50ms"}, "publish": {"every": "100ms"}}
    site.write({"m": kmeans(site.stream(), **eager)}, worker={"lease": "1s", "health_ttl": "1s"})
    with InlineWorker(site) as first, InlineWorker(site) as second, site.client as client:
        first.wait(lambda: first.events("model_created") or second.events("model_created"))
        for seed in range(5):
            add_blocks(client, site.stream(), blobs(300, seed=seed))
            first.wait(lambda seed=seed: site.committed("m") == 300 * (seed + 1))
            first.wait(lambda seed=seed: site.newest("m").points == 300 * (seed + 1))
        # Then one has worked, all the time, and the other has waited
        working, waiting = (first, second) if first.events("model_created") else (second, first)
        assert not working.events("lease_lost")
        assert not waiting.events("model_resumed")
        assert waiting.events(STANDING_BY)
