"""How much a read asks for: about as much as suits, and less where the reply can't be taken.

Two limits can end a reply. Ours ends one that would fill the memory (`bounded`). The server's
(``client-output-buffer-limit``), or that of a proxy before it, closes the connection in the middle
of the reply. A lost connection doesn't say why it was lost, so the sign is that the same read
loses it twice, while the server answers a PING in between. Both are answered by asking for less.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import redis

from streamclust.store.faults import passes
from streamclust.store.history import HistoryChangedError
from streamclust.store.limits import ReplyTooLargeError
from streamclust.store.streams import next_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.store.raw_entries import RawEntries

    OnLess = Callable[[str], object]
    NextEntry = Callable[[], tuple[bytes, int]]

T = TypeVar("T")

READ_ENTRIES = 4096
READ_BYTES = 4 << 20
"""What one read asks of a stream at most: entries, and bytes as far as earlier entries tell."""

FIRST_READ = 16
"""Entries of the first read, when nothing tells how large they are."""

_LESS = 8
"""A reply that was too large is asked for again in parts of this size: an eighth."""

_READS_UNTIL_MORE = 1000
"""Reads after which twice as much is asked for again: the limit may have been raised."""


class ReplyLostError(ReplyTooLargeError):
    """Raised when the same read lost the connection twice, while the server answered a PING."""


class UnreadableError(redis.ConnectionError):
    """Raised when one entry or value can't be read, since its reply always loses the connection.

    It counts as a lost connection, and so passes: a person may raise the limit, or remove the
    entry.
    """


class ReadSize:
    """How many entries to ask for at a time.

    Parameters
    ----------
    read_bytes : int
        What a read asks for at most, as far as earlier entries tell.
    most : int
        Entries that a read asks for at most.
    on_less : callable, optional
        Given a sentence, whenever less is asked for because a reply was lost.

    Attributes
    ----------
    entry_bytes : float
        About the size of the largest of the last entries.
    """

    def __init__(
        self,
        read_bytes: int = READ_BYTES,
        most: int | None = None,
        on_less: OnLess = lambda _: None,
    ) -> None:
        self.most = READ_ENTRIES if most is None else min(most, READ_ENTRIES)
        self.entry_bytes = read_bytes / FIRST_READ
        self._wanted = self._bytes = read_bytes
        self._on_less = on_less
        self._reads = 0

    @property
    def next_count(self) -> int:
        """Entries that the next read should ask for."""
        return max(1, min(self.most, int(self._bytes / max(self.entry_bytes, 1.0))))

    def took(self, entries: RawEntries) -> int:
        """Note what a read brought (not nothing); return about how many bytes that is."""
        self.entry_bytes = max(float(entries[-1:].size), self.entry_bytes / 2.0)
        if self._bytes < self._wanted:
            self._reads += 1
            if self._reads == _READS_UNTIL_MORE:
                self._bytes, self._reads = min(2 * self._bytes, self._wanted), 0
        return entries.size

    def read(
        self,
        client: redis.Redis,
        ask: Callable[[int], T],
        count: int,
        key: str,
        after: str,
        next_entry: NextEntry | None = None,
    ) -> T:
        """Return what `ask` reads when given `count`, or less while the reply is too large.

        Parameters
        ----------
        client : redis.Redis
        ask : callable
            Given how many entries to ask for.
        count : int
        key, after : str
            What is read: the entries of a stream after this ID.
        next_entry : callable, optional
            Returns ID and bytes of the entry that comes first. Default: the one after `after`.

        Raises
        ------
        ReplyTooLargeError
            If one entry is larger than the client takes.
        UnreadableError
            If the connection is lost whenever one entry is read by itself.
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
        """Return how many entries to ask for in place of `count`, of which the reply failed.

        After a reply that was lost, later reads ask for less too.
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
    """Return what `ask` reads; ask once more if the connection was lost meanwhile.

    Raises
    ------
    ReplyLostError
        If it was lost again, though the server answers.
    redis.RedisError
        If the server doesn't answer, is another one by now, or refuses.
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
    """Return what `ask` reads of a key, of which no smaller part can be read.

    `describe` returns the words for it in an error. Default: the key and the length of its value.

    Raises
    ------
    UnreadableError
        If the connection is lost whenever it is read.
    """
    try:
        return read_whole(client, ask)
    except ReplyLostError as error:
        what = key
        with suppress(redis.ResponseError):  # not everybody may ask for these
            what = describe() if describe else f"{key} ({client.strlen(key):,} bytes)"
        raise UnreadableError(what) from error


def _unreadable(key: str, after: str, find: NextEntry, error: ReplyLostError) -> Exception:
    """Return the error of an entry that can't be read by itself."""
    what = f"the entry of {key} after {after}"
    with suppress(redis.ResponseError):  # not everybody may run scripts
        entry_id, size = find()
        if not entry_id and isinstance(error.__cause__, Exception):
            return error.__cause__  # there is no entry, so the size of one wasn't the reason
        what = f"entry {entry_id.decode()} of {key} ({size:,} bytes)"
    return UnreadableError(what)


def _check_answers(client: redis.Redis, error: redis.ConnectionError) -> None:
    """Raise the error unless it is a lost connection to a server that answers."""
    other = redis.BusyLoadingError | HistoryChangedError | UnreadableError
    if isinstance(error, other) or not passes(error):
        raise error
    client.ping()
