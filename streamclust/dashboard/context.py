"""What all endpoints of one dashboard share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamclust.dashboard.feed import Feeds
from streamclust.dashboard.snapshot import Snapshot

if TYPE_CHECKING:
    from streamclust.dashboard.source import Source

BODY_BYTES = 1 << 20
POINTS = 10_000
PER_MINUTE = 600
"""Limits of a request to predict: bytes of the body, points, and requests per minute and client."""


@dataclass
class Context:
    """What all endpoints share.

    Parameters
    ----------
    source : Source
    token : str or None
        Permits actions; None if actions are off.
    """

    source: Source
    token: str | None = None
    kinds: tuple[str, ...] = ("refit", "rollback", "requeue")
    snapshot: Snapshot = field(init=False)
    feeds: Feeds = field(init=False)

    def __post_init__(self) -> None:
        self.snapshot = Snapshot(self.source)
        self.feeds = Feeds(self.source)

    @property
    def limits(self) -> dict[str, int]:
        """The limits of requests to predict."""
        return {
            "predict_body_bytes": BODY_BYTES,
            "predict_points": POINTS,
            "predict_per_minute": PER_MINUTE,
        }

    @property
    def visitors(self) -> int:
        """Number of open streams of updates."""
        return self.snapshot.updates.count + self.feeds.visitors

    def close(self) -> None:
        """End all streams of updates."""
        self.snapshot.updates.close()
        self.feeds.close()
