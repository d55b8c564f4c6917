"""A consumer group whose members share a stream, and finish its entries in order.

The group delivers entries in the order of the stream, each entry to one member. An entry is
*pending* until it is acknowledged. It is the turn of a member as soon as no ID smaller than those
of its entries is pending. After some time, other members take over the entries of a dead member. If
the member was only paused, its entries are finished when it continues.
"""

from __future__ import annotations

import os
import secrets
import socket
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from streamclust.formats.lost import Gap
from streamclust.store.ids import LESS, order
from streamclust.store.reply.limits import ReplyTooLargeError
from streamclust.store.reply.raw_entries import NO_ENTRIES, ListEntries, RawEntries, by_stream
from streamclust.store.stream.info import last_size
from streamclust.store.stream.read_size import ReadSize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RELEASED_MS = 365 * 86_400_000
"""Idle time of entries that a member releases: longer than any takeover time."""

_OWN = 10_000
"""Maximum number of entries that are released, or claimed again, at once; a member has fewer."""

_CLAIMED = 256
"""Maximum number of entries per XAUTOCLAIM."""


# Only the old end of a stream is trimmed, so if an entry up to `newest` exists, no later entry was
# trimmed. The script then counts the trimmed entries as read, so that each gap is reported once.
FIND_GAP = (
    LESS
    + """
local function find_gap(stream, group, newest)
  if redis.call('EXISTS', stream) == 0 then return {} end
  local info, found = named(redis.call('XINFO', 'STREAM', stream)), nil
  local first = info['first-entry'] and info['first-entry'][1]
  if first and not less(newest, first) then return {} end
  for _, each in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    each = named(each)
    if each['name'] == group then found = each end
  end
  if not found or found['last-delivered-id'] == '0-0' then return {} end
  local at = found['last-delivered-id']
  if not less(at, first or info['last-generated-id']) then return {} end
  local added, read, missing = info['entries-added'], found['entries-read'], -1
  local gone = added and added - info['length']
  if gone and read then missing = gone - read end
  if missing == 0 then return {} end
  if gone then
    redis.call('XGROUP', 'SETID', stream, group, first and at or info['last-generated-id'],
               'ENTRIESREAD', string.format('%.0f', gone))
  elseif not first then
    redis.call('XGROUP', 'SETID', stream, group, info['last-generated-id'])
  end
  return {at, missing}
end
"""
)
"""A function for scripts that finds entries which were trimmed before their delivery to a group.
`newest` is the newest ID that was delivered to this member. It returns nothing, or the last ID that
was delivered and the number of missing entries; -1 if this is unknown."""

# XGROUP CREATE sets the group's count to unknown, also where the server could know it.
_JOIN = (
    LESS
    + """
local stream, group, start = KEYS[1], ARGV[1], ARGV[2]
local made = redis.pcall('XGROUP', 'CREATE', stream, group, start, 'MKSTREAM')
if made.err then
  if string.find(made.err, 'BUSYGROUP') then return 0 end
  return made
end
local info, read = named(redis.call('XINFO', 'STREAM', stream)), nil
local added, first, last = info['entries-added'], info['first-entry'], info['last-generated-id']
if start == '$' then start = last end
if added and not less(start, last) then
  read = added
elseif added and (not first or less(start, first[1])) then
  read = added - info['length']
end
if read then
  redis.call('XGROUP', 'SETID', stream, group, start, 'ENTRIESREAD', string.format('%.0f', read))
end
return 1
"""
)

# XGROUP DELCONSUMER drops pending entries, so the script checks for them first. If a paused encoder
# is removed, its next read adds it again.
_REMOVE = """
local stream, group, name, idle = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local consumers, removed = redis.pcall('XINFO', 'CONSUMERS', stream, group), 0
if consumers.err then return consumers end
for _, pairs_of in ipairs(consumers) do
  local each = {}
  for i = 1, #pairs_of, 2 do each[pairs_of[i]] = pairs_of[i + 1] end
  local own = each['name'] == name
  local wanted = (idle and not own and each['idle'] >= idle) or (own and not idle)
  if wanted and each['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, each['name'])
    removed = removed + 1
  end
end
return removed
"""

_MISSING = FIND_GAP + "return find_gap(KEYS[1], ARGV[1], ARGV[2])"


@dataclass(frozen=True)
class Delivery:
    """Entries that were delivered to this member.

    Parameters
    ----------
    entries : RawEntries
        In order.
    gone : tuple of bytes
        IDs of entries that were deleted or trimmed from the stream before they were finished.
    too_large : bool
        Whether this is a single entry that is too large to be read. It has no fields.
    """

    entries: RawEntries = NO_ENTRIES
    gone: tuple[bytes, ...] = ()
    too_large: bool = False

    @property
    def ids(self) -> list[bytes]:
        """IDs of the entries, including those that are gone, in order."""
        ids = self.entries.ids()
        return sorted([*ids, *self.gone], key=order) if self.gone else ids

    def __bool__(self) -> bool:
        return bool(self.entries or self.gone)


def member_name() -> str:
    """Return a unique name for a member."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class GroupMember:
    """One member of a consumer group, on one stream.

    Parameters
    ----------
    client : redis.Redis
        A raw client; see `Server.raw_client`.
    stream, group : str
    size : ReadSize
        Size of the next read; shared by all sessions of this member.
    name : str, optional
        Name that the member had in earlier sessions.

    Attributes
    ----------
    newest : bytes
        Newest ID that was delivered to this member as new.
    """

    def __init__(
        self, client: redis.Redis, stream: str, group: str, size: ReadSize, name: str = ""
    ) -> None:
        self.client = client
        self.stream = stream
        self.group = group
        self._size = size
        self.name = name or member_name()
        self.newest = b"0-0"

    def join(self, start: str) -> None:
        """Create the group if it doesn't exist, at the position `start` (``$`` for the end)."""
        self.client.eval(_JOIN, 1, self.stream, self.group, start)

    def leave(self) -> None:
        """Leave the group. Other members can take over its unfinished entries at once."""
        self.release()
        # A read that was interrupted may still deliver entries, so the script checks again.
        self.client.eval(_REMOVE, 1, self.stream, self.group, self.name, "")

    def remove_dead(self, idle_ms: int) -> int:
        """Remove other members that were idle for `idle_ms` and have no unfinished entries.

        Returns
        -------
        int
            Number of removed members.
        """
        removed: Any = self.client.eval(_REMOVE, 1, self.stream, self.group, self.name, idle_ms)
        return int(removed)

    def read_new(self, block_ms: int | None) -> Delivery:
        """Return entries that weren't delivered before; wait up to `block_ms` for the first.

        Raises
        ------
        ReplyTooLargeError
            If the reply is larger than the client's limit. The entries still belong to this member.
        """
        return self._read(">", self._size.next_count, block_ms)

    def read_new_command(self, block_ms: int | None) -> tuple[str | int, ...]:
        """Return the command of `read_new`."""
        return self._call(">", self._size.next_count, block_ms)

    def find_gap(self) -> Gap | None:
        """Return entries that were trimmed before their delivery; only one member gets each gap."""
        return self.gap_of(self.client.eval(_MISSING, 1, self.stream, self.group, self.newest))

    def gap_of(self, found: Any) -> Gap | None:
        """Return the gap in the result of the script function `find_gap`."""
        if not found:
            return None
        after, count = found
        return Gap(self.stream, after.decode(), entries=count if count > 0 else None)

    def read_own(self) -> Delivery:
        """Return the oldest unfinished entries of this member.

        Raises
        ------
        UnreadableError
            If each read of one single entry loses the connection.
        """
        try:
            return self._size.read(
                self.client,
                lambda count: self._read("0", count, None),
                self._size.next_count,
                f"{self.stream} that this encoder has",
                "0-0",
                self._next_own,
            )
        except ReplyTooLargeError:
            return Delivery(
                ListEntries([(entry_id, []) for entry_id in self._own_ids(1)]), too_large=True
            )

    def _next_own(self) -> tuple[bytes, int]:
        """Return the ID and the bytes of the oldest unfinished entry of this member."""
        for entry_id in self._own_ids(1):
            return last_size(self.client, self.stream, entry_id.decode())
        return b"", 0

    def _own_ids(self, count: int) -> list[bytes]:
        own: Any = self.client.xpending_range(
            self.stream, self.group, "-", "+", count, consumername=self.name
        )
        return [entry_id for entry_id, *_ in own]

    def _call(self, after: str, count: int, block_ms: int | None) -> tuple[str | int, ...]:
        block = () if block_ms is None else ("BLOCK", block_ms)
        read = ("XREADGROUP", "GROUP", self.group, self.name, "COUNT", count)
        return (*read, *block, "STREAMS", self.stream, after)

    def _read(self, after: str, count: int, block_ms: int | None) -> Delivery:
        call = self._call(after, count, block_ms)
        return self.delivery_of(self.client.execute_command(*call), new=after == ">")  # type: ignore[no-untyped-call]

    def delivery_of(self, reply: Any, *, new: bool = True) -> Delivery:
        """Return the entries in the reply to a read."""
        entries = by_stream(reply).get(self.stream, NO_ENTRIES)
        is_gone = entries.gone
        gone: tuple[bytes, ...] = ()
        if is_gone.any():
            entries, gone = entries[~is_gone], tuple(entries[is_gone].ids())
        if entries:
            last = entries[-1:]
            self._size.record(last)
            if new:
                [self.newest] = last.ids()
        return Delivery(entries, gone)

    def has_pending_between(self, first: bytes, after: str) -> bool:
        """Return whether entries after `after` and before `first` are pending."""
        return bool(self._pending(f"({after}", b"(" + first, 1))

    def before_others(self, delivery: Delivery) -> Delivery:
        """Return the entries of `delivery` before the first pending entry of another member."""
        ids = delivery.ids
        pending = self._pending(min(ids, key=order), max(ids, key=order), 2 * len(ids) + 1)
        others = [order(each[0]) for each in pending if each[1] != self.name.encode()]
        if not others:
            return delivery
        stop = min(others)
        return Delivery(
            delivery.entries[: bisect_left(delivery.entries.ids(), stop, key=order)],
            tuple(entry_id for entry_id in delivery.gone if order(entry_id) < stop),
        )

    @property
    def idle(self) -> bool:
        """Whether no member has unfinished entries."""
        return not self._pending("-", "+", 1)

    def _pending(self, start: str | bytes, stop: str | bytes, count: int) -> list[Any]:
        reply: Any = self.client.xpending_range(self.stream, self.group, start, stop, count)
        return [(entry_id, member) for entry_id, member, *_ in reply]

    def take_over(self, idle_ms: int) -> tuple[int, int]:
        """Take over all entries of other members that were idle for `idle_ms`.

        Returns
        -------
        tuple of int
            Number of entries taken over, and number of entries that are gone from the stream.
        """
        cursor, taken, gone = b"0-0", 0, 0
        while True:
            call = self.claim_command(idle_ms, cursor)
            reply: Any = self.client.execute_command(*call)  # type: ignore[no-untyped-call]
            cursor, ids, *deleted = reply
            taken += len(ids)
            gone += len(deleted[0]) if deleted else 0  # before Redis 7, they are read as None
            if cursor == b"0-0":
                return taken, gone

    def claim_command(self, idle_ms: int, cursor: bytes = b"0-0") -> tuple[Any, ...]:
        """Return a command that takes over some entries of members that were idle for `idle_ms`."""
        claim = ("XAUTOCLAIM", self.stream, self.group, self.name, idle_ms, cursor)
        return (*claim, "COUNT", _CLAIMED, "JUSTID")

    def reset_idle_time(self) -> None:
        """Reset the idle time of this member's unfinished entries."""
        self._claim(self._own_ids(_OWN), 0)

    def release(self) -> int:
        """Let other members take over its entries at once; return their number."""
        ids = self._own_ids(_OWN)
        self._claim(ids, _RELEASED_MS)
        return len(ids)

    def _claim(self, ids: Sequence[bytes], idle_ms: int) -> None:
        if ids:
            self.client.xclaim(
                self.stream, self.group, self.name, 0, list(ids), idle=idle_ms, justid=True
            )

    def acknowledge(self, ids: Iterable[bytes]) -> None:
        """Acknowledge entries, also if another member took them over."""
        known = list(ids)
        if known:
            self.client.xack(self.stream, self.group, *known)
