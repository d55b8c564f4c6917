"""Ingestion of points into a stream, in pipelines, at a given rate or as fast as possible."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import redis

from streamclust.client.entries import Encoder
from streamclust.client.sending import IngestReport, Sender, make_batches
from streamclust.errors import DataError, ServerError
from streamclust.formats.layout import EntryFormat
from streamclust.store.server.connect import translated
from streamclust.tables import Chunk

if TYPE_CHECKING:
    from streamclust.client.progress import Progress
    from streamclust.runtime.signals import Stop

__all__ = ["IngestReport", "ingest"]

CATCH_UP_SECONDS = 1.0  # with a rate: lost time that ingestion catches up with


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
    progress: Progress | None = None,
    keep_dead: bool = False,
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
        The points; all chunks have the same columns. A block never spans two chunks. Labels become
        fields of the entries. An event time becomes the ID; a block has the time of its last point.
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
    progress
        Stores with each pipeline how much of a file is in the stream.
    keep_dead
        Whether to store the bad rows of the chunks; see `streamclust.store.stream.keys`.
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
    sender = Sender(client, stream, maxlen, on_refusal, progress, keep_dead)
    encoder = Encoder(format, block, weight_field, sender.newest)
    pace = _Pace(rate, clock, sleep or stop.wait)
    started = clock()
    try:
        for batch in make_batches(chunks, rate, encoder):
            pace.wait()
            if stop.is_set():
                break
            sender.send(batch, stop)
            pace.count(batch.stop - batch.start)
            if on_progress is not None:
                on_progress(sender.report.points)
    except DataError as error:
        raise DataError(f"{error}{_so_far(sender.report, progress)}") from error
    except ServerError as error:
        raise type(error)(f"{error}{_so_far(sender.report, progress)}") from error
    except redis.RedisError as error:
        translation = translated(error, label)
        raise type(translation)(f"{translation}{_so_far(sender.report, progress)}") from error
    return replace(sender.report, seconds=clock() - started)


def _so_far(report: IngestReport, progress: Progress | None) -> str:
    if not report.points:
        return ""
    more = "; the next run sends the rest" if progress is not None and progress.enabled else ""
    return f" ({report.points:,} points were sent before{more})"


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
