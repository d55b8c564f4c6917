"""``streamclust ingest``: files and standard input into a stream, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, get_args

import numpy as np
import pytest
import redis
from click.testing import CliRunner, Result

from streamclust.cli import ingest as module
from streamclust.cli._table_options import TABLE_KINDS
from streamclust.cli.exit_codes import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE
from streamclust.cli.main import cli
from streamclust.formats.layout import ENTRY_FORMATS
from streamclust.tables import KINDS, Kind
from tests.support.forked import PipedCommand
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def client(server_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server_url) as client:
        yield client


@pytest.fixture
def run(server_url: str, namespace: str) -> Callable[..., Result]:
    def run(*arguments: str, text: str | None = None, env: dict[str, str] | None = None) -> Result:
        command = ["ingest", *arguments, "--stream", namespace, "--redis-url", server_url]
        return CliRunner().invoke(cli, command, input=text, env=env)

    return run


def _sent(client: redis.Redis, stream: str) -> list[dict[bytes, bytes]]:
    entries: Any = client.xrange(stream)
    return [fields for _, fields in entries]


def test_a_file(run: Callable[..., Result], client: redis.Redis, namespace: str) -> None:
    Path("data.csv").write_text("x,y,n\n1.5,2,3\n4,5,6\n")
    result = run("data.csv", "--columns", "y, x", "--weight-column", "n")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"2 points in 2 entries to stream '{namespace}' in ")
    assert result.stderr == ""
    assert _sent(client, namespace) == [
        {b"y": b"2.0", b"x": b"1.5", b"n": b"3.0"},
        {b"y": b"5.0", b"x": b"4.0", b"n": b"6.0"},
    ]


def test_several_files_and_a_report_for_machines(
    run: Callable[..., Result], client: redis.Redis, namespace: str
) -> None:
    for name in ("a.npy", "b.npy"):
        np.save(name, np.ones((1500, 3), np.float32))
    result = run("a.npy", "b.npy", "--format", "float32", "--json")
    report = json.loads(result.stdout)
    assert report.pop("seconds") > 0
    last: Any = client.xrevrange(namespace, count=1)
    ((last_id, fields),) = last
    assert report == {
        "stream": namespace,
        "points": 3000,
        "entries": 4,
        "last_id": last_id.decode(),
        "bad": 0,
        "resumed": 0,
        "interrupted": False,
    }
    assert (len(fields[b"f4"]), fields[b"d"]) == (476 * 3 * 4, b"3")


def test_blocks_of_any_size_are_full(
    run: Callable[..., Result], client: redis.Redis, namespace: str
) -> None:
    np.save("a.npy", np.ones((20_000, 1)))
    assert run("a.npy", "--format", "json", "--block", "3000").exit_code == 0
    sizes = [len(json.loads(fields[b"json"])) for fields in _sent(client, namespace)]
    assert sizes == [3000] * 6 + [2000]


def test_standard_input(run: Callable[..., Result], client: redis.Redis, namespace: str) -> None:
    result = run("-", "--kind", "jsonl", "--format", "json", text="[1, 2]\n")
    assert result.stdout.startswith("1 point in 1 entry to stream ")
    assert _sent(client, namespace) == [{b"json": b"[1.0,2.0]"}]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("name", ["a.npy", "a.csv"])
def test_progress_is_shown_on_a_terminal(
    run: Callable[..., Result], name: str, terminal: bool
) -> None:
    np.save("a.npy", np.ones((5, 2)))
    Path("a.csv").write_text("1,2\n" * 5)
    result = run(name, env={"FORCE_COLOR": "1", "TERM": "xterm"} if terminal else {})
    assert result.exit_code == 0
    assert ("5 points, " in result.stderr) == terminal


def test_a_bad_cell_is_one_line(run: Callable[..., Result]) -> None:
    Path("data.csv").write_text("x,y\n1,2\n3,abc\n")
    result = run("data.csv")
    assert result.exit_code == EXIT_ERROR
    assert result.stderr == (
        "error: data.csv line 3, column 'y': 'abc' is not a number; "
        "choose columns with --columns, clean the file, or skip bad rows with --on-bad skip\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [(), ("missing.csv",), ("a.csv", "--block", "0"), ("a.csv", "--rate", "0"), ("a.csv", "--x")],
)
def test_wrong_usage(run: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    Path("a.csv").write_text("1,2\n")
    assert run(*arguments).exit_code == EXIT_USAGE


def test_the_choices_are_the_library_s() -> None:
    assert module.FORMATS == ENTRY_FORMATS
    assert set(module.DEFAULT_BLOCK) == set(ENTRY_FORMATS)
    assert TABLE_KINDS == KINDS == get_args(Kind)


def test_help_shows_how() -> None:
    result = CliRunner().invoke(cli, ["ingest", "--help"])
    assert "streamclust ingest points.csv --stream points\n" in result.stdout


# Ctrl-C ---------------------------------------------------------------------------------------


@pytest.fixture
def start(server_url: str, namespace: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, stdin: int | IO[str] = subprocess.DEVNULL) -> subprocess.Popen[str]:
        process = PipedCommand(
            ["ingest", *arguments, "--stream", namespace, "--redis-url", server_url],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_ctrl_c_says_how_many_points_went_in(
    start: Callable[..., subprocess.Popen[str]], client: redis.Redis, namespace: str
) -> None:
    np.save("a.npy", np.ones((1000, 2)))
    process = start("a.npy", "--rate", "1")
    wait_until(lambda: client.xlen(namespace))
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == EXIT_INTERRUPTED
    assert stderr == ""
    sent = client.xlen(namespace)
    assert stdout.startswith(f"interrupted: {sent} point")


def test_ctrl_c_ends_the_wait_for_input(
    start: Callable[..., subprocess.Popen[str]], client: redis.Redis, namespace: str
) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as stdin, os.fdopen(write_end, "w") as feed:
        process = start("-", "--json", stdin=stdin)
        feed.write("1,2\n")
        feed.flush()
        wait_until(lambda: client.xlen(namespace))
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (EXIT_INTERRUPTED, "")
    report = json.loads(stdout)
    assert (report["points"], report["interrupted"]) == (1, True)


def test_ctrl_c_ends_the_wait_for_a_named_pipe(
    start: Callable[..., subprocess.Popen[str]], client: redis.Redis, namespace: str
) -> None:
    os.mkfifo("points.csv")
    process = start("points.csv", "--json")
    # Given a writer that came and stays silent
    with Path("points.csv").open("w") as feed:
        feed.write("1,2\n3,4\n")
        feed.flush()
        # Then what comes later is waited for, until Ctrl-C
        wait_until(lambda: _waits(process))
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (EXIT_INTERRUPTED, "")
    assert json.loads(stdout)["interrupted"]


def _waits(process: subprocess.Popen[str]) -> bool:
    """Whether the command has begun to catch Ctrl-C, as the kernel knows."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    handler = int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1
    files = Path(f"/proc/{process.pid}/fd")
    fifo = Path("points.csv").resolve()
    return bool(handler) and any(each.resolve() == fifo for each in files.iterdir())
