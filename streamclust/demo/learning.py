"""The feeds go in, the worker learns, and every version is followed until all is learned."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamclust.client.ingest import ingest
from streamclust.demo.plan import PALETTE, PIXELS, SHUTTLE
from streamclust.demo.track import Track
from streamclust.errors import StreamclustError
from streamclust.tables import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.demo.feeds import Feed, Feeds
    from streamclust.demo.stage import Stage, WorkerEnd
    from streamclust.demo.view import View
    from streamclust.store.published import Model

_FRAME = 0.125
"""Seconds between two looks at the progress."""

_GLANCE = 0.02


@dataclass(frozen=True, eq=False)
class Learned:
    """What the worker made of the feeds.

    Parameters
    ----------
    palette, shuttle : Track
    ends : dict of str to Model
        By the name of a feed: the version that had learned exactly all of it.
    seconds : float
        From the first point sent to the last one learned and published.
    worker : WorkerEnd
    """

    palette: Track
    shuttle: Track
    ends: dict[str, Model]
    seconds: float
    worker: WorkerEnd


class Lesson:
    """Sends the feeds in threads of their own, and follows what is published.

    Parameters
    ----------
    stage : Stage
    feeds : Feeds
    """

    def __init__(self, stage: Stage, feeds: Feeds) -> None:
        self._stage = stage
        self._feeds = feeds
        self._stop = threading.Event()
        pixels = sum(len(feed.X) for feed in feeds.pixels)
        self.palette = Track(PALETTE, PIXELS, pixels)
        self.shuttle = Track(SHUTTLE, SHUTTLE, len(feeds.shuttle.X))
        self.ends: dict[str, Model] = {}
        self.started = time.monotonic()
        self._followers: list[Future[None]] = []
        self._senders: list[Future[None]] = []

    @property
    def seconds(self) -> float:
        """Seconds since the first point was sent."""
        return time.monotonic() - self.started

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run all threads; they end with the block."""
        stopping = self._stop.is_set
        with ThreadPoolExecutor(4) as pool:
            try:
                for track in (self.palette, self.shuttle):
                    self._followers.append(pool.submit(track.follow, self._stage.client, stopping))
                self._senders = [
                    pool.submit(self._send_all, self.palette, *self._feeds.pixels),
                    pool.submit(self._send_all, self.shuttle, self._feeds.shuttle),
                ]
                yield
            finally:
                self._stop.set()

    def finished(self) -> bool:
        """Say whether all is sent and learned; raise what went wrong in a thread."""
        for future in (*self._followers, *self._senders):
            if future.done():
                future.result()
        return all(sender.done() for sender in self._senders)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._stop.wait(seconds)

    def _send_all(self, track: Track, *feeds: Feed) -> None:
        """Send the feeds one after the other; each begins when the one before is learned."""
        for feed in feeds:
            last_id = self._send(track, feed)
            while (end := track.at(last_id)) is None:
                if self._stop.wait(_GLANCE):
                    return
            self.ends[feed.name] = end

    def _send(self, track: Track, feed: Feed) -> str:
        before, track.feeding = track.sent, feed.name

        def count(points: int) -> None:
            track.sent = before + points

        report = ingest(
            self._stage.server,
            feed.stream,
            [Chunk(feed.features, feed.X, None, 1)],
            format=feed.format,
            block=feed.block,
            rate=feed.rate,
            on_progress=count,
            stop=self._stop,
        )
        return report.last_id or ""


def learn(stage: Stage, feeds: Feeds, view: View) -> Learned:
    """Send all feeds, show how it goes until everything is learned, and let the worker leave.

    Raises
    ------
    StreamclustError
        If the worker ends too early, or with an exit code that isn't 0.
    """
    _wait_for_worker(stage)
    view.say("Sending pixels and sensor readings; the worker learns and publishes")
    lesson = Lesson(stage, feeds)
    _watch(lesson, stage, view)
    seconds = lesson.seconds
    view.say("Everything is learned; the worker is asked to leave (SIGTERM)")
    end = stage.worker.stop()
    if end.exit_code != 0:
        raise StreamclustError(f"the worker ended with exit code {end.exit_code} after SIGTERM")
    return Learned(lesson.palette, lesson.shuttle, lesson.ends, seconds, end)


def _wait_for_worker(stage: Stage) -> None:
    """Wait until the worker has begun all models."""
    while not {PALETTE, SHUTTLE} <= set(stage.client.names()):
        stage.worker.check()
        time.sleep(_GLANCE)


def _watch(lesson: Lesson, stage: Stage, view: View) -> None:
    """Show the progress until all feeds are sent and learned."""
    with view.live() as show, lesson.running():
        while not lesson.finished():
            stage.worker.check()
            show(lesson)
            lesson.wait(_FRAME)
        show(lesson)
