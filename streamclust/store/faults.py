"""Which faults of a server may pass: the one definition, for daemons, commands and clients.

A fault that passes is answered by trying the same again later. Any other fault needs a person.
"""

from __future__ import annotations

import re

import redis
from redis.exceptions import AuthorizationError, ClusterDownError, TryAgainError
from redis.sentinel import MasterNotFoundError

_PASSING = (
    redis.ConnectionError,  # away, restarting, loading its data
    redis.TimeoutError,  # hangs
    redis.OutOfMemoryError,
    redis.ReadOnlyError,  # a replica: the primary has moved, or is about to
    ClusterDownError,  # also MASTERDOWN
    TryAgainError,
)

_REFUSED = (redis.AuthenticationError, AuthorizationError)
"""Connections that are refused whenever they are tried; redis-py counts them as lost ones."""

# The code that an error begins with, or that follows a minus where it ended a script. redis-py
# removes the code where it has a class for it, and puts the command before it in a pipeline.
_CODES = re.compile(
    r"(?:^|-|of pipeline caused error: )(?:BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS"
    r"|OOM|READONLY|TRYAGAIN|UNBLOCKED) "
    r"|^max number of clients"
)


def passes(error: redis.RedisError) -> bool:
    """Whether the fault may be gone when the same is tried again."""
    if isinstance(error, _REFUSED):
        return False
    if isinstance(error, MasterNotFoundError) and "AuthenticationError" in str(error):
        return False  # the sentinels refused the login
    return isinstance(error, _PASSING) or _CODES.search(str(error)) is not None


def answered(error: redis.RedisError) -> bool:
    """Whether a fault is the answer of a server, which so can be reached, and lets us in."""
    lost = isinstance(error, redis.ConnectionError | redis.TimeoutError)
    return passes(error) and (isinstance(error, redis.BusyLoadingError) or not lost)
