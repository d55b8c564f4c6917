"""What a server tells of a stream: where it begins and ends, and how much of it is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

BEGINNING = "0-0"
"""The position before every entry."""

LESS = """
local function number_less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end
local function less(a, b)
  local ams, aseq = string.match(a, '(%d+)-?(%d*)')
  local bms, bseq = string.match(b, '(%d+)-?(%d*)')
  if ams ~= bms then return number_less(ams, bms) end
  return number_less(aseq, bseq)
end
local function named(pairs_of)
  local found = {}
  for i = 1, #pairs_of, 2 do found[pairs_of[i]] = pairs_of[i + 1] end
  return found
end
"""
"""For scripts: whether an ID is less than another, as text, since Lua's numbers hold 53 bits; and a
table of what XINFO answers."""

# Scripts, because XINFO STREAM sends the first and the last entry whole, however large they are.
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

LARGEST = (1 << 64) - 1
"""Largest part of an entry's ID."""

_NO_ENTRY = "18446744073709551615-18446744073709551615"
"""An ID that no entry has, to be told of the stream in any case."""


@dataclass(frozen=True)
class StreamInfo:
    """A stream at one moment.

    Parameters
    ----------
    length : int
        Entries that it has.
    last : str
        Newest ID that it ever gave out.
    added : int or None
        Entries that were ever added; None where the server doesn't count them (before Redis 7).
    first : str or None
        ID of the oldest entry that it has.
    deleted : bool or None
        Whether an entry was ever taken out by XDEL; None where the server doesn't know.
    """

    length: int
    last: str
    added: int | None
    first: str | None
    deleted: bool | None

    @property
    def removed(self) -> int | None:
        """Entries that it once had: as many as were trimmed, if none was deleted."""
        return None if self.added is None else self.added - self.length

    def trimmed_past(self, position: str) -> bool:
        """Whether every entry up to `position`, and maybe later ones, are gone."""
        return self.first is None or order(self.first) > order(position)


def order(entry_id: str | bytes) -> tuple[int, int]:
    """Return an entry ID as numbers that compare as the server compares IDs."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)


def before(entry_id: str) -> str:
    """Return the ID just before this one, so that reading after it begins with this one."""
    milliseconds, sequence = order(entry_id)
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    return f"{milliseconds - 1}-{LARGEST}" if milliseconds else BEGINNING


def look(client: redis.Redis, stream: str) -> StreamInfo | None:
    """Return what there is to know of a stream; None if there is no such key."""
    found = probe(client, stream, _NO_ENTRY)
    return found if isinstance(found, StreamInfo) else None


def probe(client: redis.Redis, stream: str, entry_id: str) -> StreamInfo | bool:
    """Return True if the stream has this entry, else what it is like; False if it isn't there.

    As streams are trimmed from their old end only, an entry that is there says that nothing
    after it was trimmed.
    """
    return probed(client.eval(_PROBE, 1, stream, entry_id))


def probe_command(stream: str, entry_id: str) -> tuple[str | int, ...]:
    """Return the command whose answer `probed` reads."""
    return "EVAL", _PROBE, 1, stream, entry_id


def probed(answer: Any) -> StreamInfo | bool:
    """Return what `probe` does, from the server's answer."""
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
    """Say whether a stream has an entry after its position, as far as the newest IDs tell."""
    found = ((look(client, stream), end) for stream, end in position.items())
    return any(info and info.length and order(info.last) > order(end) for info, end in found)


def next_size(client: redis.Redis, stream: str, position: str) -> tuple[bytes, int]:
    """Return the ID of the entry after `position`, and its bytes in a reply, without reading it."""
    answer: Any = client.eval(_NEXT, 1, stream, position)
    return answer[0], answer[1]


def newest_up_to(client: redis.Redis, stream: str, end: str) -> str:
    """Return the ID of the last entry up to `end`, without reading it; ``0-0`` if there is none.

    `end` is given as for XREVRANGE.
    """
    answer: Any = client.eval(_NEWEST, 1, stream, end)
    return bytes(answer).decode()


def last_size(client: redis.Redis, stream: str, end: str) -> tuple[bytes, int]:
    """Return ID and bytes of the last entry up to `end`, without reading it."""
    return next_size(client, stream, before(newest_up_to(client, stream, end)))


def entries_read(client: redis.Redis, position: Mapping[str, str]) -> dict[str, int]:
    """Return, for positions before the first read, how many entries each stream had up to there.

    A stream is left out where the server can't tell.
    """
    found = {stream: _entries_up_to(client, stream, at) for stream, at in position.items()}
    return {stream: count for stream, count in found.items() if count is not None}


def _entries_up_to(client: redis.Redis, stream: str, position: str) -> int | None:
    info = look(client, stream)
    if info is None:
        return 0 if position == BEGINNING else None
    if info.last == position:
        return info.added
    return info.removed if info.trimmed_past(position) else None
