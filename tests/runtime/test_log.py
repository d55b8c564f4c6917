"""Logs of daemons: they say what they can, and never end or hold up the one that logs."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from streamclust.runtime import log as module
from streamclust.runtime.log import LogOutput, configure_log
from tests.support.forked import PipedCommand
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.waiting import LIMIT, wait_until
from tests.support.workspace import STREAMCLUST, Workspace, environment

Pipe = tuple[int, io.TextIOWrapper]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe's end to read from, and a stream that writes to the other one."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w", encoding="latin-1") as stream:
        yield read_end, stream
    os.close(read_end)


@pytest.fixture
def log(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> Iterator[structlog.typing.FilteringBoundLogger]:
    """A daemon's log on that pipe."""
    monkeypatch.setattr("sys.stderr", pipe[1])
    configure_log()
    yield structlog.get_logger()
    structlog.reset_defaults()


def events(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def drained(fd: int) -> bytes:
    os.set_blocking(fd, False)
    parts = []
    try:
        while part := os.read(fd, 1 << 20):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


def test_lines_whose_reader_has_left_are_dropped(pipe: Pipe, log: Any) -> None:
    reader, _ = pipe
    other = os.open(os.devnull, os.O_RDONLY)
    os.dup2(other, reader)  # closes the pipe's only end to read from
    os.close(other)
    log.info("nobody reads this")
    log.exception("nor this")


def test_a_reader_that_does_not_read_holds_a_log_up_once_and_is_told_what_it_missed(
    pipe: Pipe, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a pipe that is full
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.05)
    reader, stream = pipe
    os.set_blocking(stream.fileno(), False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(stream.fileno(), b"." * 4096)
    os.set_blocking(stream.fileno(), True)
    # When lines are logged Then each call returns
    for number in range(300):
        log.info("lost", number=number)
    # and once it is emptied, the log goes on and says how many lines are missing
    assert set(drained(reader)) == set(b".")
    log.info("first")
    first, notice = events(drained(reader))
    assert first["event"] == "first"
    assert (notice["event"], notice["count"], notice["level"]) == (
        "log_lines_lost",
        300,
        "warning",
    )
    log.info("second")
    assert [line["event"] for line in events(drained(reader))] == ["second"]


def test_a_slow_reader_gets_every_line(pipe: Pipe, log: Any) -> None:
    reader, stream = pipe
    got: list[bytes] = []

    def read() -> None:
        while part := os.read(reader, 3000):
            got.append(part)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(200):
        log.info("line", number=number, text="ü" * 2000)
    stream.close()
    thread.join()
    lines = events(b"".join(got))
    assert [line["number"] for line in lines] == list(range(200))


def test_a_full_disk_loses_lines_and_not_their_form(tmp_path: Path) -> None:
    # Given a file that takes no more in the middle of a line, as a full disk does
    path = tmp_path / "log"
    with path.open("w") as stream:
        output = LogOutput(stream, [structlog.processors.JSONRenderer()])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30, hard))
        try:
            output.msg('{"a": 1}')
            output.msg(json.dumps({"text": "." * 99}))
            output.msg('{"b": 2}')
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        # When there is room again
        output.msg('{"c": 3}')
    # Then whole lines follow, on lines of their own
    whole, torn, after, notice = path.read_text().splitlines()
    assert (whole, torn[:10], after) == ('{"a": 1}', '{"text": "', '{"c": 3}')
    assert json.loads(notice)["count"] == 2


def test_text_that_the_stream_cannot_encode_is_escaped(pipe: Pipe) -> None:
    reader, stream = pipe
    LogOutput(stream).msg("é 東 \udc80")
    assert drained(reader) == b"\xe9 \\u6771 \\udc80\n"


@pytest.mark.parametrize("form", ["auto", "human", "json"])
def test_without_a_stderr_nothing_is_written(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr("sys.stderr", stream)
        configure_log(form=form)
        structlog.get_logger().info("nowhere")
    structlog.reset_defaults()


def test_a_stream_that_fails_raises_nothing() -> None:
    class Failing(io.StringIO):
        def write(self, text: str, /) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    LogOutput(Failing()).msg("lost")


def test_lines_of_many_threads_stay_whole(pipe: Pipe, log: Any) -> None:
    reader, stream = pipe
    got: list[bytes] = []
    reading = threading.Thread(
        target=lambda: got.extend(iter(lambda: os.read(reader, 1 << 16), b""))
    )
    reading.start()
    threads = [
        threading.Thread(target=lambda: [log.info("line", text="." * 5000) for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream.close()
    reading.join()
    wait_until(lambda: not reading.is_alive())
    assert len(events(b"".join(got))) == 80


@pytest.mark.parametrize("command", ["worker", "encode m", "metrics --port 0"])
def test_a_daemon_whose_log_pipe_is_closed_goes_on_and_ends_in_order(
    tmp_path: Path, valkey_url: str, namespace: str, command: str
) -> None:
    # Given a daemon whose log nobody reads any more
    workspace = Workspace(tmp_path, valkey_url, namespace)
    workspace.write({"m": kmeans(workspace.stream(), commit={"every": "50ms"})})
    with workspace.client as client:
        add_points(client, workspace.stream(), blobs(90))
        if command != "worker":
            workspace.drain()
        read_end, write_end = os.pipe()
        with PipedCommand(
            command.split(),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=write_end,
        ) as daemon:
            os.close(write_end)
            assert os.read(read_end, 1)  # it has begun
            os.close(read_end)
            # When it has more to log Then it does its work
            add_points(client, workspace.stream(), blobs(90, seed=1))
            if command == "worker":
                wait_until(lambda: workspace.committed("m") == 180, LIMIT)
            elif command != "metrics --port 0":
                wait_until(lambda: client.xlen(workspace.keys("m").codes()) == 180, LIMIT)
            # and ends as it should
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(LIMIT) == 0


def test_a_worker_without_standard_streams_learns_and_what_it_learned_is_shown_anywhere(
    workspace: Workspace,
) -> None:
    # A socket that had the number of a standard stream would receive what is written there.
    workspace.write({"m": kmeans(workspace.stream())})
    with workspace.client as client:
        add_points(client, workspace.stream(), blobs(90))
    assert shell(workspace, "worker --until-idle 0<&- 1>&- 2>&-").returncode == 0
    assert workspace.committed("m") == 90
    # Bars are made of blocks, which this encoding doesn't have.
    done = shell(workspace, "watch m --count 1", PYTHONIOENCODING="latin-1:strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert done.stdout.splitlines()[0].split()[0] == "VERSION"


def test_an_error_that_nobody_can_read_keeps_its_exit_code(workspace: Workspace) -> None:
    workspace.write({"m": kmeans(workspace.stream())})
    assert shell(workspace, "worker --redis-url nonsense 2>/dev/full").returncode == 2


def shell(workspace: Workspace, words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, from a shell that redirects its streams."""
    return subprocess.run(
        ["sh", "-c", f"exec {STREAMCLUST} {words}"],
        cwd=workspace.folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        check=False,
    )
