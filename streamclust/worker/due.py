"""When something is due: every so many points or seconds, whichever comes first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Cadence:
    """Counts points and time since the last time.

    Parameters
    ----------
    points : int
    seconds : float
    clock : callable, optional
        Seconds from any start; steps of the wall clock don't touch the default.
    counted : int
        Points that were counted before a restart.
    """

    def __init__(
        self,
        points: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        counted: int = 0,
    ) -> None:
        self._points = points
        self._seconds = seconds
        self._clock = clock
        self._since = clock()
        self.counted = counted

    def reset(self) -> None:
        """Begin to count anew."""
        self._since = self._clock()
        self.counted = 0

    def count(self, points: int) -> None:
        """Take note of points."""
        self.counted += points

    @property
    def due(self) -> bool:
        """Whether there are enough points, or some points and enough time."""
        if self.counted >= self._points:
            return True
        return self.counted > 0 and self._clock() - self._since >= self._seconds
