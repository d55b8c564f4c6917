"""A model that can't go on is parked: said once, shown, tried again; the others go on."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from streamclust.store.model.health import read_health
from streamclust.store.model.lease import Lease
from tests.support.commands import shown
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.waiting import wait_until
from tests.support.workers import WorkerProcess, WorkerThread, drain
from tests.support.workspace import Workspace, run

if TYPE_CHECKING:
    from collections.abc import Sequence

EAGER: dict[str, Any] = {
    "batch": {"size": 30, "linger": "50ms"},
    "commit": {"points": 30, "every": "50ms"},
    "publish": {"every": "100ms"},
}
FAILED = "model_failed"
RECOVERED = "model_recovered"

OF_ANOTHER_TYPE = ("stream", "state", "models", "dead", "proposal", "lease", "token")
"""Keys of a model that another program uses; a model is called by the key that is."""


def status(workspace: Workspace) -> dict[str, dict[str, Any]]:
    done = shown(workspace, "status", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    return {row["model"]: row for row in json.loads(done.stdout)}


def test_models_that_fail_are_parked_while_the_others_go_on(workspace: Workspace) -> None:
    # Given models that were learned, whose state is then damaged, lost, or of another K
    names = ("good", "damaged", "lost", "resized", *OF_ANOTHER_TYPE)
    models = {name: kmeans(workspace.stream(name), **EAGER) for name in names}
    with workspace.client as client:
        for name in names:
            add_blocks(client, workspace.stream(name), blobs(90))
        workspace.write(models).drain()
        lost = workspace.keys("lost")
        stored = (workspace.keys("damaged").state, lost.state, lost.coreset)
        states = {key: client.get(key) for key in stored}
        client.set(workspace.keys("damaged").state, b"damaged")
        client.delete(workspace.keys("lost").state)
        # and models with a key that another program has begun to use
        kept = {}
        for name in OF_ANOTHER_TYPE:
            key = (
                workspace.stream(name) if name == "stream" else getattr(workspace.keys(name), name)
            )
            if client.exists(key):
                kept[key] = f"{key}-kept"
                client.rename(key, kept[key])
            client.rpush(key, "mine")
        add_blocks(client, workspace.stream("dead"), blobs(30, seed=1))
        client.xadd(workspace.stream("dead"), {"f8": b"odd"})
        add_blocks(client, workspace.stream("models"), blobs(30, seed=1))
        workspace.write({**models, "resized": kmeans(workspace.stream("resized"), K=4, **EAGER)})
        bad = set(names) - {"good"}
        with WorkerProcess(workspace) as worker:
            # When a worker has all of them Then each of the bad ones is said to have failed
            worker.wait(lambda: {e["model"] for e in worker.events(FAILED)} == bad)
            phases = dict.fromkeys(bad, "failed") | {"good": "learning"}
            worker.wait(lambda: {n: row["phase"] for n, row in status(workspace).items()} == phases)
            # and shown, with the reason
            rows = status(workspace)
            assert "n_clusters 3, the config says 4" in rows["resized"]["reason"]
            assert "does not hold a streamclust.state/2 payload" in rows["damaged"]["reason"]
            assert "was the state deleted" in rows["lost"]["reason"]
            assert f"key {workspace.stream('stream')} holds a list" in rows["stream"]["reason"]
            assert all(rows[name]["reason"] for name in bad)
            checked = run(workspace.folder, "worker", "--check")
            assert checked.returncode == 1
            assert checked.stdout == "good: alive, learning, 90 points\n"
            lines = checked.stderr.splitlines()
            assert {line.partition(": failed: ")[0] for line in lines} == bad
            assert shows_failures(shown(workspace, "metrics").stdout, names)
            # while the good one is learned
            add_blocks(client, workspace.stream("good"), blobs(300, seed=1))
            worker.wait(lambda: workspace.committed("good") == 390)
            # and the others are tried again and again, which is not said again
            wait_until(lambda: failed_tries(worker, "resized") == 1)
            assert len(worker.events(FAILED)) == len(bad)
            # When what was wrong is put right
            for name in OF_ANOTHER_TYPE:
                key = (
                    workspace.stream(name)
                    if name == "stream"
                    else getattr(workspace.keys(name), name)
                )
                client.delete(key)
                if key in kept:
                    client.rename(kept[key], key)
            client.mset(states)
            # Then they recover, which is said
            mended = bad - {"resized"}
            worker.wait(lambda: {e["model"] for e in worker.events(RECOVERED)} == mended)
            worker.wait(lambda: workspace.committed("models") == 120)
            worker.wait(lambda: workspace.committed("dead") == 120)
            # and what is still failed in the end decides the exit code
            assert worker.leave() == 1
            stopped, last = worker.log.splitlines()[-2:]
            assert json.loads(stopped)["failed"] == ["resized"]
            assert last.startswith("error: model 'resized' failed: key {")


def shows_failures(metrics: str, names: Sequence[str]) -> bool:
    """Return whether the metrics show all models but the good one as failed."""
    return all(
        f'streamclust_up{{model="{name}"}} {float(name == "good")}' in metrics
        and f'streamclust_failed{{model="{name}"}} {float(name != "good")}' in metrics
        for name in names
    )


def failed_tries(worker: WorkerProcess, model: str) -> int:
    return sum(event["model"] == model for event in worker.events(FAILED))


def test_until_idle_learns_the_others_and_says_which_failed(workspace: Workspace) -> None:
    # Given a good model, and two that can't be learned
    streams = {name: workspace.stream(name) for name in ("good", "bad", "worse")}
    workspace.write({name: kmeans(stream) for name, stream in streams.items()})
    with workspace.client as client:
        add_blocks(client, streams["good"], blobs(600))
        client.rpush(streams["bad"], "mine")
        client.set(workspace.keys("worse").state, b"no state")
        # When what is there is learned
        done = run(workspace.folder, "worker", "--until-idle")
    # Then it comes to an end, with all of the good one
    assert workspace.committed("good") == 600
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [line.partition(" failed: ")[0] for line in errors] == [
        "error: model 'bad'",
        "error: model 'worse'",
    ]
    assert done.returncode == 3


def test_a_model_that_failed_for_a_moment_leaves_no_trace_in_the_exit_code(
    workspace: Workspace,
) -> None:
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream, **EAGER)})
    with WorkerProcess(workspace) as worker, workspace.client as client:
        # Given a worker whose stream becomes something else while it waits
        worker.wait_for("model_created")
        client.rpush(stream, "mine")
        assert "WRONGTYPE" in worker.wait_for(FAILED)["error"]
        # When it is put right
        client.delete(stream)
        add_blocks(client, stream, blobs(90))
        worker.wait_for(RECOVERED)
        assert worker.leave(signal.SIGINT) == 0
    assert workspace.newest("m").points == 90


def test_a_model_that_is_tried_again_is_shown_as_failed_all_the_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that gives the lease back after each try
    shown_after = list[str]()
    drop = Lease.drop

    def drop_and_look(lease: Lease, **options: bool) -> None:
        drop(lease, **options)
        health = read_health(client, workspace.keys("m"))
        shown_after.append("" if health is None else health.phase)

    monkeypatch.setattr(Lease, "drop", drop_and_look)
    # When its tries fail
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream, **EAGER)})
    with workspace.client as client:
        add_blocks(client, stream, blobs(90))
        drain(workspace)
        client.rename(stream, f"{stream}-kept")
        client.rpush(stream, "mine")
        with WorkerThread(workspace) as worker:
            worker.wait_for(FAILED)
            del shown_after[:]
            worker.wait(lambda: len(shown_after) > 1)
            # Then it has a report between the tries
            assert set(shown_after) == {"failed"}
            client.delete(stream)
            client.rename(f"{stream}-kept", stream)
            worker.wait_for(RECOVERED)
            del shown_after[:]
        # and none once the worker has left
        assert shown_after == [""]


def test_a_parked_model_is_left_to_whoever_can_learn_it(workspace: Workspace) -> None:
    # Given a worker that can't learn the model, and has parked it
    stream = workspace.stream()
    with workspace.client as client:
        add_blocks(client, stream, blobs(3))
    drain(workspace.write({"m": kmeans(stream)}))
    workspace.write({"m": kmeans(stream, K=4, **EAGER)})
    with WorkerThread(workspace) as first, workspace.client as client:
        first.wait_for(FAILED)
        # When another one comes, which can
        workspace.write({"m": kmeans(stream, **EAGER)})
        with WorkerThread(workspace) as second:
            second.wait_for("model_resumed")
            # Then it learns, and the health that is shown is its own
            add_blocks(client, stream, blobs(90))
            second.wait_for("model_published")
            first.wait_for("standby_started")
            second.wait(lambda: status(workspace)["m"]["phase"] == "learning")
        assert second.failure is None
        # and the first goes on trying when the other has left
        first.wait(lambda: status(workspace)["m"]["phase"] == "failed")
    assert first.failure is not None
    assert "n_clusters 3, the config says 4" in str(first.failure)


def test_a_standby_says_at_once_what_would_not_fit(workspace: Workspace) -> None:
    # Given a worker that learns
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream, **EAGER)})
    with WorkerThread(workspace) as first, workspace.client as client:
        add_blocks(client, stream, blobs(90))
        first.wait_for("model_published")
        # When another stands by, with settings that don't fit, of each kind
        for more, text in (
            ({"K": 5}, "n_clusters 3, the config says 5"),
            ({"scale": "standard"}, "scale 'none', the config says 'standard'"),
        ):
            workspace.write({"m": kmeans(stream, **EAGER, **more)})
            with WorkerThread(workspace) as second:
                # Then it says so, while the first goes on
                said = second.wait_for("standby_failed")
                assert text in said["error"]
                assert not first.events("lease_lost")
        # and one with the same settings has nothing to say
        workspace.write({"m": kmeans(stream, **EAGER)})
        with WorkerThread(workspace) as third:
            third.wait_for("standby_started")
            first.leave()
            third.wait_for("model_resumed")
            assert not third.events("standby_failed")


def test_an_error_that_nobody_expected_parks_the_model_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamclust.worker import commits

    def broken(*_: object) -> None:
        raise KeyError("no such thing")

    monkeypatch.setattr(commits, "encode_commit", broken)
    workspace.write({"m": kmeans(workspace.stream(), **EAGER)})
    with WorkerThread(workspace) as worker:
        failed = worker.wait_for(FAILED)
        assert failed["error"] == "unexpected error: KeyError('no such thing')"
        assert failed["exc_info"].args == ("no such thing",)
        worker.wait(lambda: status(workspace)["m"]["phase"] == "failed")
        monkeypatch.undo()
        worker.wait_for(RECOVERED)
    assert worker.failure is None
