"""The engine that computes in threads of this process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from streamclust.engine.base import Engine, compute, never
from streamclust.engine.ordered import ordered
from streamclust.kernels.threads import limit_threads, threads_of_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from streamclust.engine.base import Done, Numbered
    from streamclust.engine.reader import Reader
    from streamclust.engine.tasks import Task

R = TypeVar("R")


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
            with limit_threads(threads_of_process() // self.workers):
                return compute(task, reader, *numbered)

        return ordered(self._pool, self.workers, call, parts, stop)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
