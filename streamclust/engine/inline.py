"""The engine that computes in the calling thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from streamclust.engine.base import Engine, check, compute, never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from streamclust.engine.base import Done, Numbered
    from streamclust.engine.reader import Reader
    from streamclust.engine.tasks import Task

R = TypeVar("R")


class Inline(Engine):
    """Computes one part after the other."""

    name = "inline"

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
            yield compute(task, reader, number, part)
