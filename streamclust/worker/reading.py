"""The source of one model's batches: its turns read them, or a separate thread reads ahead.

A turn that reads, learns and commits one after another needs no thread while the model waits. But a
model with a backlog is faster if the next entries are read and decoded while a batch is learned. So
a few models at a time have a thread that reads ahead; models with a backlog come first.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from streamclust.runtime.assemble import largest_batch, points_format
from streamclust.runtime.log import warn_of_less
from streamclust.store.stream.batches import Batcher, Feed
from streamclust.store.stream.reader import StreamReader
from streamclust.worker.readahead import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.formats.checkpoint import Checkpoint
    from streamclust.runtime.activity import Activity
    from streamclust.runtime.job import Job
    from streamclust.store.stream.batches import Batch
    from streamclust.store.stream.news import StreamNews

_READ_BYTES = 1 << 20
"""Approximate bytes of a read in a turn. The turn learns all of them, so few bytes stay in memory
while the model waits."""

_FIRST = 16
"""Minimum entries of a read in a turn."""

_IDLE = 5.0
"""Seconds without a batch after which a model gives up its reader thread."""

_IDLE_IF_WANTED = 0.5
"""The same, while another model has a backlog and no reader thread."""

_ASK_AGAIN = 0.1
"""Seconds between two requests for a reader thread."""

_POLL, _POLL_EACH = 0.1, 0.001
"""If the server doesn't report news: minimum seconds between reads, and seconds per model."""

_LOOK_AGAIN = 300.0
"""Seconds without news after which a stream is read once, because a report can be missing: the
slots of a cluster may have moved."""


class ReaderThreads:
    """The right of a few models to have a thread that reads ahead. Threads share it.

    Parameters
    ----------
    limit : int
        Maximum number of reader threads.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = threading.Lock()
        self._waiting: dict[Reading, None] = {}
        self._asked_at = -math.inf

    def take(self, reading: Reading) -> bool:
        """Take the right to have a thread, if it is free."""
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            self._waiting[reading] = None
            return True

    def give_back(self, reading: Reading) -> None:
        """Give the right back."""
        with self._lock:
            self._free += 1
            del self._waiting[reading]

    def want(self) -> None:
        """Ask a model without a backlog to give up its thread."""
        now = time.monotonic()
        if now - self._asked_at > _ASK_AGAIN:
            self._asked_at = now
            for reading in list(self._waiting):
                reading.wake()

    @property
    def are_wanted(self) -> bool:
        """Whether a model with a backlog has asked for a thread in the last second."""
        return time.monotonic() - self._asked_at < 1.0


class Reading:
    """The batches of one model. Its turns use it, one at a time.

    Parameters
    ----------
    job : Job
        Its server is a session.
    checkpoint : Checkpoint
        The batches begin at its position.
    news : StreamNews
    readers : ReaderThreads
    activity : Activity
        Records the progress of a reader thread.
    wake : callable
        Called, from any thread, when `step` may have something to yield.
    models : int
        Number of models of the worker.
    """

    def __init__(
        self,
        job: Job,
        checkpoint: Checkpoint,
        *,
        news: StreamNews,
        readers: ReaderThreads,
        activity: Activity,
        wake: Callable[[], object],
        models: int,
    ) -> None:
        settings, given = job.model, checkpoint.learner.stats
        largest = settings.batch.max_entry_bytes
        client, warn = job.server.raw_client(largest), warn_of_less(job.log)
        self._reader = StreamReader(
            client, checkpoint.position, checkpoint.read, settings.on_reset, largest, warn
        )
        batcher = Batcher(
            points_format(settings, None if given is None else given.reference.shape[1]),
            checkpoint.layout,
            checkpoint.position,
            settings.batch.least,
            checkpoint.read,
            most=largest_batch(settings),
            learned=checkpoint.learner.points,
            keep_dead=settings.dead.keep,
        )
        linger = float(settings.batch.linger)
        self._feed = Feed(self._reader, batcher, linger=linger, until_idle=job.until_idle)
        self.wake = wake
        self._streams = settings.streams
        self._news = news
        self._readers = readers
        self._activity = activity
        self._name = job.name
        self._poll = max(_POLL, models * _POLL_EACH)
        self._watched = False
        self._ahead: ReadAhead | None = None
        self._more = False
        self._start_ahead()

    @property
    def behind(self) -> bool:
        """Whether `step` has more to yield at once."""
        return self._more

    @property
    def last_read(self) -> float:
        """When entries were last read, by the monotonic clock."""
        return self._feed.last_read

    @property
    def is_quiet(self) -> bool:
        """Whether no entry was read and not learned, and new entries will wake the model."""
        return self._ahead is None and self._watched and self._feed.due is None

    @property
    def drained(self) -> bool:
        """Whether the feed has ended, and all its batches were yielded."""
        return self._ahead is None and self._feed.drained

    def step(self) -> Iterator[Batch]:
        """Yield batches that can be learned now, if there are any. The caller must take all."""
        self._more = False
        if self._ahead is not None:
            batch = self._ahead.take()
            if batch is not None:
                self._more = self._ahead.has_news
                yield batch
                return
            if not self._ahead.ended:
                return
            self._end_ahead()
        if not self._feed.drained:
            self._watched = self._news.watch(self._streams, self.wake)  # for what comes later
            most = max(_FIRST, self._reader.entries_in(_READ_BYTES))
            yield from self._feed.step(None, most)
            self._more = not self._feed.caught_up

    def rest(self) -> float | None:
        """Prepare to wait; return the time at which `step` has something to do without news."""
        now = time.monotonic()
        if self._ahead is not None:
            return self._rest_ahead(now)
        feed = self._feed
        if now - feed.last_read < _IDLE and not feed.drained and self._start_ahead():
            return feed.last_read + _IDLE
        if self._more:
            self._readers.want()
        longest = now + (_LOOK_AGAIN if self._watched else self._poll)
        return longest if feed.due is None else min(longest, feed.due)

    def close(self) -> None:
        """Discard what has been read and not yielded. The streams stay watched."""
        if self._ahead is not None:
            self._ahead.close()
            self._end_ahead()
        self._reader.close()

    def _rest_ahead(self, now: float) -> float | None:
        """Give up the reader thread after some time without an entry."""
        ahead, last = self._ahead, self._feed.last_read
        if ahead is None or ahead.has_news:
            return None
        wanted = self._readers.are_wanted
        if self._news.refusal and not wanted:
            return None  # a blocking read costs less than repeated requests
        idle = _IDLE_IF_WANTED if wanted else _IDLE
        if now - last >= idle:
            ahead.retire()  # and its end wakes the model
            return None
        return last + idle

    def _start_ahead(self) -> bool:
        """Start a reader thread, if the worker has one left; return whether it had."""
        if not self._readers.take(self):
            return False
        self._reader.prefetching = True
        self._ahead = ReadAhead(self._batches, self._activity, self.wake, self._name)
        self._more = False
        try:
            self._ahead.start()
        except BaseException:
            self._end_ahead()
            raise
        return True

    def _end_ahead(self) -> None:
        self._ahead = None
        self._reader.prefetching = False
        self._readers.give_back(self)

    def _batches(self, stopping: Callable[[], bool]) -> Iterator[Batch]:
        while not stopping() and not self._feed.drained:
            yield from self._feed.step(self._feed.block_ms)
