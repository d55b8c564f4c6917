"""Finds the key of a WRONGTYPE error, because the error of the server has no key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import redis

_WORD = "WRONGTYPE"

_TYPES = {
    "state": "string",
    "coreset": "string",
    "lease": "string",
    "token": "string",
    "health": "string",
    "paused": "string",
    "refitting": "string",
    "proposal": "hash",
}
"""Types of a model's keys, by the name after the hash tag; all other keys are streams."""


def is_wrong_type(error: object) -> bool:
    """Return whether an error of a command or of a script is a WRONGTYPE error."""
    return isinstance(error, redis.ResponseError) and _WORD in str(error)


def with_key(
    error: redis.ResponseError, command: Sequence[Any], type_of: Callable[[str], Any]
) -> redis.ResponseError:
    """Return the error with the key, its type and the expected type.

    Parameters
    ----------
    error : redis.ResponseError
        A WRONGTYPE error.
    command : sequence
        The command with its arguments.
    type_of : callable
        Returns the server's reply to TYPE.
    """
    keys = [_text(key) for key in keys_of(command)]
    wrong = []
    with suppress(redis.RedisError):  # the user may lack the right to run TYPE
        for key in keys:
            found, expected = _text(type_of(key)), expected_type(key)
            if found not in ("none", expected):
                wrong.append(f"key {key} holds a {found}, expected a {expected}")
    if not wrong:
        names = ", ".join(keys)
        wrong = [f"one of the keys {names}" if len(keys) > 1 else f"key {names}"]
    return redis.ResponseError(f"{_WORD} {'; '.join(wrong)}")


def keys_of(command: Sequence[Any]) -> Iterable[Any]:
    """Return the keys in a command of streamclust."""
    name = _text(command[0]).upper()
    if name in ("EVAL", "EVALSHA"):
        return command[3 : 3 + int(command[2])]
    words = [_text(word).upper() for word in command]
    if name in ("XREAD", "XREADGROUP") and "STREAMS" in words:
        rest = command[words.index("STREAMS") + 1 :]
        return rest[: len(rest) // 2]
    if name in ("EXISTS", "DEL"):
        return command[1:]
    return command[2:3] if name in ("XGROUP", "XINFO", "MEMORY", "OBJECT") else command[1:2]


def expected_type(key: str) -> str:
    """Return the expected type of a model's key, or of a points' stream."""
    tag, _, name = key.partition("}:")
    return _TYPES.get(name, "stream") if tag.startswith("{") else "stream"


def _text(word: Any) -> str:
    return word.decode(errors="backslashreplace") if isinstance(word, bytes) else str(word)
