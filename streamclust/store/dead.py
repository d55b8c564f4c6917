"""Points that could not be learned: all are counted, objects are made when they are looked at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Self, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

EXCERPT_BYTES = 1024
Made = TypeVar("Made")

Explain: TypeAlias = Callable[[NDArray[np.int64]], Iterable[tuple[str, bytes]]]
"""Returns reason and excerpt of the bad points at these places of an entry."""


@dataclass(frozen=True)
class DeadPoint:
    """A point, or an entry, that could not be learned.

    Parameters
    ----------
    entry_id
        The entry that held it, as the caller named it.
    index
        Its place in the entry; -1 when the entry as a whole made no sense.
    reason
        What is wrong with it.
    data
        The offending bytes or text, cut at 1 KiB.
    """

    entry_id: Any
    index: int
    reason: str
    data: bytes


@dataclass(frozen=True, eq=False)
class DeadBlock:
    """Bad points of one entry, which may be millions: only their places are stored.

    Parameters
    ----------
    entry_id
        The entry, as the caller named it.
    index : array of int, shape (n,)
        Their places in the entry, ascending.
    explain : callable
        See `Explain`.
    nbytes : int
        Bytes that `explain` keeps in memory.
    """

    entry_id: Any
    index: NDArray[np.int64]
    explain: Explain
    nbytes: int

    def points(self) -> Iterator[DeadPoint]:
        """Yield an object for each."""
        pairs = zip(self.index.tolist(), self.explain(self.index), strict=True)
        for index, (reason, data) in pairs:
            yield DeadPoint(self.entry_id, index, reason, data[:EXCERPT_BYTES])


class Dead(Sequence[Made], ABC):
    """A sequence of what is made of dead points, in the order of the stream.

    Parameters
    ----------
    parts : iterable of DeadPoint or DeadBlock
    """

    def __init__(self, parts: Iterable[DeadPoint | DeadBlock] = ()) -> None:
        self.parts = tuple(parts)
        self._stops = list(accumulate(map(_size, self.parts)))

    @abstractmethod
    def _made(self, point: DeadPoint) -> Made:
        """Return what a point is made into."""

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    @overload
    def __getitem__(self, part: int) -> Made: ...
    @overload
    def __getitem__(self, part: slice) -> Self: ...
    def __getitem__(self, part: Any) -> Any:
        if isinstance(part, slice):
            start, stop, step = part.indices(len(self))
            if step != 1:
                raise ValueError(f"the step is {step}, expected 1")
            return type(self)(self._cut(start, stop))
        place = range(len(self))[part]
        return next(iter(self[place : place + 1]))

    def _cut(self, start: int, stop: int) -> Iterator[DeadPoint | DeadBlock]:
        for number in range(bisect_right(self._stops, start), len(self.parts)):
            part, end = self.parts[number], self._stops[number]
            begin = end - _size(part)
            if begin >= stop:
                break
            if isinstance(part, DeadBlock) and (begin < start or end > stop):
                yield replace(part, index=part.index[max(start - begin, 0) : stop - begin].copy())
            else:
                yield part

    def newest(self, n: int) -> Self:
        """Return the last `n`, or all if they are fewer."""
        return self[max(len(self) - n, 0) :]

    def __iter__(self) -> Iterator[Made]:
        for part in self.parts:
            for point in part.points() if isinstance(part, DeadBlock) else (part,):
                yield self._made(point)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} dead points>"


class DeadPoints(Dead[DeadPoint]):
    """Dead points of entries that the caller names."""

    def _made(self, point: DeadPoint) -> DeadPoint:
        return point

    def shifted(self, start: int) -> DeadPoints:
        """Return them with `start` added to the numbers that their entries are known by."""
        return DeadPoints(replace(part, entry_id=part.entry_id + start) for part in self.parts)

    def per_entry(self, n: int) -> NDArray[np.int64]:
        """Return how many each of `n` entries has, which are known by their numbers."""
        counts = np.zeros(n, np.int64)
        if not self.parts:
            return counts
        found: Counter[int] = Counter()
        for part in self.parts:
            found[part.entry_id] += _size(part)
        counts[list(found)] = list(found.values())
        return counts

    def places(self) -> NDArray[np.int64]:
        """Return the place of each in its entry, 0 for a whole entry."""
        parts = (
            part.index if isinstance(part, DeadBlock) else [max(part.index, 0)]
            for part in self.parts
        )
        return np.concatenate([np.empty(0, np.int64), *parts])


def _size(part: DeadPoint | DeadBlock) -> int:
    return len(part.index) if isinstance(part, DeadBlock) else 1
