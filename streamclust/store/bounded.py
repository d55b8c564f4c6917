"""Replies of bounded size: a reply that is too large is given up before it fills the memory.

No command tells how large the next entries of a stream are, short of reading them. So they are
read, and the connection is dropped as soon as more has come than was allowed for.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.connection import DefaultParser


class ReplyTooLargeError(redis.RedisError):
    """Raised when a reply is larger than allowed; the connection was closed."""


class _Counting:
    """A reader of replies that counts what it is fed."""

    def __init__(self, reader: Any, limit: int) -> None:
        self._reader = reader
        self._limit = limit
        self.fed = 0

    def feed(self, buffer: bytes, start: int, size: int) -> None:
        self.fed += size
        if self.fed > self._limit:
            raise ReplyTooLargeError(f"a reply has more than {self._limit} bytes")
        self._reader.feed(buffer, start, size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


class _Bounded(DefaultParser):  # type: ignore[valid-type, misc]
    limit: int

    def on_connect(self, connection: Any, **kwargs: Any) -> None:
        super().on_connect(connection, **kwargs)
        self._reader: Any = _Counting(self._reader, self.limit)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        if self._reader is not None:
            self._reader.fed = 0
        return super().read_response(*args, **kwargs)


def bounded_parser(limit: int) -> type[Any]:
    """Return a parser class for connections whose replies have `limit` bytes at most.

    It is made for hiredis, which the package requires.
    """
    return type("BoundedParser", (_Bounded,), {"limit": limit})
