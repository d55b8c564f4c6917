"""The engine that computes in other processes of this machine.

Text takes the interpreter's lock while it is read, so threads can't read it faster than one thread.
Each process has a pipe for messages, and a thread here that waits for its answers.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar, cast

import streamclust
from streamclust import kernels
from streamclust.engine import child
from streamclust.engine.base import Engine, compute, never
from streamclust.engine.parts import ArrayPart
from streamclust.engine.threads import ordered
from streamclust.engine.wire import (
    decode_result,
    encode_part,
    encode_task,
    join_messages,
    split_messages,
)
from streamclust.errors import EngineError, StoppedError
from streamclust.kernels.threads import limit_threads, threads_of_process
from streamclust.system_limits import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from streamclust.engine.base import Done, Numbered
    from streamclust.engine.reader import Reader, StreamServer
    from streamclust.engine.tasks import Task

R = TypeVar("R")

_ATTEMPTS = 3
"""Number of processes that end during one bundle of parts, after which this is an error."""

_AHEAD = 64
"""Parts per process that are taken ahead, to choose the size of the next bundle."""

_BUNDLE_SECONDS = 0.1
_BUNDLE_BYTES = 1 << 20
"""Approximate seconds that a bundle takes, and maximum bytes of the results of a bundle of several
parts."""

_UNKNOWN = 120.0
_SHORTEST = 30.0
_LONGEST_TIMES = 10.0
"""Seconds until the deadline of a bundle: `_UNKNOWN` before the first result; then
max(_SHORTEST, _LONGEST_TIMES x parts x longest duration of a part so far)."""

_LOOK_MS = 100


class _EndedError(Exception):
    """Raised when a process has ended before it has answered."""


class Processes(Engine):
    """Computes several parts at the same time, each in another process.

    A process is started when there is work for it. It gets parts in bundles, which become smaller
    towards the end. If it ends, another one gets its parts. If it doesn't answer before the
    deadline, it is killed, and the parts are computed here. Points in memory aren't sent: threads
    of this process compute them.

    Parameters
    ----------
    workers : int
        Number of processes.

    Attributes
    ----------
    by_processes, here : int
        Number of parts that processes computed, and that this process computed after a deadline.
    """

    name = "processes"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.by_processes = self.here = 0
        self._pool = ThreadPoolExecutor(workers, "engine")
        self._per_thread = threading.local()
        self._children: list[_Child] = []
        self._lock = threading.Lock()
        self._longest: float | None = None
        self._sizes: dict[Hashable, int] = {}
        self._closed = False

    def map(
        self,
        task: Task[R],
        reader: Reader,
        parts: Iterable[Numbered],
        stop: Callable[[], bool] = never,
    ) -> Iterator[Done[R]]:
        """Yield the result of each part; see `Engine.map`."""
        message, ended = list[bytes](), threading.Event()
        kind = task.kind, sum(array.nbytes for array in task.to_fields().arrays.values())

        def call(bundle: list[Numbered]) -> list[Done[R]]:
            if isinstance(bundle[0][1], ArrayPart):
                with limit_threads(self._threads_each):
                    return [compute(task, reader, *numbered) for numbered in bundle]
            with self._lock:
                if not message:
                    message.append(encode_task(task, reader.scaling))
            answer = self._ask(message[0], bundle, reader.server, ended, kind)
            if answer is None:
                self.here += len(bundle)
                return [self._computed(task, reader, numbered) for numbered in bundle]
            return [
                decode_result(task, each, "a process of the engine")
                for each in split_messages(answer)
            ]

        try:
            bundles = self._bundles(parts, lambda: self._sizes.get(kind, 1))
            for results in ordered(self._pool, self.workers, call, bundles, stop, ended.set):
                yield from results
        finally:
            ended.set()

    @cached_property
    def _threads_each(self) -> int:
        """The number of threads of a kernel here; cached, because finding it reads files."""
        return threads_of_process() // self.workers

    @property
    def pids(self) -> list[int]:
        """The IDs of the processes that run."""
        with self._lock:
            return [each.process.pid for each in self._children if each.process.poll() is None]

    def close(self) -> None:
        """End the threads and the processes."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            children, self._children = self._children, []
        for each in children:
            each.end()

    def _bundles(
        self, parts: Iterable[Numbered], most: Callable[[], int]
    ) -> Iterator[list[Numbered]]:
        """Yield the parts in bundles of at most `most()`; smaller ones if only few parts are left.

        This process computes points in memory, so each of these parts is a bundle.
        """
        source = iter(parts)
        ahead: deque[Numbered] = deque()
        while True:
            ahead.extend(islice(source, _AHEAD * self.workers - len(ahead)))
            if not ahead:
                return
            size = 1
            if not isinstance(ahead[0][1], ArrayPart):
                size = max(1, min(most(), len(ahead) // (2 * self.workers)))
            yield [ahead.popleft() for _ in range(size)]

    def _computed(self, task: Task[R], reader: Reader, numbered: Numbered) -> Done[R]:
        """Return the result of a part, computed by this process."""
        started = time.monotonic()
        done = compute(task, reader, *numbered)
        self._longest = max(self._longest or 0.0, time.monotonic() - started)
        return done

    def _ask(
        self,
        task: bytes,
        bundle: list[Numbered],
        server: StreamServer | None,
        ended: threading.Event,
        kind: Hashable,
    ) -> bytes | None:
        """Return the answer of this thread's process; None if it is late."""
        count, parts = len(bundle), join_messages(encode_part(*each) for each in bundle)
        for _ in range(_ATTEMPTS):
            process = self._child()
            started = time.monotonic()
            limit = _UNKNOWN if self._longest is None else self._longest * count * _LONGEST_TIMES
            try:
                answer = process.ask(task, parts, server, ended, started + max(limit, _SHORTEST))
            except _EndedError:
                self._drop(process)
                continue
            if answer is None:
                self._drop(process)
                if ended.is_set():
                    raise StoppedError("interrupted; nothing was changed")
                return None
            each = (time.monotonic() - started) / count
            self._longest = max(self._longest or 0.0, each)
            fitting = min(_BUNDLE_SECONDS / each, _BUNDLE_BYTES * count / len(answer))
            self._sizes[kind] = max(1, int(fitting))
            self.by_processes += count
            return answer
        raise EngineError(
            f"{_ATTEMPTS} processes of the engine have ended one after the other while they "
            f"computed the same part (exit status {process.process.returncode}); is there enough "
            "memory? Use --engine threads or inline"
        )

    def _child(self) -> _Child:
        """Return this thread's process; start it if there is none."""
        found: _Child | None = getattr(self._per_thread, "child", None)
        if found is None:
            try:
                found = self._per_thread.child = _Child()
            except OSError as error:
                raise EngineError(
                    f"can't start a process of the engine: {explained(error)}; use --engine "
                    "threads or inline"
                ) from None
            with self._lock:
                self._children.append(found)
        return found

    def _drop(self, process: _Child) -> None:
        process.kill()
        self._per_thread.child = None
        with self._lock, suppress(ValueError):
            self._children.remove(process)


class _Child:
    """One process, with the task and the server that it has."""

    def __init__(self) -> None:
        package = str(Path(streamclust.__file__).parents[1])
        path = os.environ.get("PYTHONPATH")
        own = {
            "PYTHONPATH": package if path is None else os.pathsep.join((package, path)),
            "STREAMCLUST_KERNELS": kernels.describe().partition(" ")[0],
            "STREAMCLUST_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(  # noqa: S603 (no shell)
            [sys.executable, "-P", "-m", child.__name__],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **own},
            process_group=0,  # Ctrl-C is for the command alone
        )
        self._server: StreamServer | None = None
        self._task = b""

    def ask(
        self,
        task: bytes,
        parts: bytes,
        server: StreamServer | None,
        ended: threading.Event,
        deadline: float,
    ) -> bytes | None:
        """Return the answer; None if the deadline has passed or `ended` is set.

        Raises
        ------
        _EndedError
            If the process has ended.
        """
        messages = [child.message(child.PARTS, parts)]
        if task is not self._task:
            messages.insert(0, child.message(child.TASK, task))
        if server is not None and server != self._server:
            stored = json.dumps(asdict(server)).encode()
            messages.insert(0, child.message(child.SERVER, stored))
        self._task, self._server = task, server or self._server
        try:
            for data in messages:
                if not self._write(data, ended, deadline):
                    return None
            head = self._read(child.HEAD.size, ended, deadline)
            return head and self._read(child.HEAD.unpack(head)[0], ended, deadline)
        except OSError:
            raise _EndedError from None

    def _write(self, data: bytes, ended: threading.Event, deadline: float) -> bool:
        """Write a message; return False if the process doesn't read it in time."""
        fd, rest = cast("IO[bytes]", self.process.stdin).fileno(), memoryview(data)
        while rest:
            if not _ready(fd, select.POLLOUT, ended, deadline):
                return False
            rest = rest[os.write(fd, rest[: select.PIPE_BUF]) :]
        return True

    def _read(self, size: int, ended: threading.Event, deadline: float) -> bytes | None:
        """Read `size` bytes; return None if they don't arrive in time."""
        fd, data = cast("IO[bytes]", self.process.stdout).fileno(), bytearray()
        while len(data) < size:
            if not _ready(fd, select.POLLIN, ended, deadline):
                return None
            piece = os.read(fd, size - len(data))
            if not piece:
                raise _EndedError
            data += piece
        return bytes(data)

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.end()

    def end(self) -> None:
        """Close the pipes, and wait until the process has ended."""
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                cast("IO[bytes]", pipe).close()
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _ready(fd: int, event: int, ended: threading.Event, deadline: float) -> bool:
    """Wait until a pipe is ready; return False after the deadline, or if `ended` is set."""
    poll = select.poll()
    poll.register(fd, event)
    while not poll.poll(_LOOK_MS):
        if ended.is_set() or time.monotonic() > deadline:
            return False
    return True
