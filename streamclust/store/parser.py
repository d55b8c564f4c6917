"""Replies of stream reads taken off a connection as they are, without an object for each text.

redis-py passes received bytes to a hiredis reader. `StreamParser` replaces this reader on a
connection. It receives the bytes into a buffer, and native code finds the end of each reply. A
reply of XREAD or XREADGROUP keeps the buffer. hiredis parses all other replies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from redis._parsers.hiredis import NOT_ENOUGH_DATA

from streamclust.store import wire
from streamclust.store.limits import too_large
from streamclust.store.packed import Packed

_ROOM = 1 << 18
"""Bytes that there is room for when something is received."""

_ENTRIES = 1024
"""Entries that there is room for in the table of a reply at first."""


class StreamParser:
    """In the place of a connection's reader of replies.

    A reply of XREAD or XREADGROUP is a list of (stream, `Packed` entries).

    Parameters
    ----------
    parser
        The connection's, of hiredis.
    limit : int
        Bytes of a reply at most.
    """

    def __init__(self, parser: Any, limit: int) -> None:
        self._parser = parser
        self._hiredis = parser._reader
        self._limit = limit
        self._fed = 0  # bytes of this reply, as far as is known
        self._by_hiredis = False  # all that comes, as native code can make nothing of it
        self._usual = _ROOM
        self._rows = _ENTRIES
        self._begin(b"")

    def _begin(self, rest: bytes | memoryview) -> None:
        """Make room for a reply, of which this is there."""
        self._data = np.empty(max(self._usual, len(rest) + _ROOM), np.uint8)
        self._data[: len(rest)] = np.frombuffer(rest, np.uint8)
        self._size = len(rest)
        self._forget_scan()
        self._offer()

    def _forget_scan(self) -> None:
        self._state = np.zeros(wire.SCAN, np.int64)
        self._streams = np.empty((1, 3), np.int64)
        self._entries = np.empty((self._rows, wire.COLUMNS), np.int64)

    def _offer(self) -> None:
        """Let the parser receive what comes next behind what is there."""
        if len(self._data) - self._size < _ROOM // 2:
            larger = np.empty(2 * len(self._data), np.uint8)
            larger[: self._size] = self._data[: self._size]
            self._data = larger
        self._parser._buffer = self._data.data[self._size :]

    def feed(self, _buffer: Any, _start: int, size: int) -> None:
        """Take note that so many bytes were received where `_offer` said.

        Raises
        ------
        ReplyTooLargeError
            If that is more than a reply may have.
        """
        self._fed += size
        self._size += size
        if self._fed > self._limit:
            raise too_large(self._limit)
        if self._by_hiredis:
            self._hand_over(self._size)
        else:
            self._offer()

    def _hand_over(self, size: int) -> None:
        """Give hiredis the first bytes of what is there."""
        self._hiredis.feed(self._data.data[:size], 0, size)
        rest = self._size - size
        self._data[:rest] = self._data[size : self._size].copy()
        self._size = rest
        self._forget_scan()
        self._offer()

    def has_data(self) -> bool:
        """Say whether something is there that wasn't asked for yet."""
        return self._size > 0 or bool(self._hiredis.has_data())

    def gets(self, *args: Any) -> Any:
        """Return the next reply if it is there as a whole; then the next one is counted."""
        if not self._by_hiredis:
            found = self._scan()
            if found == wire.PART:
                return NOT_ENOUGH_DATA
            if found == wire.WHOLE:
                return self._reply()
            self._by_hiredis = found == wire.ODD
            self._hand_over(self._size if self._by_hiredis else int(self._state[1]))
        reply = self._hiredis.gets(*args)
        if reply is not NOT_ENOUGH_DATA:
            self._fed = self._size
            self._by_hiredis = bool(self._hiredis.has_data())
        return reply

    def _scan(self) -> int:
        while True:
            found = wire.scan(self._state, self._data, self._size, self._streams, self._entries)
            if found != wire.NO_ROOM:
                return found
            self._streams, self._entries = (
                np.concatenate([table, np.empty_like(table)]) if full else table
                for table, full in (
                    (self._streams, self._state[-2] == len(self._streams)),
                    (self._entries, self._state[-1] == len(self._entries)),
                )
            )

    def _reply(self) -> list[tuple[bytes, Packed]]:
        _, end, *_, n_streams, n_entries = self._state.tolist()
        data, rows = self._data, self._entries[:n_entries]
        rows[:, wire.BODY] += data.ctypes.data
        streams = self._streams[:n_streams].tolist()
        edges = [*(first for _, _, first in streams), n_entries]
        packed = Packed(rows, (data,))
        reply = [
            (data[at : at + size].tobytes(), packed[start:stop])
            for (at, size, _), start, stop in zip(streams, edges, edges[1:], strict=False)
        ]
        self._usual = max(_ROOM, end + end // 4)
        self._rows = max(_ENTRIES, n_entries + 1)
        self._fed = self._size - end
        self._begin(data.data[end : self._size])
        return reply


def parse_streams(connection: Any, limit: int) -> None:
    """Let a new connection take replies of stream reads as they are, of `limit` bytes at most."""
    parser = connection._parser
    parser._reader = StreamParser(parser, limit)
