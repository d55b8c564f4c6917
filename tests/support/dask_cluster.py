"""Real `dask scheduler` and `dask worker` processes on loopback, to kill and to pause.

They are forked from a process that has imported Dask: each start of Python with Dask would take
almost a second of processor time.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Self

from tests.support.papers import Papers
from tests.support.servers import free_port

WITHOUT_STREAMCLUST = """
import sys

class Missing:
    def find_spec(name, *_):
        if name.partition(".")[0] == "streamclust":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing)
"""
"""Python for a process in which streamclust isn't installed."""


_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class _Start:
    """A process to start.

    Parameters
    ----------
    command : str
        scheduler or worker.
    options : list of str
        Options of the command.
    environment : dict
        Its variables.
    log : Path
        File for its output.
    prelude : str
        Python that it executes first.
    network : Path or None
        Its network namespace, if it isn't the one of this process.
    """

    command: Literal["scheduler", "worker"]
    options: list[str]
    environment: dict[str, str]
    log: Path
    prelude: str = ""
    network: Path | None = None

    def run(self) -> None:
        """Be this process."""
        with self.log.open("ab") as log:
            for number in (1, 2):
                os.dup2(log.fileno(), number)
        os.chdir(self.log.parent)
        os.environ.clear()
        os.environ.update(self.environment)
        if self.network is not None:
            with self.network.open() as file:
                assert not ctypes.CDLL(None).setns(file.fileno(), _CLONE_NEWNET)
        if self.prelude or "STREAMCLUST_KERNELS" in self.environment:  # import streamclust again
            for name in [name for name in sys.modules if name.partition(".")[0] == "streamclust"]:
                del sys.modules[name]
        exec(self.prelude, {})  # noqa: S102
        from distributed.cli import dask_scheduler, dask_worker

        sys.argv = [f"dask-{self.command}", *self.options]
        {"scheduler": dask_scheduler, "worker": dask_worker}[self.command].main()


def _fork_on_request(
    requests: Connection, other_end: Connection, environment: dict[str, str]
) -> None:
    """Start processes, and answer what became of them, until the requests end."""
    other_end.close()  # a copy, which would keep the requests from ending
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test
    import distributed.cli.dask_scheduler
    import distributed.cli.dask_worker  # noqa: F401

    import streamclust.engine.remote
    import streamclust.store.server.connect
    import streamclust.store.stream.ranges  # noqa: F401

    forks, processes = multiprocessing.get_context("fork"), dict[int, Any]()
    try:
        while True:
            match requests.recv():
                case _Start() as start:
                    process = forks.Process(target=start.run)
                    process.start()
                    assert process.pid is not None
                    processes[process.pid] = process
                    requests.send(process.pid)
                case pid, seconds:
                    processes[pid].join(seconds)
                    requests.send(processes[pid].exitcode)
    except EOFError:
        for process in processes.values():
            process.kill()


class DaskProcess:
    """A scheduler or a worker."""

    def __init__(self, requests: Connection, start: _Start) -> None:
        self._requests = requests
        requests.send(start)
        self.pid: int = requests.recv()

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._exit_code(0.0)

    def wait(self) -> None:
        """Wait for its end."""
        self._exit_code(None)

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _exit_code(self, seconds: float | None) -> int | None:
        self._requests.send((self.pid, seconds))
        code: int | None = self._requests.recv()
        return code


class DaskCluster:
    """A scheduler and its workers, each a process of its own; as a context, it ends all of them.

    Parameters
    ----------
    folder : Path
        For logs and the workers' files.
    papers : Papers or None
        With certificates, all connections use TLS.
    environment : mapping
        Variables of the workers, such as STREAMCLUST_REDIS__URL.
    host : str
        The address at which the scheduler listens.
    method : {"forkserver", "fork"}
        How the process that imports Dask is started. With "fork", it is forked from this process,
        which must not have another thread.
    """

    def __init__(
        self,
        folder: Path,
        papers: Papers | None = None,
        environment: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        method: Literal["forkserver", "fork"] = "forkserver",
    ) -> None:
        self.folder, self.papers, self.host = folder, papers, host
        self.port = free_port()
        self.address = self.address_at("127.0.0.1" if host == "0.0.0.0" else host)  # noqa: S104
        kept = {name: value for name, value in os.environ.items() if "STREAMCLUST" not in name}
        own = {
            "OPENBLAS_NUM_THREADS": "1",
            "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false",
            "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
        }
        self.environment = {**kept, **own, **(environment or {})}
        self.workers: list[DaskProcess] = []
        self._started = 0
        self._scheduler: DaskProcess | None = None
        contexts: Any = multiprocessing.get_context(method)
        self._requests, received = multiprocessing.Pipe()
        self._forking = contexts.Process(
            target=_fork_on_request, args=(received, self._requests, self.environment)
        )
        self._forking.start()
        received.close()

    def __enter__(self) -> Self:
        self.start_scheduler()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self._scheduler):
            if process is not None:
                process.kill()  # a paused one, too
                process.wait()
        self._requests.close()
        self._forking.join()

    def address_at(self, host: str) -> str:
        """Return the address of the scheduler, as another host sees it."""
        return f"{'tcp' if self.papers is None else 'tls'}://{host}:{self.port}"

    def start_scheduler(self, network: Path | None = None) -> None:
        """Start the scheduler, in this network; after a kill, another one at the same address."""
        options = ["--host", self.host, "--port", str(self.port), "--no-show"]
        self._scheduler = self._start("scheduler", *options, network=network)

    def start_worker(
        self,
        prelude: str = "",
        *,
        host: str = "127.0.0.1",
        scheduler: str | None = None,
        network: Path | None = None,
        **environment: str,
    ) -> DaskProcess:
        """Start one worker with one thread; it has a name of its own.

        `prelude` is Python that it executes first, `host` its own address, `scheduler` the address
        of the scheduler, if it isn't `address`; `network` as in `start_scheduler`.
        """
        self._started += 1
        name = f"worker-{self._started}"
        words = ["--no-nanny", "--nthreads", "1", "--name", name, "--host", host]
        folder = self.folder / name
        folder.mkdir()
        words += ["--local-directory", str(folder), "--memory-limit", "0"]
        words = [scheduler or self.address, *words]
        process = self._start("worker", *words, prelude=prelude, network=network, **environment)
        self.workers.append(process)
        return process

    @property
    def processes(self) -> list[DaskProcess]:
        """The scheduler and the workers."""
        assert self._scheduler is not None
        return [self._scheduler, *self.workers]

    def end_worker(self, process: DaskProcess) -> None:
        """Kill a worker, and forget it."""
        process.kill()
        process.wait()
        self.workers.remove(process)

    @property
    def scheduler_pid(self) -> int:
        assert self._scheduler is not None
        return self._scheduler.pid

    def kill_scheduler(self) -> None:
        assert self._scheduler is not None
        self._scheduler.kill()
        self._scheduler.wait()

    def pause_scheduler(self, paused: bool) -> None:
        assert self._scheduler is not None
        self._scheduler.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    def log(self) -> str:
        """What all processes have written."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def _start(
        self,
        command: Literal["scheduler", "worker"],
        *options: str,
        prelude: str = "",
        network: Path | None = None,
        **environment: str,
    ) -> DaskProcess:
        words = [*options, "--no-dashboard"]
        if self.papers is not None:
            files = {"ca-file": "ca", "cert": "cert", "key": "key"}
            for option, name in files.items():
                words += [f"--tls-{option}", str(getattr(self.papers, name))]
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}-{command}.log"
        log.touch()
        variables = {**self.environment, **environment}
        return DaskProcess(self._requests, _Start(command, words, variables, log, prelude, network))
