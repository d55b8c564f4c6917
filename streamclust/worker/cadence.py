"""When a commit or a version is due: after enough points, or enough time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from streamclust.config.size import AUTO

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.config.model import ModelSettings


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


AUTO_SECONDS = 1.0
"""Time between commits with ``commit.every: auto``, if the state is small or the feed is fast."""

_LONGEST = 60.0
_STATE_RATE = 10_000
"""Bytes of states per second that may be written without any points."""

_STATE_SHARE = 0.5
"""Bytes of states that are written per byte of points."""


class AutoCadence(Cadence):
    """Counts points and time until the next commit is worth its cost: ``commit.every: auto``.

    A state is written as a whole. So a large state on a slow feed waits until its bytes are at most
    10 kB per second plus half of the bytes of the points; at least 1 s and at most 60 s.

    Parameters
    ----------
    points : int
    clock : callable, optional
        See `Cadence`.

    Attributes
    ----------
    state_bytes : int
        Size of the state at the last commit.
    point_bytes : int
        Size of a point.
    """

    def __init__(self, points: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(points, AUTO_SECONDS, clock)
        self.state_bytes = 0
        self.point_bytes = 8

    @property
    def deadline(self) -> float | None:
        """The time at which it is due without more points, by the clock; None without a point."""
        if self.counted <= 0:
            return None
        unpaid = self.state_bytes - self.counted * self.point_bytes * _STATE_SHARE
        return self._since + min(max(unpaid / _STATE_RATE, AUTO_SECONDS), _LONGEST)

    @property
    def due(self) -> bool:
        """Whether enough points were counted, or enough time has passed for the state's size."""
        deadline = self.deadline
        return self.counted >= self._points or (deadline is not None and self._clock() >= deadline)


def commit_cadence(settings: ModelSettings, clock: Callable[[], float]) -> Cadence:
    """Return the cadence of the commits of a model."""
    points, every = settings.commit.points, settings.commit.every
    if every == AUTO and (settings.encode.worker or settings.worker_alerts):
        return Cadence(points, AUTO_SECONDS, clock)  # codes and alerts wait for the commit
    if not isinstance(every, float):
        return AutoCadence(points, clock)
    return Cadence(points, every, clock)
