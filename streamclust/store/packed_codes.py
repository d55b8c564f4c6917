"""Codes of entries as they go to the server; objects are made only where somebody looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from streamclust.store import wire

if TYPE_CHECKING:
    from streamclust.quantize import Codes
    from streamclust.store.packed import Packed

_ENTRY = tuple[bytes, list[bytes]]
_NAMES = (b"code", b"distance", b"version")


class PackedCodes(Sequence[_ENTRY]):
    """Codes of entries of one point each: a sequence of (ID, fields and values).

    Parameters
    ----------
    names : sequence of bytes
        Fields that each has.
    count : int
        How many entries there are.
    first : bytes
        ID of the first.
    data : bytes
        Each one's ID and values, as arguments of a command.
    """

    def __init__(self, names: Sequence[bytes], count: int, first: bytes, data: bytes) -> None:
        self.first = first
        self._names = names
        self._count = count
        self._data = data

    @classmethod
    def write(
        cls, entries: Packed, codes: Codes, version: int, labels: frozenset[bytes]
    ) -> PackedCodes | None:
        """Return the codes of entries; None where Python has to write them."""
        first, flat = entries[0]
        fields = tuple(flat[::2])
        data = wire.write_codes(entries.rows, fields, codes, version, labels)
        if data is None:
            return None
        repeated = (name for name in fields if name in labels)
        return cls((*_NAMES, *repeated), len(entries), first, data)

    @property
    def rows(self) -> tuple[int, bytes]:
        """Number and text of the arguments that `codes.as_rows` would make."""
        names = self._names
        head = [b"%d" % self._count, b"%d" % len(names), *names]
        count = len(head) + self._count * (1 + len(names))
        return count, b"".join(map(wire.as_argument, head)) + self._data

    @cached_property
    def _entries(self) -> list[_ENTRY]:
        width, data = 1 + len(self._names), np.frombuffer(self._data, np.uint8)
        row = np.array([[0, 0, data.ctypes.data, len(data), self._count * width]])
        [texts] = wire.texts(row)
        return [
            (
                texts[at],
                [text for pair in zip(self._names, texts[at + 1 :], strict=False) for text in pair],
            )
            for at in range(0, len(texts), width)
        ]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, part: int) -> _ENTRY: ...
    @overload
    def __getitem__(self, part: slice) -> Sequence[_ENTRY]: ...
    def __getitem__(self, part: Any) -> Any:
        return self._entries[part]
