"""Sends points to a stream: chunks to entries, and entries to the server in pipelines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import redis
from redis.cluster import RedisCluster

from streamclust.client.progress import last_id
from streamclust.errors import DataError
from streamclust.formats.layout import DEFAULT_FIELD, DIMENSION_FIELD, EntryFormat, Layout
from streamclust.formats.points import encode
from streamclust.store.ids import BEGINNING, order
from streamclust.store.server.faults import passes
from streamclust.store.server.wrong_type import is_wrong_type, with_key
from streamclust.store.stream.keys import dead_key
from streamclust.tables import BadRow, Chunk

if TYPE_CHECKING:
    from streamclust.client.progress import Progress
    from streamclust.runtime.signals import Stop

PIPELINE_ENTRIES = 500
PIPELINE_BYTES = 1 << 20
PIPELINE_SECONDS = 0.1  # with a rate: time that the points of one pipeline cover

DEAD_ROWS = 10_000
"""Approximate number of bad rows that are kept."""

Entry = tuple[bytes, list[Any], int]
"""The ID of an entry or b"*", its fields and values, and its number of points.

Without points it is another command, given by the second item.
"""


@dataclass(frozen=True)
class IngestReport:
    """The result of ingestion.

    Parameters
    ----------
    points
        Number of points that the server has confirmed.
    entries
        Number of entries with these points.
    seconds
        Duration of the ingestion.
    last_id
        ID of the last entry; None without entries.
    bad
        Number of bad rows that were skipped.
    """

    points: int = 0
    entries: int = 0
    seconds: float = 0.0
    last_id: str | None = None
    bad: int = 0


@dataclass
class Batch:
    """The entries of one pipeline.

    Parameters
    ----------
    chunk
        The chunk of these points.
    start, stop
        Indices of the first point and after the last one.
    entries
        The entries.
    bad
        Bad rows that are counted with these entries.
    """

    chunk: Chunk
    start: int
    stop: int
    entries: list[Entry] = field(default_factory=list)
    bad: tuple[BadRow, ...] = ()


def make_batches(
    chunks: Iterable[Chunk], rate: float | None, to_entries: Callable[[Chunk], Iterator[Entry]]
) -> Iterator[Batch]:
    """Yield the entries of one pipeline after the other. No batch waits for the next chunk."""
    most = math.inf if rate is None else rate * PIPELINE_SECONDS
    for chunk in chunks:
        batch, size = Batch(chunk, 0, 0, bad=chunk.bad), 0
        for entry in to_entries(chunk):
            batch.entries.append(entry)
            batch.stop += entry[2]
            size += sum(map(len, entry[1]))
            points = batch.stop - batch.start
            if len(batch.entries) == PIPELINE_ENTRIES or size >= PIPELINE_BYTES or points >= most:
                yield batch
                batch, size = Batch(chunk, batch.stop, batch.stop), 0
        if batch.entries or batch.bad:
            yield batch


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
            entry_id = b"*" if chunk.times is None else self._event_id(chunk, stop - 1)
            pairs = zip(keys, labels[start] if labels else (), strict=True)
            texts = [part for key, text in pairs for part in (key, text.encode())]
            yield entry_id, [*flat, *texts], stop - start

    def _event_id(self, chunk: Chunk, row: int) -> bytes:
        if self._ids is None:
            self._ids = EventIds(self._newest())
        assert chunk.times is not None  # noqa: S101
        return self._ids.next(int(chunk.times[row]))

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
                f"a point has the event time {ms} ms, but the last entry of the stream is "
                f"{last_ms}-{sequence}: send older points first, or to another stream"
            )
        self._last = (ms, sequence + 1 if ms == last_ms else 0)
        return b"%d-%d" % self._last


class Sender:
    """Adds batches to the stream and counts the confirmed points.

    Parameters
    ----------
    client, stream, maxlen, on_refusal, progress
        See `ingest`.
    keep_dead
        Whether to store the bad rows.
    """

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        maxlen: int | None,
        on_refusal: Callable[[redis.RedisError], object] | None,
        progress: Progress | None,
        keep_dead: bool,
    ) -> None:
        self.report = IngestReport()
        self._client = client
        self._stream = stream
        self._on_refusal = on_refusal
        self._progress = progress
        self._is_cluster = isinstance(client, RedisCluster)
        self._dead = dead_key(stream) if keep_dead else None
        trim: list[str | int] = [] if maxlen is None else ["MAXLEN", "~", maxlen]
        self._command = ["XADD", stream, *trim]

    def newest(self) -> str:
        """Return the largest ID of the stream."""
        return last_id(self._client, self._stream)

    def send(self, batch: Batch, stop: Stop) -> None:
        """Add the entries; send refused ones again until all are added or `stop` is set.

        With progress or event times, all entries of a batch are added in one transaction.

        Raises
        ------
        redis.RedisError
            The first refusal of the server that isn't temporary; confirmed entries are counted.
        """
        progress = self._progress if self._progress and self._progress.enabled else None
        left = [*self._dead_rows(batch), *batch.entries]
        mark: tuple[Any, ...] = ()
        if progress is not None:
            newest = self.report.last_id or BEGINNING
            mark = progress.advance(batch.chunk, batch.start, batch.stop, len(batch.bad), newest)
            left += [] if self._is_cluster else [(b"", list(mark), 0)]
        atomic = progress is not None or batch.chunk.times is not None
        executed = False
        try:
            while left:
                refused, executed = self._send(left, atomic=atomic)
                left = [entry for entry, _ in refused]
                if refused and not self._waits([fault for _, fault in refused], stop):
                    return
        finally:
            if progress is not None and executed and left:
                progress.retreat(
                    batch.chunk, batch.start, batch.stop - _points_from(left[0], batch)
                )
        self.report = replace(self.report, bad=self.report.bad + len(batch.bad))
        if self._is_cluster and mark:
            self._client.execute_command(*mark)  # type: ignore[no-untyped-call]

    def _waits(self, faults: list[redis.RedisError], stop: Stop) -> bool:
        """Wait after temporary refusals, raise others; return whether to send again."""
        if self._on_refusal is None or not all(map(passes, faults)):
            raise next((each for each in faults if not passes(each)), faults[0])
        self._on_refusal(faults[0])
        return not stop.is_set()

    def _dead_rows(self, batch: Batch) -> Iterator[Entry]:
        if self._dead is None:
            return
        for row in batch.bad:
            fields = ("file", row.table, "line", row.line, "reason", row.reason, "data", row.data)
            yield b"", ["XADD", self._dead, "MAXLEN", "~", DEAD_ROWS, "*", *fields], 0

    def _send(
        self, entries: list[Entry], *, atomic: bool
    ) -> tuple[list[tuple[Entry, redis.RedisError]], bool]:
        """Add the entries; return the refused ones with the reasons, and whether others are in."""
        pipeline = self._client.pipeline(transaction=atomic)
        for entry_id, flat, points in entries:
            if points:
                pipeline.execute_command(*self._command, entry_id, *flat)  # type: ignore[no-untyped-call]
            else:
                pipeline.execute_command(*flat)  # type: ignore[no-untyped-call]
        try:
            replies = pipeline.execute(raise_on_error=False)
        except redis.ResponseError as error:
            if not atomic:
                raise
            return [(entry, self._with_key(error)) for entry in entries], False
        pairs = list(zip(entries, replies, strict=True))
        self._confirm([(entry[2], reply) for entry, reply in pairs if isinstance(reply, bytes)])
        return [
            (entry, self._with_key(reply))
            for entry, reply in pairs
            if isinstance(reply, redis.RedisError)
        ], True

    def _with_key(self, reply: redis.RedisError) -> redis.RedisError:
        if isinstance(reply, redis.ResponseError) and is_wrong_type(reply):
            return with_key(reply, self._command, self._client.type)
        return reply

    def _confirm(self, added: list[tuple[int, bytes]]) -> None:
        points = [(n, entry_id) for n, entry_id in added if n]
        if points:
            self.report = replace(
                self.report,
                points=self.report.points + sum(n for n, _ in points),
                entries=self.report.entries + len(points),
                last_id=points[-1][1].decode(),
            )


def _points_from(entry: Entry, batch: Batch) -> int:
    """Return the number of points of a batch from this entry on."""
    if not entry[2]:
        return batch.stop - batch.start
    first = next(place for place, each in enumerate(batch.entries) if each is entry)
    return sum(points for _, _, points in batch.entries[first:])
