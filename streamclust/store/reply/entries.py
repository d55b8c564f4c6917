"""Entries of several streams in columns, since one object per entry would be slow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from streamclust.store.reply import raw_entries
from streamclust.store.reply.raw_entries import NO_ENTRIES, as_raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from streamclust.formats.layout import Layout
    from streamclust.formats.lost import Gap
    from streamclust.formats.points import Decoded
    from streamclust.store.reply.point_buffer import PointBuffer
    from streamclust.store.reply.raw_entries import Entry, RawEntries


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries in a given order. All columns have the same length.

    Parameters
    ----------
    names : tuple of str
        Names of the streams.
    streams : array of shape (n,)
        Index, in `names`, of each entry's stream.
    id_parts : array of shape (n, 2)
        Both numbers of each ID.
    bodies : RawEntries
        Fields and values.
    entries_added : array of shape (n,)
        Number of entries that the stream ever had up to each entry; -1 if unknown.
    gaps : tuple of (int, Gap)
        Gaps, each with the place of the entry that follows it.
    """

    names: tuple[str, ...]
    streams: NDArray[np.intp]
    id_parts: NDArray[np.uint64]
    bodies: RawEntries
    entries_added: NDArray[np.int64]
    gaps: tuple[tuple[int, Gap], ...] = ()

    def __len__(self) -> int:
        return len(self.id_parts)

    def __getitem__(self, part: slice | NDArray[np.intp]) -> Entries:
        return Entries(
            self.names,
            self.streams[part],
            self.id_parts[part],
            self.bodies[part],
            self.entries_added[part],
            self._gaps_in(part) if self.gaps else (),
        )

    def _gaps_in(self, part: slice | NDArray[np.intp]) -> tuple[tuple[int, Gap], ...]:
        places = np.arange(len(self))[part].tolist()
        return tuple((places.index(place), gap) for place, gap in self.gaps if place in places)

    def count_up_to(self, last: NDArray[np.uint64], included: bool) -> int:
        """Return how many entries, in the order of their IDs, come before an ID, or up to it.

        Parameters
        ----------
        last : array of shape (2,)
            Both numbers of the ID.
        included : bool
            Whether an entry with this ID counts.
        """
        times, numbers = self.id_parts.T
        sides: tuple[Literal["left", "right"], ...] = ("left", "right")
        start, stop = (int(np.searchsorted(times, last[0], side)) for side in sides)
        side = sides[int(included)]
        return start + int(np.searchsorted(numbers[start:stop], last[1], side))

    def without_used_replies(self) -> Entries:
        """Return the same entries, without the replies that contain none of them."""
        return replace(self, bodies=self.bodies.without_used_replies())

    def id_of(self, place: int) -> str:
        """Return an entry's ID as text."""
        milliseconds, sequence = map(int, self.id_parts[place])
        return f"{milliseconds}-{sequence}"

    def stream_of(self, place: int) -> str:
        """Return the name of an entry's stream."""
        return self.names[int(self.streams[place])]

    def entries_added_up_to(self, place: int) -> int | None:
        """Return the number of entries that the stream ever had up to an entry, if known."""
        added = int(self.entries_added[place])
        return None if added < 0 else added

    def last_of_each(self) -> Iterable[tuple[str, int]]:
        """Return each stream that has entries, with the place of its last entry."""
        if len(self.names) == 1:
            return [(self.names[0], len(self) - 1)] if len(self) else []
        numbers, places = np.unique(self.streams[::-1], return_index=True)
        pairs = zip(numbers.tolist(), (len(self) - 1 - places).tolist(), strict=True)
        return [(self.names[number], place) for number, place in pairs]

    def numbered(self) -> Iterator[tuple[int, list[bytes]]]:
        """Return an iterator over the place, and the fields and values, of each entry."""
        return enumerate(flat for _, flat in self.bodies)

    def decode(self, layout: Layout) -> Decoded:
        """Return the good points, and the bad points with the places of their entries."""
        return self.bodies.decode(layout)

    def pieces(
        self, layout: Layout, buffer: Callable[[], PointBuffer | None]
    ) -> Iterator[tuple[Entries, Decoded]]:
        """Yield entries and their points, piece by piece; see `RawEntries.pieces`."""
        start = 0
        for piece in self.bodies.pieces(layout, buffer):
            stop = start + len(piece.counts)
            yield self[start:stop], piece
            start = stop

    def order(self) -> NDArray[np.intp]:
        """Return the places of the entries in the order of their IDs, then streams."""
        ranks = np.argsort(np.argsort(np.array(self.names)))
        return np.lexsort((ranks[self.streams], self.id_parts[:, 1], self.id_parts[:, 0]))


NOTHING = Entries(
    (),
    np.empty(0, np.intp),
    np.empty((0, 2), np.uint64),
    NO_ENTRIES,
    np.empty(0, np.int64),
)


def join(parts: Sequence[Entries]) -> Entries:
    """Return the entries of all parts, one part after another."""
    parts = [part for part in parts if len(part)]
    if len(parts) < 2:
        return parts[0] if parts else NOTHING
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    streams = [
        np.array([names.index(name) for name in part.names], np.intp)[part.streams]
        for part in parts
    ]
    return Entries(
        names,
        np.concatenate(streams),
        np.concatenate([part.id_parts for part in parts]),
        raw_entries.join([part.bodies for part in parts]),
        np.concatenate([part.entries_added for part in parts]),
        tuple(
            (start + place, gap)
            for start, part in zip(starts, parts, strict=False)
            for place, gap in part.gaps
        ),
    )


def from_reply(
    stream: str, found: RawEntries | list[Entry], entries_added: int | None, gap: Gap | None
) -> Entries:
    """Return the entries of one stream in a reply.

    Parameters
    ----------
    stream : str
    found : RawEntries or list of (ID, fields and values)
    entries_added : int or None
        Number of entries that the stream ever had up to the last of these; None if unknown.
    gap : Gap or None
        Gap before the first entry.
    """
    n, raw = len(found), as_raw(found)
    return Entries(
        (stream,),
        np.zeros(n, np.intp),
        raw.id_parts,
        raw,
        np.full(n, -1)
        if entries_added is None
        else np.arange(entries_added - n + 1, entries_added + 1),
        () if gap is None else ((0, gap),),
    )
