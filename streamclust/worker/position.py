"""Positions on the points' streams: where a new model begins, and the mirror for people's tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis

from streamclust.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def check_type(client: redis.Redis, key: str, wanted: str, setting: str) -> None:
    """Refuse a key that another program uses for something else.

    Raises
    ------
    ServerError
        If the key is there and of another type; `setting` is what to change.
    """
    answer: Any = client.type(key)
    found = answer.decode()
    if found not in ("none", wanted):
        raise ServerError(
            f"key {key} holds a {found}, expected a {wanted}; move it, or change {setting}"
        )


def begin(client: redis.Redis, streams: Sequence[str], start: str) -> dict[str, str]:
    """Return the position before the first entry that a new model reads.

    'latest' is resolved to the ID of now, so that it is committed and a restart means the same.
    """
    if start == "earliest":
        return dict.fromkeys(streams, "0-0")
    if start == "latest":
        return {stream: _last_id(client, stream) for stream in streams}
    return dict.fromkeys(streams, start)


def _last_id(client: redis.Redis, stream: str) -> str:
    if not client.exists(stream):
        return "0-0"
    info: Any = client.xinfo_stream(stream)
    last: bytes = info["last-generated-id"]
    return last.decode()


def mirror(
    client: redis.Redis,
    group: str,
    position: Mapping[str, str],
    read: Mapping[str, int | None] | None = None,
) -> None:
    """Move the consumer group of each stream to `position`.

    The state is the truth; the group only shows it in ``XINFO GROUPS``. It is made where it is
    missing, but a stream is not. `read` says how many entries each stream had up to there, since
    else the server can't tell the lag of a group that was moved.
    """
    for stream, last_id in position.items():
        try:
            _move(client, stream, group, last_id, (read or {}).get(stream))
        except redis.ResponseError as error:
            if not any(words in str(error) for words in _MISSING):
                raise
            _make(client, stream, group, last_id)


_MISSING = ("NOGROUP", "requires the key to exist")


def _move(
    client: redis.Redis, stream: str, group: str, last_id: str, entries_read: int | None
) -> None:
    try:
        client.xgroup_setid(stream, group, last_id, entries_read=entries_read)
    except redis.ResponseError as error:
        if entries_read is None or "wrong number of arguments" not in str(error):
            raise
        client.xgroup_setid(stream, group, last_id)  # before Redis 7


def _make(client: redis.Redis, stream: str, group: str, last_id: str) -> None:
    if not client.exists(stream):
        return
    try:
        client.xgroup_create(stream, group, last_id)
    except redis.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise
