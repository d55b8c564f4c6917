"""The side of an engine that computes: one function from bytes to bytes, in any process."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from streamclust.engine.base import compute
from streamclust.engine.reader import Reader
from streamclust.engine.wire import decode_part, decode_task, encode_error, encode_result

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from streamclust.engine.tasks import Task

_RETRY_SECONDS = 30.0
"""Seconds for which reads of a stream are repeated after a fault that passes."""

_connect: Callable[[], redis.Redis] | None = None


def use_server(connect: Callable[[], redis.Redis] | None) -> None:
    """Set the function that returns a raw client, to read parts of streams in this process."""
    global _connect  # noqa: PLW0603
    _connect = connect
    _opened.cache_clear()


def run_task(task: bytes, part: bytes) -> bytes:
    """Return the result of a task on a part, or the error; it never raises an exception.

    The messages are those of `streamclust.engine.wire`.
    """
    try:
        decoded, reader = _opened(task)
        number, opened = decode_part(part)
        return encode_result(decoded, compute(decoded, reader, number, opened))
    except Exception as error:
        return encode_error(error if _connect is None else _naming_the_server(error))


def _naming_the_server(error: Exception) -> Exception:
    """Return an error of redis as one that names the server, and others as they are."""
    import redis  # imported here: a process that reads files doesn't need it

    from streamclust.store.server.connect import translated

    if isinstance(error, redis.RedisError):
        return translated(error, "the server of the points")
    return error


@lru_cache(maxsize=2)
def _opened(task: bytes) -> tuple[Task[Any], Reader]:
    """Return a task and its reader; all parts of a fold have the same task."""
    decoded, scaling = decode_task(task)
    return decoded, Reader(scaling, _connect, on_fault=_RetryWait())


class _RetryWait:
    """Waits after faults of the server that pass."""

    def __init__(self) -> None:
        self._first = self._last = -_RETRY_SECONDS

    def __call__(self, error: redis.RedisError) -> None:
        """Wait before the read is repeated, or raise the error."""
        from streamclust.store.server.faults import passes

        now = time.monotonic()
        if now - self._last > 2.0:
            self._first = now  # a new fault, not the last one again
        if not passes(error) or now - self._first > _RETRY_SECONDS:
            raise error
        time.sleep(0.1)
        self._last = time.monotonic()
