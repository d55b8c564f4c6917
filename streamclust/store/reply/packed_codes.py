"""Codes of entries in the form that the scripts take: one MessagePack array of texts.

The array has groups of entries with the same fields. A group has the number of its entries, the
number of fields, the names of the fields, and the model ID of all entries, or 0; then the ID and
the values of each entry. So names are sent once per group, and the whole array is one argument of
the script.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, overload

from streamclust.store.reply.raw_entries import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamclust.models.quantize import Codes
    from streamclust.store.reply.raw_entries import RawEntries


class PackedCodes(Sequence[Entry]):
    """Codes of entries of one point each: a sequence of (ID, fields and values).

    Parameters
    ----------
    entries : RawEntries
        Entries of the stream of points.
    rows : bytes
        The codes, as `as_rows` returns them.
    lists : callable
        Returns the same codes as a list; called at the first access to an entry.
    """

    def __init__(self, entries: RawEntries, rows: bytes, lists: Callable[[], list[Entry]]) -> None:
        self.entries = entries
        self.rows = rows
        self._lists = lists

    @cached_property
    def _entries(self) -> list[Entry]:
        return self._lists()

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, part: int) -> Entry: ...
    @overload
    def __getitem__(self, part: slice) -> Sequence[Entry]: ...
    def __getitem__(self, part: Any) -> Any:
        return self._entries[part]


def pack_points(
    entries: RawEntries,
    codes: Codes,
    version: int,
    labels: frozenset[bytes],
    lists: Callable[[], list[Entry]],
    *,
    model_id: int = 0,
) -> Sequence[Entry]:
    """Return the codes of entries of one point each, without `top`.

    Parameters
    ----------
    entries : RawEntries
        Entries of the stream of points.
    codes : Codes
        Codes of their points.
    version : int
        Version of the model.
    labels : set of bytes
        Names of the fields to copy from the points' entries.
    lists : callable
        Returns the same codes as a list, made by Python. Called if native code can't write the
        codes.
    model_id : int
        Model ID of each entry; 0 for none.
    """
    found = entries.write_codes(codes, version, labels)
    if found is None:
        return lists()
    names, data = found
    more = (name.encode() for name in codes.more)
    fields = (b"code", b"distance", *more, b"version", *names)
    n_texts = 3 + len(fields) + len(entries) * (1 + len(fields))
    head = _head(len(entries), fields, model_id)
    return PackedCodes(entries, _array(n_texts) + head + data, lists)


def ids_of(entries: Sequence[Entry]) -> list[bytes]:
    """Return the IDs of the entries."""
    if isinstance(entries, PackedCodes):
        return entries.entries.ids()
    return [entry_id for entry_id, _ in entries]


def as_rows(entries: Sequence[Entry]) -> bytes:
    """Return the entries as the scripts take them."""
    if isinstance(entries, PackedCodes):
        return entries.rows
    n_texts, parts = 0, []
    for names, same in groupby(entries, key=lambda entry: entry[1][::2]):
        some = list(same)
        n_texts += 3 + len(names) + len(some) * (1 + len(names))
        values = chain.from_iterable((entry_id, *flat[1::2]) for entry_id, flat in some)
        parts += [_head(len(some), names), _texts(values)]
    return _array(n_texts) + b"".join(parts)


def alert_rows(alerts: Sequence[Entry]) -> bytes:
    """Return alerts as the scripts take them: entry, number of texts, fields and values of each.

    Parameters
    ----------
    alerts : sequence of (ID of the point's entry, fields and values)
    """
    n_texts = sum(2 + len(flat) for _, flat in alerts)
    rows = (_texts((entry_id, b"%d" % len(flat), *flat)) for entry_id, flat in alerts)
    return _array(n_texts) + b"".join(rows)


def _head(n: int, names: Sequence[bytes], model_id: int = 0) -> bytes:
    return _texts((b"%d" % n, b"%d" % len(names), *names, b"%d" % model_id))


def _array(n: int) -> bytes:
    return b"\xdd" + n.to_bytes(4, "big")


def _texts(values: Iterable[bytes]) -> bytes:
    return b"".join(
        (bytes((0xA0 | len(text),)) if len(text) < 32 else b"\xdb" + len(text).to_bytes(4, "big"))
        + text
        for text in values
    )
