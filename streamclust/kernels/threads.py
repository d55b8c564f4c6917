"""The number of threads that a call of a kernel may use."""

from __future__ import annotations

import os
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from streamclust.errors import ConfigError
from streamclust.system_limits import cores_of_process

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_LIMIT = 1 << 20

limit: ContextVar[int] = ContextVar("limit", default=NO_LIMIT)
"""Maximum number of threads of a call."""


@contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Let each call of a kernel within a block use at most `threads` threads.

    The limit applies only to the thread that enters the block (a context variable). Results don't
    depend on the limit.
    """
    token = limit.set(max(1, threads))
    try:
        yield
    finally:
        limit.reset(token)


def threads_of_process() -> int:
    """Return `STREAMCLUST_THREADS`, by default the number of cores that this process may use.

    Raises
    ------
    ConfigError
        If `STREAMCLUST_THREADS` isn't a positive integer.
    """
    text = os.environ.get("STREAMCLUST_THREADS")
    if text is None:
        return cores_of_process()
    if not text.isdecimal() or not 1 <= int(text) <= NO_LIMIT:
        raise ConfigError(f"STREAMCLUST_THREADS={text}; expected a positive integer")
    return int(text)
