"""The engine that computes in threads of this process, and a map with ordered results."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError, wait
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from streamclust.engine.base import Engine, check, compute, never
from streamclust.errors import EngineError
from streamclust.kernels.threads import limit_threads, threads_of_process
from streamclust.system_limits import explained, is_out_of_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

    from streamclust.engine.base import Done, Numbered
    from streamclust.engine.reader import Reader
    from streamclust.engine.tasks import Task

T = TypeVar("T")
R = TypeVar("R")

_LOOK = 0.1
"""Seconds between checks for a request to stop."""

_WAITING = 2
"""Items per thread that are computed or wait for an earlier result."""


def ordered(
    pool: Executor,
    threads: int,
    call: Callable[[T], R],
    items: Iterable[T],
    stop: Callable[[], bool],
    abandon: Callable[[], None] = lambda: None,
) -> Iterator[R]:
    """Yield `call` of each item, in the order of the items.

    At most `2 * threads` items are taken before their results are used. So few results wait for an
    earlier one, and items are made when they are needed. When the iteration ends early, `abandon`
    is called; the iteration then waits for the calls that have started.

    Raises
    ------
    StoppedError
        If `stop` returned True.
    """
    running: deque[Future[R]] = deque()
    source = iter(items)
    try:
        while True:
            check(stop)
            while len(running) < _WAITING * threads:
                item = next(source, _END)
                if item is _END:
                    break
                running.append(_submitted(pool, call, item))  # type: ignore[arg-type]
            if not running:
                return
            yield _result(running[0], stop)
            running.popleft()
    except BaseException:
        abandon()
        raise
    finally:
        for future in running:
            future.cancel()
        wait(running)


_END = object()


def _submitted(pool: Executor, call: Callable[[T], R], item: T) -> Future[R]:
    try:
        return pool.submit(call, item)
    except RuntimeError as error:
        if is_out_of_threads(error):
            raise EngineError(explained(error)) from None
        raise


def _result(future: Future[R], stop: Callable[[], bool]) -> R:
    while True:
        try:
            return future.result(_LOOK)
        except TimeoutError:
            if future.done():
                raise  # the call itself has raised it
            check(stop)


class Threads(Engine):
    """Computes several parts at the same time. The kernels release the interpreter's lock.

    Parameters
    ----------
    workers : int
        Number of threads. They are started when there is work.
    """

    name = "threads"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers, "engine")

    def map(
        self,
        task: Task[R],
        reader: Reader,
        parts: Iterable[Numbered],
        stop: Callable[[], bool] = never,
    ) -> Iterator[Done[R]]:
        """Yield the result of each part; see `Engine.map`."""

        def call(numbered: Numbered) -> Done[R]:
            with limit_threads(self._threads_each):
                return compute(task, reader, *numbered)

        return ordered(self._pool, self.workers, call, parts, stop)

    @cached_property
    def _threads_each(self) -> int:
        """The number of threads of a kernel; cached, because finding it reads system files."""
        return threads_of_process() // self.workers

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
