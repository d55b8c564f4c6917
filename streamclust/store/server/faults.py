"""The passing errors of a server: the definition that daemons, commands and clients share.

After a passing error the same command is retried later. Any other error needs a user's action.
"""

from __future__ import annotations

import re

import redis
from redis.exceptions import AuthorizationError, ClusterDownError, TryAgainError
from redis.sentinel import MasterNotFoundError

_PASSING = (
    redis.ConnectionError,  # unreachable, restarting, loading its data
    redis.TimeoutError,  # the server hangs
    redis.OutOfMemoryError,
    redis.ReadOnlyError,  # a replica: the primary has changed, or will soon
    ClusterDownError,  # also MASTERDOWN
    TryAgainError,
)

_REFUSED = (redis.AuthenticationError, AuthorizationError)
"""Errors of connections that are always refused; redis-py treats them as lost connections."""

# The code that an error begins with, or that follows a minus where it ended a script. redis-py
# removes the code where it has a class for it, and puts the command before it in a pipeline.
_CODES = re.compile(
    r"(?:^|-|of pipeline caused error: )(?:BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS"
    r"|OOM|READONLY|TRYAGAIN|UNBLOCKED) "
    r"|^max number of clients"
)


def passes(error: redis.RedisError) -> bool:
    """Return whether a retry may succeed."""
    if isinstance(error, _REFUSED):
        return False
    if isinstance(error, MasterNotFoundError) and "AuthenticationError" in str(error):
        return False  # the sentinels refused the login
    return isinstance(error, _PASSING) or _CODES.search(str(error)) is not None


def answered(error: redis.RedisError) -> bool:
    """Return whether a passing error is a server's reply, so that the login is accepted."""
    lost = isinstance(error, redis.ConnectionError | redis.TimeoutError)
    return passes(error) and (isinstance(error, redis.BusyLoadingError) or not lost)
