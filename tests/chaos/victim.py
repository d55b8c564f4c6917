"""A worker to be killed: a process that shows in which phase it is, and can be held there.

It is forked from a process that has imported everything, so that a start costs little; from there
on it is ``streamclust worker``. What it shows stands in memory that it shares with its killer.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import mmap
import os
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import scipy.optimize
from redis.connection import Connection

import streamclust.cli.worker
import streamclust.refit.schedule
import streamclust.worker.daemon
from streamclust import failpoints
from streamclust.cli.main import cli
from tests.chaos.feed import MODELS
from tests.support.waiting import wait_until

LIMIT = 120.0
"""Seconds that anything may take on a busy machine."""

PHASES = (
    "starting",
    "reading",
    "computing",
    "about to commit",
    "commit half sent",
    "commit sent",
    "landed",
    "idle",
)
"""Of a model's thread. 'landed' is between the server's word and the mirror of the position;
'reading' and 'idle' wait for a batch, while the reader has entries or finds none."""

_PHASE_OF = {
    "starting": "starting",
    "loading": "starting",
    "computing": "computing",
    "committing": "about to commit",
    "half sent": "commit half sent",
    "sent": "commit sent",
    "landed": "landed",
}
_NAMES = (*_PHASE_OF, "waiting", "resting", "reading", "idle")
_CODES = {name: code for code, name in enumerate(_NAMES)}
_SLOTS = {
    f"{model}{role}": 2 * i + j
    for i, model in enumerate(MODELS)
    for j, role in enumerate(("", " reader"))
}
_HELD = len(_SLOTS)


@dataclass(frozen=True)
class Target:
    """Hold the thread of `model` where it comes by `instant` for the `times`-th time."""

    model: str
    instant: str
    times: int

    @property
    def thread(self) -> str:
        return self.model + (" reader" if self.instant in ("reading", "idle") else "")


class Board:
    """A byte for each thread, which outlives the process that writes it."""

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, _HELD + 1)

    def note(self, thread: str, instant: str) -> None:
        self._bytes[_SLOTS[thread]] = _CODES[instant]

    def read(self, thread: str) -> str:
        return _NAMES[self._bytes[_SLOTS[thread]]]

    @property
    def held(self) -> bool:
        return self._bytes[_HELD] == 1

    def hold(self) -> None:
        """Stay here until the end, or until released."""
        self._bytes[_HELD] = 1
        while self._bytes[_HELD] == 1:
            time.sleep(0.01)

    def release(self) -> None:
        """Let the thread that is held go on."""
        self._bytes[_HELD] = 2

    def phase(self, model: str) -> str:
        mine = self.read(model)
        if mine == "resting" and self.read(f"{model} reader") == "idle":
            return "idle"
        return _PHASE_OF.get(mine, "reading")

    @property
    def idle(self) -> bool:
        return all(self.phase(model) == "idle" for model in MODELS)


class _Watcher:
    """Notes where each thread is, and holds the one that is the target."""

    def __init__(self, board: Board, target: Target | None) -> None:
        self._board = board
        self._target = target
        self._passed: Counter[str] = Counter()

    def __call__(self, instant: str) -> None:
        thread = threading.current_thread().name
        if thread not in _SLOTS:
            return
        self._board.note(thread, instant)
        if self._target and (self._target.thread, self._target.instant) == (thread, instant):
            self._passed[instant] += 1
            if self._passed[instant] == self._target.times:
                self._board.hold()

    def sends_commit(self) -> bool:
        thread = threading.current_thread().name
        return thread in MODELS and self._board.read(thread) == "committing"


def _watch_commits(watcher: _Watcher) -> None:
    """Show a commit under way: it is sent in two halves, and its reply is read after that."""
    whole: Callable[..., Any] = Connection.send_packed_command

    def halves(self: Any, command: Any, check_health: bool = True) -> None:
        if self._sock is None or not watcher.sends_commit():
            whole(self, command, check_health)
            return
        sent = b"".join(command)
        self._sock.sendall(sent[: len(sent) // 2])
        watcher("half sent")
        self._sock.sendall(sent[len(sent) // 2 :])
        watcher("sent")

    Connection.send_packed_command = halves  # type: ignore[method-assign]


class Victim:
    """A worker in a process of its own.

    Parameters
    ----------
    folder : Path
        With the config.yaml; the log comes here too, under the name `log`.
    target : Target, optional
    until_idle : bool
    """

    def __init__(
        self,
        folder: Path,
        target: Target | None = None,
        *,
        until_idle: bool,
        log: str = "worker.log",
    ) -> None:
        self.board = Board()
        self.log = folder / log
        self.log.touch()
        self._code: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            _live(folder, self.log, _Watcher(self.board, target), until_idle)

    def exited(self) -> bool:
        if self._code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code is not None

    def wait(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds or the process has left of itself."""
        try:
            wait_until(lambda: self.exited() or condition(), LIMIT)
        except AssertionError:
            os.kill(self._pid, signal.SIGABRT)  # so that its log says where it hangs
            _, status = os.waitpid(self._pid, 0)
            self._code = os.waitstatus_to_exitcode(status)
            text = f"nothing for {LIMIT} s; its log ends:\n{self._tail(100)}"
            raise AssertionError(text) from None
        if self._code not in (None, 0):
            raise AssertionError(f"it left with {self._code}; its log ends:\n{self._tail()}")

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines of this kind."""
        whole = self.log.read_text(errors="replace").rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def wait_for(self, event: str) -> None:
        """Wait for a line of the log."""
        self.wait(lambda: bool(self.events(event)))

    def kill(self) -> bool:
        """Kill it, from outside and without a warning; say whether it was still there."""
        if self.exited():
            return False
        os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        self._code = os.waitstatus_to_exitcode(status)
        return self._code == -signal.SIGKILL

    def _tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _live(folder: Path, log: Path, watcher: _Watcher, until_idle: bool) -> NoReturn:
    """Be the worker. Nothing of the process that was forked may run after it."""
    code = 70
    try:
        os.chdir(folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        faulthandler.enable(out)
        failpoints.watch(watcher)
        _watch_commits(watcher)
        answer = cli.main(["worker", *(["--until-idle"] * until_idle)], standalone_mode=False)
        code = answer if isinstance(answer, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


assert scipy.optimize, "imported here, once, and not in every victim"
assert streamclust.cli.worker
assert streamclust.refit.schedule
assert streamclust.worker.daemon

# The collector neither visits nor copies what each victim shares with this process.
gc.collect()
gc.freeze()
