"""The points' streams: entries in, batches of points with their position out.

A batch is made of whole entries, in the order of their IDs (across streams too), and is full as
soon as `size` points, good or bad, were read for it, or more where much has been learned. So for a
given backlog the boundaries depend on nothing but the position that reading began at, and how many
points were learned before it. Only when the feed has been caught up with, and `linger` has passed,
is a batch cut short.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.failpoints import passing
from streamclust.store.commit import MOST_DEAD, DeadLetters
from streamclust.store.dead import DeadBlock, DeadPoint
from streamclust.store.gaps import Gap
from streamclust.store.point_buffer import PointBuffer
from streamclust.store.points import DeadPoints, Decoded, detect_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from streamclust.arrays import Array, Points
    from streamclust.store.entries import Entries
    from streamclust.store.points import Layout, PointsFormat
    from streamclust.store.reader import MergingReader

_SHARE = 32
"""A batch grows to this part of the points learned before it: a step by it is a small one."""

_NUMBERS = 1 << 20
"""Numbers, points times features, that a batch grows to at most: 8 MiB."""

_LETTER_BYTES = 256
"""Bytes of an entry per dead letter that may stay in memory until the letter is written."""

_NO_LETTERS, _NO_POINTS = DeadLetters(), DeadPoints()

_BLOCK_MS = 250
"""How long a read may wait for the first entry, so that a request to stop is seen."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Points to learn, and the position that is reached when they are.

    Parameters
    ----------
    X : array of shape (N, D)
        float32 in that format, else float64.
    w : array of shape (N,) or None
        Sample weights.
    position : dict of str to str
        Stream -> ID of the last entry in this batch or before it.
    layout : Layout or None
        None while no good entry has been seen.
    dead : sequence of DeadLetter
        What could not be learned; the newest, if these are many.
    time_ms : float
        Newest time among the entries' IDs.
    read : dict of str to (int or None)
        Stream -> how many entries it ever had up to the position, if known. A stream that no entry
        was read of may be left out.
    gaps : tuple of Gap
        What was missing in the streams.
    older_dead : int
        Points that could not be learned and are older than `dead`: these are counted only.
    """

    X: Points
    w: Array | None
    position: dict[str, str]
    layout: Layout | None
    dead: DeadLetters
    time_ms: float
    read: dict[str, int | None] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    older_dead: int = 0

    @property
    def refused(self) -> int:
        """Number of points that could not be learned."""
        return len(self.dead) + self.older_dead


class Batcher:
    """Decodes entries and cuts them into batches.

    Parameters
    ----------
    spec : PointsFormat
        What the config says of the format.
    layout : Layout or None
        What earlier entries told, if any.
    position : dict of str to str
        Of the last entry before the first that is fed.
    size : int
        Points that make a batch full, those that can't be learned among them.
    read : dict of str to (int or None), optional
        As in a batch; of the position.
    most : int, optional
        Points that a batch may grow to: it is full at a 32nd of the points learned before it, if
        that is more than `size`, as long as it holds no more than 2^20 numbers.
    learned : int, optional
        Points, of positive weight, that were learned up to the position.
    keep_dead : int, optional
        Dead letters per batch at most: the newest ones. By default what a commit writes at most.
    """

    def __init__(
        self,
        spec: PointsFormat,
        layout: Layout | None,
        position: dict[str, str],
        size: int,
        read: Mapping[str, int | None] | None = None,
        *,
        most: int = 0,
        learned: int = 0,
        keep_dead: int = MOST_DEAD,
    ) -> None:
        self._spec = spec
        self._layout = layout
        self._position = dict(position)
        self._counts = dict(read or {})
        self._gaps: list[Gap] = []
        self._size = size
        self._most = most
        self._learned = learned
        self._parts: list[Decoded] = []
        self._dead: list[DeadPoint | DeadBlock] = []
        self._keep_dead = keep_dead
        self._refused = 0
        self._read = 0
        self._begun = False
        self._buffer: PointBuffer | None = None

    @property
    def begun(self) -> bool:
        """Whether entries wait for a batch to be filled."""
        return self._begun

    def note(self, gap: Gap) -> None:
        """Take in what is missing, or was refused, after the entries that were fed."""
        self._begun = True
        if gap.kind == "refused":
            self._dead.append(DeadPoint((gap.stream, gap.after), -1, gap.reason, b""))
            self._read += 1
            self._refused += 1
        else:
            self._gaps.append(gap)
        if gap.position is not None:
            self._position[gap.stream] = gap.position
            self._counts[gap.stream] = gap.read

    def feed(self, items: Entries) -> Iterator[Batch]:
        """Take entries in; yield each batch that they fill."""
        for entries, decoded in self._decode(items):
            yield from self._cut(entries, decoded)

    def _decode(self, items: Entries) -> Iterator[tuple[Entries, Decoded]]:
        """Yield the bad entries before the first that tells the layout, then all others."""
        if self._layout is None:
            layout, dead = detect_first(items.numbered(), self._spec)
            skipped, items = items[: len(dead)], items[len(dead) :]
            yield skipped, Decoded(np.empty((0, 0)), None, np.zeros(len(dead), np.int64), dead)
            self._layout = layout
        if self._layout is not None and items:
            yield from items.pieces(self._layout, self._next)

    def _next(self) -> PointBuffer:
        """Return where the points of this batch are to lie."""
        if self._buffer is None:
            self._buffer = PointBuffer(self._full)
        self._buffer.wanted = self._full - self._read
        return self._buffer

    def _cut(self, items: Entries, decoded: Decoded) -> Iterator[Batch]:
        rows, dead = _edges(decoded.counts), _edges(decoded.dead.per_entry(len(items)))
        read = rows + dead
        start = 0
        while start < len(items):
            wanted = read[start] + self._full - self._read
            stop = int(np.searchsorted(read, wanted, side="left"))
            self._take(items[start:stop], _part(decoded, rows, start, stop))
            last = min(stop, len(items))
            if dead[last] > dead[start]:
                self._bury(items, decoded.dead[dead[start] : dead[last]])
            start = stop
            if stop <= len(items):
                yield self.flush()

    @property
    def _full(self) -> int:
        """Points that fill the batch: for all of it the same, since it is learned as a whole."""
        D = 1 if self._layout is None else self._layout.n_features
        return max(self._size, min(self._learned // _SHARE, self._most, _NUMBERS // D))

    def flush(self) -> Batch:
        """Return what has been gathered as a batch, full or not."""
        parts, dead = self._parts, _NO_LETTERS
        if self._dead:
            dead = DeadLetters(self._dead).newest(self._keep_dead)
        gaps = tuple(self._gaps)
        buffer, self._buffer = self._buffer, None
        refused = self._refused
        self._parts, self._dead, self._gaps, self._begun = [], [], [], False
        self._read = self._refused = 0
        D = 0 if self._layout is None else self._layout.n_features
        single = self._layout is not None and self._layout.format == "float32"
        weights = [part.w for part in parts if part.w is not None]
        self._learned += sum(_good(part) for part in parts)
        return Batch(
            X=_joined([part.X for part in parts], buffer, D, np.float32 if single else np.float64),
            w=np.concatenate(weights) if weights else None,
            position=dict(self._position),
            layout=self._layout,
            dead=dead,
            time_ms=float(max(int(end.partition("-")[0]) for end in self._position.values())),
            read=dict(self._counts),
            gaps=gaps,
            older_dead=refused - len(dead),
        )

    def _take(self, items: Entries, part: Decoded) -> None:
        """Add entries, and the points that they gave, to the batch."""
        for stream, last in items.last_of_each():
            self._position[stream] = items.id_of(last)
            self._counts[stream] = items.entries_added_up_to(last)
        self._gaps += [gap for _, gap in items.gaps]
        self._begun = True
        self._read += len(part.X)
        if len(part.X):
            self._parts.append(part)

    def _bury(self, items: Entries, dead: DeadPoints) -> None:
        """Count bad points, and make letters of the newest; their entries are known by number."""
        self._read += len(dead)
        self._refused += len(dead)
        for part in dead.newest(self._keep_dead).parts:
            place = part.entry_id
            named = replace(part, entry_id=(items.stream_of(place), items.id_of(place)))
            if isinstance(named, DeadBlock) and named.nbytes > _LETTER_BYTES * len(named.index):
                self._dead += named.points()  # a few letters must not keep a large entry
            else:
                self._dead.append(named)


def _joined(parts: list[Points], buffer: PointBuffer | None, D: int, dtype: type[Any]) -> Points:
    """Return the points of all parts, which may be of either type, and may lie on a buffer."""
    n = sum(map(len, parts))
    together = None if buffer is None or not n else buffer.points(n)
    if together is not None:
        return together
    if len(parts) == 1:
        return np.asarray(parts[0], dtype)
    X = np.empty((n, D), dtype)
    return np.concatenate(parts, out=X, casting="same_kind") if parts else X


def _good(part: Decoded) -> int:
    """Return the number of points that count for something."""
    return len(part.X) if part.w is None else int(np.count_nonzero(part.w))


def _edges(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)])


def _part(decoded: Decoded, edges: NDArray[np.int64], start: int, stop: int) -> Decoded:
    """Return the points that the entries `start` to `stop` gave."""
    rows = slice(int(edges[start]), int(edges[min(stop, len(edges) - 1)]))
    w = None if decoded.w is None else decoded.w[rows]
    return replace(decoded, X=decoded.X[rows], w=w, dead=_NO_POINTS)


def batches(
    reader: MergingReader,
    batcher: Batcher,
    *,
    linger: float,
    until_idle: bool = False,
    stopping: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Batch]:
    """Yield batches as they fill, or as their `linger` (seconds) runs out.

    Ends when `stopping()` holds: what has been gathered for an unfinished batch is left to be read
    again. With `until_idle` it ends when all that is there has been read, the last batch short.
    """
    opened = clock()
    while not stopping():
        patience = None if until_idle else _patience(batcher.begun, opened + linger - clock())
        items = reader.read(reader.next_count, patience)
        passing("reading" if items else "idle")
        if not batcher.begun:
            opened = clock()
        for batch in batcher.feed(items):
            yield batch
            opened = clock()
        gaps = reader.take_gaps()
        for gap in gaps:
            batcher.note(gap)
        if until_idle and not items and not gaps:
            break
        # As long as there is more to read, it is not the feed that is slow.
        waited = reader.caught_up and not until_idle and clock() - opened >= linger
        if batcher.begun and waited:
            yield batcher.flush()
    if until_idle and batcher.begun and not stopping():
        yield batcher.flush()


def _patience(begun: bool, remaining: float) -> int | None:
    """Return how long a read may block, in milliseconds; None for not at all."""
    if not begun:
        return _BLOCK_MS
    milliseconds = int(remaining * 1000)
    return min(milliseconds, _BLOCK_MS) if milliseconds > 0 else None
