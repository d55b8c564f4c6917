"""Entries of a stream that were lost before they were read, and their totals in the state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Gap:
    """A gap in a stream: entries that were lost before they were read.

    Parameters
    ----------
    stream : str
    after : str
        ID of the last entry read before the gap.
    kind : str
        'trimmed': entries were trimmed, or deleted together with all entries before them.
        'restarted': the stream was deleted and created again. It is read from its beginning.
        'waiting': the stream was created again, or lost its newest entries. It is not read until
        its IDs are larger than `after`.
        'gone': the key no longer exists.
        'refused': the entry at `position` is too large to be read.
    entries : int or None
        Number of lost entries; None if unknown. It can include entries that were trimmed after the
        next entries were read.
    position : str or None
        ID after which reading continues, if the next entry doesn't determine the position.
    entries_added : int or None
        Number of entries that the stream ever had up to `position`.
    reason : str
        Why the entry was refused.
    """

    stream: str
    after: str
    kind: Literal["trimmed", "restarted", "waiting", "gone", "refused"] = "trimmed"
    entries: int | None = None
    position: str | None = None
    entries_added: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Lost:
    """Totals of all gaps of a stream.

    Parameters
    ----------
    entries : int
        Number of lost entries in the gaps of known size.
    unknown : int
        Number of gaps of unknown size.
    restarts : int
        How many times the stream was deleted and created again.
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
        """Return the totals with one more gap."""
        if gap.kind == "restarted":
            return replace(self, restarts=self.restarts + 1, unknown=self.unknown + 1)
        if gap.kind != "trimmed":
            return self
        if gap.entries is None:
            return replace(self, unknown=self.unknown + 1)
        return replace(self, entries=self.entries + gap.entries)
