"""``streamclust dead``: refused points are listed, requeued once, and removed."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from streamclust.store.model.dead_letters import plan_requeue, requeue
from streamclust.store.server.connect import Address, open_server
from tests.support.commands import shown
from tests.support.model_settings import kmeans
from tests.support.points import add_entry, add_points, blobs
from tests.support.workers import drain
from tests.support.workspace import Workspace

MISSING = "missing field 'x1'; points.missing: learn accepts missing values"
CALM = {"lease": "30s", "health_ttl": "30s"}
"""No lease lapses while a busy machine pauses a worker: that would be another story."""

WRONG = "x0='ab\\x1b[31mc' is not a number"


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    """A model that has learned 60 points and refused three."""
    found = Workspace(tmp_path, valkey_url, namespace)
    with found.client as client:
        add_points(client, found.stream(), blobs(60))
        add_entry(client, found.stream(), x0="ab\x1b[31mc", x1="2")
        add_entry(client, found.stream(), x0="1")
        add_entry(client, found.stream(), x0="-1")
    found.write({"m": kmeans(found.stream())}, worker=CALM)
    drain(found)
    return found


def listed(workspace: Workspace, *arguments: str) -> dict[str, Any]:
    done = shown(workspace, "dead", "m", "--json", *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def entries(workspace: Workspace) -> list[dict[bytes, bytes]]:
    with workspace.client as client:
        found: Any = client.xrange(workspace.stream())
    return [fields for _, fields in found]


def test_letters_are_listed_and_their_reasons_counted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = listed(workspace)
    assert (found["model"], found["stored"], found["refused"]) == ("m", 3, 3)
    assert found["reasons"] == [
        {"reason": MISSING, "count": 2},
        {"reason": "x0=* is not a number", "count": 1},
    ]
    assert [letter["reason"] for letter in found["letters"]] == [WRONG, MISSING, MISSING]
    assert found["letters"][0]["data"] == "x0=ab\x1b[31mc x1=2"
    assert found["letters"][1]["index"] == -1
    assert [each["data"] for each in listed(workspace, "-n", "1")["letters"]] == ["x0=-1"]
    oldest = listed(workspace, "--oldest", "-n", "1")["letters"]
    assert [each["reason"] for each in oldest] == [WRONG]
    assert listed(workspace, "--reason", "missing")["reasons"] == [
        {"reason": MISSING, "count": 2},
    ]
    # and a person sees the same, harmless on a terminal
    done = shown(workspace, "dead", "m")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert all(line.isprintable() for line in lines)
    assert lines[0] == "m: 3 dead letters stored, 3 points refused"
    assert f"      2  {MISSING}" in lines
    mark, reason, data = re.split("  +", lines[-1])[1:]
    head, _, tail = reason.partition("…")
    assert (mark, data) == ("-", "x0=-1")
    assert MISSING.startswith(head)
    assert MISSING.endswith(tail)
    # and nothing is wider than a narrow terminal
    monkeypatch.setenv("COLUMNS", "40")
    narrow = shown(workspace, "dead", "m").stdout.splitlines()
    assert max(map(len, narrow)) <= 40
    assert "ENTRY" in {line.split(" ")[0] for line in narrow}


def test_an_unknown_model_is_an_error_and_no_letters_are_none(workspace: Workspace) -> None:
    done = shown(workspace, "dead", "n")
    assert done.exit_code == 1
    assert "model 'n' is neither configured in" in done.stderr
    workspace.write({"other": kmeans(workspace.stream())}, worker=CALM)
    done = shown(workspace, "dead", "other")
    assert (done.exit_code, done.stderr) == (0, "other: no dead letters\n")


def test_entries_are_requeued_once_with_the_same_fields(workspace: Workspace) -> None:
    before = entries(workspace)
    # When it is not confirmed Then nothing changes
    for answer, code in (("n\n", 1), ("", 2)):
        done = shown(workspace, "dead", "requeue", "m", answer=answer)
        assert done.exit_code == code
        assert "requeue 3 dead letters of model 'm'" in done.stderr
    assert entries(workspace) == before
    # When some are requeued Then these are at the end of the stream, and their letters are gone
    done = shown(workspace, "dead", "requeue", "m", "--reason", "missing", answer="y\n")
    assert (done.exit_code, done.stdout) == (0, "m: requeued 2 entries (2 dead letters)\n")
    assert entries(workspace) == [*before, {b"x0": b"1"}, {b"x0": b"-1"}]
    assert listed(workspace)["stored"] == 1
    again = shown(workspace, "dead", "requeue", "m", "--reason", "missing", "--yes")
    assert again.stdout == "m: requeued 0 entries (0 dead letters)\n"
    # and points that are still bad are refused again, under new numbers
    drain(workspace)
    found = listed(workspace)
    assert (found["stored"], found["refused"]) == (3, 5)
    assert [letter["id"] for letter in found["letters"]] == ["1-0", "4-0", "5-0"]


def test_a_requeued_entry_is_learned_after_the_cause_is_gone(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    # Given an entry that is refused for its size
    workspace = Workspace(tmp_path, valkey_url, namespace)
    small: dict[str, Any] = {"batch": {"max_entry_bytes": 1 << 20}}
    with workspace.client as client:
        add_points(client, workspace.stream(), blobs(60))
        add_entry(client, workspace.stream(), f8=bytes(16 * 70_000), d="2")
    model = kmeans(workspace.stream(), points={"format": "fields"}, **small)
    workspace.write({"m": model}, worker=CALM)
    drain(workspace)
    [letter] = listed(workspace)["letters"]
    assert "batch.max_entry_bytes" in letter["reason"]
    # When the limit is raised, and it is requeued Then it is read
    model = kmeans(workspace.stream(), points={"format": "fields"})
    workspace.write({"m": model}, worker=CALM)
    done = shown(workspace, "dead", "requeue", "m", "--yes", "--json")
    assert json.loads(done.stdout) == {"model": "m", "entries": 1, "letters": 1, "skipped": {}}
    drain(workspace)
    assert "batch.max_entry_bytes" not in listed(workspace)["letters"][-1]["reason"]


def test_what_cannot_be_requeued_stays_with_the_reason(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    # Given a block with one bad point of three, a block of bad points, and an entry that is trimmed
    workspace = Workspace(tmp_path, valkey_url, namespace)
    nan = float("nan")
    with workspace.client as client:
        gone = add_entry(client, workspace.stream(), f8=struct.pack("<2d", nan, 0), d="2")
        add_entry(client, workspace.stream(), f8=blobs(60).tobytes(), d="2")
        add_entry(client, workspace.stream(), f8=struct.pack("<6d", 1, 2, nan, 4, 5, 6), d="2")
        add_entry(client, workspace.stream(), f8=struct.pack("<4d", nan, 2, nan, 4), d="2")
        workspace.write({"m": kmeans(workspace.stream())}, worker=CALM)
        drain(workspace)
        client.xdel(workspace.stream(), gone)
    # When all are requeued Then only the block without a good point is added again
    done = shown(workspace, "dead", "requeue", "m", "--yes", "--json")
    assert json.loads(done.stdout) == {
        "model": "m",
        "entries": 1,
        "letters": 2,
        "skipped": {
            "no longer in the stream": 1,
            "in a block whose other points were learned": 1,
        },
    }
    drain(workspace)
    assert workspace.committed("m") == 62


def test_a_batch_that_was_rejected_is_requeued_as_a_whole(workspace: Workspace) -> None:
    # Given a letter of a batch, and one of an entry in the batch
    keys, stream = workspace.keys("m"), workspace.stream()
    with workspace.client as client, open_server(Address(workspace.url)) as server:
        found: Any = client.xrange(stream)
        ids = [entry_id.decode() for entry_id, _ in found]
        client.delete(keys.dead)
        batch = f"batch of 5 points, the entries after {ids[9]} up to {ids[14]}: can't be learned"
        for reason, entry_id, data in ((MISSING, ids[12], "x=1"), (f"{batch}: why", ids[14], "")):
            letter = {"stream": stream, "id": entry_id, "index": -1, "reason": reason, "data": data}
            client.xadd(keys.dead, letter)
        # When they are requeued Then each entry of the batch is added once
        [part] = plan_requeue(client, keys, "+", lambda _: True)
        assert requeue(server.raw_client(), keys, part, None) == 5
        added: Any = client.xrange(stream)[len(ids) :]
        assert [fields for _, fields in added] == [fields for _, fields in found[10:15]]
        assert client.xlen(keys.dead) == 0
        # and a second time is none, also for a user who had the same plan
        assert requeue(server.raw_client(), keys, part, None) == "requeued or removed meanwhile"


def test_other_readers_of_the_stream_must_be_named_as_right(workspace: Workspace) -> None:
    with workspace.client as client:
        client.xgroup_create(workspace.stream(), "billing")
    done = shown(workspace, "dead", "requeue", "m", "--yes")
    assert done.exit_code == 1
    assert "would read the entries twice (consumer groups billing)" in done.stderr
    assert listed(workspace)["stored"] == 3
    assert shown(workspace, "dead", "requeue", "m", "--yes", "--force").exit_code == 0
    assert listed(workspace)["stored"] == 0


def test_letters_are_purged_and_the_worker_goes_on(workspace: Workspace) -> None:
    done = shown(workspace, "dead", "purge", "m", "--reason", "missing", "--yes", "--json")
    assert json.loads(done.stdout) == {"model": "m", "removed": 2}
    assert [letter["reason"] for letter in listed(workspace)["letters"]] == [WRONG]
    assert shown(workspace, "dead", "purge", "m", answer="n\n").exit_code == 1
    done = shown(workspace, "dead", "purge", "m", answer="y\n")
    assert done.stdout == "m: removed 1 dead letter\n"
    assert "DEAD: " not in shown(workspace, "status").stdout
    with workspace.client as client:
        add_entry(client, workspace.stream(), x0="1")
    drain(workspace)
    assert [letter["id"] for letter in listed(workspace)["letters"]] == ["4-0"]


def test_letters_of_other_programs_are_shown_and_harmless(workspace: Workspace) -> None:
    with workspace.client as client:
        client.delete(workspace.keys("m").dead)
        hostile = {b"\xff": b"\x1b[2J", b"index": b"9" * 30, b"id": b"\x1b", b"reason": b"a\n\xff"}
        client.xadd(workspace.keys("m").dead, hostile)
    done = shown(workspace, "dead", "m")
    assert done.exit_code == 0
    assert all(line.isprintable() for line in done.stdout.splitlines())
    done = shown(workspace, "dead", "requeue", "m", "--yes")
    assert "not requeued: 1 the dead letter names no entry" in done.stdout
