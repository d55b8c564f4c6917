"""Sends points to a stream: chunks to entries, and entries to the server in pipelines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import redis
from redis.cluster import RedisCluster

from streamclust.client.entries import Entry
from streamclust.client.progress import last_id
from streamclust.store.ids import BEGINNING
from streamclust.store.server.faults import passes
from streamclust.store.server.wrong_type import is_wrong_type, with_key
from streamclust.store.stream.keys import dead_key
from streamclust.tables import BadRow, Chunk

if TYPE_CHECKING:
    from streamclust.client.progress import Progress
    from streamclust.runtime.signals import Stop

PIPELINE_ENTRIES = 500
PIPELINE_BYTES = 1 << 20
PIPELINE_SECONDS = 0.1  # with a rate: seconds that the points of one pipeline last

DEAD_ROWS = 10_000
"""Approximate maximum number of stored bad rows."""


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
    """Yield the entries of each pipeline. No batch waits for the next chunk."""
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
        """Add the entries; send refused entries again until all are added or `stop` is set.

        With progress or event times, all entries of a batch are added in one transaction.

        Raises
        ------
        redis.RedisError
            The first refusal of the server that isn't temporary; confirmed entries are counted.
        """
        progress = self._progress if self._progress and self._progress.is_recording else None
        remaining = [*self._dead_rows(batch), *batch.entries]
        mark: tuple[Any, ...] = ()
        if progress is not None:
            newest = self.report.last_id or BEGINNING
            mark = progress.advance(batch.chunk, batch.start, batch.stop, len(batch.bad), newest)
            remaining += [] if self._is_cluster else [(b"", list(mark), 0)]
        atomic = progress is not None or batch.chunk.times is not None
        executed = False
        try:
            while remaining:
                refused, executed = self._send(remaining, atomic=atomic)
                remaining = [entry for entry, _ in refused]
                if refused and not self._retry_pause([fault for _, fault in refused], stop):
                    return
        finally:
            if progress is not None and executed and remaining:
                progress.retreat(
                    batch.chunk, batch.start, batch.stop - _points_from(remaining[0], batch)
                )
        self.report = replace(self.report, bad=self.report.bad + len(batch.bad))
        if self._is_cluster and mark:
            self._client.execute_command(*mark)  # type: ignore[no-untyped-call]

    def _retry_pause(self, faults: list[redis.RedisError], stop: Stop) -> bool:
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
        """Add entries; return the refused ones with the reasons, and whether others were added."""
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
