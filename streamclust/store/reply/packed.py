"""Entries in the bytes of a reply. Python objects are made only for the entries that are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from streamclust.formats.points import Decoded, decode_flats, join
from streamclust.store.reply import native as wire

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.formats.layout import Layout
    from streamclust.models.quantize import Codes
    from streamclust.store.reply.point_buffer import PointBuffer

_MOST = 256
"""Maximum number of entries that Python decodes at once where native code can't."""


class Packed(Sequence[tuple[bytes, list[bytes]]]):
    """Entries of replies: a sequence of (ID, fields and values), equal to the lists of hiredis.

    This is one of the two classes of `raw_entries.RawEntries`.

    Parameters
    ----------
    rows : array of shape (n, 5)
        See `wire.Rows`.
    buffers : tuple of array
        Bytes of the replies. The rows hold addresses in these arrays.
    """

    def __init__(self, rows: wire.Rows, buffers: tuple[NDArray[np.uint8], ...]) -> None:
        self.rows = rows
        self._buffers = buffers
        self._heads: bytes | None = None

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
        """Return the entries of all parts, one part after another."""
        buffers = {id(each): each for part in parts for each in part._buffers}
        return cls(np.concatenate([part.rows for part in parts]), tuple(buffers.values()))

    def without_used_replies(self) -> Packed:
        """Return the same entries, without the replies before the first of them."""
        if len(self._buffers) < 2 or not len(self):
            return self if len(self) else Packed(self.rows, ())
        first = int(self.rows[0, wire.BODY])
        for place, buffer in enumerate(self._buffers):
            if 0 <= first - buffer.ctypes.data < buffer.nbytes:
                return Packed(self.rows, self._buffers[place:])
        return self

    def _first_heads(self) -> bytes:
        """Return the names of the first entry's fields; see `wire.heads_of`."""
        if self._heads is None:
            self._heads = wire.heads_of(self.rows[:1])
        return self._heads

    @property
    def id_parts(self) -> NDArray[np.uint64]:
        """Both numbers of each ID, (n, 2)."""
        return self.rows[:, : wire.BODY].view(np.uint64)

    @property
    def gone(self) -> NDArray[np.bool_]:
        """Marks the entries that were deleted after their delivery to a group."""
        return self.rows[:, wire.TEXTS] < 0

    def ids(self) -> list[bytes]:
        """Return the IDs."""
        return [b"%d-%d" % (part, sequence) for part, sequence in self.id_parts.tolist()]

    @property
    def size(self) -> int:
        """Bytes of fields and values in the replies."""
        return int(self.rows[:, wire.SIZE].sum())

    def flats(self) -> list[list[bytes]]:
        """Return the fields and values of each entry."""
        return wire.texts(self.rows)

    def decode(self, layout: Layout) -> Decoded:
        """Return the good points, in order, and the bad points by the places of their entries."""
        start, parts = 0, []
        for piece in self.pieces(layout):
            parts.append(_shifted(piece, start) if start else piece)
            start += len(piece.counts)
        return parts[0] if len(parts) == 1 else join(parts or [decode_flats([], layout)])

    def pieces(
        self, layout: Layout, buffer: Callable[[], PointBuffer | None] = lambda: None
    ) -> Iterator[Decoded]:
        """Yield what `decode` returns, in pieces of one or more entries.

        Points of the format float32 stay float32. Python decodes the entries that native code
        can't decode. Each time, Python decodes twice as many entries at once, until native code
        decodes a piece again.

        Parameters
        ----------
        layout : Layout
        buffer : callable, optional
            Returns the buffer for the next points of native code. A piece ends when the buffer is
            full.
        """
        start, few = 0, 1
        while start < len(self):
            room, rest = buffer(), self[start:] if start else self
            found = wire.decode(
                rest.rows, layout, single=True, buffer=room, heads=rest._first_heads()
            )
            if found is not None:
                piece = Decoded(found.X, found.w, found.counts)
                if layout.directions and not piece.X.any(axis=1).all():
                    if room is not None:
                        room.has_bad = True
                    piece = self[start : start + len(piece.counts)]._without_zeros(piece, layout)
                few = 1
            else:
                piece = decode_flats(self[start : start + few].flats(), layout)
                few = min(2 * few, _MOST)
            start += len(piece.counts)
            yield piece

    def _without_zeros(self, decoded: Decoded, layout: Layout) -> Decoded:
        """Return the points, which native code has decoded, without zero vectors.

        Python decodes the entries that have some, and finds the reasons.
        """
        zero = ~decoded.X.any(axis=1)
        edges = np.concatenate([[0], np.cumsum(decoded.counts)])
        owners = np.unique(np.searchsorted(edges, np.flatnonzero(zero), side="right") - 1)
        parts, start = [], 0
        for place in [*owners.tolist(), len(self)]:
            rows = slice(int(edges[start]), int(edges[place]))
            w = None if decoded.w is None else decoded.w[rows]
            parts.append(Decoded(decoded.X[rows], w, decoded.counts[start:place]))
            if place < len(self):
                parts.append(_shifted(decode_flats(self[place : place + 1].flats(), layout), place))
            start = place + 1
        return join(parts)

    def write_codes(
        self, codes: Codes, version: int, labels: frozenset[bytes]
    ) -> tuple[tuple[bytes, ...], bytes] | None:
        """Return what `wire.write_codes` returns; None if Python must write the codes."""
        return wire.write_codes(self.rows, codes, version, labels, self._first_heads())


def _shifted(decoded: Decoded, start: int) -> Decoded:
    return replace(decoded, dead=decoded.dead.shifted(start))
