"""The interface of an engine, and the engine that computes in the calling thread.

An engine maps a task over parts. Results come in the order of the parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from streamclust.engine.reader import Notes
from streamclust.errors import DataError, StoppedError
from streamclust.kernels.threads import limit_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from streamclust.engine.parts import Part
    from streamclust.engine.reader import Reader
    from streamclust.engine.tasks import Task

R = TypeVar("R")

Numbered: TypeAlias = "tuple[int, Part]"
"""The place of a part among all parts, and the part."""


def never() -> bool:
    """Return False: the default of a request to stop."""
    return False


@dataclass(frozen=True)
class Done(Generic[R]):
    """The result of one part.

    Parameters
    ----------
    value : object
    notes : Notes
        Counts of the read of the part.
    """

    value: R
    notes: Notes = field(default_factory=Notes)


class Engine(ABC):
    """Computes the results of parts. Close it, or use it as a context manager.

    All engines return the same bits, because a result depends on its part alone.

    Attributes
    ----------
    name : str
    workers : int
        Number of parts that are computed at the same time.
    remote : bool
        Whether other processes read the parts, so that points in the memory of this one don't
        help.
    """

    name: str
    workers: int = 1
    remote: bool = False

    @abstractmethod
    def map(
        self,
        task: Task[R],
        reader: Reader,
        parts: Iterable[Numbered],
        stop: Callable[[], bool] = never,
    ) -> Iterator[Done[R]]:
        """Yield the result of each part, in the order of the parts.

        Parts are taken from the iterable as they are needed: only a few results wait in memory.

        Parameters
        ----------
        task : Task
        reader : Reader
        parts : iterable of (int, Part)
        stop : callable, optional
            Returns whether to raise `StoppedError`. It is called several times per second, or
            between two parts.

        Raises
        ------
        StoppedError
            If `stop` returned True.
        EngineError
            If the engine can't compute.
        """

    def fold(
        self,
        task: Task[R],
        reader: Reader,
        parts: Iterable[Part],
        stop: Callable[[], bool] = never,
        on_done: Callable[[Done[R]], object] = lambda _: None,
    ) -> R:
        """Return the merged results of all parts, at least one.

        Parameters
        ----------
        task, reader, stop
            See `map`.
        parts : iterable of Part
        on_done : callable, optional
            Called with each result, in the order of the parts.
        """
        results = self.map(task, reader, enumerate(parts), stop)
        first = next(results, None)
        if first is None:
            raise DataError("there is no part to fold")
        on_done(first)
        whole = first.value
        del first  # a result can be large
        for done in results:
            whole = task.merge(whole, done.value)
            on_done(done)
        return whole

    def summary(self) -> dict[str, object]:
        """Return the kind and, if known, which processes computed the parts; for JSON."""
        return {"kind": self.name}

    def close(self) -> None:
        """End threads and processes. A second call does nothing."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def compute(task: Task[R], reader: Reader, number: int, part: Part) -> Done[R]:
    """Return the result of one part, computed by this thread."""
    notes: list[Notes] = []
    stored = getattr(task, "takes_stored", False)
    value = task.run(number, reader.blocks(part, notes.append, stored=stored))
    return Done(value, *notes)


def check(stop: Callable[[], bool]) -> None:
    """Raise `StoppedError` if a stop was requested."""
    if stop():
        raise StoppedError("interrupted before there was a result; nothing was changed")


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
