"""A range of the points' streams, from after one position up to another, in order and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.store.bounded import ReplyTooLargeError
from streamclust.store.entries import from_reply, names, up_to
from streamclust.store.points import decode
from streamclust.store.reader import READ_BYTES, READ_ENTRIES, MergingReader
from streamclust.store.streams import BEGINNING, newest_up_to, next_size, order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis

    from streamclust.store.entries import Found
    from streamclust.store.layout import Layout

_FIRST_READ = 16
"""Entries of the first read backwards, when nothing tells how large they are."""

_LARGEST = (1 << 64) - 1
"""Largest part of an entry's ID."""


class RangeReader(MergingReader):
    """Reads the entries of several streams up to a position, and nothing after it.

    Parameters
    ----------
    client : redis.Redis
        Its replies to XREAD and XRANGE are taken raw, so it should have no other user. An entry
        that is larger than its replies may be is left out.
    after : mapping of str to str
        Stream -> ID of the last entry that is not wanted any more.
    until : mapping of str to str
        Stream -> ID of the last entry that is.
    """

    def __init__(
        self, client: redis.Redis, after: Mapping[str, str], until: Mapping[str, str]
    ) -> None:
        self._position = {stream: after[stream] for stream in until if stream in after}
        super().__init__(self._position)
        for command in ("XREAD", "XRANGE"):
            client.set_response_callback(command, lambda reply, **_: reply)
        self._client = client
        self._until = dict(until)

    def _fill(self, streams: Sequence[str], count: int, block_ms: int | None) -> None:
        for stream in streams:
            if entries := self._next(stream, count):
                self._waiting[stream] = from_reply(stream, entries, None, None)
                self._position[stream] = names(entries[-1:])[0].decode()
                self._sized(entries)

    def _next(self, stream: str, count: int) -> Any:
        """Return the next entries, fewer and fewer until they fit into a reply."""
        last = self._until[stream]
        while order(self._position[stream]) < order(last):
            try:
                return read_up_to(self._client, stream, self._position[stream], last, count)
            except ReplyTooLargeError:
                if count == 1:
                    return self._next_that_fits(stream)
                count = max(1, count // 8)
        return []

    def _next_that_fits(self, stream: str) -> Any:
        """Return the next entry, and pass by what doesn't fit into a reply by itself."""
        while True:
            entry_id = next_size(self._client, stream, self._position[stream])[0].decode()
            if not entry_id or order(entry_id) > order(self._until[stream]):
                return []
            try:
                if found := self._client.xrange(stream, entry_id, entry_id):
                    return found  # else it was trimmed since, and another is next
            except ReplyTooLargeError:
                self._position[stream] = entry_id


def read_up_to(client: redis.Redis, stream: str, after: str, last: str, count: int) -> Found:
    """Return the next entries of a stream, `count` at most, none of them after `last`.

    They are read by XREAD, whose replies the client takes raw: packed, where it can.
    """
    reply: Any = client.xread({stream: after}, count=count)
    return up_to(reply[0][1], last) if reply else []


def before(entry_id: str) -> str:
    """Return the ID just before this one, so that reading after it begins with this one."""
    milliseconds, sequence = order(entry_id)
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    return f"{milliseconds - 1}-{_LARGEST}" if milliseconds else BEGINNING


def end_of(entry_id: str) -> str:
    """Return the last ID of a millisecond that is given without its sequence number."""
    return entry_id if "-" in entry_id else f"{entry_id}-{_LARGEST}"


def before_last(
    client: redis.Redis, until: Mapping[str, str], n_points: int, layout: Layout
) -> dict[str, str]:
    """Return the position after which the last `n_points` good points up to `until` begin.

    Entries are taken whole, and across streams in the order of their IDs. With fewer points than
    that, it is the beginning.

    Parameters
    ----------
    client : redis.Redis
        Its replies to XREVRANGE are taken raw, so it should have no other user. An entry that is
        larger than its replies may be has no points.
    until : mapping of str to str
        Stream -> ID of the last entry.
    n_points : int
    layout : Layout
    """
    client.set_response_callback("XREVRANGE", lambda reply, **_: reply)
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
    end, count, total = last, _FIRST_READ, 0
    while total < n_points:
        try:
            reply: Any = client.xrevrange(stream, end, "-", count=count)
        except ReplyTooLargeError:
            if count == 1:
                end = f"({newest_up_to(client, stream, end)}"
            count = max(1, count // 8)
            continue
        if not reply:
            break
        decoded = decode(reply, layout)
        tail += zip((order(e) for e, _ in reply), decoded.counts.tolist(), strict=True)
        total += len(decoded.X)
        end = f"({reply[-1][0].decode()}"
        largest = max(sum(map(len, flat)) for _, flat in reply)
        count = max(1, min(READ_ENTRIES, READ_BYTES // max(largest, 1)))
    return tail
