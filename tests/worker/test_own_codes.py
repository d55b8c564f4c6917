"""The worker's own codes: each entry's, once, in the transaction that commits what was learned."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from streamclust.errors import ServerError
from streamclust.formats.codes import CodedEntry, decode_fields
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, add_points, blobs
from tests.support.waiting import LIMIT
from tests.support.workers import WorkerProcess, drain
from tests.support.workspace import Workspace

EAGER: dict[str, Any] = {"batch": {"size": 30}, "commit": {"points": 30}}


def ids(workspace: Workspace, key: str) -> list[bytes]:
    with workspace.client as client:
        return [entry_id for entry_id, _ in client.xrange(key)]


def codes(workspace: Workspace, stream: str | None = None) -> list[CodedEntry]:
    key = workspace.keys("m").codes(stream)
    with workspace.client as client:
        return [decode_fields(each.decode(), fields, key) for each, fields in client.xrange(key)]


def feed(workspace: Workspace, n: int, seed: int = 0, name: str = "points") -> None:
    with workspace.client as client:
        add_points(client, workspace.stream(name), blobs(n, seed=seed))


def test_all_entries_have_codes_also_those_of_the_warm_up(any_workspace: Workspace) -> None:
    workspace = any_workspace
    workspace.write({"m": kmeans(workspace.stream(), encode=True, **EAGER)})
    feed(workspace, 300)
    drain(workspace)
    assert ids(workspace, workspace.keys("m").codes()) == ids(workspace, workspace.stream())
    feed(workspace, 100, seed=1)
    drain(workspace)
    found = codes(workspace)
    assert [each.entry_id.encode() for each in found] == ids(workspace, workspace.stream())
    models = {model.version: model for model in workspace.versions("m")}
    X = np.concatenate([blobs(300), blobs(100, seed=1)])
    wanted = [int(models[e.version].predict(x[None])[0]) for e, x in zip(found, X, strict=True)]
    assert [int(each.code[0]) for each in found] == wanted
    assert found[-1].version > found[0].version == 1


def test_an_entry_that_is_too_large_has_no_code_but_a_reason(workspace: Workspace) -> None:
    # Given a backlog with large entries, of which one is larger than is read
    batch = {"max_entry_bytes": 1 << 20}
    workspace.write({"m": kmeans(workspace.stream(), encode=True, batch=batch)})
    sizes = [60, 30_000, 30_000, 100_000, 30_000, 1]
    with workspace.client as client:
        for seed, n in enumerate(sizes):
            add_blocks(client, workspace.stream(), blobs(n, seed=seed), block=n)
    drain(workspace)
    # Then all others are encoded, and that one says why it isn't
    found = codes(workspace)
    assert [len(each.code) for each in found] == [60, 30_000, 30_000, 1, 30_000, 1]
    assert [each.entry_id.encode() for each in found] == ids(workspace, workspace.stream())
    assert found[3].reason == "more than 1048576 bytes are not read (batch.max_entry_bytes)"
    assert len(workspace.dead("m")) == 1


def test_what_is_switched_on_late_catches_up(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamclust.worker.own_codes.READ_ENTRIES", 100)
    workspace.write({"m": kmeans(workspace.stream(), **EAGER)})
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(350), block=1)
    drain(workspace)
    assert codes(workspace) == []
    workspace.write({"m": kmeans(workspace.stream(), encode={"worker": True, "top": 2}, **EAGER)})
    drain(workspace)
    found = codes(workspace)
    assert [each.entry_id.encode() for each in found] == ids(workspace, workspace.stream())
    assert found[0].top is not None


def test_what_is_before_the_start_has_no_codes(any_workspace: Workspace) -> None:
    workspace = any_workspace
    feed(workspace, 50)
    workspace.write({"m": kmeans(workspace.stream(), encode=True, start="latest", **EAGER)})
    drain(workspace)
    feed(workspace, 40, seed=1)
    drain(workspace)  # which is left in the warm-up
    feed(workspace, 50, seed=2)
    drain(workspace)
    assert ids(workspace, workspace.keys("m").codes()) == ids(workspace, workspace.stream())[50:]


def test_several_streams_have_codes_each(workspace: Workspace) -> None:
    streams = [workspace.stream("a"), workspace.stream("b")]
    workspace.write({"m": kmeans(*streams, encode=True, **EAGER)})
    feed(workspace, 100, name="a")
    feed(workspace, 90, name="b")
    drain(workspace)
    for stream in streams:
        assert ids(workspace, workspace.keys("m").codes(stream)) == ids(workspace, stream)


def test_a_stream_that_is_added_has_codes_from_its_start_on(workspace: Workspace) -> None:
    more: dict[str, Any] = {"encode": True, "start": "latest", **EAGER}
    streams = [workspace.stream("a"), workspace.stream("b")]
    workspace.write({"m": kmeans(streams[0], **more)})
    feed(workspace, 1, name="a")
    drain(workspace)
    feed(workspace, 90, name="a")
    drain(workspace)
    feed(workspace, 50, name="b")
    workspace.write({"m": kmeans(*streams, **more)})
    drain(workspace)
    feed(workspace, 40, name="b")
    drain(workspace)
    assert ids(workspace, workspace.keys("m").codes(streams[1])) == ids(workspace, streams[1])[50:]


def test_a_killed_worker_leaves_no_hole_and_no_double(workspace: Workspace) -> None:
    workspace.write({"m": kmeans(workspace.stream(), encode=True, **EAGER)})
    done = threading.Event()

    X = blobs(20, seed=1)

    def more() -> None:
        with workspace.client as client:
            while not done.wait(0.02):
                add_points(client, workspace.stream(), X)

    feeder = threading.Thread(target=more)
    feeder.start()
    try:
        with WorkerProcess(workspace) as worker:
            worker.wait(lambda: workspace.committed("m") > 200)
            worker.kill()
    finally:
        done.set()
        feeder.join(LIMIT)
    before = ids(workspace, workspace.keys("m").codes())
    position = workspace.position("m")[workspace.stream()].encode()
    assert before[-1] == position  # they land together
    drain(workspace)
    after = ids(workspace, workspace.keys("m").codes())
    assert after == ids(workspace, workspace.stream())
    assert after[: len(before)] == before


def test_a_codes_key_of_another_type_is_said(workspace: Workspace) -> None:
    workspace.write({"m": kmeans(workspace.stream(), encode=True, **EAGER)})
    with workspace.client as client:
        client.set(workspace.keys("m").codes(), "x")
    feed(workspace, 10)
    with pytest.raises(ServerError, match="WRONGTYPE"):
        drain(workspace)


@pytest.mark.parametrize("top", [1, 2])
def test_codes_of_a_model_that_was_begun_anew_have_its_id(workspace: Workspace, top: int) -> None:
    # Given codes of a model whose keys were deleted
    workspace.write({"m": kmeans(workspace.stream(), encode={"worker": True, "top": top}, **EAGER)})
    feed(workspace, 300)
    drain(workspace)
    keys = workspace.keys("m")
    with workspace.client as client:
        client.delete(keys.state, keys.models, keys.token)
    # When another one is begun on more points Then its codes have its ID
    feed(workspace, 300, seed=1)
    drain(workspace)
    found = codes(workspace)
    assert [each.model_id for each in found] == [0] * 300 + [workspace.newest("m").model_id] * 300
    assert found[-1].model_id > 0
