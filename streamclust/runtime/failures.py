"""The pauses before retries of a failure that isn't a fault of the connection."""

from __future__ import annotations

import random

import redis

from streamclust.errors import StreamclustError
from streamclust.store.server.connect import translated
from streamclust.system_limits import explained, is_out_of_threads

_FIRST_PAUSE = 0.5
"""Seconds before the first retry. The pause doubles with each retry. A random factor of 0.5 to 1
keeps models that failed together from retrying together."""

LONGEST_PAUSE = 60.0
"""Maximum pause, in seconds."""


def pause(tries: int) -> float:
    """Return the seconds before the next try, after `tries` failed tries."""
    longest = min(LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(tries, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311


def clear_error(error: Exception, label: str) -> Exception:
    """Return an error with a clear text if the kind of `error` is expected; else `error` itself.

    Parameters
    ----------
    error : Exception
    label : str
        The server's name in messages.
    """
    if isinstance(error, redis.RedisError):
        return translated(error, label)
    if isinstance(error, OSError | MemoryError) or is_out_of_threads(error):
        return StreamclustError(explained(error))
    return error
