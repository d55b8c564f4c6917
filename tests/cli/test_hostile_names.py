"""Names that a producer or a server chose: shown by every command, and harmless on a terminal."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from streamclust.formats.model import encode_model
from streamclust.store.model.health import Health
from tests.support.commands import invoke, run_here, shown
from tests.support.encoder_fixture import model_of
from tests.support.model_settings import kmeans
from tests.support.points import add_entry
from tests.support.workspace import Workspace, error_line, run

HOSTILE = "\x1b[2J\x9b31m\nfake  row\u202e[red]:tada:\u200b\udcff"
"""As a name in Redis it is what bytes that aren't UTF-8 are decoded to."""

KEY = "m\x1b[31m\nforged"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Workspace:
    """A namespace in which everything that has a name has a hostile one."""
    workspace = Workspace(
        tmp_path_factory.mktemp("hostile"), valkey_url, f"hostile-{uuid4().hex[:12]}"
    )
    workspace.write({})
    keys = workspace.keys(KEY)
    shown = HOSTILE.replace("\udcff", "")  # JSON of a payload holds no bytes
    with workspace.client as client:
        for version in (1, 2):
            model = replace(
                model_of(version, features=(f"a{shown}", f"b{shown}")),
                name=f"n{shown}",
                reason=f"r{shown}",
                position={f"s{shown}": "1-0"},
            )
            client.xadd(keys.models, {"payload": encode_model(model)}, id=f"{version}-0")
        health = Health(1, HOSTILE, f"p{HOSTILE}", 1, 1.0, 1, 0, 0, 0, None, 0.0, f"k{HOSTILE}")
        client.set(keys.health, json.dumps(asdict(health)))
        text = HOSTILE.encode(errors="surrogateescape")
        letter = dict.fromkeys((b"stream", b"id", b"index", b"reason", b"data"), text)
        client.xadd(keys.dead, letter)
        code: dict[bytes, bytes] = {b"code": b"-1", b"distance": b"nan", b"version": b"1"}
        client.xadd(keys.codes(), {**code, b"host": text, b"reason": shown.encode()})
        client.xadd(keys.codes(), {text: text})
    return workspace


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("status", KEY),
        ("models", "list", KEY),
        ("models", "show", KEY),
        ("models", "diff", KEY, "1", "2"),
        ("watch", KEY, "--since", "0", "--count", "2"),
        ("metrics",),
        ("dead", KEY),
        ("codes", KEY),
    ],
    ids=" ".join,
)
def test_what_is_shown_is_printable(workspace: Workspace, command: tuple[str, ...]) -> None:
    done = run_here(workspace, *command)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split("\n")
    assert len(lines) > 2
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith(("forged", "fake")) for line in lines)
    assert "\\x1b[" in done.stdout
    if command in (("status", KEY), ("models", "show", KEY)):
        assert "[red]:tada:" in done.stdout  # and no markup


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("models", "list", KEY),
        ("models", "show", KEY),
        ("watch", KEY, "--since", "0", "--count", "1"),
    ],
    ids=" ".join,
)
def test_json_is_exact(workspace: Workspace, command: tuple[str, ...]) -> None:
    done = run_here(workspace, *command, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert all(line.isprintable() for line in lines)
    text = json.dumps([json.loads(line) for line in lines])
    assert json.dumps(HOSTILE.replace("\udcff", ""))[1:-1] in text


def test_errors_are_one_line(workspace: Workspace) -> None:
    line = error_line(run_here(workspace, "models", "show", "other"), 1)
    assert r"m\x1b[31m\nforged" in line
    assert line.isprintable()
    for arguments in (("status", "a\x1b\nb"), ("models", "show", KEY, "9")):
        assert error_line(run_here(workspace, *arguments), 1).isprintable()
    done = run_here(workspace, "models", "diff", KEY, "no\x1b[2Jnumber")
    assert done.returncode == 2
    assert all(line.isprintable() for line in done.stderr.split("\n"))


def test_a_point_with_such_a_field_is_a_dead_letter(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    workspace = Workspace(tmp_path, valkey_url, namespace)
    stream = workspace.stream()
    with workspace.client as client:
        add_entry(client, stream, **{"x\x1b[2J": "1", "y\n": "2"})
        add_entry(client, stream, **{"x": "1\x1b[2J", "y": "2"})
        for number in range(60):
            add_entry(client, stream, x=str(number), y="1")
        add_entry(client, stream, **{"x": "1", "y": "2", "z\x1b": "3"})
        add_entry(client, stream, x="\x1b", y="2")
    done = workspace.write({"m": kmeans(stream)}, log={"format": "human"}).drain()
    reasons: list[Any] = [fields[b"reason"].decode() for fields in workspace.dead("m")]
    assert reasons[0] == r"field name 'x\x1b[2J' has a control character; rename it"
    assert reasons[-2:] == [r"unexpected field 'z\x1b'", r"x='\x1b' is not a number"]
    assert len(reasons) == 4
    assert all(reason.isprintable() for reason in reasons)
    assert all(line.isprintable() for line in done.stderr.split("\n"))
    assert workspace.newest("m").features == ("x", "y")


@pytest.mark.parametrize("stream", ["{NAMESPACE:m}:models", "{NAMESPACE:any}:codes:x", "a\nb"])
def test_ingest_fills_no_key_of_streamclust(
    stream: str, tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    workspace = Workspace(tmp_path, valkey_url, namespace).write({})
    (tmp_path / "p.csv").write_text("1,2\n")
    stream = stream.replace("NAMESPACE", namespace)
    done = run(tmp_path, "ingest", "p.csv", "--stream", stream)
    assert done.returncode == 2
    assert f"--stream {stream!r}" in done.stderr.replace("\n", " ").replace("  ", " ")
    with workspace.client as client:
        assert not client.exists(stream)


def test_what_a_change_lists_is_printable(workspace: Workspace) -> None:
    for command in (("delete", KEY), ("reset", KEY), ("rename", KEY, "new")):
        done = shown(workspace, "models", *command, "--force", answer="n\n")
        assert done.exit_code == 1
        assert r"{streamclust:m" not in done.output
        assert rf"{{{workspace.namespace}:m\x1b[31m\nforged}}:models: 2 versions" in done.stdout
        assert all(line.isprintable() for line in done.output.split("\n"))


@pytest.mark.parametrize(
    "command",
    [
        *(("status",), ("watch",), ("peek",), ("codes",), ("dead",), ("dead", "purge")),
        *(("models", "show"), ("models", "delete"), ("models", "reset"), ("score",)),
    ],
    ids=" ".join,
)
def test_a_name_that_is_not_text_is_one_line(command: tuple[str, ...]) -> None:
    done = invoke(*command, "a\udcff")
    assert done.exit_code == 2
    assert r"'a\udcff' isn't UTF-8 text" in done.stderr
