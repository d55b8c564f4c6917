"""Gaps: entries that were gone before they were read. They are counted, never skipped in silence.

A stream numbers nothing but the entries that were ever added to it (``entries-added``, from Redis 7
on). So a reader that knows how many there were up to its position can tell, when the next entry
that it gets is not the next one that was added, how many are missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from streamclust.store.streams import BEGINNING, StreamInfo, look, order, probe

if TYPE_CHECKING:
    import redis

    from streamclust.store.raw_entries import RawEntries

OnReset = Literal["wait", "restart"]


@dataclass(frozen=True)
class Gap:
    """Something that is missing in a stream.

    Parameters
    ----------
    stream : str
    after : str
        ID of the last entry that was read before.
    kind : str
        'trimmed': entries were trimmed, or deleted together with those before them.
        'restarted': the stream was deleted and begun again, and is read from its beginning.
        'waiting': it was begun again, or has lost its newest entries, and is not read until its IDs
        are larger than `after`.
        'gone': there is no such key any more.
        'refused': the entry at `position` is too large to be read.
    entries : int or None
        How many entries are missing; None where the server can't tell. What was trimmed after the
        entries that came next, before this was looked at, may be counted here already.
    position : str or None
        Where reading goes on, if that isn't at an entry, and
    read : int or None
        how many entries the stream ever had up to there.
    reason : str
        Why it was refused.
    """

    stream: str
    after: str
    kind: Literal["trimmed", "restarted", "waiting", "gone", "refused"] = "trimmed"
    entries: int | None = None
    position: str | None = None
    read: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Lost:
    """What is missing of a stream ever.

    Parameters
    ----------
    entries : int
        Entries that were gone before they were read, as far as the server told how many.
    unknown : int
        Gaps whose size it didn't tell.
    restarts : int
        How often the stream was deleted and begun again.
    """

    entries: int = 0
    unknown: int = 0
    restarts: int = 0

    def __add__(self, other: Lost) -> Lost:
        return Lost(
            self.entries + other.entries,
            self.unknown + other.unknown,
            self.restarts + other.restarts,
        )

    def plus(self, gap: Gap) -> Lost:
        """Return it with one more gap."""
        if gap.kind == "restarted":
            return replace(self, restarts=self.restarts + 1, unknown=self.unknown + 1)
        if gap.kind != "trimmed":
            return self
        if gap.entries is None:
            return replace(self, unknown=self.unknown + 1)
        return replace(self, entries=self.entries + gap.entries)


def gap_words(gap: Gap) -> tuple[str, dict[str, str | int]]:
    """Return how a log names a gap, and what more it should say of it."""
    size = "unknown" if gap.entries is None else gap.entries
    words: dict[str, tuple[str, dict[str, str | int]]] = {
        "trimmed": ("entries lost: trimmed before they were read", {"entries": size}),
        "restarted": ("the stream was begun again; reading it from its beginning", {}),
        "waiting": (
            "the stream ends before what was read of it: it was begun again, or lost its newest "
            "entries in a failover; nothing is read until its IDs are larger",
            {"mend": "on_reset: restart reads it from its beginning"},
        ),
        "gone": ("the stream is gone; waiting for it", {}),
    }
    return words[gap.kind]


class StreamWatch:
    """Follows the reading of one stream, and says what is missing.

    Parameters
    ----------
    client : redis.Redis
    stream : str
    position : str
        ID of the last entry that was read.
    read : int or None
        How many entries the stream ever had up to there; None if not known.
    begun : bool
        Whether an entry of the stream has been read, so that one can be missing.
    on_reset : str
        What to do when the stream was begun again, so that its IDs are below the position.
    """

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        position: str,
        read: int | None,
        *,
        begun: bool,
        on_reset: OnReset,
    ) -> None:
        self._client = client
        self._stream = stream
        self.position = position
        self.read = read
        self._begun = begun and position != BEGINNING
        self._on_reset = on_reset
        self._said: set[str] = set()
        self._may_tell = True

    def took(self, entries: RawEntries, found: StreamInfo | bool | None = None) -> Gap | None:
        """Go on to the last of `entries`, which came next; return what is missing before them.

        Parameters
        ----------
        entries : RawEntries
        found : StreamInfo or bool, optional
            What `probe` says of the position after they were read, if it was asked already.
        """
        gap = None
        if found is None:
            found = probe(self._client, self._stream, self.position)
        if isinstance(found, StreamInfo) and found.trimmed_past(self.position):
            gap = self._missing(found, entries)
        elif found is False:
            self.read = None  # deleted since: what was read is all that is known
        self.read = None if self.read is None else self.read + len(entries)
        [last] = entries[-1:].ids()
        self.position = last.decode()
        self._begun = True
        self._said.clear()
        return gap

    def _missing(self, info: StreamInfo, entries: RawEntries) -> Gap | None:
        """Compare what is gone with what was read: of `entries`, some may be gone already too."""
        if info.removed is None:
            return self._gap(None) if self._begun else None
        passed = _before(entries, info.first)
        before, self.read = self.read, info.removed - passed
        if before is None:
            return self._gap(None) if self._begun else None
        missing = self.read - before
        return self._gap(missing if missing > 0 else None) if missing else None

    def idle(self) -> Gap | None:
        """Look why nothing follows the position; return what is missing, each thing once."""
        found = probe(self._client, self._stream, self.position)
        if found is True:
            self._count_anew()
            return None
        if found is False:
            return self._once("gone") if self._begun else None
        self._said.discard("gone")
        if order(found.last) < order(self.position):
            return self._reset() if self._begun else None
        if order(found.last) == order(self.position):
            self.read = found.added
            return None
        return self._emptied(found) if found.first is None else None

    def _count_anew(self) -> None:
        """At the end of a stream the server knows the count, if it counts at all."""
        if self.read is None and self._may_tell:
            info = look(self._client, self._stream)
            if info is not None and info.last == self.position:
                self.read = info.added
                self._may_tell = info.added is not None

    def _emptied(self, info: StreamInfo) -> Gap | None:
        """All that came after the position is gone too.

        Nothing is missing where the counts agree: those entries were counted as part of an earlier
        gap, or the stream's last ID was moved without an entry.
        """
        missing = None
        if self.read is not None and info.added is not None and info.added >= self.read:
            missing = info.added - self.read
        gap = replace(self._gap(missing), position=info.last, read=info.added)
        known = self._begun if missing is None else missing > 0
        self.position, self.read = info.last, info.added
        return gap if known else None

    def _reset(self) -> Gap | None:
        if self._on_reset == "wait":
            self.read = None
            return self._once("waiting")
        gap = replace(self._gap(None), kind="restarted", position=BEGINNING, read=0)
        self.position, self.read, self._begun = BEGINNING, 0, False
        return gap

    def _once(self, kind: Literal["waiting", "gone"]) -> Gap | None:
        if kind in self._said:
            return None
        self._said.add(kind)
        return replace(self._gap(None), kind=kind)

    def _gap(self, entries: int | None) -> Gap:
        return Gap(self._stream, self.position, entries=entries)


def _before(entries: RawEntries, first: str | None) -> int:
    """Return how many of `entries` are older than the first entry that is left."""
    if first is None:
        return len(entries)
    limit = order(first)
    return sum(order(entry_id) < limit for entry_id in entries.ids())
