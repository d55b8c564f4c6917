"""Parses the replies of stream reads without making a Python object for each text.

redis-py passes received bytes to a hiredis reader. `StreamParser` replaces this reader on a
connection. It receives the bytes into a buffer, and native code finds the end of each reply. A
reply of XREAD or XREADGROUP keeps the buffer. hiredis parses all other replies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamclust.store.reply import native as wire
from streamclust.store.reply.limits import too_large
from streamclust.store.reply.packed import Packed
from streamclust.store.reply.redis_parser import NOT_ENOUGH_DATA, replace_reader

_ROOM = 1 << 18
"""Free bytes in the buffer before a receive call."""

_ENTRIES = 1024
"""Initial number of rows in the table of a reply's entries."""


class StreamParser:
    """Replaces the hiredis reader of a connection.

    A reply of XREAD or XREADGROUP becomes a list of (stream, `Packed` entries).

    Parameters
    ----------
    parser
        The connection's hiredis parser.
    limit : int
        Maximum number of bytes of a reply.
    """

    def __init__(self, parser: Any, limit: int) -> None:
        self._parser = parser
        self._hiredis = parser._reader
        self._limit = limit
        self._fed = 0  # bytes received of the current reply
        self._by_hiredis = False  # whether hiredis parses the current reply
        self._usual = _ROOM
        self._rows = _ENTRIES
        self._start(b"")

    def _start(self, rest: bytes | memoryview) -> None:
        """Start a new reply, whose first bytes are `rest`."""
        self._data = np.empty(max(self._usual, len(rest) + _ROOM), np.uint8)
        self._data[: len(rest)] = np.frombuffer(rest, np.uint8)
        self._size = len(rest)
        self._reset_scan()
        self._set_buffer()

    def _reset_scan(self) -> None:
        self._state = np.zeros(wire.SCAN, np.int64)
        self._streams = np.empty((1, 3), np.int64)
        self._entries = np.empty((self._rows, wire.COLUMNS), np.int64)

    def _set_buffer(self) -> None:
        """Let redis-py receive the next bytes after the bytes in the buffer."""
        if len(self._data) - self._size < _ROOM // 2:
            larger = np.empty(2 * len(self._data), np.uint8)
            larger[: self._size] = self._data[: self._size]
            self._data = larger
        self._parser._buffer = self._data.data[self._size :]

    def feed(self, _buffer: Any, _start: int, size: int) -> None:
        """Count `size` bytes that redis-py received into the buffer of `_set_buffer`.

        Raises
        ------
        ReplyTooLargeError
            If the reply has more bytes than the limit.
        """
        self._fed += size
        self._size += size
        if self._fed > self._limit:
            raise too_large(self._limit)
        if self._by_hiredis:
            self._feed_hiredis(self._size)
        else:
            self._set_buffer()

    def _feed_hiredis(self, size: int) -> None:
        """Pass the first `size` bytes of the buffer to hiredis."""
        self._hiredis.feed(self._data.data[:size], 0, size)
        rest = self._size - size
        self._data[:rest] = self._data[size : self._size].copy()
        self._size = rest
        self._reset_scan()
        self._set_buffer()

    def has_data(self) -> bool:
        """Return whether bytes were received that no returned reply contains."""
        return self._size > 0 or bool(self._hiredis.has_data())

    def gets(self, *args: Any) -> Any:
        """Return the next complete reply; NOT_ENOUGH_DATA if there is none."""
        if not self._by_hiredis:
            found = self._scan()
            if found == wire.PART:
                return NOT_ENOUGH_DATA
            if found == wire.WHOLE:
                return self._reply()
            self._by_hiredis = found == wire.ODD
            self._feed_hiredis(self._size if self._by_hiredis else int(self._state[1]))
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
        self._start(data.data[end : self._size])
        return reply


def parse_streams(connection: Any, limit: int) -> None:
    """Let native code parse the stream reads of a new connection; `limit` is as in `limits`."""
    replace_reader(connection, lambda parser: StreamParser(parser, limit))
