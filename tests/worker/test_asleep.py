"""A worker that starts doesn't load a model that has nothing to do."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from streamclust.store.model.health import read_health
from streamclust.worker.model_worker import ModelWorker
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.workers import WorkerThread
from tests.support.workspace import Workspace

STEADY: dict[str, Any] = {
    "batch": {"size": 30, "linger": "1d"},
    "commit": {"points": 30},
    "publish": {"points": 30},
}


def in_memory(workspace: Workspace) -> int:
    """Return how many models of this test are in memory."""
    gc.collect()
    found = [each for each in gc.get_objects() if isinstance(each, ModelWorker)]
    return sum(workspace.stream() in each.checkpoint.position for each in found)


def learned(workspace: Workspace, points: int = 90, **more: Any) -> Workspace:
    """A model that a worker has learned, before it ended."""
    workspace.write({"m": kmeans(workspace.stream(), **{**STEADY, **more})})
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(points))
    with WorkerThread(workspace) as worker:
        worker.wait(lambda: workspace.committed("m") == points)
    return workspace


def test_a_model_without_entries_starts_asleep(any_workspace: Workspace) -> None:
    workspace, keys = learned(any_workspace), any_workspace.keys("m")
    with workspace.client as client:
        client.xgroup_destroy(workspace.stream(), keys.group)  # a crash came before the mirror
        with WorkerThread(workspace) as worker:
            worker.wait_for("model_resumed")
            worker.wait(lambda: client.exists(keys.health))
            assert in_memory(workspace) == 0
            # It is shown as a model that sleeps, and the group as after each start
            health = read_health(client, keys)
            assert health is not None
            assert (health.phase, health.points, health.asleep) == ("learning", 90, True)
            groups: Any = client.xinfo_groups(workspace.stream())
            ends = [group["last-delivered-id"].decode() for group in groups]
            assert ends == [workspace.position("m")[workspace.stream()]]
            # And its first entry wakes it
            add_blocks(client, workspace.stream(), blobs(30, seed=1))
            worker.wait(lambda: workspace.committed("m") == 120)
            assert in_memory(workspace) == 1
    assert worker.failure is None


def test_a_model_with_an_unfinished_warm_up_starts_asleep(workspace: Workspace) -> None:
    learned(workspace, 30, init={"points": 60}, commit={"points": 30})
    with workspace.client as client, WorkerThread(workspace) as worker:
        worker.wait_for("model_resumed")
        worker.wait(lambda: client.exists(workspace.keys("m").health))
        health = read_health(client, workspace.keys("m"))
        assert in_memory(workspace) == 0
        assert health is not None
        assert (health.phase, health.gathered, health.warm_up) == ("warming", 30, 60)


@pytest.mark.parametrize("work", ["entries", "codes", "refit", "stream"])
def test_a_model_with_work_is_loaded(workspace: Workspace, work: str) -> None:
    learned(workspace)
    model = kmeans(workspace.stream(), **STEADY)
    with workspace.client as client:
        if work == "entries":
            add_blocks(client, workspace.stream(), blobs(30, seed=1))
        elif work == "codes":  # the setting is new, so the entries have no codes
            model["encode"] = {"worker": True}
        elif work == "refit":
            client.hset(workspace.keys("m").proposal, "id", "1-of-no-use")
        else:
            model["streams"].append(workspace.stream("more"))
        workspace.write({"m": model})
        with WorkerThread(workspace) as worker:
            worker.wait_for("model_resumed")
            worker.wait(lambda: in_memory(workspace) == 1)
            if work == "entries":
                worker.wait(lambda: workspace.committed("m") == 120)
            elif work == "codes":
                worker.wait(lambda: client.xlen(workspace.keys("m").codes()) == 3)
