"""Entries as they lie in a reply; objects are made of those only that somebody looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from streamclust.store import wire
from streamclust.store.points import Decoded, decode_flats, join

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.store.layout import Layout
    from streamclust.store.tray import Tray

_MOST = 256
"""Entries, at most, that are read by Python at once where one isn't perfect."""


class Packed(Sequence[tuple[bytes, list[bytes]]]):
    """Entries of replies: a sequence of (ID, fields and values), as hiredis would have made.

    Parameters
    ----------
    rows : array of shape (n, 5)
        See `wire.Rows`.
    buffers : tuple of array
        What the addresses in the rows point into.
    """

    def __init__(self, rows: wire.Rows, buffers: tuple[NDArray[np.uint8], ...]) -> None:
        self.rows = rows
        self._buffers = buffers

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, part: int) -> tuple[bytes, list[bytes]]: ...
    @overload
    def __getitem__(self, part: slice | NDArray[Any]) -> Packed: ...
    def __getitem__(self, part: Any) -> Any:
        if isinstance(part, slice | np.ndarray):
            return Packed(self.rows[part], self._buffers)
        row = self.rows[part][None]
        milliseconds, sequence = row[0, : wire.BODY].view(np.uint64).tolist()
        return b"%d-%d" % (milliseconds, sequence), wire.texts(row)[0]

    @classmethod
    def join(cls, parts: Sequence[Packed]) -> Packed:
        """Return entries one after another."""
        buffers = {id(each): each for part in parts for each in part._buffers}
        return cls(np.concatenate([part.rows for part in parts]), tuple(buffers.values()))

    @property
    def ids(self) -> NDArray[np.uint64]:
        """Both parts of each ID, (n, 2)."""
        return self.rows[:, : wire.BODY].view(np.uint64)

    @property
    def gone(self) -> NDArray[np.bool_]:
        """Which entries were deleted before they were read by their group."""
        return self.rows[:, wire.TEXTS] < 0

    def names(self) -> list[bytes]:
        """Return each ID as text."""
        return [b"%d-%d" % (part, sequence) for part, sequence in self.ids.tolist()]

    @property
    def size(self) -> int:
        """Bytes of fields and values in the replies."""
        return int(self.rows[:, wire.SIZE].sum())

    def flats(self) -> list[list[bytes]]:
        """Return fields and values of each entry."""
        return wire.texts(self.rows)

    def decode(self, layout: Layout) -> Decoded:
        """Return the good points, in order, and name the bad ones; see `pieces`."""
        start, parts = 0, []
        for piece in self.pieces(layout):
            parts.append(_shifted(piece, start) if start else piece)
            start += len(piece.counts)
        return parts[0] if len(parts) == 1 else join(parts or [decode_flats([], layout)])

    def pieces(
        self, layout: Layout, tray: Callable[[], Tray | None] = lambda: None
    ) -> Iterator[Decoded]:
        """Yield the good points of the next entries, in order, and name the bad ones.

        What is float32 need not become float64.
        Where an entry isn't perfect, it is read by Python, and more and more at once while there
        is no perfect one in between.

        Parameters
        ----------
        layout : Layout
        tray : callable, optional
            Returns where the next perfect points shall lie, which ends a piece when it is full.
        """
        start, few = 0, 1
        while start < len(self):
            found = wire.decode(self.rows[start:], layout, single=True, tray=tray())
            if found is not None:
                piece = Decoded(found.X, found.w, found.counts)
                few = 1
            else:
                piece = decode_flats(self[start : start + few].flats(), layout)
                few = min(2 * few, _MOST)
            start += len(piece.counts)
            yield piece


def _shifted(decoded: Decoded, start: int) -> Decoded:
    return replace(decoded, dead=decoded.dead.shifted(start))
