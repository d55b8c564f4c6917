"""A consumer group whose members share a stream, and finish its entries in order.

The group hands out entries in the order of the stream, each to one member, and keeps them as
*pending* until they are acknowledged. So a member that comes with entries from `first` on knows
that its turn has come as soon as no smaller ID is pending: all before it is done. Entries that a
dead member left are taken over after a while; a member that only slept finds its entries done.
"""

from __future__ import annotations

import os
import secrets
import socket
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.gaps import Gap
from streamclust.store.limits import ReplyTooLargeError
from streamclust.store.raw_entries import NO_ENTRIES, ListEntries, RawEntries, by_stream
from streamclust.store.read_size import ReadSize
from streamclust.store.streams import LESS, last_size, order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RELEASED_MS = 365 * 86_400_000
"""Idle time given to entries that are handed back: more than anybody waits for."""

_OWN = 10_000
"""Entries that are handed back, or kept, at once; a member has far fewer."""

_CLAIMED = 256
"""Entries that one XAUTOCLAIM looks for."""


# Only the old end is trimmed: an entry up to `newest` says that nothing after it was. What is gone
# counts as read from then on, so that one member is told of it, once.
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
"""For scripts: what a group was never given of a stream, of which `newest` was. Returns
nothing, or the last ID that was given out and how many entries are missing; -1 if nobody knows."""

# The server takes the count of a group that begins anywhere for unknown, also where it knows it.
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

# XGROUP DELCONSUMER drops what is pending, so this looks first. An encoder that is deleted while it
# sleeps becomes a consumer again by its next read.
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
    """Entries that were handed to this member.

    Parameters
    ----------
    entries : RawEntries
        In order.
    gone : tuple of bytes
        IDs of entries that were deleted or trimmed from the stream before they were done.
    too_large : bool
        Whether it is one entry that is too large to be read, and so has no fields.
    """

    entries: RawEntries = NO_ENTRIES
    gone: tuple[bytes, ...] = ()
    too_large: bool = False

    @property
    def ids(self) -> list[bytes]:
        """IDs of the entries and of those that are gone, in order."""
        ids = self.entries.ids()
        return sorted([*ids, *self.gone], key=order) if self.gone else ids

    def __bool__(self) -> bool:
        return bool(self.entries or self.gone)


def member_name() -> str:
    """Return a name that no other member has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class GroupMember:
    """One member of a consumer group, on one stream.

    Parameters
    ----------
    client : redis.Redis
        A raw client; see `Server.raw_client`.
    stream, group : str
    size : ReadSize
        How much a read asks for; of all the sessions of this member.
    name : str, optional
        The member's own, if it has one already.

    Attributes
    ----------
    newest : bytes
        Newest ID that this member was given as a new one.
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
        """Make the group where it is missing, to begin after the ID `start` (``$``: the end)."""
        self.client.eval(_JOIN, 1, self.stream, self.group, start)

    def leave(self) -> None:
        """Leave the group; what this member had not finished is there for others at once."""
        self.release()
        # A read that was broken off may still bring this member entries: looked at in one step.
        self.client.eval(_REMOVE, 1, self.stream, self.group, self.name, "")

    def remove_dead(self, idle_ms: int) -> int:
        """Remove other members without a sign for `idle_ms` that have nothing unfinished.

        Returns
        -------
        int
            How many were removed.
        """
        removed: Any = self.client.eval(_REMOVE, 1, self.stream, self.group, self.name, idle_ms)
        return int(removed)

    def read_new(self, block_ms: int | None) -> Delivery:
        """Return entries that nobody has had yet; wait up to `block_ms` for the first.

        Raises
        ------
        ReplyTooLargeError
            If the client doesn't take so much at once. The entries are this member's own all the
            same.
        """
        return self._read(">", self._size.next_count, block_ms)

    def new_call(self, block_ms: int | None) -> tuple[str | int, ...]:
        """Return the command that `read_new` sends."""
        return self._call(">", self._size.next_count, block_ms)

    def missing(self) -> Gap | None:
        """Return what was trimmed before any member was given it; each gap to one member, once."""
        return self.as_gap(self.client.eval(_MISSING, 1, self.stream, self.group, self.newest))

    def as_gap(self, found: Any) -> Gap | None:
        """Return what the script's `find_gap` has found."""
        if not found:
            return None
        after, count = found
        return Gap(self.stream, after.decode(), entries=count if count > 0 else None)

    def read_own(self) -> Delivery:
        """Return the oldest entries that this member has but has not finished.

        Raises
        ------
        UnreadableError
            If the connection is lost whenever one of them is read by itself.
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
                ListEntries([(entry_id, []) for entry_id in self._own(1)]), too_large=True
            )

    def _next_own(self) -> tuple[bytes, int]:
        """Return ID and bytes of the oldest entry that this member has."""
        for entry_id in self._own(1):
            return last_size(self.client, self.stream, entry_id.decode())
        return b"", 0

    def _own(self, count: int) -> list[bytes]:
        own: Any = self.client.xpending_range(
            self.stream, self.group, "-", "+", count, consumername=self.name
        )
        return [entry_id for entry_id, *_ in own]

    def _call(self, after: str, count: int, block_ms: int | None) -> tuple[str | int, ...]:
        block = () if block_ms is None else ("BLOCK", block_ms)
        who = ("XREADGROUP", "GROUP", self.group, self.name, "COUNT", count)
        return (*who, *block, "STREAMS", self.stream, after)

    def _read(self, after: str, count: int, block_ms: int | None) -> Delivery:
        call = self._call(after, count, block_ms)
        return self.delivered(self.client.execute_command(*call), new=after == ">")  # type: ignore[no-untyped-call]

    def delivered(self, reply: Any, *, new: bool = True) -> Delivery:
        """Return what the reply to a read holds."""
        entries = by_stream(reply).get(self.stream, NO_ENTRIES)
        gone = entries.gone
        there = entries[~gone] if gone.any() else entries
        if there:
            self._size.took(there)
            if new:
                [self.newest] = there[-1:].ids()
        return Delivery(there, tuple(entries[gone].ids()) if gone.any() else ())

    def before(self, first: bytes, after: str) -> bool:
        """Say whether entries after `after` and before `first` are still pending."""
        return bool(self._pending(f"({after}", b"(" + first, 1))

    def unbroken(self, delivery: Delivery) -> Delivery:
        """Return the first entries of `delivery` that have none of another member's in between."""
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
        """Whether no member has anything unfinished."""
        return not self._pending("-", "+", 1)

    def _pending(self, start: str | bytes, stop: str | bytes, count: int) -> list[Any]:
        reply: Any = self.client.xpending_range(self.stream, self.group, start, stop, count)
        return [(entry_id, member) for entry_id, member, *_ in reply]

    def take_over(self, idle_ms: int) -> tuple[int, int]:
        """Take all entries that others have had for `idle_ms` without a sign.

        Returns
        -------
        tuple of int
            How many were taken, and how many were gone from the stream.
        """
        cursor, taken, gone = b"0-0", 0, 0
        while True:
            reply: Any = self.client.execute_command(  # type: ignore[no-untyped-call]
                "XAUTOCLAIM",
                self.stream,
                self.group,
                self.name,
                idle_ms,
                cursor,
                "COUNT",
                _CLAIMED,
                "JUSTID",
            )
            cursor, ids, *deleted = reply
            taken += len(ids)
            gone += len(deleted[0]) if deleted else 0  # before Redis 7 these are read as None
            if cursor == b"0-0":
                return taken, gone

    def keep(self) -> None:
        """Show that this member still works on its entries."""
        self._claim(self._own(_OWN), 0)

    def release(self) -> int:
        """Let others take what this member has at once; return how much that is."""
        ids = self._own(_OWN)
        self._claim(ids, _RELEASED_MS)
        return len(ids)

    def _claim(self, ids: Sequence[bytes], idle_ms: int) -> None:
        if ids:
            self.client.xclaim(
                self.stream, self.group, self.name, 0, list(ids), idle=idle_ms, justid=True
            )

    def done(self, ids: Iterable[bytes]) -> None:
        """Acknowledge entries, whoever has them by now."""
        known = list(ids)
        if known:
            self.client.xack(self.stream, self.group, *known)
