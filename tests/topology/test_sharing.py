"""Workers share models of a cluster, and of a primary that is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.fleet import Cluster, Watched
from tests.support.fleet_workspace import EAGER, FleetWorkspace
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.waiting import wait_until
from tests.support.workers import WorkerProcess

NAMES = [f"m{number}" for number in range(4)]
STEADY = {**EAGER, "batch": {"size": 30, "linger": "1d"}}


def feed(workspace: FleetWorkspace, seed: int) -> None:
    with workspace.client as client:
        for number, name in enumerate(NAMES):
            add_blocks(client, workspace.stream(name), blobs(90, seed=100 * seed + number), 30)


def learned(workspace: FleetWorkspace, points: int) -> bool:
    return all(workspace.committed(name) == points for name in NAMES)


@contextmanager
def two_workers(workspace: FleetWorkspace) -> Iterator[tuple[WorkerProcess, WorkerProcess]]:
    """Two workers of which each holds half of the models, and all models sleep."""
    worker = {"lease": "1s", "health_ttl": "1s", "idle_after": "200ms"}
    workspace.write(
        {name: kmeans(workspace.stream(name), **STEADY) for name in NAMES}, worker=worker
    )
    feed(workspace, 1)
    with WorkerProcess(workspace) as first, WorkerProcess(workspace) as second:
        first.wait(lambda: learned(workspace, 90))
        first.wait(lambda: [report.asleep for report in workspace.workers()] == [2, 2])
        yield first, second


def as_undisturbed(workspace: FleetWorkspace) -> None:
    """Check that each model is the same as one that one worker has learned, bit for bit."""
    quiet = {f"quiet-{name}": kmeans(workspace.stream(name), **STEADY) for name in NAMES}
    workspace.write(quiet).learn()
    for name in NAMES:
        assert workspace.state(name) == workspace.state(f"quiet-{name}"), name


def test_workers_share_the_models_of_a_cluster(
    tmp_path: Path, cluster: Cluster, namespace: str
) -> None:
    workspace = FleetWorkspace(tmp_path, cluster.url, namespace)
    with two_workers(workspace) as (first, second):
        # When one dies while its models sleep
        first.kill()
        # Then the other takes them
        second.wait(lambda: [report.held for report in workspace.workers()] == [4])
        feed(workspace, 2)
        second.wait(lambda: learned(workspace, 180))
        assert second.leave() == 0
    as_undisturbed(workspace)


def test_workers_share_the_models_of_the_next_primary(
    tmp_path: Path, watched: Watched, namespace: str
) -> None:
    workspace = FleetWorkspace(tmp_path, watched.url, namespace)
    with two_workers(workspace) as (first, second):
        # When the primary dies, and then one of the workers
        watched.primary.kill()
        first.wait_for("server_back")
        second.wait_for("server_back")
        wait_until(lambda: sum(report.held for report in workspace.workers()) == 4)
        first.kill()
        second.wait(lambda: [report.held for report in workspace.workers()] == [4])
        feed(workspace, 2)
        second.wait(lambda: learned(workspace, 180))
        assert second.leave() == 0
    as_undisturbed(workspace)
