"""``streamclust codes``: one row per point, from entries and blocks, stored or new."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import shown
from tests.support.forked import PipedCommand
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, add_entry, add_points, blobs
from tests.support.workers import drain
from tests.support.workspace import Workspace, environment, error_line, run

EAGER: dict[str, Any] = {"batch": {"size": 60}, "encode": {"worker": True, "top": 2}}


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    return Workspace(tmp_path, valkey_url, namespace)


def rows(workspace: Workspace, *arguments: str) -> list[dict[str, Any]]:
    done = shown(workspace, "codes", "m", "--json", *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_blocks_are_decoded_to_a_row_per_point(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = workspace.stream()
    X = blobs(90)
    with workspace.client as client:
        add_blocks(client, stream, X, 30)
        bad = add_entry(client, stream, f8=b"short", d="2")
    workspace.write({"m": kmeans(stream, **EAGER)})
    drain(workspace)
    labels = workspace.newest("m").predict(X).tolist()
    found = rows(workspace, "--since", "0")
    assert [row["code"] for row in found] == [*labels, -1]
    assert [row["index"] for row in found] == [*list(range(30)) * 3, 0]
    assert (found[-1]["id"], found[-1]["distance"]) == (bad, None)
    assert "reason" in found[-1]
    assert {row["stream"] for row in found} == {stream}
    assert all(row["top"][0] == row["code"] for row in found[:-1])
    assert all(len(row["top_distance"]) == 2 for row in found[:-1])
    # the newest points, also where that cuts a block
    assert [row["code"] for row in rows(workspace)] == [*labels[-9:], -1]
    assert rows(workspace, "--last", "31") == found[-31:]
    assert rows(workspace, "--last", "0") == []
    assert rows(workspace, "--since", found[30]["id"]) == found[60:]
    assert rows(workspace, "--since", "0", "--count", "5") == found[:5]
    # and a person sees a table
    lines = shown(workspace, "codes", "m", "--last", "2").stdout.splitlines()
    assert lines[0].split() == ["ID", "#", "CODE", "DISTANCE", "VERSION"]
    assert lines[1].split()[1:3] == ["29", str(labels[-1])]
    assert lines[2].split()[2:4] == ["-1", "nan"]
    monkeypatch.setenv("COLUMNS", "40")
    narrow = shown(workspace, "codes", "m", "--last", "2").stdout.splitlines()
    assert max(map(len, narrow)) <= 40
    assert narrow[0].split() == ["ID", "#", "CODE", "DISTANCE", "VER"]


def test_labels_and_several_streams_are_shown(workspace: Workspace) -> None:
    one, two = workspace.stream("one"), workspace.stream("two")
    with workspace.client as client:
        for number in range(60):
            stream = (one, two)[number % 2]
            add_entry(client, stream, x=str(number % 3), host="\x1b[2Ja")
    encode = {"worker": True, "labels": ["host"]}
    points = {"features": ["x"]}
    workspace.write({"m": kmeans(one, two, encode=encode, points=points)})
    drain(workspace)
    found = rows(workspace, "--last", "4")
    assert {row["stream"] for row in found} == {one, two}
    assert [row["labels"] for row in found] == [{"host": "\x1b[2Ja"}] * 4
    assert len(rows(workspace, "--since", "0", "--stream", one)) == 30
    lines = shown(workspace, "codes", "m").stdout.splitlines()
    assert all(line.isprintable() for line in lines)
    assert r"host=\x1b[2Ja" in lines[1]
    # a model that the settings don't name has its codes too
    workspace.write({})
    assert {row["stream"] for row in rows(workspace, "--last", "4")} == {one, two}


def test_new_codes_are_followed(workspace: Workspace) -> None:
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream, **EAGER)})
    command = ["codes", "m", "--follow", "--json", "--last", "1", "--count", "3"]
    pipe = subprocess.PIPE
    with PipedCommand(
        command, cwd=workspace.folder, env=environment(), stdout=pipe, stderr=pipe
    ) as process:
        assert process.stderr is not None
        assert (
            f"model 'm' has no codes on {workspace.url} yet; waiting" in process.stderr.readline()
        )
        with workspace.client as client:
            add_points(client, stream, blobs(60))
        drain(workspace)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert [json.loads(line)["index"] for line in out.splitlines()] == [0, 0, 0]
    # With codes, the command says so when it has shown them.
    last = ["codes", "m", "--follow", "--json"]
    for start in (("--last", "0"), ("--since", rows(workspace, "--last", "1")[0]["id"])):
        with PipedCommand(
            [*last, *start], cwd=workspace.folder, env=environment(), stderr=pipe
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "m: waiting for new codes\n"
            process.kill()


def test_what_is_missing_is_said(workspace: Workspace) -> None:
    workspace.write({"m": kmeans(workspace.stream())})
    done = shown(workspace, "codes", "m")
    assert done.exit_code == 1
    assert "model 'm' has no codes" in done.stderr
    assert "`streamclust encode m`" in done.stderr
    assert "neither configured" in shown(workspace, "codes", "n").stderr
    assert shown(workspace, "codes", "m", "--since", "x").exit_code == 2
    assert shown(workspace, "codes", "m", "--since", "0", "--last", "1").exit_code == 2


def test_entries_of_other_programs_are_named(workspace: Workspace) -> None:
    workspace.write({"m": kmeans(workspace.stream())})
    with workspace.client as client:
        key = workspace.keys("m").codes()
        for fields in ({b"\x1b": b"\xff"}, {b"n": b"9", b"code": b"1", b"version": b"1"}):
            client.xadd(key, fields)
        client.xadd(key, {"code": "9" * 40, "distance": "1", "version": "1"})
        client.xadd(key, {"code": "1", "distance": "1", "version": "1"})
    lines = shown(workspace, "codes", "m").stdout.splitlines()
    assert all(line.isprintable() for line in lines)
    assert ["can't be read" in line for line in lines] == [False, True, True, True, False]
    assert ["error" in row for row in rows(workspace)] == [True, True, True, False]


def test_a_pattern_shows_the_newest_codes_of_many_models(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    workspace = Workspace(tmp_path, valkey_url, namespace)
    names = [f"clicks-{number:02}" for number in range(20)]
    workspace.write({name: kmeans(workspace.stream(name)) for name in (*names, "other")})
    with workspace.client as client:
        for number, name in enumerate((*names, "other")):
            for entry in range(1, 4):
                fields: Any = {"code": number, "distance": 0.5, "version": 1}
                client.xadd(workspace.keys(name).codes(), fields, id=f"{100 * entry + number}-0")
    text = run(tmp_path, "codes", "clicks-*", "--last", "25", "--json").stdout
    found = [json.loads(line) for line in text.splitlines()]
    assert [(row["model"], row["id"]) for row in found] == [
        *((name, f"{200 + number}-0") for number, name in enumerate(names) if number >= 15),
        *((name, f"{300 + number}-0") for number, name in enumerate(names)),
    ]
    assert {row["stream"] for row in found} == {workspace.stream(row["model"]) for row in found}
    text = run(tmp_path, "codes", "clicks-0[12]", "--since", "0").stdout
    assert [line.split()[2] for line in text.splitlines()[1:]] == ["1", "2"] * 3
    assert "'x*'" in error_line(run(tmp_path, "codes", "x*"), 1)
