"""Points that can't be learned. All are counted; their objects are created when accessed."""

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

MAX_DEAD = 100_000
"""Maximum number of dead letters per commit; a server accepts about a million arguments."""

Item = TypeVar("Item")

Explain: TypeAlias = Callable[[NDArray[np.int64]], Iterable[tuple[str, bytes]]]
"""A function: places of bad points in an entry -> the reason and an excerpt of each point."""


@dataclass(frozen=True)
class DeadPoint:
    """A point, or an entry, that can't be learned.

    Parameters
    ----------
    entry_id
        The entry, as the caller named it.
    index
        Place of the point in the entry; -1 for the whole entry.
    reason
        Why the point can't be learned.
    data
        Bytes or text of the point, cut at 1 KiB.
    """

    entry_id: Any
    index: int
    reason: str
    data: bytes


@dataclass(frozen=True, eq=False)
class DeadBlock:
    """Bad points of one entry. Only their places are stored, because there can be millions.

    Parameters
    ----------
    entry_id
        The entry, as the caller named it.
    index : array of int, shape (n,)
        Places of the points in the entry, ascending.
    explain : callable
        See `Explain`.
    nbytes : int
        Memory that `explain` needs, in bytes.
    """

    entry_id: Any
    index: NDArray[np.int64]
    explain: Explain
    nbytes: int

    def points(self) -> Iterator[DeadPoint]:
        """Yield the points as objects."""
        pairs = zip(self.index.tolist(), self.explain(self.index), strict=True)
        for index, (reason, data) in pairs:
            yield DeadPoint(self.entry_id, index, reason, data[:EXCERPT_BYTES])


class Dead(Sequence[Item], ABC):
    """A sequence of dead points in the order of the stream; subclasses define their type.

    Parameters
    ----------
    parts : iterable of DeadPoint or DeadBlock
    """

    def __init__(self, parts: Iterable[DeadPoint | DeadBlock] = ()) -> None:
        self.parts = tuple(parts)
        self._stops = list(accumulate(map(_size, self.parts)))

    @abstractmethod
    def _item(self, point: DeadPoint) -> Item:
        """Return the object that stands for a point in this sequence."""

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    @overload
    def __getitem__(self, part: int) -> Item: ...
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
        """Return the last `n` points, or all if there are fewer."""
        return self[max(len(self) - n, 0) :]

    def __iter__(self) -> Iterator[Item]:
        for part in self.parts:
            for point in part.points() if isinstance(part, DeadBlock) else (part,):
                yield self._item(point)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} dead points>"


class DeadPoints(Dead[DeadPoint]):
    """Dead points; the caller has named their entries."""

    def _item(self, point: DeadPoint) -> DeadPoint:
        return point

    def shifted(self, start: int) -> DeadPoints:
        """Return the points with `start` added to the places of their entries."""
        return DeadPoints(replace(part, entry_id=part.entry_id + start) for part in self.parts)

    def per_entry(self, n: int) -> NDArray[np.int64]:
        """Return the number of dead points of each of `n` entries, named by their places."""
        counts = np.zeros(n, np.int64)
        if not self.parts:
            return counts
        per_place: Counter[int] = Counter()
        for part in self.parts:
            per_place[part.entry_id] += _size(part)
        counts[list(per_place)] = list(per_place.values())
        return counts

    def places(self) -> NDArray[np.int64]:
        """Return the place of each point in its entry, 0 for a whole entry."""
        parts = (
            part.index if isinstance(part, DeadBlock) else [max(part.index, 0)]
            for part in self.parts
        )
        return np.concatenate([np.empty(0, np.int64), *parts])


def _size(part: DeadPoint | DeadBlock) -> int:
    return len(part.index) if isinstance(part, DeadBlock) else 1


@dataclass(frozen=True)
class DeadLetter:
    """A point that can't be learned, as it is stored in `:dead`.

    Parameters
    ----------
    stream : str
    entry_id : str
        ID of the point's entry.
    index : int
        Place of the point in the entry's block; -1 for the whole entry.
    reason : str
    data : bytes
        Bytes of the point, cut.
    """

    stream: str
    entry_id: str
    index: int
    reason: str
    data: bytes


class DeadLetters(Dead[DeadLetter]):
    """Dead letters; the caller has named the entries by (stream, ID)."""

    def _item(self, point: DeadPoint) -> DeadLetter:
        stream, entry_id = point.entry_id
        return DeadLetter(stream, entry_id, point.index, point.reason, point.data)
