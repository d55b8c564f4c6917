"""Reads a range of the points' streams: the entries after one position, up to another."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import redis

from streamclust.formats.points import decode
from streamclust.store.ids import BEGINNING, LARGEST, id_before, order
from streamclust.store.reply.entries import from_reply
from streamclust.store.reply.limits import ReplyTooLargeError
from streamclust.store.reply.raw_entries import NO_ENTRIES, as_raw, by_stream, up_to
from streamclust.store.stream.info import last_size, newest_up_to, next_size
from streamclust.store.stream.read_size import ReadSize, read_whole
from streamclust.store.stream.reader import MergingReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamclust.formats.layout import Layout
    from streamclust.store.reply.raw_entries import RawEntries
    from streamclust.store.stream.read_size import OnLess

    OnFault = Callable[[redis.RedisError], object]


def raise_fault(error: redis.RedisError) -> None:
    """Raise an error of the server."""
    raise error


class RangeReader(MergingReader):
    """Reads the entries of several streams up to a position.

    Parameters
    ----------
    client : redis.Redis
        A raw client; see `Server.raw_client`. An entry that is larger than its limit is skipped.
    after : mapping of str to str
        Stream -> ID of the last entry before the range.
    until : mapping of str to str
        Stream -> ID of the last entry of the range.
    on_less : callable, optional
        Called with a message whenever reads become smaller because a reply was lost.
    on_fault : callable, optional
        Called with each error of a read; the read is repeated when the call returns. Default:
        raise the error.

    Raises
    ------
    UnreadableError
        By `read`, if each read of one single entry loses the connection.
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
        for stream in [*streams, *self._low(count)]:
            entries = self._retried(stream, count)
            (self._behind.add if len(entries) >= count else self._behind.discard)(stream)
            if entries:
                self._add(stream, from_reply(stream, entries, None, None))
                self._position[stream] = entries[-1:].ids()[0].decode()
                self._size.record(entries)
                self._bytes += entries.size

    def _retried(self, stream: str, count: int) -> RawEntries:
        """Return the next entries; repeat the read after an error."""
        while True:
            try:
                return self._next(stream, count)
            except redis.RedisError as error:
                self._on_fault(error)

    def _next(self, stream: str, count: int) -> RawEntries:
        """Return the next entries; read fewer and fewer until the reply fits."""
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
        """Return the next entry; skip the entries that don't fit into a reply."""
        while True:
            entry_id = next_size(self._client, stream, self._position[stream])[0].decode()
            if not entry_id or order(entry_id) > order(self._until[stream]):
                return NO_ENTRIES
            ask: Any = partial(self._client.xrange, stream, entry_id, entry_id)
            try:
                if found := read_whole(self._client, ask):
                    return as_raw(found)  # else the entry was trimmed meanwhile
            except ReplyTooLargeError:
                self._position[stream] = entry_id


def read_up_to(client: redis.Redis, stream: str, after: str, last: str, count: int) -> RawEntries:
    """Return at most `count` entries of a stream, after the ID `after` and up to `last`.

    The client is a raw client. It reads with XREAD, whose entries can be `Packed`.
    """
    found = by_stream(client.xread({stream: after}, count=count))
    return up_to(found[stream], last) if found else NO_ENTRIES


def end_of(entry_id: str) -> str:
    """Return an ID, or the last ID of a millisecond that has no sequence number."""
    return entry_id if "-" in entry_id else f"{entry_id}-{LARGEST}"


def before_last(
    client: redis.Redis, until: Mapping[str, str], n_points: int, layout: Layout
) -> dict[str, str]:
    """Return the position before the last `n_points` good points up to `until`.

    Entries are taken whole, in the order of their IDs, also across streams. If there are fewer
    points, the position is the beginning.

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
    return dict.fromkeys(until, id_before(f"{milliseconds}-{sequence}"))


def _tail(
    client: redis.Redis, stream: str, last: str, n_points: int, layout: Layout
) -> list[tuple[tuple[int, int], int]]:
    """Return the ID and the number of points of a stream's last entries, newest first."""
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
        size.record(as_raw(reply))
    return tail
