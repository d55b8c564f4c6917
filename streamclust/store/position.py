"""Positions on the points' streams: where a new model begins, and the mirror for people's tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.errors import ServerError
from streamclust.store.streams import LESS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis


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


# One step, which looks first: a worker that slept after its commit must not move the group back.
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

    The state is the truth; the group only shows it in ``XINFO GROUPS``. It is made where it is
    missing, but a stream is not.

    Parameters
    ----------
    client : redis.Redis
    group : str
    position : mapping of str to str
    read : mapping of str to (int or None), optional
        How many entries each stream had up to there, since else the server can't tell the lag of a
        group that was moved.
    shown : mapping of str to str, optional
        Where the caller put the groups before. One that another worker has moved since, and further
        than `position`, is left there.
    """
    for stream, last_id in position.items():
        count, before = (read or {}).get(stream), (shown or {}).get(stream, "")
        known = "" if count is None else count
        client.eval(_MIRROR, 1, stream, group, last_id, known, before)
