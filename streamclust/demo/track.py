"""What was seen of a model while it learned: every version, and when it came."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.client.client import Client
    from streamclust.store.published import Model

_PATIENCE = 0.25
"""Seconds to wait for a version before looking whether to stop."""

_RATE_SECONDS = 2.0
"""The rate is that of so much time."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A version, and the second (of a monotonic clock) at which it came."""

    model: Model
    at: float


@dataclass(eq=False)
class Track:
    """The versions of one model, and what its feed has sent.

    Parameters
    ----------
    name : str
        Of the model.
    stream : str
    total : int
        Points that the feed will send in all.
    feeding : str
        What the feed sends just now.
    sent : int
        Points that are in the stream.
    versions : list of Seen
        All so far, oldest first.
    """

    name: str
    stream: str
    total: int
    feeding: str = ""
    sent: int = 0
    versions: list[Seen] = field(default_factory=list)

    def follow(self, client: Client, stopping: Callable[[], bool]) -> None:
        """Take in each version as it is published, until `stopping()` holds."""
        while not stopping():
            since = self.newest.version if self.newest else 0
            for model in client.updates(self.name, since=since, timeout=_PATIENCE):
                self.versions.append(Seen(model, time.monotonic()))
                if stopping():
                    return

    @property
    def newest(self) -> Model | None:
        """The newest version; None before the first."""
        return self.versions[-1].model if self.versions else None

    @property
    def learned(self) -> int:
        """Points behind the newest version."""
        return self.newest.points if self.newest else 0

    @property
    def lag(self) -> int:
        """Points that were sent and aren't in a published version yet."""
        return max(0, self.sent - self.learned)

    @property
    def rate(self) -> float:
        """Points learned a second, of late."""
        if len(self.versions) < 2:
            return 0.0
        last = self.versions[-1]
        first = next(seen for seen in self.versions if last.at - seen.at <= _RATE_SECONDS)
        first = first if first is not last else self.versions[-2]
        seconds = last.at - first.at
        return (last.model.points - first.model.points) / seconds if seconds else 0.0

    def at(self, entry_id: str) -> Model | None:
        """Return the newest version that has learned up to exactly this entry, if there is one."""
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
