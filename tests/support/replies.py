"""Replies as a server sends them, and what takes them off a connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
import numpy as np
import pytest
from redis._parsers.hiredis import NOT_ENOUGH_DATA

from streamclust.formats.codecs.common import Arrays
from streamclust.formats.layout import Layout
from streamclust.store.reply import native as wire
from streamclust.store.reply.packed import Packed
from streamclust.store.reply.parser import StreamParser

Entry = tuple[bytes, list[bytes]]

needs_native = pytest.mark.skipif(not wire.available(), reason="there are no native kernels")


def to_resp(value: Any) -> bytes:
    """Return what a server sends for texts, numbers, None, and lists of all these."""
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, int):
        return b":%d\r\n" % value
    if value is None:
        return b"*-1\r\n"
    return b"*%d\r\n" % len(value) + b"".join(map(to_resp, value))


def to_lists(reply: Any) -> Any:
    """Return what hiredis would have made of the reply."""
    if isinstance(reply, Packed):
        return [[entry_id, flat] for entry_id, flat in reply]
    return [to_lists(each) for each in reply] if isinstance(reply, list | tuple) else reply


class NativeConnection:
    """The part of a connection's parser that `StreamParser` works on."""

    def __init__(self, limit: int = 1 << 40) -> None:
        self._buffer: Any = None
        self._reader: Any = hiredis.Reader(notEnoughData=NOT_ENOUGH_DATA)
        self.parser = StreamParser(self, limit)

    def receive(self, data: bytes) -> None:
        while data:
            taken = data[: len(self._buffer)]
            self._buffer[: len(taken)] = taken
            self.parser.feed(self._buffer, 0, len(taken))
            data = data[len(taken) :]

    def replies(self) -> list[Any]:
        """Return all that are there as a whole."""
        found = []
        while (reply := self.parser.gets()) is not NOT_ENOUGH_DATA:
            found.append(reply)
        return found


class HiredisConnection:
    """hiredis alone."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()

    def receive(self, data: bytes) -> None:
        self._reader.feed(data)

    def replies(self) -> list[Any]:
        found = []
        while (reply := self._reader.gets()) is not False:
            found.append(reply)
        return found


def outcome(line: NativeConnection | HiredisConnection, raw: bytes) -> Any:
    """Return the replies, or that the connection has to be given up."""
    line.receive(raw)
    try:
        return repr(to_lists(line.replies()))
    except (hiredis.ProtocolError, TypeError):  # a map whose key is a list
        return "given up"


def packed(entries: Sequence[Entry]) -> Packed:
    """Return entries as they would come from a server."""
    if not entries:
        return Packed(np.empty((0, wire.COLUMNS), np.int64), ())
    line = NativeConnection()
    line.receive(to_resp([[b"s", entries]]))
    [[(_, found)]] = line.replies()
    assert isinstance(found, Packed)
    return found


def decoded(entries: Sequence[Entry], layout: Layout) -> Arrays | None:
    """Return what native code reads of entries; their bytes last as long as the packed ones do."""
    found = packed(entries)
    return wire.decode(found.rows, layout)
