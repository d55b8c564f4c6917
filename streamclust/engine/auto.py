"""The engine that chooses one of the others for each fold, by its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from streamclust.engine.base import Engine, never
from streamclust.engine.inline import Inline
from streamclust.engine.parts import FilePart
from streamclust.engine.processes import Processes
from streamclust.engine.threads import Threads
from streamclust.tables.options import TEXT_KINDS
from streamclust.tables.read import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from streamclust.engine.base import Done, Numbered
    from streamclust.engine.reader import Reader
    from streamclust.engine.tasks import Task

R = TypeVar("R")

WORTH_A_PROCESS = 1 << 26
"""Bytes of text that take longer to read than processes take to start: 64 MiB."""


class Auto(Engine):
    """Uses processes for large texts, threads for everything else, and neither for one part.

    Parameters
    ----------
    workers : int
        Number of threads or processes.
    """

    name = "auto"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._inline, self._threads = Inline(), Threads(workers)
        self._processes = Processes(workers)

    def map(
        self,
        task: Task[R],
        reader: Reader,
        parts: Iterable[Numbered],
        stop: Callable[[], bool] = never,
    ) -> Iterator[Done[R]]:
        """Yield the result of each part; see `Engine.map`."""
        known = list(parts)
        return self.choose(known).map(task, reader, known, stop)

    def choose(self, parts: Sequence[Numbered]) -> Engine:
        """Return the engine for these parts."""
        if self.workers == 1 or len(parts) < 2:
            return self._inline
        text = sum(_text_bytes(part) for _, part in parts if isinstance(part, FilePart))
        return self._processes if text > WORTH_A_PROCESS else self._threads

    def close(self) -> None:
        """End the threads and the processes."""
        self._threads.close()
        self._processes.close()


def _text_bytes(part: FilePart) -> int:
    """Return the number of bytes of text in a part; compressed text counts as stored."""
    if part.span.unit == "bytes":
        return part.span.stop - part.span.start
    is_text = part.span.unit == "table" and kind_of(part.path, part.options) in TEXT_KINDS
    return part.stamp.size if is_text else 0
