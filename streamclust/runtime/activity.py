"""When the threads of a session last made progress."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOP, READER = "learning thread", "reader thread"
"""The names by which messages call the two threads."""


class Activity:
    """Remembers when each thread of a session last made progress.

    Progress is a batch, an idle tick, a read, a part of a solve or of a refit that is taken over.
    A thread that only exists makes none.

    Parameters
    ----------
    clock : callable, optional
        Seconds; steps of the wall clock don't touch the default.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = {LOOP: clock()}

    def moved(self, thread: str = LOOP) -> None:
        """Record that a thread makes progress now."""
        self._last[thread] = self._clock()

    def ended(self, thread: str) -> None:
        """Expect no more progress of a thread, which has done its work."""
        self._last.pop(thread, None)

    def slowest(self) -> tuple[str, float]:
        """Return the thread whose last progress is the oldest, and how old it is, in seconds."""
        thread, last = min(list(self._last.items()), key=lambda item: item[1])
        return thread, self._clock() - last
