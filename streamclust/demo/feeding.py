"""The threads of the demonstration: they send the feeds and follow the published versions."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streamclust.client.ingest import ingest
from streamclust.demo.plan import PALETTE, PIXELS, SHUTTLE
from streamclust.demo.recorder import Recorder
from streamclust.tables import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.demo.feeds import Feed, Feeds
    from streamclust.demo.interrupts import Interrupts
    from streamclust.demo.sandbox import Sandbox
    from streamclust.formats.model import Model

_GLANCE = 0.02
"""Seconds between two checks of the learned points."""


class Feeding:
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
    def running(self, interrupts: Interrupts) -> Iterator[None]:
        """Run the threads; they end with the block."""
        stopping = self._stop.is_set
        with ThreadPoolExecutor(4) as pool:
            try:
                with interrupts.shielded():  # the pool doesn't wait for a half-started thread
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
            while (end := recorder.version_at(last_id)) is None:
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
