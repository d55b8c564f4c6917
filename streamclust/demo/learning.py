"""Send the feeds, and follow every version until the worker has learned all points."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamclust.client.ingest import ingest
from streamclust.demo.plan import PALETTE, PIXELS, SHUTTLE
from streamclust.demo.recorder import Recorder
from streamclust.errors import StreamclustError
from streamclust.tables import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.demo.feeds import Feed, Feeds
    from streamclust.demo.sandbox import Sandbox, WorkerEnd
    from streamclust.demo.view import View
    from streamclust.formats.model import Model

_FRAME = 0.125
"""Seconds between two updates of the view."""

_GLANCE = 0.02


@dataclass(frozen=True, eq=False)
class Learned:
    """The models that the worker learned from the feeds.

    Parameters
    ----------
    palette, shuttle : Recorder
    ends : dict of str to Model
        For each feed: the version that had learned exactly all of its points.
    seconds : float
        From the first point sent to the publication of the last one.
    worker : WorkerEnd
    """

    palette: Recorder
    shuttle: Recorder
    ends: dict[str, Model]
    seconds: float
    worker: WorkerEnd


class Lesson:
    """Sends the feeds and follows the published versions, each in a thread.

    Parameters
    ----------
    sandbox : Sandbox
    feeds : Feeds
    """

    def __init__(self, sandbox: Sandbox, feeds: Feeds) -> None:
        self._sandbox = sandbox
        self._feeds = feeds
        self._stop = threading.Event()
        pixels = sum(len(feed.X) for feed in feeds.pixels)
        self.palette = Recorder(PALETTE, PIXELS, pixels)
        self.shuttle = Recorder(SHUTTLE, SHUTTLE, len(feeds.shuttle.X))
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
        """Run the threads; they end with the block."""
        stopping = self._stop.is_set
        with ThreadPoolExecutor(4) as pool:
            try:
                for recorder in (self.palette, self.shuttle):
                    self._followers.append(
                        pool.submit(recorder.follow, self._sandbox.client, stopping)
                    )
                self._senders = [
                    pool.submit(self._send_all, self.palette, *self._feeds.pixels),
                    pool.submit(self._send_all, self.shuttle, self._feeds.shuttle),
                ]
                yield
            finally:
                self._stop.set()

    def finished(self) -> bool:
        """Return whether all points are learned; raise the error of a thread, if any."""
        for future in (*self._followers, *self._senders):
            if future.done():
                future.result()
        return all(sender.done() for sender in self._senders)

    def wait(self, seconds: float) -> None:
        """Wait, or return at once if the threads are stopping."""
        self._stop.wait(seconds)

    def _send_all(self, recorder: Recorder, *feeds: Feed) -> None:
        """Send the feeds in order; each starts after the previous one is learned."""
        for feed in feeds:
            last_id = self._send(recorder, feed)
            while (end := recorder.at(last_id)) is None:
                if self._stop.wait(_GLANCE):
                    return
            self.ends[feed.name] = end

    def _send(self, recorder: Recorder, feed: Feed) -> str:
        before, recorder.feeding = recorder.sent, feed.name

        def count(points: int) -> None:
            recorder.sent = before + points

        report = ingest(
            self._sandbox.server,
            feed.stream,
            [Chunk(feed.features, feed.X, None, 1)],
            format=feed.format,
            block=feed.block,
            rate=feed.rate,
            on_progress=count,
            stop=self._stop,
        )
        return report.last_id or ""


def learn(sandbox: Sandbox, feeds: Feeds, view: View) -> Learned:
    """Send all feeds, show the progress until all points are learned, and stop the worker.

    Raises
    ------
    StreamclustError
        If the worker ends too early, or with an exit code other than 0.
    """
    _wait_for_worker(sandbox)
    view.say("Sending pixels and sensor readings; the worker learns and publishes")
    lesson = Lesson(sandbox, feeds)
    _watch(lesson, sandbox, view)
    seconds = lesson.seconds
    view.say("All points are learned; stopping the worker (SIGTERM)")
    end = sandbox.worker.stop()
    if end.exit_code != 0:
        raise StreamclustError(f"the worker ended with exit code {end.exit_code} after SIGTERM")
    return Learned(lesson.palette, lesson.shuttle, lesson.ends, seconds, end)


def _wait_for_worker(sandbox: Sandbox) -> None:
    """Wait until the worker has started all models."""
    while not {PALETTE, SHUTTLE} <= set(sandbox.client.names()):
        sandbox.worker.check()
        time.sleep(_GLANCE)


def _watch(lesson: Lesson, sandbox: Sandbox, view: View) -> None:
    """Show the progress until all feeds are sent and learned."""
    with view.live() as show, lesson.running():
        while not lesson.finished():
            sandbox.worker.check()
            show(lesson)
            lesson.wait(_FRAME)
        show(lesson)
