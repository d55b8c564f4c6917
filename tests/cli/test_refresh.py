"""``status --watch``: in place on a terminal, one table after the other in a pipe."""

from __future__ import annotations

import json
import os
import pty
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from streamclust.cli._refresh import refresh
from streamclust.cli.main import cli
from streamclust.cli.status import _retrying
from tests.support.forked import PipedCommand
from tests.support.model_settings import kmeans
from tests.support.waiting import LIMIT, wait_until
from tests.support.workspace import Workspace, environment


def test_in_a_pipe_each_table_follows_the_previous_one(capsys: pytest.CaptureFixture[str]) -> None:
    frames = iter([["A", "1"], ["A", "2"]])

    def read() -> list[str]:
        try:
            return next(frames)
        except StopIteration:
            raise KeyboardInterrupt from None

    with pytest.raises(SystemExit) as ended:
        refresh(read, 0.0)
    assert ended.value.code == 130
    assert capsys.readouterr().out == "A\n1\n\nA\n2\n"


def test_on_a_terminal_the_table_is_replaced_until_ctrl_c(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    workspace = Workspace(tmp_path, valkey_url, namespace)
    workspace.write({"m": kmeans(workspace.stream())})
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    seen = b""

    def shown(text: bytes, times: int) -> bool:
        nonlocal seen
        with suppress(BlockingIOError):
            seen += os.read(ours, 1 << 16)
        return seen.count(text) >= times

    with PipedCommand(
        ["status", "--watch", "--interval", "0.1"],
        cwd=workspace.folder,
        env=environment(TERM="xterm"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        try:
            wait_until(lambda: shown(b"never published", 3), LIMIT)
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT) == 130
            wait_until(lambda: shown(b"\x1b[?25h", 1), LIMIT)  # the cursor is shown again
        finally:
            process.kill()
            os.close(theirs)
            os.close(ours)
    assert b"\x1b[1A" in seen  # the cursor went up
    assert b"every 0.1 s; Ctrl-C ends" in seen
    assert b"Traceback" not in seen


def test_while_the_server_is_away_the_newest_table_stays() -> None:
    answers = iter((["A", "1"], redis.ConnectionError("refused"), ["A", "2"], redis.DataError("x")))

    def read() -> list[str]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    retrying = _retrying(read, "redis://there")
    assert retrying() == ["A", "1"]
    first, second, *error = retrying()
    assert [first, second] == ["A", "1"]
    assert " ".join(error).startswith("error: can't reach redis://there")
    assert retrying() == ["A", "2"]
    with pytest.raises(redis.DataError):  # a fault that doesn't pass
        retrying()


def test_json_has_a_line_per_refresh(learned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.chdir(learned.folder)
    monkeypatch.setattr(time, "sleep", pause)
    done = CliRunner().invoke(cli, ["status", "--watch", "--interval", "7", "--json"])
    assert (done.exit_code, pauses) == (130, [7.0, 7.0])
    lines = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert [[row["model"] for row in line] for line in lines] == [["gm", "km"], ["gm", "km"]]
