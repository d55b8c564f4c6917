"""A cluster whose shards have replicas: the one that holds the model fails over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import fleet
from tests.support.fleet import Cluster, Node
from tests.support.fleet_workspace import FleetWorkspace, eager, feeding, learned_once
from tests.support.waiting import LIMIT, wait_until
from tests.support.workers import WorkerProcess


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with fleet.cluster(tmp_path) as found:
        yield found


def test_a_shard_that_fails_over_costs_time_and_what_it_loses_is_told(
    tmp_path: Path, namespace: str, cluster: Cluster
) -> None:
    # Given a model, a stream beside it and one in another shard; the first shard has a replica
    workspace = FleetWorkspace(tmp_path, cluster.url, namespace)
    first = cluster.owner(workspace.keys("m").state)
    names = [workspace.stream(str(number)) for number in range(100)]
    beside = next(name for name in names if cluster.owner(name) == first)
    elsewhere = next(name for name in names if cluster.owner(name) != first)
    workspace.write({"m": eager(beside, elsewhere)})
    old = cluster.nodes[first]
    with fleet.replica(tmp_path, cluster, first) as new, WorkerProcess(workspace) as worker:
        with feeding(workspace, beside, elsewhere):
            worker.wait(lambda: workspace.committed("m") > 150)
            # When the replica takes over from the living primary
            fleet.take_over(new)
            # Then the session ends with the history that it began with, and nothing was lost
            worker.wait_for("server_lost")
            learns_on(workspace, worker)
            assert not worker.events(LOST)
            # When that one's newest commits and points don't reach its own replica, and it dies
            wait_until(lambda: role(old) == "replica", LIMIT)
            fleet.cut_off(old)
            learns_on(workspace, worker)
            new.kill()
            # Then the worker says what was lost, and goes on from what there is
            wait_until(lambda: role(old) == "primary", LIMIT)
            worker.wait_for(LOST)
            learns_on(workspace, worker)
        worker.wait(lambda: workspace.position("m") == workspace.last_ids(beside, elsewhere))
        assert worker.leave() == 0
        learned_once(workspace, beside, elsewhere)


LOST = "commits_lost"


def learns_on(workspace: FleetWorkspace, worker: WorkerProcess) -> None:
    points = workspace.committed("m")
    worker.wait(lambda: workspace.committed("m") > points + 150)


def role(node: Node) -> str:
    """Return what a node is; nothing for a replica that lacks its primary's data."""
    with node.client as client:
        found = client.role()
    if found[0] == b"master":
        return "primary"
    return "replica" if found[3] == b"connected" else ""
