"""``streamclust peek``: the newest points of a stream, whatever a producer wrote there."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from streamclust.store.stream import newest
from tests.support.commands import shown
from tests.support.model_settings import kmeans
from tests.support.points import add_entry, add_points, blobs
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, server_url: str, namespace: str) -> Workspace:
    return Workspace(tmp_path, server_url, namespace).write({})


def points(workspace: Workspace, stream: str, *arguments: str) -> list[dict[str, Any]]:
    done = shown(workspace, "peek", stream, "--json", *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_newest_points_of_named_fields(workspace: Workspace) -> None:
    stream, X = workspace.stream(), blobs(20)
    with workspace.client as client:
        add_points(client, stream, X, 1000)
    found = points(workspace, stream, "-n", "3")
    assert [each["id"] for each in found] == ["18000-0", "19000-0", "20000-0"]
    assert [each["point"] for each in found] == [{"x0": a, "x1": b} for a, b in X[-3:].tolist()]
    lines = shown(workspace, "peek", stream).stdout.splitlines()
    assert lines[0].startswith(
        f"stream '{stream}' on {workspace.url}: 20 entries, the newest at 19"
    )
    assert lines[1] == "format fields (detected), 2 features"
    assert lines[3].split() == ["ID", "x0", "x1"]
    assert [line.split()[0] for line in lines[4:]] == [f"{n}000-0" for n in range(11, 21)]


def test_blocks_have_a_row_per_point_and_the_last_ones_are_shown(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_entry(client, stream, f4=struct.pack("<4f", 1, 2, 3, 4), d="2")
        add_entry(client, stream, f4=struct.pack("<6f", 5, 6, float("nan"), 7, 8, 9), d="2")
    found = points(workspace, stream, "-n", "4")
    assert [(each["index"], each.get("point")) for each in found] == [
        (1, [3.0, 4.0]),
        (0, [5.0, 6.0]),
        (1, None),
        (2, [8.0, 9.0]),
    ]
    assert found[2]["error"].startswith("not finite: nan at feature 0; points.missing: learn")
    text = shown(workspace, "peek", stream).stdout
    assert "#1: not finite: nan at feature 0" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_a_model_of_the_settings_says_how_the_stream_is_read(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_entry(client, stream, host="a\x1b[2J", x="1", y="2", w="3")
    [refused] = points(workspace, stream)
    assert "cannot tell the format" in refused["error"]
    settings = {"features": ["y", "x"], "weight_field": "w"}
    workspace.write({"m": kmeans(stream, points=settings)})
    [point] = points(workspace, stream)
    assert point["point"] == {"y": 2.0, "x": 1.0}
    assert point["weight"] == 3.0
    lines = shown(workspace, "peek", stream).stdout.splitlines()
    assert lines[1] == "format fields (as model 'm' reads it), 2 features"
    assert lines[3].split() == ["ID", "WEIGHT", "y", "x"]


def test_hostile_entries_are_printable(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_entry(client, stream, **{"x": "1", "y\x1b[2J\n": "2"})
        client.xadd(stream, {b"\xff\x1b": b"\x00\x9b\xe2\x80\xae"})
    done = shown(workspace, "peek", stream)
    assert done.exit_code == 0
    assert "no point can be read" in done.stdout
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert all("error" in each for each in points(workspace, stream))


def test_an_entry_that_is_too_large_is_named_and_not_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest, "LARGEST", 1000)
    stream = workspace.stream()
    with workspace.client as client:
        add_entry(client, stream, x="1")
        add_entry(client, stream, x="0" * 2000)
        add_entry(client, stream, x="2")
    first, large, last = points(workspace, stream)
    assert (first["point"], last["point"]) == ({"x": 1.0}, {"x": 2.0})
    assert "bytes; at most 1,000 are read" in large["error"]


def test_many_features_are_counted(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_entry(client, stream, **{f"feature{n}": str(n) for n in range(384)})
    assert "more features; --json has all" in shown(workspace, "peek", stream).stdout
    assert len(points(workspace, stream)[0]["point"]) == 384


def test_a_stream_that_does_not_exist_is_an_error(workspace: Workspace) -> None:
    stream = workspace.stream("pixels")
    with workspace.client as client:
        add_entry(client, stream, x="1")
        done = shown(workspace, "peek", stream[:-1])
        assert done.exit_code == 1
        missing = f"stream {stream[:-1]!r} doesn't exist on {workspace.url}"
        assert done.stderr == f"error: {missing}; did you mean {stream!r}?\n"
        assert not client.exists(stream[:-1])
        client.xtrim(stream, 0)
        assert "0 entries\n" in shown(workspace, "peek", stream).stdout
        client.set(f"{stream}-text", "x")
        done = shown(workspace, "peek", f"{stream}-text")
    assert done.exit_code == 3
    assert f"key {stream}-text holds a string, expected a stream" in done.stderr
