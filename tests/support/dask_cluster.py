"""Real `dask scheduler` and `dask worker` processes on loopback, to kill and to pause."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

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
    """

    def __init__(
        self,
        folder: Path,
        papers: Papers | None = None,
        environment: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
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
        self.workers: list[subprocess.Popen[bytes]] = []
        self._started = 0
        self._scheduler: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start_scheduler()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self._scheduler):
            if process is not None:
                process.kill()  # a paused one, too
                process.wait()

    def address_at(self, host: str) -> str:
        """Return the address of the scheduler, as another host sees it."""
        return f"{'tcp' if self.papers is None else 'tls'}://{host}:{self.port}"

    def start_scheduler(self, within: Sequence[str] = ()) -> None:
        """Start the scheduler; after a kill, another one at the same address.

        `within` are words of a command that executes another command.
        """
        options = ["--host", self.host, "--port", str(self.port), "--no-show"]
        self._scheduler = self._start("scheduler", *options, within=within)

    def start_worker(
        self,
        prelude: str = "",
        *,
        host: str = "127.0.0.1",
        scheduler: str | None = None,
        within: Sequence[str] = (),
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """Start one worker with one thread; it has a name of its own.

        `prelude` is Python that it executes first, `host` its own address, `scheduler` the address
        of the scheduler, if it isn't `address`; `within` as in `start_scheduler`.
        """
        self._started += 1
        name = f"worker-{self._started}"
        words = ["--no-nanny", "--nthreads", "1", "--name", name, "--host", host]
        folder = self.folder / name
        folder.mkdir()
        words += ["--local-directory", str(folder), "--memory-limit", "0"]
        words = [scheduler or self.address, *words]
        process = self._start("worker", *words, prelude=prelude, within=within, **environment)
        self.workers.append(process)
        return process

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """The scheduler and the workers."""
        assert self._scheduler is not None
        return [self._scheduler, *self.workers]

    def end_worker(self, process: subprocess.Popen[bytes]) -> None:
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
        command: str,
        *options: str,
        prelude: str = "",
        within: Sequence[str] = (),
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        main = f"from distributed.cli.dask_{command} import main; main()"
        words = [*within, sys.executable, "-c", f"{prelude}\n{main}", *options, "--no-dashboard"]
        if self.papers is not None:
            files = {"ca-file": "ca", "cert": "cert", "key": "key"}
            for option, name in files.items():
                words += [f"--tls-{option}", str(getattr(self.papers, name))]
        number = len(list(self.folder.glob("*.log")))
        with (self.folder / f"{number}-{command}.log").open("ab") as log:
            return subprocess.Popen(
                words,
                cwd=self.folder,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
