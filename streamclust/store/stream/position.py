"""Positions in the points' streams: of a new model, and of the consumer group for users' tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.errors import ServerError
from streamclust.store.ids import LESS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis


def check_type(client: redis.Redis, key: str, wanted: str, setting: str) -> None:
    """Refuse a key that another program uses with another type.

    Raises
    ------
    ServerError
        If the key exists and has another type. The message names the `setting` to change.
    """
    answer: Any = client.type(key)
    found = answer.decode()
    if found not in ("none", wanted):
        raise ServerError(
            f"key {key} holds a {found}, expected a {wanted}; move it, or change {setting}"
        )


def begin(client: redis.Redis, streams: Sequence[str], start: str) -> dict[str, str]:
    """Return the position before the first entry that a new model reads.

    'latest' becomes the current last ID, which is then committed. So a restart uses the same
    position.
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


# One script checks and moves, so that a worker that was paused after its commit cannot move the
# group back.
_MIRROR = (
    LESS
    + """
local stream, group, id, read, shown = KEYS[1], unpack(ARGV)
if redis.call('EXISTS', stream) == 0 then return 0 end
local at
for _, each in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  each = named(each)
  if each['name'] == group then at = each['last-delivered-id'] end
end
if not at then
  redis.call('XGROUP', 'CREATE', stream, group, id)
  return 1
end
if shown ~= '' and shown ~= at and less(id, at) then return 0 end
if read ~= '' then
  local moved = redis.pcall('XGROUP', 'SETID', stream, group, id, 'ENTRIESREAD', read)
  if not moved.err then return 1 end
  if not string.find(moved.err, 'wrong number of arguments') then return moved end
end
redis.call('XGROUP', 'SETID', stream, group, id)  -- before Redis 7
return 1
"""
)


def mirror(
    client: redis.Redis,
    group: str,
    position: Mapping[str, str],
    read: Mapping[str, int | None] | None = None,
    shown: Mapping[str, str] | None = None,
) -> None:
    """Move the consumer group of each stream to `position`.

    The committed state holds the position; the group only shows it in ``XINFO GROUPS``. A missing
    group is created. A missing stream is not.

    Parameters
    ----------
    client : redis.Redis
    group : str
    position : mapping of str to str
    read : mapping of str to (int or None), optional
        Number of entries that each stream ever had up to its position. Without the number, the
        server doesn't know the lag of a group that was moved.
    shown : mapping of str to str, optional
        Positions that the caller set before. A group that another worker has moved since then,
        beyond `position`, is not moved.
    """
    for stream, last_id in position.items():
        count, before = (read or {}).get(stream), (shown or {}).get(stream, "")
        client.eval(*mirror_command(group, stream, last_id, count, before)[1:])


def mirror_command(
    group: str, stream: str, last_id: str, count: int | None, shown: str = ""
) -> tuple[Any, ...]:
    """Return the command of `mirror` for one stream.

    Parameters
    ----------
    group, stream, last_id : str
    count : int or None
        Number of entries that the stream ever had up to `last_id`, if known.
    shown : str, default=""
        The position that the caller set before.
    """
    return ("EVAL", _MIRROR, 1, stream, group, last_id, "" if count is None else count, shown)
