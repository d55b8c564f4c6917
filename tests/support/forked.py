"""The command line in processes of their own, forked from one that has imported it all.

What runs is `streamclust.cli.main.main` with the words of a command: a process with its own number,
signals, files and end, which can be killed, without the second that the imports take each time. The
script itself is started by tests/cli/test_main.py, the demonstration and the chaos runs.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

WITHOUT = "TESTS_WITHOUT_MODULES"
"""Variable with the names of modules that a forked process can't import."""

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "encodings.idna",
        "numpy.ma",
        "numpy.random",
        "rich.progress",
        "streamclust.cli._progress",
        "streamclust.cli.alerts",
        "streamclust.cli.codes",
        "streamclust.cli.encode",
        "streamclust.cli.ingest",
        "streamclust.cli.main",
        "streamclust.cli.metrics",
        "streamclust.cli.models",
        "streamclust.cli.server",
        "streamclust.cli.status",
        "streamclust.cli.watch",
        "streamclust.cli.worker",
        "streamclust.client.ingest",
        "streamclust.config.load",
        "streamclust.dashboard.serve",
        "streamclust.encoder.daemon",
        "streamclust.refit.schedule",
        "streamclust.worker.daemon",
        "tests.support.forked",
        "tests.support.redis_version",
        "tests.support.after_imports",  # the last
    ]
)


def start_shared() -> None:
    """Start the process that forks commands, for this process and all that it forks from now on.

    Otherwise each process starts its own with its first command, which imports all modules.
    """
    server: Any = forkserver._forkserver
    server.ensure_running()
    server.ensure_running = lambda: None  # which waits for it, and so is for its parent only


class Forked:
    """A process that has started; with the methods of a Popen.

    Its output goes to the two files, its input is empty.
    """

    work: Callable[[list[str]], None]
    """Called in the process, in its folder, with the words."""

    def __init__(
        self,
        words: list[str],
        folder: Path,
        environment: Mapping[str, str],
        stdout: Path,
        stderr: Path,
    ) -> None:
        for file in (stdout, stderr):
            file.touch()
        self.args = words
        self._process = _FORKS.Process(
            target=_run,
            args=(type(self).work, words, folder, dict(environment), stdout, stderr),
            daemon=True,
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, as soon as there is one."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _run(
    work: Callable[[list[str]], None],
    words: list[str],
    folder: Path,
    environment: dict[str, str],
    stdout: Path,
    stderr: Path,
) -> None:
    """Do the work in its folder, with its environment and files."""
    _enter(folder, environment)
    for number, name, file in ((1, "stdout", stdout), (2, "stderr", stderr)):
        with file.open("ab") as opened:
            os.dup2(opened.fileno(), number)
        setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    work(words)


def _enter(folder: Path, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for module in environment.get(WITHOUT, "").split():
        assert module not in sys.modules, f"{module} is imported before the fork"
        sys.modules[module] = None  # type: ignore[assignment]


def _command(words: list[str]) -> None:
    from streamclust.cli.main import main

    sys.argv = ["streamclust", *words]
    main()


def _program(words: list[str]) -> None:
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


class ForkedCommand(Forked):
    """A `streamclust` with these words."""

    work = staticmethod(_command)


class ForkedProgram(Forked):
    """A Python program: its file, and its arguments."""

    work = staticmethod(_program)


@dataclass(frozen=True)
class _Descriptor:
    """A file that a forked process inherits."""

    number: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherited, (DupFd(self.number),)


def _inherited(copy: Any) -> int:
    return int(copy.detach())


def _run_with_streams(
    words: list[str], folder: Path, environment: dict[str, str], streams: list[int], session: bool
) -> None:
    """Be a `streamclust` with these standard streams."""
    if session:
        os.setsid()
    _enter(folder, environment)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        mode = "r" if number == 0 else "w"
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    _command(words)


def fork_command(
    words: list[str],
    folder: Path,
    environment: Mapping[str, str],
    streams: list[int],
    session: bool = False,
) -> Any:
    """Fork a `streamclust` with these words and standard streams; return its process."""
    copies = [_Descriptor(stream) for stream in streams]
    process = _FORKS.Process(
        target=_run_with_streams,
        args=(words, folder, dict(environment), copies, session),
        daemon=True,
    )
    process.start()
    assert process.pid is not None
    return process


class PipedCommand(subprocess.Popen[str]):
    """A `streamclust` with these words, which is forked; otherwise a Popen with `text=True`."""

    def __init__(self, words: list[str], **options: Any) -> None:
        super().__init__(words, text=True, **options)

    def _execute_child(self, words: list[str], *options: Any) -> None:
        """Fork, instead of starting a program: Popen calls this when it has made the pipes."""
        folder, environment, session = options[4], options[5], options[20]
        pipes = options[9:15]
        ends = (pipes[0], pipes[3], pipes[5])  # the child's
        with open(os.devnull) as nothing:  # noqa: PTH123
            own = (nothing.fileno(), 1, 2)
            streams = [mine if end == -1 else end for end, mine in zip(ends, own, strict=True)]
            variables = os.environ if environment is None else environment
            self._process = fork_command(words, folder or Path.cwd(), variables, streams, session)
        self.pid = self._process.pid
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._child_created:
            self.returncode = self._process.exitcode
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        self._process.join(timeout)
        if self._internal_poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self.returncode
