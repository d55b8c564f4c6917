"""``streamclust models delete``, ``reset`` and ``rename``: all of a model or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from streamclust.config import load_settings
from streamclust.errors import LeaseLostError, StreamclustError
from streamclust.runtime.assemble import load_checkpoint, make_family
from streamclust.store.model.commit import Commit, commit
from streamclust.store.model.lease import Lease
from streamclust.store.model.proposal import propose
from streamclust.store.model.state import read_state
from tests.support.commands import shown
from tests.support.model_settings import kmeans
from tests.support.points import add_entry, add_points, blobs
from tests.support.waiting import LIMIT, wait_until
from tests.support.workers import WorkerProcess, WorkerThread, drain
from tests.support.workspace import Workspace, run

EAGER: dict[str, Any] = {
    "batch": {"size": 30, "linger": "20ms"},
    "commit": {"points": 30},
    "publish": {"points": 60},
}


@pytest.fixture
def workspace(tmp_path: Path, server_url: str, namespace: str) -> Workspace:
    """Two models of two streams with versions, codes and a dead letter."""
    found = Workspace(tmp_path, server_url, namespace)
    streams = [found.stream("a"), found.stream("b")]
    with found.client as client:
        for stream in streams:
            add_points(client, stream, blobs(90))
            add_entry(client, stream, x0="bad", x1="1")
    settings = kmeans(*streams, **EAGER, encode={"worker": True})
    found.write({"m": settings, "other": settings})
    drain(found, "m")
    drain(found, "other")
    return found


def change(workspace: Workspace, *arguments: str, answer: str | None = None) -> Result:
    return shown(workspace, "models", *arguments, answer=answer)


def keys_of(workspace: Workspace, model: str) -> dict[str, bytes]:
    """Each key of a model, and its contents as the server dumps them."""
    with workspace.client as client:
        start = f"{{{workspace.namespace}:{model}}}:"
        names = sorted(client.scan_iter(match=f"{start}*"))
        return {name.decode().removeprefix(start): client.dump(name) for name in names}


def groups_of(workspace: Workspace, stream: str) -> set[str]:
    with workspace.client as client:
        return {each["name"].decode() for each in client.xinfo_groups(workspace.stream(stream))}


def test_delete_removes_what_it_lists_and_nothing_else(workspace: Workspace) -> None:
    before, other = keys_of(workspace, "m"), keys_of(workspace, "other")
    with workspace.client as client:  # the user's own key, in the model's slot
        client.set(f"{{{workspace.namespace}:m}}:notes", "mine")
    # When it is refused, or has no answer Then nothing changes
    for answer, code in (("n\n", 1), ("", 2)):
        done = change(workspace, "delete", "m", answer=answer)
        assert done.exit_code == code
    assert {"notes", *before} == keys_of(workspace, "m").keys()
    # When it is confirmed Then all keys and groups are gone that were listed
    done = change(workspace, "delete", "m", answer="y\n")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{workspace.url}, namespace {workspace.namespace}:"
    listed = {line.split("}:")[1].split(": ")[0] for line in lines if "}:" in line}
    assert listed == before.keys()
    versions = len(workspace.versions("other"))
    assert any(f"}}:models: {versions} versions, " in line for line in lines)
    assert any("}:dead: 2 dead letters, " in line for line in lines)
    assert sum(f"consumer group {workspace.namespace}:m of" in line for line in lines) == 2
    assert keys_of(workspace, "m").keys() == {"notes"}
    assert groups_of(workspace, "a") == {f"{workspace.namespace}:other"}
    assert keys_of(workspace, "other") == other
    # and the next worker starts it from nothing
    drain(workspace, "m")
    assert workspace.committed("m") == 180


def test_delete_reports_as_json_and_an_unknown_model_is_an_error(workspace: Workspace) -> None:
    before = keys_of(workspace, "m")
    done = change(workspace, "delete", "m", "--yes", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert {key.partition("}:")[2] for key in report["keys"]} == before.keys()
    assert report["versions"] > 1
    assert report["bytes"] > 1000
    assert len(report["groups"]) == 2
    done = change(workspace, "delete", "m", "--yes")
    assert (done.exit_code, "model 'm' has no keys on" in done.stderr) == (1, True)
    done = change(workspace, "reset", "nn", "--yes")
    assert (done.exit_code, "neither configured" in done.stderr) == (1, True)


@pytest.mark.parametrize("command", [("delete", "m"), ("reset", "m"), ("rename", "m", "n")])
def test_a_model_in_use_is_left_alone(workspace: Workspace, command: tuple[str, ...]) -> None:
    with WorkerThread(workspace, "m") as worker:
        worker.wait_for("model_resumed")
        with workspace.client as client:
            worker.wait(lambda: client.exists(workspace.keys("m").health))
        done = change(workspace, *command, "--yes")
        assert done.exit_code == 1
        assert "model 'm' is in use: a worker holds its lease (process " in done.stderr
        assert "--force" in done.stderr
    with workspace.client as client:
        client.set(workspace.keys("m").refitting, "host:1:x", ex=60)
        assert "a refit of it is running" in change(workspace, *command, "--yes").stderr
        client.delete(workspace.keys("m").refitting)
        client.xgroup_create(workspace.stream("a"), workspace.keys("m").encoders, "0")
        name, group = workspace.stream("a"), workspace.keys("m").encoders
        client.xreadgroup(group, "encoder", {name: ">"}, count=1)
    assert "encoders write its codes (1 active)" in change(workspace, *command, "--yes").stderr


def test_reset_forgets_what_was_learned_and_keeps_the_codes(workspace: Workspace) -> None:
    before = keys_of(workspace, "m")
    model_id = workspace.newest("m").model_id
    done = change(workspace, "reset", "m", "--yes")
    assert done.exit_code == 0, done.stderr
    after = keys_of(workspace, "m")
    codes = {name for name in before if name.startswith("codes")}
    assert after.keys() == {"token", *codes}
    assert all(after[name] == before[name] for name in codes)
    drain(workspace, "m")
    assert workspace.committed("m") == 180
    newest = workspace.newest("m")
    assert newest.model_id != model_id
    assert newest.version == workspace.newest("other").version


@pytest.mark.parametrize("command", ["delete", "reset"])
def test_a_worker_that_was_paused_writes_nothing_back(workspace: Workspace, command: str) -> None:
    # Given a worker with the lease that was paused
    keys = workspace.keys("m")
    with workspace.client as client:
        lease = Lease(client, keys, 60.0)
        assert lease.take()
        # When the model is taken from it Then it can neither commit nor renew
        assert change(workspace, command, "m", "--yes", "--force").exit_code == 0
        before = keys_of(workspace, "m")
        with pytest.raises(LeaseLostError):
            commit(client, keys, Commit(lease.token, b"state"))
        assert not lease.renew("health", 10.0)
        assert keys_of(workspace, "m") == before


def test_a_running_worker_starts_a_deleted_model_from_nothing(workspace: Workspace) -> None:
    with WorkerProcess(workspace) as worker, workspace.client as client:
        worker.wait_for("model_resumed", 2)
        add_points(client, workspace.stream("a"), blobs(300, seed=1))
        done = run(workspace.folder, "models", "delete", "m", "--yes", "--force")
        assert done.returncode == 0, done.stderr
        # Then it learns all entries again, each once
        worker.wait_for("model_created")
        wait_until(lambda: workspace.committed("m") == 480, LIMIT)
        assert worker.leave() == 0
    meta, _ = workspace.state("m")
    assert meta["dead"] == 2
    versions = [model.version for model in workspace.versions("m")]
    assert versions == list(range(1, len(versions) + 1))


def test_rename_moves_all_and_learning_continues(workspace: Workspace) -> None:
    # Given a model and its encoder's group, with an entry that has no codes yet
    keys, target, stream = workspace.keys("m"), workspace.keys("n"), workspace.stream("a")
    before = keys_of(workspace, "m")
    with workspace.client as client:
        found: Any = client.xrange(stream)
        client.xgroup_create(stream, keys.encoders, "0")
        client.xreadgroup(keys.encoders, "gone", {stream: ">"}, count=20)
        client.xack(stream, keys.encoders, *(entry_id for entry_id, _ in found[:15]))
    # When it gets another name
    assert change(workspace, "rename", "m", "n", answer="n\n").exit_code == 1
    assert keys_of(workspace, "m") == before
    done = change(workspace, "rename", "m", "n", "--yes", "--force")
    assert done.exit_code == 0, done.stderr
    assert "now rename models.m to models.n" in done.stderr
    # Then each byte is under the new name, and encoders continue where they were
    assert keys_of(workspace, "m") == {}
    assert keys_of(workspace, "n") == before
    assert {model.name for model in workspace.versions("n")} == {"n"}
    assert groups_of(workspace, "a") == {target.encoders, f"{workspace.namespace}:other"}
    with workspace.client as client:
        [entry, *_] = client.xreadgroup(target.encoders, "x", {stream: ">"})[0][1]
        assert entry[0] == found[15][0]
        add_points(client, stream, blobs(30, seed=2))
    # and the model continues under the new name as it would have under the old one
    settings = kmeans(stream, workspace.stream("b"), **EAGER, encode={"worker": True})
    workspace.write({"n": settings, "other": settings})
    drain(workspace, "n")
    drain(workspace, "other")
    assert workspace.committed("n") == workspace.committed("other") == 210
    assert np.array_equal(workspace.newest("n").means, workspace.newest("other").means)


def test_rename_overwrites_no_other_model(workspace: Workspace) -> None:
    other = keys_of(workspace, "other")
    done = change(workspace, "rename", "m", "other", "--yes")
    assert done.exit_code == 1
    assert "already has keys of a model 'other'" in done.stderr
    assert keys_of(workspace, "other") == other
    assert "m" in {name for name in ("m",) if keys_of(workspace, name)}
    assert change(workspace, "rename", "m", "a b", "--yes").exit_code == 2
    assert change(workspace, "rename", "m", "m", "--yes").exit_code == 2


def test_a_refit_of_a_deleted_model_writes_nothing(workspace: Workspace) -> None:
    settings = load_settings(workspace.folder / "config.yaml", (), {}).models["m"]
    keys = workspace.keys("m")
    with workspace.client as client:
        state = read_state(client, keys)
        assert state is not None
        at = load_checkpoint(state.state, settings, "state", state.coreset)
        assert change(workspace, "delete", "m", "--yes").exit_code == 0
        with pytest.raises(StreamclustError, match="was deleted"):
            propose(client, keys, at, make_family(settings))
    assert keys_of(workspace, "m") == {}
