"""Reads entries of the points' streams, and makes a batch when it is full or due."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from streamclust.failpoints import passing
from streamclust.store.stream.batcher import Batch, Batcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.store.stream.reader import MergingReader

__all__ = ["Batch", "Batcher", "Feed", "batches"]

_BLOCK_MS = 250
"""Longest wait for an entry in one read, so that a request to stop is noticed."""


class Feed:
    """Reads entries and makes batches, one read at a time.

    Parameters
    ----------
    reader : MergingReader
    batcher : Batcher
    linger : float
        Maximum seconds that a batch waits for more entries after its first entry.
    until_idle : bool
        Whether the feed ends when all entries have been read. The last batch can be short.
    clock : callable, optional
        Seconds.

    Attributes
    ----------
    drained : bool
        Whether the feed has ended.
    last_read : float
        Time of the last read with entries, by the clock; before it, the start of the feed.
    """

    def __init__(
        self,
        reader: MergingReader,
        batcher: Batcher,
        *,
        linger: float,
        until_idle: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._batcher = batcher
        self._linger = linger
        self._until_idle = until_idle
        self._clock = clock
        self._since = clock()  # the last batch, or the first entry of the unfinished batch
        self.drained = False
        self.last_read = self._since

    @property
    def caught_up(self) -> bool:
        """Whether no entry is left to read. With `until_idle`, an empty read must have shown it."""
        return self.drained if self._until_idle else self._reader.caught_up

    @property
    def due(self) -> float | None:
        """Time at which the unfinished batch is due; None without one."""
        waits = self._batcher.has_entries and not self._until_idle
        return self._since + self._linger if waits else None

    @property
    def block_ms(self) -> int | None:
        """How many milliseconds the next read may block; None if a batch is due."""
        if self._until_idle:
            return None
        due = self.due
        milliseconds = _BLOCK_MS if due is None else int((due - self._clock()) * 1000)
        return min(milliseconds, _BLOCK_MS) if milliseconds > 0 else None

    def step(self, block_ms: int | None = None, most: int | None = None) -> Iterator[Batch]:
        """Read once, and yield the batches that are full or due. The caller must take all of them.

        Parameters
        ----------
        block_ms : int or None
            How long to wait for an entry.
        most : int, optional
            Maximum number of entries to read.
        """
        reader, batcher = self._reader, self._batcher
        count = reader.next_count if most is None else min(reader.next_count, most)
        items = reader.read(count, block_ms)
        passing("reading" if items else "idle")
        if items:
            self.last_read = self._clock()
        if not batcher.has_entries:
            self._since = self._clock()
        for batch in batcher.feed(items):
            yield batch
            self._since = self._clock()
        gaps = reader.take_gaps()
        for gap in gaps:
            batcher.note(gap)
        # A short batch, but only when no entry is left to read.
        if self._until_idle:
            self.drained = not items and not gaps
            is_due = self.drained
        else:
            is_due = reader.caught_up and self._clock() - self._since >= self._linger
        if batcher.has_entries and is_due:
            yield batcher.flush()


def batches(
    reader: MergingReader,
    batcher: Batcher,
    *,
    linger: float,
    until_idle: bool = False,
    stopping: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Batch]:
    """Yield each batch when it is full, or `linger` seconds after its first entry.

    The iteration ends when `stopping()` is true. The entries of the unfinished batch are then read
    again after the next start. With `until_idle` the iteration ends when all entries have been
    read; the last batch can be short.
    """
    feed = Feed(reader, batcher, linger=linger, until_idle=until_idle, clock=clock)
    while not stopping() and not feed.drained:
        yield from feed.step(feed.block_ms)
