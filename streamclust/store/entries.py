"""Entries of streams in columns: a read brings thousands, and an object for each would cost."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.store.packed import Packed
from streamclust.store.points import decode_flats
from streamclust.store.streams import order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from streamclust.store.gaps import Gap
    from streamclust.store.layout import Layout
    from streamclust.store.points import Decoded
    from streamclust.store.tray import Tray

Found = Packed | list[tuple[bytes, list[bytes]]]
"""Entries of one stream as a reply has them: packed, or as hiredis makes them."""


_WEIGHED = 128
"""Entries of a reply, at most, whose sizes tell those of all."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries in an order; all columns have one length.

    Parameters
    ----------
    names : tuple of str
        Streams.
    streams : array of shape (n,)
        Which of these each is from.
    ids : array of shape (n, 2)
        Both parts of each ID.
    bodies : Packed, or array of list of bytes, of shape (n,)
        Fields and values in turn.
    read : array of shape (n,)
        How many entries the stream ever had up to each; -1 where that isn't known.
    gaps : tuple of (int, Gap)
        What is missing, and before which entry.
    """

    names: tuple[str, ...]
    streams: NDArray[np.intp]
    ids: NDArray[np.uint64]
    bodies: Packed | NDArray[np.object_]
    read: NDArray[np.int64]
    gaps: tuple[tuple[int, Gap], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice | NDArray[np.intp]) -> Entries:
        return Entries(
            self.names,
            self.streams[part],
            self.ids[part],
            self.bodies[part],
            self.read[part],
            self._gaps_in(part) if self.gaps else (),
        )

    def _gaps_in(self, part: slice | NDArray[np.intp]) -> tuple[tuple[int, Gap], ...]:
        places = np.arange(len(self))[part].tolist()
        return tuple((places.index(place), gap) for place, gap in self.gaps if place in places)

    def id_of(self, place: int) -> str:
        """Return an entry's ID as text."""
        milliseconds, sequence = map(int, self.ids[place])
        return f"{milliseconds}-{sequence}"

    def stream_of(self, place: int) -> str:
        """Return the stream that an entry is from."""
        return self.names[int(self.streams[place])]

    def read_up_to(self, place: int) -> int | None:
        """Return how many entries the stream ever had up to an entry, if that is known."""
        read = int(self.read[place])
        return None if read < 0 else read

    def last_of_each(self) -> Iterable[tuple[str, int]]:
        """Return each stream that is there with the place of its last entry."""
        if len(self.names) == 1:
            return [(self.names[0], len(self) - 1)] if len(self) else []
        numbers, places = np.unique(self.streams[::-1], return_index=True)
        pairs = zip(numbers.tolist(), (len(self) - 1 - places).tolist(), strict=True)
        return [(self.names[number], place) for number, place in pairs]

    def numbered(self) -> Iterator[tuple[int, list[bytes]]]:
        """Return place, and fields and values, of each entry, made when it is looked at."""
        bodies: Iterable[Any] = self.bodies
        if isinstance(self.bodies, Packed):
            bodies = (flat for _, flat in self.bodies)
        return enumerate(bodies)

    def decode(self, layout: Layout) -> Decoded:
        """Return the points of the entries, which are known by their places."""
        if isinstance(self.bodies, Packed):
            return self.bodies.decode(layout)
        return decode_flats(self.bodies.tolist(), layout)

    def pieces(
        self, layout: Layout, tray: Callable[[], Tray | None]
    ) -> Iterator[tuple[Entries, Decoded]]:
        """Yield the next entries and their points, which may lie where `tray` says."""
        if not isinstance(self.bodies, Packed):
            yield self, self.decode(layout)
            return
        start = 0
        for piece in self.bodies.pieces(layout, tray):
            stop = start + len(piece.counts)
            yield self[start:stop], piece
            start = stop

    def order(self) -> NDArray[np.intp]:
        """Return the places of the entries in the order of their IDs, then streams."""
        ranks = np.argsort(np.argsort(np.array(self.names)))
        return np.lexsort((ranks[self.streams], self.ids[:, 1], self.ids[:, 0]))


NOTHING = Entries(
    (),
    np.empty(0, np.intp),
    np.empty((0, 2), np.uint64),
    np.empty(0, object),
    np.empty(0, np.int64),
)


def join(parts: Sequence[Entries]) -> Entries:
    """Return entries one after another."""
    parts = [part for part in parts if len(part)]
    if len(parts) < 2:
        return parts[0] if parts else NOTHING
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    return Entries(
        names,
        np.concatenate([_numbers(part, names) for part in parts]),
        np.concatenate([part.ids for part in parts]),
        _join_bodies([part.bodies for part in parts]),
        np.concatenate([part.read for part in parts]),
        tuple(
            (start + place, gap)
            for start, part in zip(starts, parts, strict=False)
            for place, gap in part.gaps
        ),
    )


def _numbers(part: Entries, names: tuple[str, ...]) -> NDArray[np.intp]:
    return np.array([names.index(name) for name in part.names], np.intp)[part.streams]


def _join_bodies(bodies: list[Any]) -> Packed | NDArray[np.object_]:
    if all(isinstance(body, Packed) for body in bodies):
        return Packed.join(bodies)
    lists = [_objects(body.flats()) if isinstance(body, Packed) else body for body in bodies]
    return np.concatenate(lists)


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    return np.fromiter(values, object, len(values))


def _ids(entries: list[tuple[bytes, list[bytes]]]) -> NDArray[np.uint64]:
    parts = b"-".join([entry_id for entry_id, _ in entries]).split(b"-")
    return np.array(list(map(int, parts)), np.uint64).reshape(len(entries), 2)


def from_reply(stream: str, found: Found, read: int | None, gap: Gap | None) -> Entries:
    """Return what a reply holds; `read` is of its last entry, `gap` is before its first."""
    n = len(found)
    return Entries(
        (stream,),
        np.zeros(n, np.intp),
        found.ids if isinstance(found, Packed) else _ids(found),
        found if isinstance(found, Packed) else _objects([flat for _, flat in found]),
        np.full(n, -1) if read is None else np.arange(read - n + 1, read + 1),
        () if gap is None else ((0, gap),),
    )


def names(found: Found) -> list[bytes]:
    """Return the IDs of entries."""
    return found.names() if isinstance(found, Packed) else [entry_id for entry_id, _ in found]


def up_to(found: Found, last: str) -> Found:
    """Return the entries whose IDs don't come after `last`."""
    if not found or order(names(found[-1:])[0]) <= order(last):
        return found
    return found[: bisect_right(names(found), order(last), key=order)]


def sizes(found: Found) -> tuple[float, int]:
    """Return the bytes of the last entry, and about those of all."""
    if isinstance(found, Packed):
        return float(found[-1:].size), found.size
    last = float(sum(map(len, found[-1][1])))
    some = found[:: -(-len(found) // _WEIGHED)]
    values = chain.from_iterable(flat for _, flat in some)
    return last, sum(map(len, values)) * len(found) // len(some)
