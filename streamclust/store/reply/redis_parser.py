"""The private part of redis-py that streamclust uses: the hiredis parser of a connection.

redis-py has no public way to limit the size of a reply, or to take its bytes. So `limits` and
`parser` replace the parser's reader. `check_redis` reports a redis-py whose parser is different.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import redis

from streamclust.errors import ServerError

__all__ = ["NOT_ENOUGH_DATA", "check_redis", "replace_reader"]

try:
    from redis._parsers.hiredis import NOT_ENOUGH_DATA
except ImportError:  # check_redis reports it
    NOT_ENOUGH_DATA = None


@lru_cache(maxsize=1)
def check_redis() -> None:
    """Check the parser of the installed redis-py, on a connection that is never opened.

    Raises
    ------
    ServerError
        If the parser doesn't have the reader and the buffer that streamclust replaces.
    """
    connection: Any = redis.Connection()  # type: ignore[no-untyped-call]
    try:
        parser = connection._parser
        parser.on_connect(connection)
        incomplete = parser._reader.gets() is NOT_ENOUGH_DATA is not None
        supported = incomplete and isinstance(parser._buffer, bytearray)
    except (AttributeError, TypeError):
        supported = False
    if not supported:
        raise ServerError(
            f"redis-py {redis.__version__} is not supported: its parser of replies is not the "
            "expected one of hiredis; run: pip install 'redis[hiredis]>=6.0,<9'"
        )


def replace_reader(connection: Any, reader_of: Any) -> None:
    """Replace the reader of a new connection's parser by ``reader_of(parser)``."""
    parser = connection._parser
    parser._reader = reader_of(parser)
