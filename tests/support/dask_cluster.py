"""Real `dask scheduler` and `dask worker` processes on loopback, to kill and to pause."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
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
    """

    def __init__(
        self,
        folder: Path,
        papers: Papers | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.papers = folder, papers
        self.port = free_port()
        self.address = f"{'tcp' if papers is None else 'tls'}://127.0.0.1:{self.port}"
        kept = {name: value for name, value in os.environ.items() if "STREAMCLUST" not in name}
        own = {"OPENBLAS_NUM_THREADS": "1", "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}
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

    def start_scheduler(self) -> None:
        """Start the scheduler; after a kill, another one at the same address."""
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--no-show"]
        self._scheduler = self._start("scheduler", *options)

    def start_worker(self, prelude: str = "", **environment: str) -> subprocess.Popen[bytes]:
        """Start one worker with one thread; it has a name of its own.

        `prelude` is Python that it executes first.
        """
        self._started += 1
        name = f"worker-{self._started}"
        words = ["--no-nanny", "--nthreads", "1", "--name", name, "--host", "127.0.0.1"]
        folder = self.folder / name
        folder.mkdir()
        words += ["--local-directory", str(folder), "--memory-limit", "0"]
        process = self._start("worker", self.address, *words, prelude=prelude, **environment)
        self.workers.append(process)
        return process

    def end_worker(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a worker, and forget it."""
        process.kill()
        process.wait()
        self.workers.remove(process)

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
        self, command: str, *options: str, prelude: str = "", **environment: str
    ) -> subprocess.Popen[bytes]:
        main = f"from distributed.cli.dask_{command} import main; main()"
        words = [sys.executable, "-c", f"{prelude}\n{main}", *options, "--no-dashboard"]
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
