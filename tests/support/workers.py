"""A worker in a process, as a user starts one, and a worker in a thread of the test."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import structlog
from structlog.testing import LogCapture

from streamclust.config import load_settings
from streamclust.errors import StreamclustError
from streamclust.runtime.job import Job
from streamclust.store.server.connect import Address, Server, open_server
from streamclust.worker.run_models import run_model
from tests.support.forked import ForkedCommand
from tests.support.waiting import LIMIT, wait_until
from tests.support.workspace import Workspace, environment

Event = dict[str, Any]


class _Background:
    """Something that runs for as long as a block lasts, and logs."""

    def lines(self) -> list[Event]:
        """Return the log's lines."""
        raise NotImplementedError

    def ended(self) -> bool:
        """Whether it has ended."""
        return False

    def failure_text(self) -> str:
        """Return what is known of its end, and its log."""
        return "\n".join(map(str, self.lines()))

    def events(self, event: str) -> list[Event]:
        """Return the log's lines of this kind."""
        return [line for line in self.lines() if line["event"] == event]

    def wait_for(self, event: str, times: int = 1) -> Event:
        """Wait for a line of the log; return the newest of its kind."""
        self.wait(lambda: len(self.events(event)) >= times)
        return self.events(event)[-1]

    def wait(self, condition: Any) -> None:
        """Wait until the condition holds for a moment; show the log if it doesn't."""
        held = False

        def settled() -> bool:
            nonlocal held
            ended = self.ended()
            held = bool(condition())
            return held or ended

        try:
            wait_until(settled, LIMIT)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.failure_text()}") from None
        assert held, f"it has ended; {self.failure_text()}"


class CommandProcess(_Background):
    """A command of `streamclust` in the background, which is killed at the end of the block."""

    command: str

    def __init__(self, workspace: Workspace, *arguments: str, **env: str) -> None:
        number = len(list(workspace.folder.glob(f"{self.command}-*")))
        self._file = workspace.folder / f"{self.command}-{number}.log"
        words = [self.command, *arguments]
        self.process = ForkedCommand(
            words, workspace.folder, environment(**env), self._file, self._file
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """All that it has written."""
        return self._file.read_text(encoding="utf-8")

    def lines(self) -> list[Event]:
        """Return the log's lines; every line must be JSON."""
        return list(map(json.loads, self.log.rpartition("\n")[0].splitlines()))

    def ended(self) -> bool:
        return self.process.poll() is not None

    def failure_text(self) -> str:
        return f"exit code {self.process.returncode}; its log:\n{self.log}"

    def send(self, *signals: signal.Signals) -> None:
        for number in signals:
            self.process.send_signal(number)

    def exit_code(self) -> int:
        return self.process.wait(LIMIT)

    def leave(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; return its exit code."""
        self.send(number)
        return self.exit_code()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def peak_mib(self) -> int:
        """Return the most memory that it has had so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        [found] = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(found) // 1024


class WorkerProcess(CommandProcess):
    """A `streamclust worker`."""

    command = "worker"


class WorkerThread(_Background):
    """The worker of one model, without a process of its own.

    Parameters
    ----------
    workspace : Workspace
    model : str, default="m"
    until_idle : bool, default=False
    timeout : float, default=LIMIT
        Seconds that an answer of the server may take.

    Attributes
    ----------
    failure : StreamclustError or None
        What ended it, if anything did.
    """

    def __init__(
        self,
        workspace: Workspace,
        model: str = "m",
        *,
        until_idle: bool = False,
        timeout: float = LIMIT,
    ) -> None:
        self._open = partial(open_job, workspace, model, until_idle=until_idle, timeout=timeout)
        self._logged = LogCapture()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"worker of {model}", daemon=True)
        self.failure: StreamclustError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def _run(self) -> None:
        strict = np.errstate(divide="raise", invalid="raise")  # as in the test's own thread
        with strict, self._open(stop=self._stop, logged=self._logged) as job:
            try:
                run_model(job)
            except StreamclustError as failure:
                self.failure = failure

    def leave(self) -> None:
        """Ask it to end, and wait until it has."""
        self._stop.set()
        self.join()

    def join(self) -> None:
        self._thread.join(LIMIT)
        assert not self._thread.is_alive(), f"it doesn't end; {self.failure_text()}"

    def lines(self) -> list[Event]:
        return [dict(entry) for entry in self._logged.entries]

    def failure_text(self) -> str:
        return f"{self.failure}; its log:\n{super().failure_text()}"


@contextmanager
def open_job(
    workspace: Workspace,
    model: str = "m",
    *,
    until_idle: bool = False,
    timeout: float = LIMIT,
    stop: threading.Event | None = None,
    logged: LogCapture | None = None,
) -> Iterator[Job]:
    """The job of a model, as the command line opens it; its log goes to `logged`."""
    capture = logged or LogCapture()
    log = structlog.wrap_logger(structlog.PrintLogger(), [capture], structlog.BoundLogger)
    settings = load_settings(workspace.folder / "config.yaml", ())
    with open_server(Address(settings.redis.url)) as server:
        limited = _with_timeout(server, timeout)
        yield Job(model, settings, limited, stop or threading.Event(), until_idle, log)


def _with_timeout(server: Server, timeout: float) -> Server:
    """Give the clients of a server, and those of its sessions, their timeout."""
    begin = server.session
    server.client = partial(server.client, timeout=timeout)  # type: ignore[method-assign]
    server.raw_client = partial(server.raw_client, timeout=timeout)  # type: ignore[method-assign]
    server.session = lambda: _with_timeout(begin(), timeout)  # type: ignore[method-assign]
    return server


def drain(workspace: Workspace, model: str = "m") -> WorkerThread:
    """Learn all that is in the streams; return the worker, which has ended. Raise its failure.

    For one or two models this costs less than `Workspace.drain`, which has a process.
    """
    with WorkerThread(workspace, model, until_idle=True) as worker:
        worker.join()
    if worker.failure is not None:
        raise worker.failure
    return worker
