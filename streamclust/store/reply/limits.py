"""Replies of limited size: a reply that is too large is dropped before it fills the memory.

No command tells the size of the next entries of a stream without reading them. So streamclust
reads them, and drops the connection as soon as a reply has more bytes than the limit.
"""

from __future__ import annotations

from typing import Any

import redis

from streamclust.store.reply.redis_parser import NOT_ENOUGH_DATA, replace_reader


class ReplyTooLargeError(redis.RedisError):
    """Raised when a reply is larger than the limit; the connection was closed."""


class ReplyLostError(ReplyTooLargeError):
    """Raised when the same read lost the connection twice, while the server answered a PING."""


class UnreadableError(redis.ConnectionError):
    """Raised when each read of one entry or value loses the connection.

    The error counts as a lost connection, so the read is retried: a user may raise the limit, or
    remove the entry.
    """


def too_large(limit: int) -> ReplyTooLargeError:
    """Return the error for a reply of more than `limit` bytes."""
    return ReplyTooLargeError(f"a reply has more than {limit} bytes")


class _LimitedReader:
    """A reader of replies that counts the bytes of the current reply."""

    def __init__(self, reader: Any, limit: int) -> None:
        self._reader = reader
        self._limit = limit
        self._fed = 0

    def feed(self, buffer: bytes, start: int, size: int) -> None:
        self._fed += size
        if self._fed > self._limit:
            raise too_large(self._limit)
        self._reader.feed(buffer, start, size)

    def gets(self, *args: Any) -> Any:
        """Return the next complete reply, if any; then count the bytes of the following reply.

        Without a complete reply, return NOT_ENOUGH_DATA.
        """
        reply = self._reader.gets(*args)
        if reply is not NOT_ENOUGH_DATA:
            self._fed = 0
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def limit_replies(connection: Any, limit: int) -> None:
    """Limit the replies on a new connection to `limit` bytes each."""
    replace_reader(connection, lambda parser: _LimitedReader(parser._reader, limit))
