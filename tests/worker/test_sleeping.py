"""A model without new entries leaves memory; its first new entry loads it again."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import redis

from streamclust.store.model.health import read_health
from streamclust.store.model.keys import WorkerKeys
from streamclust.store.model.lease import Lease
from streamclust.store.model.workers import read_workers
from streamclust.worker.model_worker import ModelWorker
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, blobs
from tests.support.workers import WorkerThread, drain
from tests.support.workspace import Workspace, run

EAGER: dict[str, Any] = {
    "batch": {"size": 30, "linger": "10ms"},
    "commit": {"every": "10ms"},
    "publish": {"every": "20ms"},
}
SLEEPY = {"lease": "1s", "health_ttl": "1s", "idle_after": "100ms"}
WOKEN = "model_woken"


@pytest.fixture(autouse=True)
def no_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an idle model give up its reader thread at once."""
    monkeypatch.setattr("streamclust.worker.reading._IDLE", 0.05)


def in_memory(workspace: Workspace) -> int:
    """Return how many models of this test are in memory."""
    gc.collect()
    found = [each for each in gc.get_objects() if isinstance(each, ModelWorker)]
    return sum(workspace.stream() in each.checkpoint.position for each in found)


def shown(client: redis.Redis, workspace: Workspace) -> tuple[str, int] | None:
    """Return the phase and the points of the health key."""
    health = read_health(client, workspace.keys("m"))
    return None if health is None else (health.phase, health.points)


def asleep(worker: WorkerThread, workspace: Workspace) -> None:
    """Wait until the worker's model has left memory."""
    with workspace.client as client:  # a look at the lease takes less time than one at the memory
        lease = workspace.keys("m").lease
        worker.wait(lambda: b":asleep" in (client.get(lease) or b""))
    worker.wait(lambda: in_memory(workspace) == 0)


def test_a_model_leaves_memory_and_wakes_with_its_first_point(any_workspace: Workspace) -> None:
    workspace = any_workspace.write({"m": mixture(any_workspace.stream(), **EAGER)}, worker=SLEEPY)
    with WorkerThread(workspace) as worker, workspace.client as client:
        for times in range(3):
            add_blocks(client, workspace.stream(), blobs(90, seed=times))
            worker.wait(lambda times=times: workspace.committed("m") == 90 * (times + 1))
            asleep(worker, workspace)
            # While it sleeps, it keeps its lease, and is shown as before
            worker.wait(
                lambda times=times: shown(client, workspace) == ("learning", 90 * (times + 1))
            )
            assert len(worker.events(WOKEN)) >= times
        assert client.exists(workspace.keys("m").lease)
    assert worker.failure is None
    assert len(worker.events("model_created")) == 1
    assert not worker.events("model_resumed")
    # and the end has given the lease back
    with workspace.client as client:
        assert not client.exists(workspace.keys("m").lease, workspace.keys("m").health)


def test_sleep_changes_no_bit(workspace: Workspace) -> None:
    # Given entries of which each is a batch, and a worker that sleeps between them
    stream = workspace.stream()
    steady: dict[str, Any] = {
        "coreset": {"points": 60},
        "batch": {"size": 30, "linger": "1d"},
        "commit": {"points": 1},
        "publish": {"points": 30},
    }
    models = dict.fromkeys(("m", "quiet"), kmeans(stream, **steady))
    workspace.write(models, worker=SLEEPY)
    with WorkerThread(workspace) as worker, workspace.client as client:
        for number in range(8):
            add_blocks(client, stream, blobs(30, seed=number))
            worker.wait(lambda number=number: workspace.committed("m") == 30 * (number + 1))
            if number % 2:
                asleep(worker, workspace)
        assert len(worker.events(WOKEN)) >= 3
    # Then the model is that of a worker that learned all of it at once
    drain(workspace, "quiet")
    assert workspace.state("m") == workspace.state("quiet")


def test_a_sleeping_model_writes_nothing_while_its_worker_reports(workspace: Workspace) -> None:
    workspace = workspace.write({"m": kmeans(workspace.stream(), **EAGER)}, worker=SLEEPY)
    keys, workers = workspace.keys("m"), WorkerKeys(workspace.namespace)
    with WorkerThread(workspace) as worker, workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(90))
        worker.wait(lambda: workspace.committed("m") == 90)
        worker.wait(lambda: b":asleep" in (client.get(keys.lease) or b""))
        # Then only the worker's report is written, and the lease lasts for minutes
        report_key = workers.worker(own_id(client, workspace))
        with client.monitor() as monitor:
            commands, seen, reports = monitor.listen(), [], 0
            while reports < 4:
                words = next(commands)["command"].split()
                reports += words[:2] == ["SET", report_key]
                seen.append(words[:2])
        assert not [words for words in seen if words[1:] == [keys.health]]
        assert not [words for words in seen if words[1:] == [keys.lease]]
        assert client.pttl(keys.lease) > 60_000
        assert client.pttl(keys.health) > 60_000
        [report] = read_workers(client, workspace.namespace)
        assert (report.held, report.awake, report.asleep) == (1, 0, 1)


def own_id(client: redis.Redis, workspace: Workspace) -> str:
    """Return the ID of the only worker."""
    [report] = read_workers(client, workspace.namespace)
    return report.id


def test_a_sleeping_model_that_loses_its_lease_stands_by(workspace: Workspace) -> None:
    workspace = workspace.write({"m": kmeans(workspace.stream(), **EAGER)}, worker=SLEEPY)
    with WorkerThread(workspace) as worker, workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(90))
        worker.wait(lambda: workspace.committed("m") == 90)
        asleep(worker, workspace)
        # When another worker takes the model, because this one was paused
        client.delete(workspace.keys("m").lease)
        other = Lease(client, workspace.keys("m"), 60.0)
        assert other.take()
        worker.wait_for("lease_lost")
        worker.wait_for("standby_started")
        # and returns it
        add_blocks(client, workspace.stream(), blobs(90, seed=1))
        other.drop()
        worker.wait(lambda: workspace.committed("m") == 180)


def test_a_refit_wakes_a_sleeping_model(workspace: Workspace) -> None:
    workspace = workspace.write({"m": kmeans(workspace.stream(), **EAGER)}, worker=SLEEPY)
    with WorkerThread(workspace) as worker, workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(300))
        worker.wait(lambda: workspace.committed("m") == 300)
        asleep(worker, workspace)
        done = run(workspace.folder, "refit", "m", "--force")
        assert done.returncode == 0, done.stderr
        worker.wait_for("refit_adopted")
        worker.wait(lambda: workspace.newest("m").reason == "refit")
