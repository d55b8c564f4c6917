"""Errors of one key, apart from faults that concern more than this key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import redis

from streamclust.errors import NotPermittedError, StreamclustError
from streamclust.store.server.connect import translated
from streamclust.store.server.faults import passes

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def attempt(read: Callable[[], T], key: str, troubles: list[str]) -> T | None:
    """Return the result of `read`, or None after the reason is added to `troubles`.

    A fault of the server, or of the user's rights, is raised: it concerns more than this key.
    """
    try:
        return read()
    except StreamclustError as error:
        troubles.append(str(error))
    except redis.RedisError as error:
        if passes(error) or is_forbidden(error):
            raise
        reason = str(error).removeprefix("WRONGTYPE ")
        troubles.append(reason if key in reason else f"key {key} can't be read: {reason}")
    except Exception as error:
        troubles.append(f"key {key} can't be decoded: {error!r}")
    return None


def is_forbidden(error: redis.RedisError) -> bool:
    """Return whether the user lacks a right."""
    return isinstance(translated(error, ""), NotPermittedError)


def raised(value: Any) -> Any:
    """Return a value; raise it if it is an error."""
    if isinstance(value, Exception):
        raise value
    return value
