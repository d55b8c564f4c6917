"""Ingestion of points into a stream, in pipelines, at a given rate or as fast as possible."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import redis

from streamclust.errors import DataError, ServerError
from streamclust.formats.layout import DEFAULT_FIELD, EntryFormat, Layout
from streamclust.formats.points import encode
from streamclust.store.server.connect import translated
from streamclust.store.server.faults import passes
from streamclust.store.server.wrong_type import is_wrong_type, with_key
from streamclust.tables import Chunk

if TYPE_CHECKING:
    from streamclust.runtime.signals import Stop

PIPELINE_ENTRIES = 500
PIPELINE_BYTES = 1 << 20
PIPELINE_SECONDS = 0.1  # with a rate: time that the points of one pipeline cover
CATCH_UP_SECONDS = 1.0  # with a rate: lost time that ingestion catches up with

Sized = tuple[list[bytes], int]  # an entry, and its number of points


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
    """

    points: int = 0
    entries: int = 0
    seconds: float = 0.0
    last_id: str | None = None


def ingest(
    client: redis.Redis,
    stream: str,
    chunks: Iterable[Chunk],
    *,
    format: EntryFormat = "fields",
    block: int = 1,
    weight_field: str = "w",
    rate: float | None = None,
    maxlen: int | None = None,
    on_progress: Callable[[int], object] | None = None,
    on_refusal: Callable[[redis.RedisError], object] | None = None,
    stop: Stop | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] | None = None,
    label: str = "the server",
) -> IngestReport:
    """Add points to a stream.

    Parameters
    ----------
    client
        A client that doesn't decode replies.
    stream
        The key of the stream.
    chunks
        The points; all chunks have the same columns. A block never spans two chunks.
    format, block
        Format of the entries and points per entry; see `streamclust.formats.layout`.
    weight_field
        Field of the weights, if the chunks have weights.
    rate
        Points per second; None for as fast as possible.
    maxlen
        Approximate length of the stream after trimming; None for no trimming.
    on_progress
        Called after each pipeline with the number of points sent so far.
    on_refusal
        Called with the first fault of a pipeline, if all its faults are temporary refusals (the
        server is busy, out of memory, a replica, ...). After the call, the refused entries are
        sent again. By default, the fault ends ingestion.
    stop
        If set, ingestion stops after the current pipeline.
    clock, sleep
        Clock and sleep for the rate; by default real time, and a wait that `stop` ends.
    label
        Name of the server in messages.

    Raises
    ------
    DataError
        If points can't be read or written in this format; the text has the number sent before.
    ServerError
        If the server refuses or is lost; the text has the number of points sent before.
    """
    stop = stop or threading.Event()
    sender = _Sender(client, stream, maxlen, on_refusal)
    pace = _Pace(rate, clock, sleep or stop.wait)
    started = clock()
    try:
        for batch in _batches(chunks, rate, _Encoder(format, block, weight_field)):
            pace.wait()
            if stop.is_set():
                break
            sender.send(batch, stop)
            pace.count(sum(points for _, points in batch))
            if on_progress is not None:
                on_progress(sender.report.points)
    except DataError as error:
        raise DataError(f"{error}{_so_far(sender.report)}") from error
    except ServerError as error:
        raise type(error)(f"{error}{_so_far(sender.report)}") from error
    except redis.RedisError as error:
        translation = translated(error, label)
        raise type(translation)(f"{translation}{_so_far(sender.report)}") from error
    return replace(sender.report, seconds=clock() - started)


def _so_far(report: IngestReport) -> str:
    return f" ({report.points:,} points were sent before)" if report.points else ""


def _batches(
    chunks: Iterable[Chunk],
    rate: float | None,
    to_entries: Callable[[Chunk], Iterator[Sized]],
) -> Iterator[list[Sized]]:
    """Yield the entries of one pipeline after the other. No batch waits for the next chunk."""
    most = math.inf if rate is None else rate * PIPELINE_SECONDS
    for chunk in chunks:
        batch: list[Sized] = []
        points = size = 0
        for flat, n in to_entries(chunk):
            batch.append((flat, n))
            points += n
            size += sum(map(len, flat))
            if len(batch) == PIPELINE_ENTRIES or size >= PIPELINE_BYTES or points >= most:
                yield batch
                batch, points, size = [], 0, 0
        if batch:
            yield batch


class _Encoder:
    """Converts chunks to entries; all chunks must have the columns of the first one."""

    def __init__(self, format: EntryFormat, block: int, weight_field: str) -> None:
        self._format = format
        self._block = block
        self._weight_field = weight_field
        self._layout: Layout | None = None

    def __call__(self, chunk: Chunk) -> Iterator[Sized]:
        layout = self._make_layout(chunk)
        self._layout = self._layout or layout
        if layout != self._layout:
            raise DataError(
                f"the columns change from {_columns(self._layout)} to {_columns(layout)}; "
                "choose the same columns with --columns, or send each file with its own command"
            )
        for index, flat in enumerate(encode(chunk.X, layout, chunk.w, self._block)):
            yield flat, min(self._block, len(chunk.X) - index * self._block)

    def _make_layout(self, chunk: Chunk) -> Layout:
        weight_field = None if chunk.w is None else self._weight_field
        field = DEFAULT_FIELD.get(self._format)
        return Layout(
            self._format, field, weight_field, chunk.names, len(chunk.names), strict=False
        )


def _columns(layout: Layout) -> str:
    return ", ".join((*layout.features, *filter(None, [layout.weight_field])))


class _Pace:
    """A schedule at a rate; it catches up with at most one second of lost time."""

    def __init__(
        self, rate: float | None, clock: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        if rate is not None and not rate > 0:
            raise DataError(f"rate is {rate:g}; expected more than 0 points per second")
        self._rate = rate or math.inf
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    def wait(self) -> None:
        """Wait for the due time of the next batch."""
        pause = self._due - self._clock()
        if pause > 0:
            self._sleep(pause)

    def count(self, points: int) -> None:
        """Advance the schedule by the points of a batch."""
        self._due = max(self._due, self._clock() - CATCH_UP_SECONDS) + points / self._rate


class _Sender:
    """Adds batches to the stream and counts the confirmed points."""

    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        maxlen: int | None,
        on_refusal: Callable[[redis.RedisError], object] | None,
    ) -> None:
        self.report = IngestReport()
        self._client = client
        self._on_refusal = on_refusal
        trim: list[str | int] = [] if maxlen is None else ["MAXLEN", "~", maxlen]
        self._command = ["XADD", stream, *trim, "*"]

    def send(self, batch: list[Sized], stop: Stop) -> None:
        """Add the entries; send refused ones again until all are added or `stop` is set.

        Raises
        ------
        redis.RedisError
            The first refusal of the server that isn't temporary; confirmed entries are counted.
        """
        while batch:
            refused = self._send(batch)
            faults = [fault for _, fault in refused]
            if faults and (self._on_refusal is None or not all(map(passes, faults))):
                raise next((each for each in faults if not passes(each)), faults[0])
            if faults and self._on_refusal is not None:
                self._on_refusal(faults[0])
                if stop.is_set():
                    return
            batch = [entry for entry, _ in refused]

    def _send(self, batch: list[Sized]) -> list[tuple[Sized, redis.RedisError]]:
        """Add the entries; return the refused ones and the reasons."""
        pipeline = self._client.pipeline(transaction=False)
        for flat, _ in batch:
            pipeline.execute_command(*self._command, *flat)  # type: ignore[no-untyped-call]
        replies = pipeline.execute(raise_on_error=False)
        pairs = zip((points for _, points in batch), replies, strict=True)
        self._confirm([(points, reply) for points, reply in pairs if isinstance(reply, bytes)])
        return [
            (entry, self._with_key(reply))
            for entry, reply in zip(batch, replies, strict=True)
            if isinstance(reply, redis.RedisError)
        ]

    def _with_key(self, reply: redis.RedisError) -> redis.RedisError:
        if isinstance(reply, redis.ResponseError) and is_wrong_type(reply):
            return with_key(reply, self._command, self._client.type)
        return reply

    def _confirm(self, added: list[tuple[int, bytes]]) -> None:
        if added:
            self.report = replace(
                self.report,
                points=self.report.points + sum(points for points, _ in added),
                entries=self.report.entries + len(added),
                last_id=added[-1][1].decode(),
            )
