"""Parses the replies of stream reads without making a Python object for each text.

redis-py passes received bytes to a hiredis reader. `StreamParser` replaces this reader on a
connection. It receives the bytes into a buffer, and native code finds the end of each reply. A
reply of XREAD or XREADGROUP keeps the buffer. hiredis parses all other replies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.store.reply import native as wire
from streamclust.store.reply.limits import too_large
from streamclust.store.reply.packed import Packed
from streamclust.store.reply.redis_parser import NOT_ENOUGH_DATA, replace_reader

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROOM = 1 << 18
"""Free bytes in the buffer before a receive call."""


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
        self._scan = wire.ReplyScan()
        self._start(b"")

    def _start(self, rest: bytes | memoryview) -> None:
        """Start a new reply, whose first bytes are `rest`."""
        self._use(np.empty(max(self._usual, len(rest) + _ROOM), np.uint8))
        self._data[: len(rest)] = np.frombuffer(rest, np.uint8)
        self._size = len(rest)
        self._set_buffer()

    def _use(self, data: NDArray[np.uint8]) -> None:
        self._data, self._bytes, self._address = data, data.data, data.ctypes.data

    def _set_buffer(self) -> None:
        """Let redis-py receive the next bytes after the bytes in the buffer."""
        if len(self._data) - self._size < _ROOM // 2:
            larger = np.empty(2 * len(self._data), np.uint8)
            larger[: self._size] = self._data[: self._size]
            self._use(larger)
        self._parser._buffer = self._bytes[self._size :]

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
        self._hiredis.feed(self._bytes[:size], 0, size)
        rest = self._size - size
        if rest:
            self._data[:rest] = self._data[size : self._size].copy()
        self._size = rest
        self._scan.reset()
        self._set_buffer()

    def has_data(self) -> bool:
        """Return whether bytes were received that no returned reply contains."""
        return self._size > 0 or bool(self._hiredis.has_data())

    def gets(self, *args: Any) -> Any:
        """Return the next complete reply; NOT_ENOUGH_DATA if there is none."""
        if not self._by_hiredis:
            found = self._scan(self._address, self._size)
            if found == wire.PART:
                return NOT_ENOUGH_DATA
            if found == wire.WHOLE:
                return self._reply()
            self._by_hiredis = found == wire.ODD
            self._feed_hiredis(self._size if self._by_hiredis else self._scan.scanned)
        reply = self._hiredis.gets(*args)
        if reply is not NOT_ENOUGH_DATA:
            self._fed = self._size
            self._by_hiredis = bool(self._hiredis.has_data())
        return reply

    def _reply(self) -> list[tuple[bytes, Packed]]:
        end, data = self._scan.scanned, self._data
        streams, rows = self._scan.take()
        rows[:, wire.BODY] += self._address
        edges = [*(first for _, _, first in streams), len(rows)]
        packed = Packed(rows, (data,))
        reply = [
            (data[at : at + size].tobytes(), packed[start:stop])
            for (at, size, _), start, stop in zip(streams, edges, edges[1:], strict=False)
        ]
        self._usual = max(_ROOM, end + end // 4)
        self._fed = self._size - end
        self._start(self._bytes[end : self._size])
        return reply


def parse_streams(connection: Any, limit: int) -> None:
    """Let native code parse the stream reads of a new connection; `limit` is as in `limits`."""
    replace_reader(connection, lambda parser: StreamParser(parser, limit))
