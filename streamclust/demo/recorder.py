"""Records the versions of a model while the worker learns, with the time of each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.client.client import Client
    from streamclust.formats.model import Model

_WAIT_SECONDS = 0.25
"""Seconds to wait for a version before the next check whether to stop."""

_RATE_SECONDS = 2.0
"""Time window of the rate."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A version, and the time of its arrival by a monotonic clock."""

    model: Model
    arrival: float


@dataclass(eq=False)
class Recorder:
    """The versions of one model, and the progress of its feed.

    Parameters
    ----------
    name : str
        Name of the model.
    stream : str
    total : int
        Total points of the feed.
    feeding : str
        The part of the feed that is being sent.
    sent : int
        Points sent so far.
    versions : list of Seen
        Oldest first.
    """

    name: str
    stream: str
    total: int
    feeding: str = ""
    sent: int = 0
    versions: list[Seen] = field(default_factory=list)

    def follow(self, client: Client, stopping: Callable[[], bool]) -> None:
        """Record each version when it is published, until `stopping()` is true."""
        while not stopping():
            since = self.newest.version if self.newest else 0
            for model in client.updates(self.name, since=since, timeout=_WAIT_SECONDS):
                self.versions.append(Seen(model, time.monotonic()))
                if stopping():
                    return

    @property
    def newest(self) -> Model | None:
        """Newest version; None before the first."""
        return self.versions[-1].model if self.versions else None

    @property
    def learned(self) -> int:
        """Points that the newest version has learned."""
        return self.newest.points if self.newest else 0

    @property
    def lag(self) -> int:
        """Points that were sent but aren't in a published version yet."""
        return max(0, self.sent - self.learned)

    @property
    def rate(self) -> float:
        """Recent points per second."""
        if len(self.versions) < 2:
            return 0.0
        last = self.versions[-1]
        first = next(seen for seen in self.versions if last.arrival - seen.arrival <= _RATE_SECONDS)
        first = first if first is not last else self.versions[-2]
        seconds = last.arrival - first.arrival
        return (last.model.points - first.model.points) / seconds if seconds else 0.0

    def version_at(self, entry_id: str) -> Model | None:
        """Return the newest version whose last learned entry is this one, or None."""
        for seen in reversed(self.versions):
            if seen.model.position.get(self.stream) == entry_id:
                return seen.model
        return None

    def scores(self) -> tuple[list[int], list[float]]:
        """Return the points and the prequential score of each version that has one."""
        scored = [
            (seen.model.points, seen.model.score)
            for seen in self.versions
            if seen.model.score is not None
        ]
        return [points for points, _ in scored], [score for _, score in scored]
