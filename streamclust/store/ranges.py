"""A range of the points' streams, from after one position up to another, in order and bounded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import redis

from streamclust.store.entries import from_reply
from streamclust.store.limits import ReplyTooLargeError
from streamclust.store.points import decode
from streamclust.store.raw_entries import NO_ENTRIES, as_raw, by_stream, up_to
from streamclust.store.read_size import ReadSize, read_whole
from streamclust.store.reader import MergingReader
from streamclust.store.streams import (
    BEGINNING,
    LARGEST,
    before,
    last_size,
    newest_up_to,
    next_size,
    order,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamclust.store.layout import Layout
    from streamclust.store.raw_entries import RawEntries
    from streamclust.store.read_size import OnLess

    OnFault = Callable[[redis.RedisError], object]


def raise_fault(error: redis.RedisError) -> None:
    """Raise a fault of the server."""
    raise error


class RangeReader(MergingReader):
    """Reads the entries of several streams up to a position, and nothing after it.

    Parameters
    ----------
    client : redis.Redis
        A raw client; see `Server.raw_client`. An entry that is larger than its limit is skipped.
    after : mapping of str to str
        Stream -> ID of the last entry that is not wanted any more.
    until : mapping of str to str
        Stream -> ID of the last entry that is.
    on_less : callable, optional
        Given a sentence, whenever less is asked for because a reply was lost.
    on_fault : callable, optional
        Given each fault of a read, which is tried again when the call returns. Default: the fault
        is raised.

    Raises
    ------
    UnreadableError
        When reading: if the connection is lost whenever one entry is read by itself.
    """

    def __init__(
        self,
        client: redis.Redis,
        after: Mapping[str, str],
        until: Mapping[str, str],
        on_less: OnLess = lambda _: None,
        on_fault: OnFault = raise_fault,
    ) -> None:
        self._position = {stream: after[stream] for stream in until if stream in after}
        super().__init__(self._position, on_less=on_less)
        self._client = client
        self._until = dict(until)
        self._on_fault = on_fault

    def _fill(self, streams: Sequence[str], count: int, block_ms: int | None) -> None:
        for stream in streams:
            if entries := self._persistently(stream, count):
                self._waiting[stream] = from_reply(stream, entries, None, None)
                self._position[stream] = entries[-1:].ids()[0].decode()
                self._bytes += self._size.took(entries)

    def _persistently(self, stream: str, count: int) -> RawEntries:
        while True:
            try:
                return self._next(stream, count)
            except redis.RedisError as error:
                self._on_fault(error)

    def _next(self, stream: str, count: int) -> RawEntries:
        """Return the next entries, fewer and fewer until they fit into a reply."""
        after, last = self._position[stream], self._until[stream]
        if order(after) >= order(last):
            return NO_ENTRIES
        try:
            return self._size.read(
                self._client,
                lambda count: read_up_to(self._client, stream, after, last, count),
                count,
                stream,
                after,
            )
        except ReplyTooLargeError:
            return self._next_that_fits(stream)

    def _next_that_fits(self, stream: str) -> RawEntries:
        """Return the next entry, and pass by what doesn't fit into a reply by itself."""
        while True:
            entry_id = next_size(self._client, stream, self._position[stream])[0].decode()
            if not entry_id or order(entry_id) > order(self._until[stream]):
                return NO_ENTRIES
            ask: Any = partial(self._client.xrange, stream, entry_id, entry_id)
            try:
                if found := read_whole(self._client, ask):
                    return as_raw(found)  # else it was trimmed since, and another is next
            except ReplyTooLargeError:
                self._position[stream] = entry_id


def read_up_to(client: redis.Redis, stream: str, after: str, last: str, count: int) -> RawEntries:
    """Return the next entries of a stream, `count` at most, none of them after `last`.

    They are read by XREAD, whose replies the client takes raw: packed, where it can.
    """
    found = by_stream(client.xread({stream: after}, count=count))
    return up_to(found[stream], last) if found else NO_ENTRIES


def end_of(entry_id: str) -> str:
    """Return the last ID of a millisecond that is given without its sequence number."""
    return entry_id if "-" in entry_id else f"{entry_id}-{LARGEST}"


def before_last(
    client: redis.Redis, until: Mapping[str, str], n_points: int, layout: Layout
) -> dict[str, str]:
    """Return the position after which the last `n_points` good points up to `until` begin.

    Entries are taken whole, and across streams in the order of their IDs. With fewer points than
    that, it is the beginning.

    Parameters
    ----------
    client : redis.Redis
        A raw client; see `Server.raw_client`. An entry that is larger than its limit counts as
        one without points.
    until : mapping of str to str
        Stream -> ID of the last entry.
    n_points : int
    layout : Layout
    """
    tails = [_tail(client, stream, last, n_points, layout) for stream, last in until.items()]
    entries = sorted((entry for tail in tails for entry in tail), reverse=True)
    counted = np.cumsum([count for _, count in entries])
    cut = int(np.searchsorted(counted, n_points))
    if cut >= len(entries):
        return dict.fromkeys(until, BEGINNING)
    milliseconds, sequence = entries[cut][0]
    return dict.fromkeys(until, before(f"{milliseconds}-{sequence}"))


def _tail(
    client: redis.Redis, stream: str, last: str, n_points: int, layout: Layout
) -> list[tuple[tuple[int, int], int]]:
    """Return ID and number of points of a stream's last entries, newest first."""
    tail: list[tuple[tuple[int, int], int]] = []
    size, end, total = ReadSize(), last, 0
    while total < n_points:
        ask: Callable[[int], Any] = partial(client.xrevrange, stream, end, "-")
        find = partial(last_size, client, stream, end)
        try:
            reply: Any = size.read(client, ask, size.next_count, stream, end, find)
        except ReplyTooLargeError:
            end = f"({newest_up_to(client, stream, end)}"
            continue
        if not reply:
            break
        decoded = decode(reply, layout)
        tail += zip((order(e) for e, _ in reply), decoded.counts.tolist(), strict=True)
        total += len(decoded.X)
        end = f"({reply[-1][0].decode()}"
        size.took(as_raw(reply))
    return tail
