"""Facts about a stream: its first and last entry, and the number of removed entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamclust.store.ids import BEGINNING, id_before, order

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

# These are scripts, because XINFO STREAM returns the whole first and last entry, of any size.
_PROBE = """
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1], 'COUNT', 1) == 1 then return 'THERE' end
if redis.call('EXISTS', KEYS[1]) == 0 then return 'NO STREAM' end
local info, found = redis.call('XINFO', 'STREAM', KEYS[1]), {}
for i = 1, #info, 2 do found[info[i]] = info[i + 1] end
local first = found['first-entry']
return {found['length'], found['last-generated-id'], found['entries-added'] or -1,
        first and first[1] or '', found['max-deleted-entry-id'] or ''}
"""

# Sizes are those of a reply: each text with its length and two line ends.
_NEXT = """
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1)
if #found == 0 then return {'', 0} end
local size = 0
for _, text in ipairs(found[1][2]) do size = size + #text + #tostring(#text) + 5 end
return {found[1][1], size}
"""

_NEWEST = """
local found = redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', 1)
return found[1] and found[1][1] or '0-0'
"""

NO_ENTRY = "18446744073709551615-18446744073709551615"
"""An ID that no entry has, so that a probe always returns the stream's info."""


@dataclass(frozen=True)
class StreamInfo:
    """A stream at one point in time.

    Parameters
    ----------
    length : int
        Number of its entries.
    last : str
        Newest ID that it ever had.
    added : int or None
        Number of entries ever added; None if unknown (before Redis 7).
    first : str or None
        ID of its oldest entry.
    deleted : bool or None
        Whether an entry was ever removed by XDEL; None if unknown.
    """

    length: int
    last: str
    added: int | None
    first: str | None
    deleted: bool | None

    @property
    def removed(self) -> int | None:
        """Number of removed entries, trimmed or deleted; None if unknown."""
        return None if self.added is None else self.added - self.length

    def trimmed_past(self, position: str) -> bool:
        """Return whether all entries up to `position`, and possibly later ones, were removed."""
        return self.first is None or order(self.first) > order(position)


def look(client: redis.Redis, stream: str) -> StreamInfo | None:
    """Return the info of a stream; None if the key doesn't exist."""
    found = probe(client, stream, NO_ENTRY)
    return found if isinstance(found, StreamInfo) else None


def look_command(stream: str) -> tuple[str | int, ...]:
    """Return the command of `look`."""
    return probe_command(stream, NO_ENTRY)


def probe(client: redis.Redis, stream: str, entry_id: str) -> StreamInfo | bool:
    """Return True if the stream has this entry, else the stream's info; False without a stream.

    Streams are trimmed only from their old end. So if the entry exists, no later entry was trimmed.
    """
    return probed(client.eval(_PROBE, 1, stream, entry_id))


def probe_command(stream: str, entry_id: str) -> tuple[str | int, ...]:
    """Return the command of `probe`."""
    return "EVAL", _PROBE, 1, stream, entry_id


def probed(answer: Any) -> StreamInfo | bool:
    """Return the result of `probe` from the server's reply."""
    if isinstance(answer, bytes):
        return answer == b"THERE"
    length, last, added, first, deleted = answer
    return StreamInfo(
        length=length,
        last=last.decode(),
        added=None if added < 0 else added,
        first=first.decode() or None,
        deleted=order(deleted) > (0, 0) if deleted else None,
    )


def any_after(client: redis.Redis, position: Mapping[str, str]) -> bool:
    """Return whether a stream has an entry after its position, from the newest IDs."""
    return any(
        has_entry_after(client.eval(_PROBE, 1, stream, NO_ENTRY), end)
        for stream, end in position.items()
    )


def has_entry_after(answer: Any, position: str) -> bool:
    """Return whether a stream has an entry after its position, from the reply to `look_command`."""
    info = probed(answer)
    if not isinstance(info, StreamInfo):
        return False
    return info.length > 0 and order(info.last) > order(position)


def ends_at(answer: Any, position: str) -> bool:
    """Return whether the newest ID of a stream is `position`, from the reply to `look_command`."""
    info = probed(answer)
    return isinstance(info, StreamInfo) and info.last == position


def next_size(client: redis.Redis, stream: str, position: str) -> tuple[bytes, int]:
    """Return the ID of the entry after `position`, and its size in a reply, without reading it."""
    answer: Any = client.eval(_NEXT, 1, stream, position)
    return answer[0], answer[1]


def newest_up_to(client: redis.Redis, stream: str, end: str) -> str:
    """Return the ID of the last entry up to `end`, without reading it; ``0-0`` if there is none.

    `end` has the syntax of XREVRANGE.
    """
    answer: Any = client.eval(_NEWEST, 1, stream, end)
    return bytes(answer).decode()


def last_size(client: redis.Redis, stream: str, end: str) -> tuple[bytes, int]:
    """Return the ID and the bytes of the last entry up to `end`, without reading it."""
    return next_size(client, stream, id_before(newest_up_to(client, stream, end)))


def entries_read(client: redis.Redis, position: Mapping[str, str]) -> dict[str, int]:
    """Return the number of entries that each stream ever had up to its position.

    Streams with an unknown number are left out. The positions are those before the first read.
    """
    found = {
        stream: _entries_up_to(client, stream, last_id) for stream, last_id in position.items()
    }
    return {stream: count for stream, count in found.items() if count is not None}


def _entries_up_to(client: redis.Redis, stream: str, position: str) -> int | None:
    info = look(client, stream)
    if info is None:
        return 0 if position == BEGINNING else None
    if info.last == position:
        return info.added
    return info.removed if info.trimmed_past(position) else None
