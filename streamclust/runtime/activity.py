"""Records when the threads of a session last made progress."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOP, READER = "learning thread", "reader thread"
"""The names of the two threads in messages."""


class Activity:
    """Remembers when each thread of a session last made progress.

    Progress is a batch, an idle tick, a read, or a part of a solve or of an adopted refit. A thread
    that only exists makes no progress.

    Parameters
    ----------
    clock : callable, optional
        Seconds. The default is not affected by steps of the wall clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = {LOOP: clock()}

    def record_progress(self, thread: str = LOOP) -> None:
        """Record that a thread makes progress now."""
        self._last[thread] = self._clock()

    def ended(self, thread: str) -> None:
        """Record that a thread has ended, and will make no more progress."""
        self._last.pop(thread, None)

    def slowest(self) -> tuple[str, float]:
        """Return the thread with the oldest progress, and the age of this progress in seconds.

        If no thread has anything to do, the age is 0.
        """
        times = list(self._last.items())
        if not times:
            return LOOP, 0.0
        thread, last = min(times, key=lambda item: item[1])
        return thread, self._clock() - last
