"""The engine that computes in the calling thread."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from streamclust.engine.base import Engine, check, compute, never
from streamclust.kernels.threads import limit_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from streamclust.engine.base import Done, Numbered
    from streamclust.engine.reader import Reader
    from streamclust.engine.tasks import Task

R = TypeVar("R")


class Inline(Engine):
    """Computes one part after the other.

    Parameters
    ----------
    threads : int or None
        Maximum number of threads of the kernels; None for their own limit.
    """

    name = "inline"

    def __init__(self, threads: int | None = None) -> None:
        self._limit: Callable[[], AbstractContextManager[None]] = nullcontext
        if threads is not None:
            self._limit = partial(limit_threads, threads)

    def map(
        self,
        task: Task[R],
        reader: Reader,
        parts: Iterable[Numbered],
        stop: Callable[[], bool] = never,
    ) -> Iterator[Done[R]]:
        """Yield the result of each part; see `Engine.map`."""
        for number, part in parts:
            check(stop)
            with self._limit():
                done = compute(task, reader, number, part)
            yield done
