"""Trims streams: removes learned entries that no consumer group needs, or all up to an ID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.store.ids import LESS, order

if TYPE_CHECKING:
    import redis

_MOST = 100_000
"""Maximum number of entries per call, so that the server isn't blocked for long."""

# Only whole nodes of the stream are removed ('~'), which is fast. MINID keeps the entry with this
# ID. So the newest learned entry stays, which shows that no later entry was trimmed.
_TRIM = (
    LESS
    + """
local stream, floor, age, keep, most = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local function lower(id) if id and less(id, floor) then floor = id end end

if redis.call('EXISTS', stream) == 0 then return 0 end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local found = named(group)
  lower(found['last-delivered-id'])
  if found['pending'] > 0 then lower(redis.call('XPENDING', stream, found['name'])[2]) end
end
if age ~= '' then
  local now = redis.call('TIME')
  lower(string.format('%.0f-0', math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - age)))
end
if keep ~= '' then most = math.min(most, redis.call('XLEN', stream) - keep) end
if most <= 0 then return 0 end
return redis.call('XTRIM', stream, 'MINID', '~', floor, 'LIMIT', string.format('%.0f', most))
"""
)


def trim(
    client: redis.Redis,
    stream: str,
    position: str,
    *,
    age: float | None = None,
    entries: int | None = None,
) -> int:
    """Remove old entries before `position`; return their number.

    Entries that a consumer group of the stream has not read or not acknowledged are kept, and all
    entries after them.

    Parameters
    ----------
    client : redis.Redis
    stream : str
    position : str
        ID of the last entry that is learned and committed.
    age : float, optional
        Keep entries younger than this number of seconds, by the server's clock and the IDs.
    entries : int, optional
        Minimum number of entries to keep.
    """
    age_ms = "" if age is None else int(age * 1000)
    keep = "" if entries is None else entries
    answer: Any = client.eval(_TRIM, 1, stream, position, age_ms, keep, _MOST)
    return int(answer)


def remove_up_to(client: redis.Redis, key: str, last: str) -> int:
    """Remove all entries of a stream up to the ID `last`; return their number.

    The stream remembers its newest ID, so the IDs of its next entries still rise.
    """
    number, sequence = order(last)
    after = f"{number}-{sequence + 1}"
    removed: Any = client.execute_command("XTRIM", key, "MINID", "=", after)  # type: ignore[no-untyped-call]
    return int(removed)
