"""Replies of bounded size: a reply that is too large is given up before it fills the memory.

No command tells how large the next entries of a stream are, short of reading them. So they are
read, and the connection is dropped as soon as more has come than was allowed for.
"""

from __future__ import annotations

from typing import Any

import redis
from redis._parsers.hiredis import NOT_ENOUGH_DATA


class ReplyTooLargeError(redis.RedisError):
    """Raised when a reply is larger than allowed; the connection was closed."""


def too_large(limit: int) -> ReplyTooLargeError:
    """Return the error of a reply that has more bytes than that."""
    return ReplyTooLargeError(f"a reply has more than {limit} bytes")


class _Counting:
    """A reader of replies that counts what it is fed for one."""

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
        """Return the next reply if it is there as a whole; then the next one is counted."""
        reply = self._reader.gets(*args)
        if reply is not NOT_ENOUGH_DATA:
            self._fed = 0
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def bound_replies(connection: Any, limit: int) -> None:
    """Let a new connection take replies of `limit` bytes at most.

    It is made for hiredis, which the package requires.
    """
    parser = connection._parser
    parser._reader = _Counting(parser._reader, limit)
