"""When a commit or a version is due: after a number of points or seconds, whichever is first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Cadence:
    """Counts points and time since the last reset.

    Parameters
    ----------
    points : int
    seconds : float
    clock : callable, optional
        Seconds. The default is not affected by steps of the wall clock.
    counted : int
        Points counted before a restart.
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
        """Restart the count and the time."""
        self._since = self._clock()
        self.counted = 0

    def count(self, points: int) -> None:
        """Count points."""
        self.counted += points

    @property
    def deadline(self) -> float | None:
        """The time at which it is due without more points, by the clock; None without a point."""
        return self._since + self._seconds if self.counted > 0 else None

    @property
    def due(self) -> bool:
        """Whether enough points were counted, or any points and enough time has passed."""
        if self.counted >= self._points:
            return True
        return self.counted > 0 and self._clock() - self._since >= self._seconds
