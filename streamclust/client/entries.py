"""Chunks of points as entries of a stream: their fields, labels and IDs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from streamclust.errors import DataError
from streamclust.formats.layout import DEFAULT_FIELD, DIMENSION_FIELD, EntryFormat, Layout
from streamclust.formats.points import encode
from streamclust.store.ids import order
from streamclust.store.model.keys import raw_key
from streamclust.tables import Chunk
from streamclust.times import iso_time

Entry = tuple[bytes, list[Any], int]
"""The ID of an entry or b"*", its fields and values, and its number of points.

An item without points is another command, whose words are the second item.
"""


class Encoder:
    """Converts chunks to entries; all chunks must have the columns of the first one.

    Parameters
    ----------
    format, block, weight_field
        See `ingest`.
    newest
        Returns the largest ID of the stream; called if the chunks have event times.
    """

    def __init__(
        self, format: EntryFormat, block: int, weight_field: str, newest: Callable[[], str]
    ) -> None:
        self._format = format
        self._block = block
        self._weight_field = weight_field
        self._newest = newest
        self._layout: Layout | None = None
        self._ids: EventIds | None = None

    def __call__(self, chunk: Chunk) -> Iterator[Entry]:
        """Yield the entries of a chunk."""
        layout = self._make_layout(chunk)
        self._layout = self._layout or layout
        if layout != self._layout:
            raise DataError(
                f"the columns change from {_columns(self._layout)} to {_columns(layout)}; "
                "choose the same columns with --columns, or send each file with its own command"
            )
        block, n = self._block, len(chunk.X)
        flats = encode(chunk.X, layout, chunk.w, block)
        if not chunk.labels and chunk.times is None:
            for index, flat in enumerate(flats):
                yield b"*", flat, min(block, n - index * block)
            return
        keys = [name.encode() for name in chunk.labels]
        labels = list(zip(*chunk.labels.values(), strict=True))
        for index, flat in enumerate(flats):
            start, stop = index * block, min((index + 1) * block, n)
            entry_id = b"*"
            if chunk.times is not None:
                self._ids = self._ids or EventIds(self._newest())
                entry_id = self._ids.next(int(chunk.times[stop - 1]))
            pairs = zip(keys, labels[start] if labels else (), strict=True)
            texts = [part for key, text in pairs for part in (key, raw_key(text))]
            yield entry_id, [*flat, *texts], stop - start

    def _make_layout(self, chunk: Chunk) -> Layout:
        weight_field = None if chunk.w is None else self._weight_field
        field = DEFAULT_FIELD.get(self._format)
        layout = Layout(
            self._format, field, weight_field, chunk.names, len(chunk.names), strict=False
        )
        if chunk.labels and self._block > 1:
            raise DataError(
                f"an entry of {self._block:,} points can't have the label of each point; give "
                "--block 1"
            )
        fields = {weight_field, field} - {None}
        fields |= set(chunk.names) if self._format == "fields" else {DIMENSION_FIELD}
        if taken := sorted(fields & set(chunk.labels)):  # type: ignore[type-var]
            raise DataError(
                f"label {taken[0]!r} is the name of another field of the entry; rename the column"
            )
        return layout


def _columns(layout: Layout) -> str:
    return ", ".join((*layout.features, *filter(None, [layout.weight_field])))


class EventIds:
    """IDs of entries from event times.

    Parameters
    ----------
    newest
        The largest ID of the stream; all IDs are larger.
    """

    def __init__(self, newest: str) -> None:
        self._last = order(newest)
        self._newest = newest

    def next(self, ms: int) -> bytes:
        """Return the ID of an entry at this time, in milliseconds since 1970.

        Raises
        ------
        DataError
            If the stream has an entry of a later time.
        """
        last_ms, sequence = self._last
        if ms < last_ms:
            raise DataError(
                f"a point has the event time {iso_time(ms)}, but the last entry of the stream, "
                f"{last_ms}-{sequence}, is of {iso_time(last_ms)}: send older points first, or to "
                "another stream"
            )
        self._last = (ms, sequence + 1 if ms == last_ms else 0)
        return b"%d-%d" % self._last
