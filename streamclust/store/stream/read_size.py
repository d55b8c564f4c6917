"""The number of entries per read, which gets smaller when a reply fails.

Two limits can end a reply. The limit of streamclust protects the memory (`limits`). The limit of
the server (``client-output-buffer-limit``), or of a proxy, closes the connection in the middle of
the reply. A lost connection doesn't show its cause. If the same read loses the connection twice
while the server answers a PING in between, such a limit is assumed to be the cause. After both
limits the next read asks for fewer entries.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import redis

from streamclust.store.reply.limits import ReplyLostError, ReplyTooLargeError, UnreadableError
from streamclust.store.server.faults import passes
from streamclust.store.server.history import HistoryChangedError
from streamclust.store.stream.info import next_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.store.reply.raw_entries import RawEntries

    OnLess = Callable[[str], object]
    NextEntry = Callable[[], tuple[bytes, int]]

T = TypeVar("T")

READ_ENTRIES = 4096
READ_BYTES = 4 << 20
"""Maximum per read of a stream: entries, and bytes as estimated from earlier entries."""

FIRST_READ = 16
"""Entries of the first read, while the size of the entries is unknown."""

_LESS = 8
"""After a reply that failed, the next read asks for 1/8 of its entries."""

_READS_UNTIL_MORE = 1000
"""Number of reads after which the size is doubled, since the limit may have been raised."""


class ReadSize:
    """The number of entries of the next read.

    Parameters
    ----------
    read_bytes : int
        Maximum number of bytes per read, estimated from earlier entries.
    most : int
        Maximum number of entries per read.
    on_less : callable, optional
        Called with a message whenever reads become smaller because a reply was lost.

    Attributes
    ----------
    entry_bytes : float
        Approximate size of the largest recent entry.
    """

    def __init__(
        self,
        read_bytes: int = READ_BYTES,
        most: int | None = None,
        on_less: OnLess = lambda _: None,
    ) -> None:
        self.most = READ_ENTRIES if most is None else min(most, READ_ENTRIES)
        self.entry_bytes = read_bytes / FIRST_READ
        self._max_bytes = self._bytes = read_bytes
        self._on_less = on_less
        self._reads = 0

    @property
    def next_count(self) -> int:
        """Number of entries of the next read."""
        return max(1, min(self.most, int(self._bytes / max(self.entry_bytes, 1.0))))

    def record(self, entries: RawEntries) -> None:
        """Record the entries of a read; the last entry is enough."""
        self.entry_bytes = max(float(entries[-1:].size), self.entry_bytes / 2.0)
        if self._bytes < self._max_bytes:
            self._reads += 1
            if self._reads == _READS_UNTIL_MORE:
                self._bytes, self._reads = min(2 * self._bytes, self._max_bytes), 0

    def read(
        self,
        client: redis.Redis,
        ask: Callable[[int], T],
        count: int,
        key: str,
        after: str,
        next_entry: NextEntry | None = None,
    ) -> T:
        """Return ``ask(count)``; use a smaller count while the reply is too large.

        Parameters
        ----------
        client : redis.Redis
        ask : callable
            Reads the given number of entries.
        count : int
        key, after : str
            Stream, and ID after which its entries are read.
        next_entry : callable, optional
            Returns the ID and the bytes of the first of these entries. Default: of the entry that
            follows `after`.

        Raises
        ------
        ReplyTooLargeError
            If a single entry is larger than the client's limit.
        UnreadableError
            If each read of one single entry loses the connection.
        """
        while True:
            try:
                return read_whole(client, lambda: ask(count))  # noqa: B023
            except ReplyTooLargeError as error:
                if count > 1:
                    count = self.less(count, error, key, after)
                elif isinstance(error, ReplyLostError):
                    find = next_entry or (lambda: next_size(client, key, after))
                    raise _unreadable(key, after, find, error) from error
                else:
                    raise

    def less(self, count: int, error: ReplyTooLargeError, key: str, after: str) -> int:
        """Return a smaller count after the reply to a read of `count` entries failed.

        After a lost reply, later reads also become smaller.
        """
        fewer = max(1, count // _LESS)
        wanted = max(int(fewer * self.entry_bytes), 1)
        if isinstance(error, ReplyLostError) and wanted < self._bytes:
            self._bytes, self._reads = wanted, 0
            self._on_less(
                f"the connection was lost twice in the middle of the reply to a read of {count} "
                f"entries of {key} after {after}; asking for {fewer}. The server's "
                "client-output-buffer-limit for normal clients, or the limit of a proxy, may be "
                "too low"
            )
        return fewer


def read_whole(client: redis.Redis, ask: Callable[[], T]) -> T:
    """Return the result of `ask`; call it once more if the connection was lost.

    Raises
    ------
    ReplyLostError
        If the connection was lost again while the server answers a PING.
    redis.RedisError
        If the server doesn't answer, has other data, or refuses the command.
    """
    try:
        return ask()
    except redis.ConnectionError as error:
        _check_answers(client, error)
    try:
        return ask()
    except redis.ConnectionError as error:
        _check_answers(client, error)
        raise ReplyLostError("the connection was lost twice in the middle of a reply") from error


def read_value(
    client: redis.Redis, key: str, ask: Callable[[], T], describe: Callable[[], str] | None = None
) -> T:
    """Return the result of `ask`, which reads a value of a key that can't be read in parts.

    `describe` returns the name of the value for an error. Default: the key and the length of its
    value.

    Raises
    ------
    UnreadableError
        If each read loses the connection.
    """
    try:
        return read_whole(client, ask)
    except ReplyLostError as error:
        what = key
        with suppress(redis.ResponseError):  # the user may lack the right to run these commands
            what = describe() if describe else f"{key} ({client.strlen(key):,} bytes)"
        raise UnreadableError(what) from error


def _unreadable(key: str, after: str, find: NextEntry, error: ReplyLostError) -> Exception:
    """Return the error for a single entry that can't be read."""
    what = f"the entry of {key} after {after}"
    with suppress(redis.ResponseError):  # the user may lack the right to run scripts
        entry_id, size = find()
        if not entry_id and isinstance(error.__cause__, Exception):
            return error.__cause__  # there is no entry, so its size isn't the cause
        what = f"entry {entry_id.decode()} of {key} ({size:,} bytes)"
    return UnreadableError(what)


def _check_answers(client: redis.Redis, error: redis.ConnectionError) -> None:
    """Raise the error, except if a connection was lost and the server answers a PING."""
    other = redis.BusyLoadingError | HistoryChangedError | UnreadableError
    if isinstance(error, other) or not passes(error):
        raise error
    client.ping()
