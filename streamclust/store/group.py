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
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.bounded import ReplyTooLargeError
from streamclust.store.gaps import Gap
from streamclust.store.reader import READ_BYTES, READ_ENTRIES
from streamclust.store.streams import LESS, order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RELEASED_MS = 365 * 86_400_000
"""Idle time given to entries that are handed back: more than anybody waits for."""

_RELEASED = 10_000
"""Entries that are handed back at once; a member has far fewer."""

_CLAIMED = 256
"""Entries that one XAUTOCLAIM looks for."""


# What is gone counts as read from then on, so that one member is told of it, once.
_MISSING = (
    LESS
    + """
local stream, group = KEYS[1], ARGV[1]
if redis.call('EXISTS', stream) == 0 then return {} end
local found
for _, each in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  each = named(each)
  if each['name'] == group then found = each end
end
if not found or found['last-delivered-id'] == '0-0' then return {} end
local info, at = named(redis.call('XINFO', 'STREAM', stream)), found['last-delivered-id']
local first = info['first-entry'] and info['first-entry'][1]
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
"""
)


@dataclass(frozen=True)
class Delivery:
    """Entries that were handed to this member.

    Parameters
    ----------
    entries : list of (ID, fields and values)
        In order.
    gone : tuple of bytes
        IDs of entries that were deleted or trimmed from the stream before they were done.
    too_large : bool
        Whether it is one entry that is too large to be read, and so has no fields.
    """

    entries: list[tuple[bytes, list[bytes]]]
    gone: tuple[bytes, ...] = ()
    too_large: bool = False

    @property
    def ids(self) -> list[bytes]:
        """IDs of the entries and of those that are gone."""
        return [*(entry_id for entry_id, _ in self.entries), *self.gone]

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
        Its replies are taken raw, so it should have no other user.
    stream, group : str
    count : int
        Entries that one read asks for at most.
    name : str, optional
        The member's own, if it has one already.
    """

    def __init__(
        self, client: redis.Redis, stream: str, group: str, count: int, name: str = ""
    ) -> None:
        for command in ("XREADGROUP", "XPENDING", "XAUTOCLAIM"):
            client.set_response_callback(command, lambda reply, **_: reply)
        self._client = client
        self._stream = stream
        self._group = group
        self._count = min(count, READ_ENTRIES)
        self._entry_bytes = READ_BYTES / 16.0
        self.name = name or member_name()

    def join(self, start: str) -> None:
        """Make the group where it is missing, to begin after the ID `start` (``$``: the end)."""
        try:
            self._client.xgroup_create(self._stream, self._group, start, mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def leave(self) -> None:
        """Leave the group; what this member had not finished is there for others at once."""
        if self.release():
            return  # the server would drop these entries with the member
        self._client.xgroup_delconsumer(self._stream, self._group, self.name)

    def read_new(self, block_ms: int | None) -> Delivery:
        """Return entries that nobody has had yet; wait up to `block_ms` for the first.

        Raises
        ------
        ReplyTooLargeError
            If the client doesn't take so much at once. The entries are this member's own all the
            same.
        """
        return self._read(">", self._next_count, block_ms)

    def missing(self) -> Gap | None:
        """Return what was trimmed before any member was given it; each gap to one member, once."""
        answer: Any = self._client.eval(_MISSING, 1, self._stream, self._group)
        if not answer:
            return None
        after, count = answer
        return Gap(self._stream, after.decode(), entries=count if count > 0 else None)

    def read_own(self) -> Delivery:
        """Return the oldest entries that this member has but has not finished."""
        count = self._next_count
        while count > 1:
            with suppress(ReplyTooLargeError):
                return self._read("0", count, None)
            count = max(1, count // 8)
        try:
            return self._read("0", 1, None)
        except ReplyTooLargeError:
            return Delivery([(entry_id, []) for entry_id in self._own(1)], too_large=True)

    @property
    def _next_count(self) -> int:
        return max(1, min(self._count, int(READ_BYTES / max(self._entry_bytes, 1.0))))

    def _own(self, count: int) -> list[bytes]:
        own: Any = self._client.xpending_range(
            self._stream, self._group, "-", "+", count, consumername=self.name
        )
        return [entry_id for entry_id, *_ in own]

    def _read(self, after: str, count: int, block_ms: int | None) -> Delivery:
        reply: Any = self._client.xreadgroup(
            self._group, self.name, {self._stream: after}, count=count, block=block_ms
        )
        entries = [] if not reply else reply[0][1]
        there = [(entry_id, flat) for entry_id, flat in entries if flat is not None]
        if there:
            size = float(sum(map(len, there[-1][1])))
            self._entry_bytes = max(size, self._entry_bytes / 2.0)
        return Delivery(there, tuple(entry_id for entry_id, flat in entries if flat is None))

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
            [entry for entry in delivery.entries if order(entry[0]) < stop],
            tuple(entry_id for entry_id in delivery.gone if order(entry_id) < stop),
        )

    @property
    def idle(self) -> bool:
        """Whether no member has anything unfinished."""
        return not self._pending("-", "+", 1)

    def _pending(self, start: str | bytes, stop: str | bytes, count: int) -> list[Any]:
        reply: Any = self._client.xpending_range(self._stream, self._group, start, stop, count)
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
            reply: Any = self._client.execute_command(  # type: ignore[no-untyped-call]
                "XAUTOCLAIM",
                self._stream,
                self._group,
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

    def keep(self, ids: Sequence[bytes]) -> None:
        """Show that this member still works on its entries."""
        self._claim(ids, 0)

    def release(self) -> int:
        """Let others take what this member has at once; return how much that is."""
        ids = self._own(_RELEASED)
        self._claim(ids, _RELEASED_MS)
        return len(ids)

    def _claim(self, ids: Sequence[bytes], idle_ms: int) -> None:
        if ids:
            self._client.xclaim(
                self._stream, self._group, self.name, 0, list(ids), idle=idle_ms, justid=True
            )

    def done(self, ids: Iterable[bytes]) -> None:
        """Acknowledge entries, whoever has them by now."""
        known = list(ids)
        if known:
            self._client.xack(self._stream, self._group, *known)
