"""Gaps: entries that were removed from a stream before they were read. All gaps are reported.

The only count that a stream has is the number of entries ever added (``entries-added``, since
Redis 7). A reader knows this count at its position. So the reader can compute the number of missing
entries when the next entry that it reads isn't the next entry that was added.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from streamclust.formats.lost import Gap
from streamclust.store.ids import BEGINNING, order
from streamclust.store.stream.info import StreamInfo, look, probe

if TYPE_CHECKING:
    import redis

    from streamclust.store.reply.raw_entries import RawEntries

OnReset = Literal["wait", "restart"]


def gap_words(gap: Gap) -> tuple[str, dict[str, str | int]]:
    """Return the log event of a gap, and the fields of this event."""
    size = "unknown" if gap.entries is None else gap.entries
    words: dict[str, tuple[str, dict[str, str | int]]] = {
        "trimmed": ("gap_detected", {"entries": size}),
        "restarted": ("stream_restarted", {}),
        "waiting": (
            "stream_behind",
            {"remedy": "on_reset: restart reads the stream from its beginning"},
        ),
        "gone": ("stream_missing", {}),
    }
    return words[gap.kind]


class StreamWatch:
    """Follows the position in one stream, and finds gaps.

    Parameters
    ----------
    client : redis.Redis
    stream : str
    position : str
        ID of the last entry read.
    entries_added : int or None
        Number of entries that the stream ever had up to the position; None if unknown.
    started : bool
        Whether an entry of the stream has been read. Before the first one, no entry is missing.
    on_reset : str
        Action when the stream was created again, so that its IDs are below the position.
    """

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        position: str,
        entries_added: int | None,
        *,
        started: bool,
        on_reset: OnReset,
    ) -> None:
        self._client = client
        self._stream = stream
        self.position = position
        self.entries_added = entries_added
        self._started = started and position != BEGINNING
        self._on_reset = on_reset
        self._reported: set[str] = set()
        self._counts_entries = True

    def advance(self, entries: RawEntries, found: StreamInfo | bool | None = None) -> Gap | None:
        """Move the position to the end of the next `entries`; return the gap before them.

        Parameters
        ----------
        entries : RawEntries
        found : StreamInfo or bool, optional
            Result of `probe` for the old position, if it was called after the read.
        """
        gap = None
        if found is None:
            found = probe(self._client, self._stream, self.position)
        if isinstance(found, StreamInfo) and found.trimmed_past(self.position):
            gap = self._missing(found, entries)
        elif found is False:
            self.entries_added = None  # the stream was deleted after the read
        self.entries_added = (
            None if self.entries_added is None else self.entries_added + len(entries)
        )
        [last] = entries[-1:].ids()
        self.position = last.decode()
        self._started = True
        self._reported.clear()
        return gap

    def _missing(self, info: StreamInfo, entries: RawEntries) -> Gap | None:
        """Return the gap, from the count of removed entries; some of `entries` may be removed."""
        if info.removed is None:
            return self._gap(None) if self._started else None
        passed = len(entries)  # those that are older than the stream's first entry
        if info.first is not None:
            first = order(info.first)
            passed = sum(order(entry_id) < first for entry_id in entries.ids())
        before, self.entries_added = self.entries_added, info.removed - passed
        if before is None:
            return self._gap(None) if self._started else None
        missing = self.entries_added - before
        return self._gap(missing if missing > 0 else None) if missing else None

    def find_gap_at_end(self) -> Gap | None:
        """Return the gap that explains why no entry follows the position; each gap only once."""
        found = probe(self._client, self._stream, self.position)
        if found is True:
            # At the end of the stream, the server knows the count.
            if self.entries_added is None and self._counts_entries:
                info = look(self._client, self._stream)
                if info is not None and info.last == self.position:
                    self.entries_added = info.added
                    self._counts_entries = info.added is not None
            return None
        if found is False:
            return self._once("gone") if self._started else None
        self._reported.discard("gone")
        if order(found.last) < order(self.position):
            return self._reset() if self._started else None
        if order(found.last) == order(self.position):
            self.entries_added = found.added
            return None
        return self._emptied(found) if found.first is None else None

    def _emptied(self, info: StreamInfo) -> Gap | None:
        """Return the gap when all entries after the position were removed.

        There is no gap if the counts are equal: either an earlier gap contains these entries, or
        the stream's last ID was set without an entry.
        """
        missing = None
        if (
            self.entries_added is not None
            and info.added is not None
            and info.added >= self.entries_added
        ):
            missing = info.added - self.entries_added
        gap = replace(self._gap(missing), position=info.last, entries_added=info.added)
        known = self._started if missing is None else missing > 0
        self.position, self.entries_added = info.last, info.added
        return gap if known else None

    def _reset(self) -> Gap | None:
        if self._on_reset == "wait":
            self.entries_added = None
            return self._once("waiting")
        gap = replace(self._gap(None), kind="restarted", position=BEGINNING, entries_added=0)
        self.position, self.entries_added, self._started = BEGINNING, 0, False
        return gap

    def _once(self, kind: Literal["waiting", "gone"]) -> Gap | None:
        if kind in self._reported:
            return None
        self._reported.add(kind)
        return replace(self._gap(None), kind=kind)

    def _gap(self, entries: int | None) -> Gap:
        return Gap(self._stream, self.position, entries=entries)
