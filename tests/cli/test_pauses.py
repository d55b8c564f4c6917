"""`models pause` and `models resume`, and what other commands show of a paused model."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from streamclust import AsyncClient, Client
from streamclust.errors import BusyError, DataError
from streamclust.store.model.pause import Pause, decode_pause
from tests.support.commands import shown
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.workers import WorkerThread, drain
from tests.support.workspace import Workspace

HOSTILE = "\x1b[31mred\n\u202e" + "x" * 150


@pytest.fixture
def learned(workspace: Workspace) -> Workspace:
    """The models a, ab and c, each with 90 points, without a worker; c has no version yet."""
    models = {name: kmeans(workspace.stream(name)) for name in ("a", "ab", "c")}
    workspace.write(models)
    with workspace.client as client:
        for name in ("a", "ab"):
            add_blocks(client, workspace.stream(name), blobs(90))
            drain(workspace, name)
    return workspace


def report(workspace: Workspace, *arguments: str) -> Any:
    return json.loads(shown(workspace, *arguments, "--json").stdout)


def test_models_are_paused_and_resumed_by_patterns(learned: Workspace) -> None:
    done = shown(learned, "models", "pause", "a*", "c", "--reason", "a new sensor")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{name}: paused; no worker has the model" for name in ("c", "a", "ab")
    ]
    # paused twice, it keeps its first reason
    done = shown(learned, "models", "pause", "a", "--reason", "another one")
    assert done.exit_code == 0
    assert done.stdout.startswith("a: is already paused: just now by ")
    assert done.stdout.endswith(": a new sensor\n")
    done = shown(learned, "models", "resume", "a?", "a")
    assert done.exit_code == 0
    assert [line.partition(" by ")[0] for line in done.stdout.splitlines()] == [
        "a: resumed; it was paused just now",
        "ab: resumed; it was paused just now",
    ]
    assert shown(learned, "models", "resume", "a").stdout == "a: isn't paused\n"
    with learned.client as client:
        assert client.exists(learned.keys("c").paused)
        assert not client.exists(learned.keys("a").paused, learned.keys("ab").paused)


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_an_unknown_model_and_a_pattern_without_a_model_change_nothing(
    learned: Workspace, command: str
) -> None:
    for names, text in (
        (["a", "zz"], "model 'zz' is neither configured"),
        (["a", "z*"], "no model matches 'z*'"),
    ):
        done = shown(learned, "models", command, *names)
        assert done.exit_code == 1
        assert text in done.stderr
        with learned.client as client:
            assert not client.exists(learned.keys("a").paused)
    assert shown(learned, "models", command).exit_code == 2


def test_status_shows_a_paused_model(learned: Workspace) -> None:
    with learned.client as client:
        add_blocks(client, learned.stream("a"), blobs(60, seed=1))
        shown(learned, "models", "pause", "a", "--reason", HOSTILE)
        # without a worker
        text = " ".join(shown(learned, "status").stdout.split())
        assert "a: paused: just now by " in text
        assert "2 entries wait; no worker has the model; `streamclust models resume a`" in text
        assert "\x1b" not in text and "\u202e" not in text
        with WorkerThread(learned, "a") as worker:
            # with a worker
            worker.wait_for("model_paused")
            worker.wait(lambda: report(learned, "status", "a")[0]["worker"] is not None)
            [row] = report(learned, "status", "a")
            assert (row["phase"], row["lag"], row["reason"]) == ("paused", 2, None)
            assert row["paused"]["reason"].startswith("\\x1b[31mred\\n")
            assert row["waiting"][0].startswith("paused: just now by ")
            assert row["published"]["version"] == 1
            done = shown(learned, "status", "--phase", "paused")
            assert "no worker has" not in done.stdout
            assert "the first" not in done.stdout and " ab " not in done.stdout
            # and as one that is alive, for probes and for Prometheus
            done = shown(learned, "worker", "--check")
            assert "a: alive, paused, 90 points; since 20" in done.stdout
            samples = shown(learned, "metrics").stdout.splitlines()
            assert {
                'streamclust_up{model="a"} 1.0',
                'streamclust_paused{model="a"} 1.0',
                'streamclust_paused{model="ab"} 0.0',
                'streamclust_lag_entries{model="a"} 2.0',
                'streamclust_group_models{group="a",phase="paused"} 1.0',
            } <= set(samples)
            worker.wait(lambda: report(learned, "workers")[0]["paused"] == 1)
            assert "PAUSED" in shown(learned, "workers").stdout


def test_watch_says_that_a_model_is_paused(learned: Workspace) -> None:
    shown(learned, "models", "pause", "c")
    done = shown(learned, "watch", "c", "--timeout", "0.1")
    assert "waiting for the first version of 'c': paused: just now by " in done.stderr


def test_a_worker_that_does_not_confirm_is_an_error(learned: Workspace) -> None:
    keys = learned.keys("a")
    with learned.client as client:
        client.set(keys.lease, "7:another worker", px=60_000)
        client.set(keys.health, json.dumps({"phase": "learning", "points": 90}), px=60_000)
        done = shown(learned, "models", "pause", "a", "--wait", "0")
        assert done.exit_code == 1
        assert done.stdout == "a: will be paused\n"
        assert "the worker hasn't confirmed within 0 s; it pauses after its current" in done.stderr
        [row] = report(learned, "status", "a")
        assert (row["phase"], row["paused"] is None) == ("learning", False)
        assert row["waiting"][0].endswith("the worker pauses after its current batch")
        assert report(learned, "models", "pause", "a", "--wait", "0")["is_confirmed"] is False
        with (
            Client(learned.url, namespace=learned.namespace) as python,
            pytest.raises(BusyError, match="hasn't confirmed the pause within 0 s"),
        ):
            python.pause("a", wait=0.0)


def test_the_python_clients_pause_and_resume(learned: Workspace) -> None:
    async def run() -> None:
        async with AsyncClient(learned.url, namespace=learned.namespace) as client:
            paused = await client.pause("a", by="a program")
            assert (paused.by, paused.reason) == ("a program", "")
            assert await client.resume("a") == paused
            assert await client.resume("a") is None

    asyncio.run(run())
    with Client(learned.url, namespace=learned.namespace) as client:
        with pytest.raises(DataError, match="reason has 201 characters, expected at most 200"):
            client.pause("a", reason="x" * 201)
        assert client.resume("a") is None
    done = shown(learned, "models", "pause", "a", "--reason", "x" * 201)
    assert (done.exit_code, "reason has 201" in done.output) == (1, True)


def test_a_pause_moves_with_a_renamed_model_and_goes_with_a_deleted_one(
    learned: Workspace,
) -> None:
    shown(learned, "models", "pause", "a")
    done = shown(learned, "models", "rename", "a", "b", "--yes")
    assert ":paused: pause of a user" in done.stdout
    with learned.client as client:
        assert not client.exists(learned.keys("a").paused)
        assert client.exists(learned.keys("b").paused)
        assert shown(learned, "models", "reset", "b", "--yes").exit_code == 0
        assert client.exists(learned.keys("b").paused)
        assert shown(learned, "models", "delete", "b", "--yes").exit_code == 0
        assert not client.exists(learned.keys("b").paused)


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[]", b"\xff", b'{"since": true, "by": ""}', b'{"since": 1e300}']
)
def test_any_value_is_a_pause(value: bytes) -> None:
    found = decode_pause(value)
    assert found == Pause()
    assert found.text == "by ?"


def test_a_model_of_a_template_stays_paused_without_its_stream(workspace: Workspace) -> None:
    template = kmeans("{tenant}-" + workspace.stream())
    workspace.write({"clicks-{tenant}": template})
    streams = {name: f"{name}-{workspace.stream()}" for name in ("acme", "blue")}
    with workspace.client as client:
        for stream in streams.values():
            add_blocks(client, stream, blobs(90))
        workspace.drain()
        assert shown(workspace, "models", "pause", "clicks-acme").exit_code == 0
        client.delete(streams["acme"])
        # A worker doesn't find it any more, but it is shown
        workspace.drain()
        [row] = report(workspace, "status", "clicks-acme")
        assert (row["phase"], row["worker"], row["published"]["version"]) == ("paused", None, 1)
        # If the stream returns, the model is still paused
        add_blocks(client, streams["acme"], blobs(90, seed=1))
        assert "model_paused" in workspace.drain().stderr
        assert workspace.committed("clicks-acme") == 90
        # The name of the template resumes all that are paused
        done = shown(workspace, "models", "resume", "clicks-{tenant}", "--json")
        assert done.exit_code == 0
        found = {each["model"]: each for each in map(json.loads, done.stdout.splitlines())}
        assert found["clicks-acme"]["paused_before"]["by"]
        assert found["clicks-blue"]["paused_before"] is None
