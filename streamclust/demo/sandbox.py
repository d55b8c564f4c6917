"""The demonstration's own server, in a temporary folder, and a real worker process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from streamclust.client.client import Client
from streamclust.errors import StreamclustError
from streamclust.files import without_links, write_whole
from streamclust.store.server.connect import EMBEDDED, Address, open_server
from streamclust.store.server.supervisor import LIMIT, SUPERVISOR_LOCK, is_held, open_lock, within

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from streamclust.demo.interrupts import Interrupts
    from streamclust.demo.plan import Plan

CONFIG_FILE = "config.yaml"
LOG_FILE = "worker.log"
_STOP_SECONDS = 30.0
"""Maximum wait for the worker to finish its batch and exit."""


@dataclass(frozen=True)
class WorkerEnd:
    """The exit of the worker.

    Parameters
    ----------
    exit_code : int
    cpu_seconds : float
        Total processor time.
    """

    exit_code: int
    cpu_seconds: float


class WorkerProcess:
    """A ``streamclust worker`` of the plan's models, in its own process.

    Parameters
    ----------
    config : Path
    data_dir : Path
        Data directory of the embedded server.
    log : Path
        File for the output of the worker.
    """

    def __init__(self, config: Path, data_dir: Path, log: Path) -> None:
        self._log = log
        flags = [f"--set=redis.url={EMBEDDED}", f"--set=redis.data_dir={data_dir}"]
        with open(log, "wb", opener=without_links) as output:
            # Settings in the environment would override those of the plan.
            self._process = subprocess.Popen(  # noqa: S603 -- our own module
                [sys.executable, "-m", "streamclust", "worker", f"--config={config}", *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={
                    name: value
                    for name, value in os.environ.items()
                    if not name.startswith("STREAMCLUST_")
                },
                start_new_session=True,  # Ctrl-C in the terminal doesn't reach the worker
            )

    def check(self) -> None:
        """Raise StreamclustError if the worker isn't alive."""
        code = self._process.poll()
        if code is not None:
            raise StreamclustError(f"the worker ended with exit code {code}; see {self._log}")

    def stop(self) -> WorkerEnd:
        """Send SIGTERM and wait; kill the worker if it doesn't end. A second call is harmless."""
        before = _cpu_seconds_of_children()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return WorkerEnd(code, _cpu_seconds_of_children() - before)


def _cpu_seconds_of_children() -> float:
    """Return the processor time of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True)
class Sandbox:
    """The running server and worker.

    Parameters
    ----------
    client : Client
        For following the models.
    server : redis.Redis
        For sending the points.
    worker : WorkerProcess
    """

    client: Client
    server: redis.Redis
    worker: WorkerProcess


@contextmanager
def open_sandbox(plan: Plan, out: Path, interrupts: Interrupts) -> Iterator[Sandbox]:
    """Start the server and the worker; at the end, stop both and remove the data.

    The worker's settings and log stay in `out`.
    """
    stack = ExitStack()
    try:
        with interrupts.shielded():
            sandbox = _enter(stack, plan, out)
        yield sandbox
    finally:
        with interrupts.shielded():
            stack.close()


def _enter(stack: ExitStack, plan: Plan, out: Path) -> Sandbox:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamclust-demo-")))
    stack.callback(_wait_for_server_to_end, folder)
    server = stack.enter_context(open_server(Address(EMBEDDED, folder)))
    client = stack.enter_context(Client(EMBEDDED, data_dir=folder))
    config = out / CONFIG_FILE
    write_whole(config, yaml.safe_dump(plan.config(), sort_keys=False).encode())
    worker = WorkerProcess(config, folder, out / LOG_FILE)
    stack.callback(worker.stop)
    return Sandbox(client, server.client(), worker)


def _wait_for_server_to_end(folder: Path) -> None:
    """Wait until the unused server ends: until then it writes to the folder."""
    lock = open_lock(folder / SUPERVISOR_LOCK)
    try:
        within(LIMIT, lambda: not is_held(lock))
    finally:
        os.close(lock)
