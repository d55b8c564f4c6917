"""Errors of redis-py as errors of streamclust.

Their text is one line that says what to do, and never contains a secret.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.exceptions import MovedError, NoPermissionError
from redis.sentinel import MasterNotFoundError

from streamclust.errors import (
    NotPermittedError,
    ServerError,
    ServerUnreachableError,
    StreamclustError,
)
from streamclust.store.reply.limits import UnreadableError
from streamclust.store.server.embedded_connection import NotRevivedError
from streamclust.store.server.history import HistoryChangedError
from streamclust.system_limits import explained, is_out_of_files


@contextmanager
def translate(label: str) -> Iterator[None]:
    """Replace errors of redis-py in the block by errors of streamclust."""
    try:
        yield
    except redis.RedisError as error:
        raise translated(error, label) from error


def translated(error: redis.RedisError, label: str) -> StreamclustError:
    """Return the error of streamclust: one line with the server, the reason and what to do."""
    reason = _reason(error)
    if is_out_of_files(error):
        return ServerUnreachableError(f"can't connect to {label}: {explained(error)}")
    for kind, words, result, template in _TEXTS:
        if isinstance(error, kind) and words in f"{reason} {error}":
            return result(template.format(label=label, reason=reason))
    return ServerError(f"{label} answered: {reason}")


# The first matching row is used: the class of the error, and words in its text.
_TEXTS: tuple[tuple[type[redis.RedisError], str, type[StreamclustError], str], ...] = (
    (
        redis.AuthenticationError,
        "",
        ServerError,
        "{label} refused the login: {reason}; check redis.username and redis.password "
        "(in the environment: STREAMCLUST_REDIS__USERNAME, STREAMCLUST_REDIS__PASSWORD)",
    ),
    (
        NoPermissionError,
        "",
        NotPermittedError,
        "{label} doesn't permit this: {reason}; give that user the right, "
        "or name another one in redis.username",
    ),
    (
        redis.ResponseError,
        "ACL failure in script",
        NotPermittedError,
        "{label} doesn't permit this: {reason}; give that user the right, "
        "or name another one in redis.username",
    ),
    (NotRevivedError, "", ServerUnreachableError, "{reason}"),
    (
        redis.ResponseError,
        "MISCONF",
        ServerError,
        "{label} can't save its data, so it accepts no writes: {reason}; free space on the disk of "
        "its data folder, or see the server's own log",
    ),
    (
        UnreadableError,
        "",
        ServerError,
        "can't read {reason} from {label}: the connection is lost in the middle of each reply that "
        "holds it; raise the server's client-output-buffer-limit for normal clients, or the limit "
        "of a proxy before it, or remove it",
    ),
    (
        redis.BusyLoadingError,
        "",
        ServerUnreachableError,
        "{label} is still loading its data; try again later",
    ),
    (
        MasterNotFoundError,
        "AuthenticationError",
        ServerError,
        "a sentinel of {label} refused the login; check redis.sentinel_username and "
        "redis.sentinel_password (in the environment: STREAMCLUST_REDIS__SENTINEL_USERNAME, "
        "STREAMCLUST_REDIS__SENTINEL_PASSWORD)",
    ),
    (
        MasterNotFoundError,
        " : ",
        ServerUnreachableError,
        "can't reach {label}: not all of its sentinels answer, and the others know no running "
        "primary; are they running, and are redis.url and its options right?",
    ),
    (
        MasterNotFoundError,
        "",
        ServerUnreachableError,
        "can't reach {label}: its sentinels know no running primary of this name; "
        "is redis.url right?",
    ),
    (
        HistoryChangedError,
        "",
        ServerUnreachableError,
        "{label} was restarted or has another primary, whose data may be older",
    ),
    (
        MovedError,
        "",
        ServerError,
        "{label} is a node of a cluster; give redis.url as redis+cluster://host:port,host:port",
    ),
    (
        redis.ConnectionError,
        "max number of clients",
        ServerUnreachableError,
        "{label} accepts no more connections: {reason}; raise its maxclients",
    ),
    (
        redis.ConnectionError,
        "[SSL",
        ServerUnreachableError,
        "can't speak TLS with {label}: {reason}; "
        "check the scheme and the ssl_… options of redis.url",
    ),
    (
        redis.ConnectionError,
        "",
        ServerUnreachableError,
        "can't reach {label}: {reason}; is the server running, and is redis.url right?",
    ),
    (
        redis.TimeoutError,
        "",
        ServerUnreachableError,
        "can't reach {label}: {reason}; is the server running, and is redis.url right?",
    ),
    (
        redis.InvalidResponse,
        "",
        ServerError,
        "{label} doesn't answer like a Redis server: {reason}; does redis.url have the right host "
        "and port? A port with TLS needs rediss://",
    ),
    (
        redis.ResponseError,
        "DB index",
        ServerError,
        "{label} answered: {reason}; correct the number at the end of redis.url",
    ),
    (
        redis.ResponseError,
        "maxmemory",
        ServerError,
        "{label} is out of memory: raise its maxmemory, or remove data",
    ),
    (
        redis.ResponseError,
        "read only",
        ServerError,
        "{label} is a replica, which accepts no writes: name the primary in redis.url",
    ),
    (
        redis.ResponseError,
        "WRONGTYPE",
        ServerError,
        "{label} answered: {reason}; does another program use the same key? Move it, or change "
        "the name (namespace, models, streams)",
    ),
)


def _reason(error: redis.RedisError) -> str:
    """Return the text of the system or the server, without the command."""
    cause = error.__context__
    if isinstance(error, redis.TimeoutError):
        return "no answer in time"
    if isinstance(cause, ssl.SSLError):
        return re.sub(r" \(_ssl\.c:\d+\)$", "", cause.strerror or str(cause))
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    text = re.sub(r"^Command # \d+ \(.*\) of pipeline caused error: ", "", str(error), flags=re.S)
    return " ".join(text.split())[:300].removesuffix(".")
