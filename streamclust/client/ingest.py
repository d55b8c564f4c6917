"""Points from anywhere into a stream, in pipelines, as fast as is wanted."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import redis

from streamclust.errors import DataError, ServerError
from streamclust.store.connect import translated
from streamclust.store.faults import passes
from streamclust.store.layout import DEFAULT_FIELD, EntryFormat, Layout
from streamclust.store.points import encode
from streamclust.store.wrong_type import is_wrong_type, with_key
from streamclust.tables import Chunk

if TYPE_CHECKING:
    from streamclust.runtime.signals import Stop

PIPELINE_ENTRIES = 500
PIPELINE_BYTES = 1 << 20
PIPELINE_SECONDS = 0.1  # with a rate, a pipeline holds the points of so much time
CATCH_UP_SECONDS = 1.0  # with a rate, so much lost time is made up for

Sized = tuple[list[bytes], int]  # an entry, and how many points it holds


@dataclass(frozen=True)
class IngestReport:
    """What went into the stream.

    Parameters
    ----------
    points
        Points that the server has confirmed.
    entries
        The entries that hold them.
    seconds
        How long it took.
    last_id
        The ID of the last entry; None when there is none.
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
        The points; all chunks have the same columns. A block never spans two of them.
    format, block
        How entries hold points, and how many each; see `streamclust.store.layout`.
    weight_field
        The field of the weights, when the chunks have weights.
    rate
        Points a second; None for as fast as the server takes them.
    maxlen
        About how many entries the stream keeps; None for all.
    on_progress
        Called after each pipeline with the number of points sent so far.
    on_refusal
        Called with the first fault of a pipeline, if all its faults are refusals that may pass (the
        server is busy, out of memory, a replica, ...). When it returns, the entries that were
        refused are sent again. Default: the fault ends ingestion.
    stop
        Once set, the pipeline under way is finished and nothing further is sent.
    clock, sleep
        Time for the rate; by default the real one, and a wait that `stop` ends.
    label
        What messages call the server.

    Raises
    ------
    DataError
        When the points can't be read or written so; its text says how many went in before.
    ServerError
        When the server refuses or is lost; its text says how many went in before.
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
        mended = translated(error, label)
        raise type(mended)(f"{mended}{_so_far(sender.report)}") from error
    return replace(sender.report, seconds=clock() - started)


def _so_far(report: IngestReport) -> str:
    return f" ({report.points:,} points had gone in before)" if report.points else ""


def _batches(
    chunks: Iterable[Chunk],
    rate: float | None,
    to_entries: Callable[[Chunk], Iterator[Sized]],
) -> Iterator[list[Sized]]:
    """Yield what one pipeline sends. No batch waits for the next chunk."""
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
    """Chunks to entries; all chunks must have the columns of the first."""

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
                "choose the same with --columns, or send the files one by one"
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
    """A schedule that lost time shifts, but for the last second."""

    def __init__(
        self, rate: float | None, clock: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        if rate is not None and not rate > 0:
            raise DataError(f"rate is {rate:g}, expected more than 0 points a second")
        self._rate = rate or math.inf
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    def wait(self) -> None:
        """Wait until the next batch is due."""
        pause = self._due - self._clock()
        if pause > 0:
            self._sleep(pause)

    def count(self, points: int) -> None:
        """Move the schedule on by the points of a batch."""
        self._due = max(self._due, self._clock() - CATCH_UP_SECONDS) + points / self._rate


class _Sender:
    """Adds batches to the stream, and knows what the server has confirmed."""

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
        """Add the entries; those that are refused again and again, until `stop` is set.

        Raises
        ------
        redis.RedisError
            The server's first refusal that doesn't pass, once all others are counted.
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
        """Add the entries; return those that were refused, and why."""
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
