"""A cluster whose shards have replicas: the one that holds the model fails over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.topology import fleet
from tests.topology.fleet import Cluster, Node
from tests.topology.stories import FleetSite, eager, feeding, learned_once
from tests.waiting import wait_until
from tests.worker.harness import LIMIT, Worker


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with fleet.cluster(tmp_path) as found:
        yield found


def test_a_shard_that_fails_over_costs_time_and_what_it_loses_is_told(
    tmp_path: Path, namespace: str, cluster: Cluster
) -> None:
    # Given a model, a stream beside it and one in another shard; the first shard has a replica
    site = FleetSite(tmp_path, cluster.url, namespace)
    first = cluster.owner(site.keys("m").state)
    names = [site.stream(str(number)) for number in range(100)]
    beside = next(name for name in names if cluster.owner(name) == first)
    elsewhere = next(name for name in names if cluster.owner(name) != first)
    site.write({"m": eager(beside, elsewhere)})
    old = cluster.nodes[first]
    with fleet.replica(tmp_path, cluster, first) as new, Worker(site) as worker:
        with feeding(site, beside, elsewhere):
            worker.wait(lambda: site.committed("m") > 300)
            # When the replica takes over from the living primary
            with new.client as client:
                client.execute_command("CLUSTER", "FAILOVER")
            # Then the session ends with the history that it began with, and nothing was lost
            worker.says("server_lost")
            learns_on(site, worker)
            assert not worker.events(LOST)
            # When that one's newest commits and points don't reach its own replica, and it dies
            wait_until(lambda: role(old) == "replica", LIMIT)
            fleet.cut_off(old)
            learns_on(site, worker)
            new.kill()
            # Then the worker says what was lost, and goes on from what there is
            wait_until(lambda: role(old) == "primary", LIMIT)
            worker.says(LOST)
            learns_on(site, worker)
        worker.wait(lambda: site.position("m") == site.last_ids(beside, elsewhere))
        assert worker.leave() == 0
        learned_once(site, beside, elsewhere)


LOST = "commits_lost"


def learns_on(site: FleetSite, worker: Worker) -> None:
    points = site.committed("m")
    worker.wait(lambda: site.committed("m") > points + 300)


def role(node: Node) -> str:
    """Return what a node is; nothing for a replica that lacks its primary's data."""
    with node.client as client:
        found = client.role()
    if found[0] == b"master":
        return "primary"
    return "replica" if found[3] == b"connected" else ""
