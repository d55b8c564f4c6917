"""The points' streams: entries in, batches of points with their position out.

A batch is made of whole entries, in the order of their IDs (across streams too), and is full as
soon as it has `size` points. So for a given backlog the boundaries depend on nothing but the
position that reading began at. Only a feed that pauses for longer than `linger` cuts a batch short.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.errors import DataError
from streamclust.store.commit import DeadLetter
from streamclust.store.points import DeadPoint, Decoded, dead_entry, decode, detect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis
    from numpy.typing import NDArray

    from streamclust.arrays import Array
    from streamclust.store.points import Layout, PointsFormat

_READ_ENTRIES = 1024
_READ_POINTS = 16_384
"""What one read asks for at most: entries, and points as far as earlier entries tell."""

_BLOCK_MS = 250
"""How long a read may wait for the first entry, so that a request to stop is seen."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Points to learn, and the position that is reached when they are.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,) or None
        Sample weights.
    position : dict of str to str
        Stream -> ID of the last entry in this batch or before it.
    layout : Layout or None
        None while no good entry has been seen.
    dead : tuple of DeadLetter
        What could not be learned.
    time_ms : float
        Newest time among the entries' IDs.
    """

    X: Array
    w: Array | None
    position: dict[str, str]
    layout: Layout | None
    dead: tuple[DeadLetter, ...]
    time_ms: float


@dataclass(frozen=True)
class _Item:
    """One entry, with the stream that it is from."""

    stream: str
    entry_id: bytes
    flat: list[bytes]

    @property
    def order(self) -> tuple[int, int, str]:
        milliseconds, _, sequence = self.entry_id.partition(b"-")
        return int(milliseconds), int(sequence), self.stream


class StreamReader:
    """Reads entries of several streams in the order of their IDs.

    Parameters
    ----------
    client : redis.Redis
        Its replies to XREAD are taken raw, so it should have no other user.
    position : dict of str to str
        Where to go on: stream -> ID of the last entry that was read before.
    """

    def __init__(self, client: redis.Redis, position: dict[str, str]) -> None:
        client.set_response_callback("XREAD", lambda reply, **_: reply)
        self._client = client
        self._position = dict(position)
        self._waiting: dict[str, deque[_Item]] = {stream: deque() for stream in position}

    def read(self, count: int, block_ms: int | None) -> list[_Item]:
        """Return the next entries, about `count` a stream; none if there are none for `block_ms`.

        A stream whose read entries are used up is read again before a later entry of another
        stream is given out: what is there is merged by ID, whatever the sizes of the reads.
        """
        items: list[_Item] = []
        while len(items) < count:
            dry = [stream for stream, queue in self._waiting.items() if not queue]
            if dry:
                nothing = len(dry) == len(self._waiting)
                self._fill(dry, count, block_ms if nothing and not items else None)
            taken = self._merge()
            if not taken:
                break
            items += taken
        return items

    def _fill(self, streams: Sequence[str], count: int, block_ms: int | None) -> None:
        wanted = {stream: self._position[stream] for stream in streams}
        reply: Any = self._client.xread(wanted, count=count, block=block_ms)  # type: ignore[arg-type]
        for name, entries in reply or ():
            stream = name.decode()
            self._waiting[stream].extend(
                _Item(stream, entry_id, flat) for entry_id, flat in entries
            )
            self._position[stream] = entries[-1][0].decode()

    def _merge(self) -> list[_Item]:
        """Take entries in order until a stream is used up that may have more to come."""
        queues = [queue for queue in self._waiting.values() if queue]
        if len(queues) == 1:
            taken = list(queues[0])
            queues[0].clear()
            return taken
        taken = []
        while queues and all(queues):
            taken.append(min(queues, key=lambda queue: queue[0].order).popleft())
        return taken


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
        Points that make a batch full.

    Attributes
    ----------
    points_per_entry : float
        Of the last chunk, so that the reader can ask for no more than it needs.
    """

    def __init__(
        self, spec: PointsFormat, layout: Layout | None, position: dict[str, str], size: int
    ) -> None:
        self._spec = spec
        self._layout = layout
        self._position = dict(position)
        self._size = size
        self._parts: list[Decoded] = []
        self._dead: list[DeadLetter] = []
        self._points = 0
        self._begun = False
        self.points_per_entry = 1.0

    @property
    def begun(self) -> bool:
        """Whether entries wait for a batch to be filled."""
        return self._begun

    def feed(self, items: Sequence[_Item]) -> Iterator[Batch]:
        """Take entries in; yield each batch that they fill."""
        skipped = self._find_layout(items)
        self._take(items[:skipped], None, 0, skipped)
        if self._layout is None or skipped == len(items):
            return
        items = items[skipped:]
        decoded = decode([(number, item.flat) for number, item in enumerate(items)], self._layout)
        ends = np.concatenate([[0], np.cumsum(decoded.counts)])
        self.points_per_entry = float(ends[-1]) / len(items)
        start = 0
        while start < len(items):
            wanted = ends[start] + self._size - self._points
            stop = int(np.searchsorted(ends, wanted, side="left"))
            self._take(items, _rows(decoded, ends, start, stop), start, stop)
            start = stop
            if stop <= len(items):
                yield self.flush()

    def flush(self) -> Batch:
        """Return what has been gathered as a batch, full or not."""
        parts, dead = self._parts, tuple(self._dead)
        self._parts, self._dead, self._points, self._begun = [], [], 0, False
        D = 0 if self._layout is None else self._layout.n_features
        weights = [part.w for part in parts if part.w is not None]
        return Batch(
            X=np.concatenate([part.X for part in parts]) if parts else np.empty((0, D)),
            w=np.concatenate(weights) if weights else None,
            position=dict(self._position),
            layout=self._layout,
            dead=dead,
            time_ms=float(max(int(end.partition("-")[0]) for end in self._position.values())),
        )

    def _find_layout(self, items: Sequence[_Item]) -> int:
        """Return how many of the first entries are no help, if the layout isn't known yet."""
        if self._layout is not None:
            return 0
        for number, item in enumerate(items):
            try:
                self._layout = detect(item.flat, self._spec)
            except DataError as error:
                self._bury(item, dead_entry(number, item.flat, str(error)))
            else:
                return number
        return len(items)

    def _take(self, items: Sequence[_Item], part: Decoded | None, start: int, stop: int) -> None:
        """Add the entries `start` to `stop`, and the points that they gave, to the batch."""
        ends = {item.stream: item.entry_id for item in items[start:stop]}
        self._position.update({stream: end.decode() for stream, end in ends.items()})
        self._begun = self._begun or stop > start
        if part is not None:
            self._parts.append(part)
            self._points += len(part.X)
            for point in part.dead:
                self._bury(items[point.entry_id], point)

    def _bury(self, item: _Item, point: DeadPoint) -> None:
        self._dead.append(
            DeadLetter(item.stream, item.entry_id.decode(), point.index, point.reason, point.data)
        )


def _rows(decoded: Decoded, ends: NDArray[np.int64], start: int, stop: int) -> Decoded:
    """Return what the entries `start` to `stop` gave; their numbers stay those of the chunk."""
    rows = slice(int(ends[start]), int(ends[min(stop, len(ends) - 1)]))
    return replace(
        decoded,
        X=decoded.X[rows],
        w=None if decoded.w is None else decoded.w[rows],
        dead=tuple(point for point in decoded.dead if start <= point.entry_id < stop),
    )


def batches(
    reader: StreamReader,
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
    entries = _READ_ENTRIES
    while not stopping():
        if not batcher.begun:
            opened = clock()
        patience = None if until_idle else _patience(batcher.begun, opened + linger - clock())
        items = reader.read(entries, patience)
        for batch in batcher.feed(items):
            yield batch
            opened = clock()
        entries = _next_read(batcher.points_per_entry)
        if until_idle and not items:
            break
        if batcher.begun and not until_idle and clock() - opened >= linger:
            yield batcher.flush()
    if until_idle and batcher.begun and not stopping():
        yield batcher.flush()


def _patience(begun: bool, remaining: float) -> int | None:
    """Return how long a read may block, in milliseconds; None for not at all."""
    if not begun:
        return _BLOCK_MS
    milliseconds = int(remaining * 1000)
    return min(milliseconds, _BLOCK_MS) if milliseconds > 0 else None


def _next_read(points_per_entry: float) -> int:
    return max(1, min(_READ_ENTRIES, int(_READ_POINTS / max(points_per_entry, 1.0))))
