"""Entries of streams in columns: a read brings a thousand, and an object for each would cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from streamclust.store.streams import order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamclust.store.gaps import Gap

_ID, _FLAT = itemgetter(0), itemgetter(1)


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries in an order; all columns have one length.

    Parameters
    ----------
    streams : list of str
        The stream that each is from.
    ids : list of bytes
    flats : list of list of bytes
        Fields and values in turn, as the server's raw reply has them.
    read : list of (int or None)
        How many entries the stream ever had up to each.
    gaps : list of (Gap or None)
        What is missing before each.
    """

    streams: list[str] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    flats: list[list[bytes]] = field(default_factory=list)
    read: list[int | None] = field(default_factory=list)
    gaps: list[Gap | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> Entries:
        return Entries(*(column[part] for column in self._columns))

    def __add__(self, other: Entries) -> Entries:
        pairs = zip(self._columns, other._columns, strict=True)
        return Entries(*(mine + its for mine, its in pairs))

    @property
    def _columns(self) -> tuple[list[Any], ...]:
        return self.streams, self.ids, self.flats, self.read, self.gaps

    def last_of_each(self) -> Iterable[tuple[str, int]]:
        """Return each stream with the number of its last entry."""
        return dict(zip(self.streams, range(len(self)), strict=True)).items()

    def by_order(self) -> tuple[Entries, list[tuple[int, int, str]]]:
        """Return the entries in the order of their IDs, then streams; and that order."""
        pairs = zip(self.ids, self.streams, strict=True)
        orders = [(*order(entry_id), stream) for entry_id, stream in pairs]
        places = sorted(range(len(self)), key=orders.__getitem__)
        return self.at(places), sorted(orders)

    def at(self, places: Sequence[int]) -> Entries:
        """Return the entries at some places."""
        return Entries(*([column[place] for place in places] for column in self._columns))


def from_reply(
    stream: str,
    entries: Sequence[tuple[bytes, list[bytes]]],
    read: int | None,
    gap: Gap | None,
) -> Entries:
    """Return what a reply holds; `read` is of its last entry, `gap` is before its first."""
    n = len(entries)
    first = None if read is None else read - n + 1
    return Entries(
        [stream] * n,
        list(map(_ID, entries)),
        list(map(_FLAT, entries)),
        [None] * n if first is None else list(range(first, first + n)),
        [gap, *[None] * (n - 1)],
    )
