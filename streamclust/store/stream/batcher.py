"""Makes batches of points, each with its position, from the entries of the points' streams.

A batch has whole entries, in the order of their IDs, also across streams. A batch is full as soon
as it has taken `size` points, good or bad; the size grows with the number of points learned. So the
boundaries of the batches in a given backlog depend only on the start position and on the number of
points learned before this position. A batch is cut short only when no entry is left to read and
`linger` has passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.formats.dead import MAX_DEAD, DeadBlock, DeadLetters, DeadPoint
from streamclust.formats.lost import Gap
from streamclust.formats.points import DeadPoints, Decoded, detect_first
from streamclust.store.reply.point_buffer import PointBuffer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from streamclust.arrays import Array, Points
    from streamclust.formats.points import Layout, PointsFormat
    from streamclust.store.reply.entries import Entries

_GROWTH = 32
"""A batch grows to 1/32 of the points learned before it, so that each step stays small."""

_MAX_NUMBERS = 1 << 20
"""Limit of this growth: points times features, 8 MiB."""

_LETTER_BYTES = 256
"""Maximum bytes of an entry that stay in memory per dead letter until the letter is written."""

_NO_LETTERS, _NO_POINTS = DeadLetters(), DeadPoints()


@dataclass(frozen=True, eq=False)
class Batch:
    """Points to learn, and the position in the streams after them.

    Parameters
    ----------
    X : array of shape (N, D)
        float32 if the entries have this format, else float64. A missing value is NaN.
    w : array of shape (N,) or None
        Sample weights.
    position : dict of str to str
        Stream -> ID of the last entry in this batch or before it.
    layout : Layout or None
        None before the first good entry.
    dead : sequence of DeadLetter
        The newest points that can't be learned.
    time_ms : float
        Largest time in the entries' IDs.
    entries_added : dict of str to (int or None)
        Stream -> number of entries that it ever had up to the position; None if unknown. A stream
        without a read entry can be missing.
    gaps : tuple of Gap
        Missing entries of the streams.
    older_dead : int
        Number of points that can't be learned and aren't in `dead`, which has only the newest.
    """

    X: Points
    w: Array | None
    position: dict[str, str]
    layout: Layout | None
    dead: DeadLetters
    time_ms: float
    entries_added: dict[str, int | None] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    older_dead: int = 0

    @property
    def refused(self) -> int:
        """Number of points that can't be learned."""
        return len(self.dead) + self.older_dead


class Batcher:
    """Decodes entries and cuts them into batches.

    Parameters
    ----------
    spec : PointsFormat
        Format of the points in the configuration.
    layout : Layout or None
        Layout of earlier entries, if known.
    position : dict of str to str
        Stream -> ID of the last entry before the first entry to feed.
    size : int
        Number of points of a full batch, including the points that can't be learned.
    entries_added : dict of str to (int or None), optional
        As in `Batch`, at `position`.
    most : int, optional
        Limit of a batch's growth. A full batch has
        max(size, min(learned / 32, most, 2^20 / n_features)) points.
    learned : int, optional
        Number of points of positive weight that were learned up to the position.
    keep_dead : int, optional
        Maximum number of dead letters per batch; the newest are kept. Default: the maximum per
        commit.
    """

    def __init__(
        self,
        spec: PointsFormat,
        layout: Layout | None,
        position: dict[str, str],
        size: int,
        entries_added: Mapping[str, int | None] | None = None,
        *,
        most: int = 0,
        learned: int = 0,
        keep_dead: int = MAX_DEAD,
    ) -> None:
        self._spec = spec
        self._layout = layout
        self._position = dict(position)
        self._entries_added = dict(entries_added or {})
        self._gaps: list[Gap] = []
        self._size = size
        self._most = most
        self._learned = learned
        self._parts: list[Decoded] = []
        self._dead: list[DeadPoint | DeadBlock] = []
        self._keep_dead = keep_dead
        self._refused = 0
        self._taken = 0  # points of this batch, good or bad
        self._has_entries = False
        self._buffer: PointBuffer | None = None

    @property
    def has_entries(self) -> bool:
        """Whether the unfinished batch has entries or gaps."""
        return self._has_entries

    def note(self, gap: Gap) -> None:
        """Add a gap, or a refused entry, after the entries fed so far."""
        self._has_entries = True
        if gap.kind == "refused":
            self._dead.append(DeadPoint((gap.stream, gap.after), -1, gap.reason, b""))
            self._taken += 1
            self._refused += 1
        else:
            self._gaps.append(gap)
        if gap.position is not None:
            self._position[gap.stream] = gap.position
            self._entries_added[gap.stream] = gap.entries_added

    def feed(self, items: Entries) -> Iterator[Batch]:
        """Add entries; yield each batch that becomes full."""
        for entries, decoded in self._decode(items):
            yield from self._cut(entries, decoded)

    def _decode(self, items: Entries) -> Iterator[tuple[Entries, Decoded]]:
        """Yield entries with their points: first the bad entries before the layout is known."""
        if self._layout is None:
            layout, dead = detect_first(items.numbered(), self._spec)
            skipped, items = items[: len(dead)], items[len(dead) :]
            yield skipped, Decoded(np.empty((0, 0)), None, np.zeros(len(dead), np.int64), dead)
            self._layout = layout
        if self._layout is not None and items:
            yield from items.pieces(self._layout, self._next_buffer)

    def _next_buffer(self) -> PointBuffer:
        """Return the buffer of this batch's points."""
        if self._buffer is None:
            self._buffer = PointBuffer(self._full)
        self._buffer.batch_points = self._full - self._taken
        return self._buffer

    def _cut(self, items: Entries, decoded: Decoded) -> Iterator[Batch]:
        rows, dead = _edges(decoded.counts), _edges(decoded.dead.per_entry(len(items)))
        points = rows + dead
        start = 0
        while start < len(items):
            wanted = points[start] + self._full - self._taken
            stop = int(np.searchsorted(points, wanted, side="left"))
            part = slice(int(rows[start]), int(rows[min(stop, len(rows) - 1)]))
            w = None if decoded.w is None else decoded.w[part]
            self._take(items[start:stop], replace(decoded, X=decoded.X[part], w=w, dead=_NO_POINTS))
            last = min(stop, len(items))
            if dead[last] > dead[start]:
                self._take_dead(items, decoded.dead[dead[start] : dead[last]])
            start = stop
            if stop <= len(items):
                yield self.flush()

    @property
    def _full(self) -> int:
        """Number of points of a full batch. It stays the same until the batch is finished."""
        D = 1 if self._layout is None else self._layout.n_features
        return max(self._size, min(self._learned // _GROWTH, self._most, _MAX_NUMBERS // D))

    def flush(self) -> Batch:
        """Return the batch, full or not, and start the next one."""
        parts, dead = self._parts, _NO_LETTERS
        if self._dead:
            dead = DeadLetters(self._dead).newest(self._keep_dead)
        gaps = tuple(self._gaps)
        buffer, self._buffer = self._buffer, None
        refused = self._refused
        self._parts, self._dead, self._gaps, self._has_entries = [], [], [], False
        self._taken = self._refused = 0
        D = 0 if self._layout is None else self._layout.n_features
        single = self._layout is not None and self._layout.format == "float32"
        weights = [part.w for part in parts if part.w is not None]
        self._learned += sum(
            len(part.X) if part.w is None else int(np.count_nonzero(part.w)) for part in parts
        )
        return Batch(
            X=_joined([part.X for part in parts], buffer, D, np.float32 if single else np.float64),
            w=np.concatenate(weights) if weights else None,
            position=dict(self._position),
            layout=self._layout,
            dead=dead,
            time_ms=float(max(int(end.partition("-")[0]) for end in self._position.values())),
            entries_added=dict(self._entries_added),
            gaps=gaps,
            older_dead=refused - len(dead),
        )

    def _take(self, items: Entries, part: Decoded) -> None:
        """Add entries and their good points to the batch."""
        for stream, last in items.last_of_each():
            self._position[stream] = items.id_of(last)
            self._entries_added[stream] = items.entries_added_up_to(last)
        self._gaps += [gap for _, gap in items.gaps]
        self._has_entries = True
        self._taken += len(part.X)
        if len(part.X):
            self._parts.append(part)

    def _take_dead(self, items: Entries, dead: DeadPoints) -> None:
        """Count bad points, and add the IDs of their entries to the newest of them."""
        self._taken += len(dead)
        self._refused += len(dead)
        for part in dead.newest(self._keep_dead).parts:
            place = part.entry_id
            named = replace(part, entry_id=(items.stream_of(place), items.id_of(place)))
            if isinstance(named, DeadBlock) and named.nbytes > _LETTER_BYTES * len(named.index):
                self._dead += named.points()  # few letters must not keep a large entry in memory
            else:
                self._dead.append(named)


def _joined(parts: list[Points], buffer: PointBuffer | None, D: int, dtype: type[Any]) -> Points:
    """Return the points of all parts, without a copy if all of them are in the buffer."""
    n = sum(map(len, parts))
    whole = None if buffer is None or not n else buffer.points(n)
    if whole is not None:
        return whole
    if len(parts) == 1:
        return np.asarray(parts[0], dtype)
    X = np.empty((n, D), dtype)
    return np.concatenate(parts, out=X, casting="same_kind") if parts else X


def _edges(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)])
