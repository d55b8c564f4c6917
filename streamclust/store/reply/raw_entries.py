"""Entries of one stream, as they are in a reply: one protocol, and the two classes that have it.

`Packed` keeps the reply's bytes, which native code decodes. `ListEntries` holds the lists that
hiredis makes where there is no native code.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, overload

import numpy as np

from streamclust.formats.points import decode_flats
from streamclust.store.ids import order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from streamclust.formats.layout import Layout
    from streamclust.formats.points import Decoded
    from streamclust.models.quantize import Codes
    from streamclust.store.reply.point_buffer import PointBuffer

Entry: TypeAlias = tuple[bytes, list[bytes]]
"""ID of an entry, and its fields and values in turn."""

_SAMPLE = 128
"""Maximum number of entries whose sizes are added up to estimate the size of all entries."""


class RawEntries(Protocol):
    """Entries of one stream, in the order of their IDs."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Entry]: ...

    @overload
    def __getitem__(self, part: int) -> Entry: ...
    @overload
    def __getitem__(self, part: slice | NDArray[Any]) -> RawEntries: ...

    @property
    def id_parts(self) -> NDArray[np.uint64]:
        """Both numbers of each ID, (n, 2)."""

    @property
    def gone(self) -> NDArray[np.bool_]:
        """Marks the entries, without fields, that were deleted after their delivery to a group."""

    @property
    def size(self) -> int:
        """Approximate number of bytes of all fields and values."""

    def ids(self) -> list[bytes]:
        """Return the IDs."""

    def without_used_replies(self) -> RawEntries:
        """Return the same entries, without the replies before the first of them."""

    def flats(self) -> list[list[bytes]]:
        """Return the fields and values of each entry."""

    def decode(self, layout: Layout) -> Decoded:
        """Return the good points, in order, and the bad points by the places of their entries."""

    def pieces(
        self, layout: Layout, buffer: Callable[[], PointBuffer | None] = ...
    ) -> Iterator[Decoded]:
        """Yield what `decode` returns, in pieces of one or more entries.

        Parameters
        ----------
        layout : Layout
        buffer : callable, optional
            Returns the buffer for the next points. A piece ends when the buffer is full.
        """

    def write_codes(
        self, codes: Codes, version: int, labels: frozenset[bytes]
    ) -> tuple[tuple[bytes, ...], bytes] | None:
        """Return what `wire.write_codes` returns; None if Python must write the codes."""


class ListEntries:
    """Entries as the lists that hiredis makes.

    Parameters
    ----------
    entries : sequence of (ID, fields and values)
        The fields and values are None for an entry that was deleted.
    """

    def __init__(self, entries: Sequence[Any] | NDArray[np.object_]) -> None:
        self._entries: NDArray[np.object_] = np.fromiter(entries, object, len(entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.tolist())

    @overload
    def __getitem__(self, part: int) -> Entry: ...
    @overload
    def __getitem__(self, part: slice | NDArray[Any]) -> ListEntries: ...
    def __getitem__(self, part: Any) -> Any:
        found = self._entries[part]
        return ListEntries(found) if isinstance(found, np.ndarray) else found

    @classmethod
    def join(cls, parts: Sequence[RawEntries]) -> ListEntries:
        """Return the entries of all parts, one part after another."""
        return cls(list(chain.from_iterable(parts)))

    @property
    def id_parts(self) -> NDArray[np.uint64]:
        """Both numbers of each ID, (n, 2)."""
        numbers = list(map(int, b"-".join(self.ids()).split(b"-"))) if len(self) else []
        return np.array(numbers, np.uint64).reshape(len(self), 2)

    @property
    def gone(self) -> NDArray[np.bool_]:
        """Marks the entries that were deleted after their delivery to a group."""
        return np.array([flat is None for flat in self.flats()], bool)

    @property
    def size(self) -> int:
        """Approximate number of bytes of all fields and values, estimated from a sample."""
        sample = self[:: max(1, -(-len(self) // _SAMPLE))].flats()
        return sum(map(len, chain.from_iterable(sample))) * len(self) // max(1, len(sample))

    def ids(self) -> list[bytes]:
        """Return the IDs."""
        return [entry_id for entry_id, _ in self._entries.tolist()]

    def without_used_replies(self) -> ListEntries:
        """Return the entries: each has its own objects."""
        return self

    def flats(self) -> list[list[bytes]]:
        """Return the fields and values of each entry."""
        return [flat for _, flat in self._entries.tolist()]

    def decode(self, layout: Layout) -> Decoded:
        """Return the good points, in order, and the bad points by the places of their entries."""
        return decode_flats(self.flats(), layout)

    def pieces(
        self, layout: Layout, _buffer: Callable[[], PointBuffer | None] = lambda: None
    ) -> Iterator[Decoded]:
        """Yield what `decode` returns, in one piece. No point is written to a buffer."""
        yield self.decode(layout)

    def write_codes(
        self, _codes: Codes, _version: int, _labels: frozenset[bytes]
    ) -> tuple[tuple[bytes, ...], bytes] | None:
        """Return None: Python writes the codes of these entries."""
        return None


NO_ENTRIES = ListEntries([])


def as_raw(entries: RawEntries | list[Entry]) -> RawEntries:
    """Return entries of a reply, which may be the lists of hiredis."""
    return ListEntries(entries) if isinstance(entries, list) else entries


def by_stream(reply: Any) -> dict[str, RawEntries]:
    """Return the entries of each stream in a reply to XREAD or XREADGROUP."""
    return {name.decode(): as_raw(entries) for name, entries in reply or ()}


def join(parts: Sequence[RawEntries]) -> RawEntries:
    """Return the entries of all parts, one part after another."""
    kinds: set[Any] = {type(part) for part in parts}
    kind = kinds.pop() if len(kinds) == 1 else ListEntries
    joined: RawEntries = kind.join(parts)
    return joined


def up_to(entries: RawEntries, last: str) -> RawEntries:
    """Return the entries whose IDs are at most `last`."""
    if not len(entries) or order(entries[-1:].ids()[0]) <= order(last):
        return entries
    return entries[: bisect_right(entries.ids(), order(last), key=order)]
