"""How many entries of a stream are still to be learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

_COUNTED = 10_000
"""Entries that are counted one by one at most, where the server doesn't know."""


def lag(client: redis.Redis, group: str, streams: Iterable[str]) -> int | None:
    """Return the entries that `group` has not learned, over its streams; None if not known.

    The group mirrors the committed position. Without a group, all entries are still to come.
    """
    lags = [_stream_lag(client, group, stream) for stream in streams]
    known = [value for value in lags if value is not None]
    return sum(known) if len(known) == len(lags) else None


def _stream_lag(client: redis.Redis, group: str, stream: str) -> int | None:
    if not client.exists(stream):
        return 0
    info: Any = client.xinfo_stream(stream)
    groups: Any = client.xinfo_groups(stream)
    mine = next((found for found in groups if found["name"].decode() == group), None)
    length: int = info["length"]
    if mine is None:
        return length
    at = mine["last-delivered-id"]
    if at == info["last-generated-id"]:
        return 0
    told: int | None = mine.get("lag")
    return _counted(client, stream, at.decode(), length) if told is None else told


def _counted(client: redis.Redis, stream: str, at: str, length: int) -> int | None:
    """Count the entries after `at`, or give up: the server has no command for it."""
    first: Any = client.xrange(stream, count=1)
    if first and _order(first[0][0].decode()) > _order(at):
        return length
    if length > _COUNTED:
        return None
    milliseconds, _, sequence = at.partition("-")
    after = f"{milliseconds}-{int(sequence or 0) + 1}"
    rest: Any = client.xrange(stream, after)
    return len(rest)


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)
