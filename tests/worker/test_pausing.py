"""A paused model learns and publishes nothing, in no worker, and continues where it stopped."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from streamclust.client.pausing import new_pause, pause_all
from streamclust.store.model.health import read_health
from streamclust.store.model.pause import read_pause, resume_models
from streamclust.store.model.workers import read_workers
from tests.support.commands import shown
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.waiting import LIMIT, wait_until
from tests.support.workers import WorkerProcess, WorkerThread, drain
from tests.support.workspace import Workspace

EAGER: dict[str, Any] = {
    "batch": {"size": 60, "linger": "1h"},
    "commit": {"points": 60},
    "publish": {"points": 60, "every": "1d"},
}
BACKLOG, POINTS = "the backlog of test_pausing", 18_000
RARE: dict[str, Any] = {"commit": {"points": 600}, "publish": {"points": 1200, "every": "1d"}}


def model(workspace: Workspace, name: str = "points", **more: Any) -> dict[str, Any]:
    return kmeans(workspace.stream(name), **{**EAGER, **more})


def pause(workspace: Workspace, *names: str, wait: float = LIMIT) -> Any:
    """Pause models; return the effects, by name."""
    models = [workspace.keys(name) for name in names]
    with workspace.client as client:
        found = pause_all(client, models, new_pause("a test", "the test"), wait)
    return {keys.model: effect for keys, effect in found.items()}


def resume(workspace: Workspace, *names: str) -> None:
    with workspace.client as client:
        assert None not in resume_models(client, [workspace.keys(name) for name in names])


def kept(client: redis.Redis, workspace: Workspace, name: str = "m") -> list[Any]:
    """All that a worker writes of a model by learning."""
    keys = workspace.keys(name)
    return [client.get(keys.state), client.get(keys.coreset), client.xrange(keys.models)]


def payloads(client: redis.Redis, workspace: Workspace, name: str = "m") -> list[Any]:
    entries: Any = client.xrange(workspace.keys(name).models)
    return [(entry_id, fields[b"payload"]) for entry_id, fields in entries]


def last_report(client: redis.Redis, workspace: Workspace) -> tuple[str, int] | None:
    """What the worker of `m` reported last: its phase, and the number of points."""
    health = read_health(client, workspace.keys("m"))
    return None if health is None else (health.phase, health.points)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> list[Any]:
    """Write a backlog, and return what a worker makes of it without a pause."""
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed"), valkey_url, "paused-never")
    workspace.write({"m": kmeans(BACKLOG, **EAGER | RARE)})
    with workspace.client as client:
        add_blocks(client, BACKLOG, blobs(POINTS))
        drain(workspace)
        return [workspace.state("m"), payloads(client, workspace)]


@pytest.mark.parametrize("killed", ["at the pause", "in the pause"])
def test_a_pause_in_a_backlog_changes_no_bit(
    workspace: Workspace, undisturbed: list[Any], killed: str
) -> None:
    # Given a worker in a backlog
    workspace.write({"m": kmeans(BACKLOG, **EAGER | RARE)})
    with workspace.client as client:
        with WorkerProcess(workspace) as worker:
            worker.wait(lambda: workspace.committed("m") > 600)
            # When its model is paused
            if killed == "at the pause":
                pause(workspace, "m", wait=0.0)
                worker.kill()
            effect = pause(workspace, "m")["m"]
            assert effect.is_confirmed
            # Then it has committed the batch, and learns and publishes nothing any more
            before, learned = kept(client, workspace), workspace.committed("m")
            assert 600 < learned < POINTS
            if killed != "at the pause":
                assert effect.is_new and effect.is_held
                assert effect.health.points == learned
        # (it was killed) not even another worker, or the same one, that starts and ends meanwhile
        with WorkerProcess(workspace) as worker:
            line = worker.wait_for("model_paused")
            assert (line["by"], line["reason"], line["points"]) == ("the test", "a test", learned)
            worker.wait(lambda: last_report(client, workspace) == ("paused", learned))
            assert worker.leave() == 0
        with WorkerProcess(workspace) as worker:
            worker.wait_for("model_paused")
            assert kept(client, workspace) == before
            # When it is resumed
            resume(workspace, "m")
            # Then it continues there
            assert worker.wait_for("model_resumed")["points"] == learned
            worker.wait(lambda: workspace.committed("m") == POINTS)
        drain(workspace)
        # as bit for bit as without a pause
        assert [workspace.state("m"), payloads(client, workspace)] == undisturbed


def test_a_pause_outlives_takeovers_and_moves_between_workers(workspace: Workspace) -> None:
    names = [f"m{number}" for number in range(6)]
    workspace.write({name: model(workspace, name) for name in names})
    with workspace.client as client:
        for name in names:
            add_blocks(client, workspace.stream(name), blobs(120))
        with WorkerProcess(workspace) as first, WorkerProcess(workspace) as second:
            first.wait(lambda: all(workspace.committed(name) == 120 for name in names))
            wait_until(lambda: sorted(w.held for w in read_workers(client, workspace.namespace)))
            effects = pause(workspace, *names)
            assert all(effect.is_confirmed for effect in effects.values())
            before = [kept(client, workspace, name) for name in names]
            for name in names:
                add_blocks(client, workspace.stream(name), blobs(120, seed=1))
            # When a worker dies, and another one comes, so that models move back to it
            first.kill()

            def held() -> list[int]:
                return sorted(each.held for each in read_workers(client, workspace.namespace))

            second.wait(lambda: held() == [6])
            with WorkerProcess(workspace) as third:
                third.wait(lambda: held() == [3, 3])
                # Then nobody has learned anything
                reports = read_workers(client, workspace.namespace)
                third.wait(
                    lambda: sum(w.paused for w in read_workers(client, workspace.namespace)) == 6
                )
                assert len(reports) == 2
                assert [kept(client, workspace, name) for name in names] == before
                resume(workspace, *names[:5])
                third.wait(lambda: all(workspace.committed(name) == 240 for name in names[:5]))
                assert kept(client, workspace, "m5") == before[5]


def test_a_worker_that_was_suspended_longer_than_its_lease_learns_nothing(
    workspace: Workspace,
) -> None:
    workspace.write({"m": model(workspace)})
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(120))
        with WorkerProcess(workspace) as worker:
            worker.wait(lambda: workspace.committed("m") == 120)
            worker.send(signal.SIGSTOP)
            wait_until(lambda: not client.exists(workspace.keys("m").lease), LIMIT)
            # Given a pause that no worker confirms, since nobody has the lease
            effect = pause(workspace, "m")["m"]
            assert effect.is_confirmed and not effect.is_held
            before = kept(client, workspace)
            add_blocks(client, workspace.stream(), blobs(12_000, seed=1))
            # When the worker continues Then it finds the pause
            worker.send(signal.SIGCONT)
            worker.wait_for("model_paused")
            assert kept(client, workspace) == before


@contextmanager
def tracking(client: redis.Redis, permitted: bool) -> Iterator[None]:
    """Let the server report changes of keys, or refuse it."""
    server: Any = client
    if not permitted:
        server.execute_command("ACL", "SETUSER", "default", "-client|tracking")
    try:
        yield
    finally:
        server.execute_command("ACL", "SETUSER", "default", "+client|tracking")


@pytest.mark.parametrize("reported", [True, False])
def test_a_sleeping_model_is_paused_and_resumed(workspace: Workspace, reported: bool) -> None:
    workspace.write(
        {"m": model(workspace)}, worker={"lease": "1s", "health_ttl": "1s", "idle_after": "200ms"}
    )
    with workspace.client as client, tracking(client, reported):
        add_blocks(client, workspace.stream(), blobs(120))
        with WorkerProcess(workspace) as worker:
            worker.wait(lambda: workspace.committed("m") == 120)

            def asleep() -> bool:
                health = read_health(client, workspace.keys("m"))
                return health is not None and health.asleep

            if reported:
                worker.wait(asleep)
            assert pause(workspace, "m")["m"].is_confirmed
            before = kept(client, workspace)
            add_blocks(client, workspace.stream(), blobs(120, seed=1))
            # an answer of the server shows that the worker has had time to read the entries
            reports = [each.time for each in read_workers(client, workspace.namespace)]
            worker.wait(
                lambda: [w.time for w in read_workers(client, workspace.namespace)] != reports
            )
            assert kept(client, workspace) == before
            resume(workspace, "m")
            worker.wait(lambda: workspace.committed("m") == 240)
    assert "Traceback" not in worker.log


def test_a_worker_that_died_while_the_model_slept_need_not_confirm(workspace: Workspace) -> None:
    workspace.write(
        {"m": model(workspace)}, worker={"lease": "1s", "health_ttl": "1s", "idle_after": "200ms"}
    )
    keys = workspace.keys("m")
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(120))
        with WorkerProcess(workspace) as worker:
            worker.wait(lambda: (client.get(keys.lease) or b"").endswith(b":asleep"))
            worker.wait(lambda: client.pttl(keys.lease) > 60_000)
            worker.kill()
        effect = pause(workspace, "m")["m"]
        assert effect.is_confirmed and not effect.is_held


def test_a_model_that_is_paused_before_it_exists_writes_no_key(any_workspace: Workspace) -> None:
    workspace = any_workspace.write({"m": model(any_workspace)})
    keys = workspace.keys("m")
    with workspace.client as client:
        assert not pause(workspace, "m")["m"].is_held
        with WorkerProcess(workspace) as worker:  # its stream doesn't exist either
            line = worker.wait_for("model_paused")
            assert (line["points"], line["version"]) == (0, 0)
            add_blocks(client, workspace.stream(), blobs(120))
            assert not client.exists(keys.state, keys.models)
            assert not worker.events("stream_awaited")
            resume(workspace, "m")
            worker.wait(lambda: workspace.committed("m") == 120)


def test_entries_that_are_trimmed_in_a_pause_are_reported(workspace: Workspace) -> None:
    workspace.write({"m": model(workspace)})
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(120))
        with WorkerThread(workspace) as worker:
            worker.wait(lambda: workspace.committed("m") == 120)
            pause(workspace, "m")
            add_blocks(client, workspace.stream(), blobs(300, seed=1))
            client.xtrim(workspace.stream(), 8, approximate=False)
        with WorkerThread(workspace) as worker:
            # Then the worker warns while the model is paused
            line = worker.wait_for("paused_stream_trimmed")
            assert (line["stream"], line["entries"]) == (workspace.stream(), 2)
            # and counts the entries as lost once it reads on, as always
            resume(workspace, "m")
            worker.wait(lambda: workspace.committed("m") == 120 + 240)
            assert worker.wait_for("gap_detected")["entries"] == 2


def test_a_drain_leaves_a_paused_model_out(workspace: Workspace) -> None:
    workspace.write({"m": model(workspace), "n": model(workspace)})
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(120))
        pause(workspace, "m")
        # When Then it ends, and says why it hasn't learned everything
        done = workspace.drain()
        [line] = [json.loads(text) for text in done.stderr.splitlines() if "model_paused" in text]
        assert (line["model"], line["level"]) == ("m", "warning")
        assert "--until-idle doesn't wait" in line["effect"]
        assert (workspace.committed("m"), workspace.committed("n")) == (0, 120)
        # also if another worker has the model
        with WorkerProcess(workspace) as worker:
            worker.wait_for("model_paused")
            worker.wait(lambda: client.exists(workspace.keys("m").lease))
            assert drain(workspace, "m").events("model_paused")


def test_a_refit_waits_for_the_end_of_a_pause(workspace: Workspace) -> None:
    workspace.write({"m": model(workspace)})
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(600))
        with WorkerThread(workspace) as worker:
            worker.wait(lambda: workspace.committed("m") == 600)
            pause(workspace, "m")
            before = workspace.newest("m").version
            # When an older version is wanted back, with and without a worker
            done = shown(workspace, "models", "rollback", "m", "1")
            assert done.exit_code == 0, done.output
            assert "m is paused: the rollback to version 1 waits" in done.output
        assert shown(workspace, "refit", "m", "--force").exit_code == 0
        done = shown(workspace, "models", "rollback", "m", "1", "--json")
        assert json.loads(done.stdout)["waits"] is True
        # Then nothing is published
        assert workspace.newest("m").version == before
        assert client.hget(workspace.keys("m").proposal, "id")
        with WorkerThread(workspace) as worker:
            worker.wait_for("model_paused")
            assert not worker.events("refit_adopted")
            resume(workspace, "m")
            # until it is resumed
            worker.wait_for("refit_adopted")
        assert workspace.newest("m").reason == "rollback"


@pytest.mark.parametrize(
    "value", [b"\xff\x1b[31m{", b'{"since": "x", "by": 7, "reason": []}', None]
)
def test_a_value_of_another_program_pauses_too(workspace: Workspace, value: bytes | None) -> None:
    workspace.write({"m": model(workspace)})
    keys = workspace.keys("m")
    with workspace.client as client:
        if value is None:
            client.rpush(keys.paused, "a list")
        else:
            client.set(keys.paused, value)
        add_blocks(client, workspace.stream(), blobs(60))
        with WorkerThread(workspace) as worker:
            assert worker.wait_for("model_paused")["by"] == "?"
            assert not client.exists(keys.state)
        found = read_pause(client, keys)
        assert found is not None and found.text == "by ?"
