"""Which faults of a server may pass, so that what failed is to be tried again."""

from __future__ import annotations

import re

import redis

_PASSING = (
    redis.ConnectionError,  # away, restarting, loading its data
    redis.TimeoutError,  # hangs
    redis.OutOfMemoryError,
    redis.ReadOnlyError,  # a replica: the primary has moved, or is about to
)

# The code that an error begins with, or that follows a minus where it ended a script.
_CODES = re.compile(
    r"(?:^|-)(?:BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|TRYAGAIN"
    r"|UNBLOCKED) "
)


def passes(error: redis.RedisError) -> bool:
    """Whether the fault may be gone when the same is tried again."""
    return isinstance(error, _PASSING) or _CODES.search(str(error)) is not None
