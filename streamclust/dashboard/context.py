"""The objects that all endpoints of one dashboard share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from streamclust.dashboard.actions import Action, Actions
from streamclust.dashboard.feed import Feeds
from streamclust.dashboard.rate_limit import PREDICTIONS_PER_MINUTE, RateLimit
from streamclust.dashboard.snapshot import Snapshot
from streamclust.dashboard.stored import NewestModels

if TYPE_CHECKING:
    from streamclust.dashboard.source import Source


@dataclass
class Context:
    """The objects that all endpoints share.

    Parameters
    ----------
    source : Source
    token : str or None
        Permits actions; None if actions are off.

    Attributes
    ----------
    snapshot : Snapshot
    feeds : Feeds
    actions : Actions
    newest : NewestModels
    predictions : RateLimit
        Limits the predictions per visitor.
    """

    source: Source
    token: str | None = None
    snapshot: Snapshot = field(init=False)
    feeds: Feeds = field(init=False)
    actions: Actions = field(init=False)
    newest: NewestModels = field(default_factory=NewestModels)
    predictions: RateLimit = field(default_factory=lambda: RateLimit(PREDICTIONS_PER_MINUTE))

    def __post_init__(self) -> None:
        self.snapshot = Snapshot(self.source)
        self.feeds = Feeds(self.source)
        self.actions = Actions(self.source, self.publish_action)

    def publish_action(self, action: Action) -> None:
        """Report to the visitors of the model that an action runs or has ended."""
        feed = self.feeds.find(action.model)
        if feed is not None:
            feed.put_action(asdict(action))

    @property
    def visitors(self) -> int:
        """Number of open streams of updates."""
        return self.snapshot.updates.count + self.feeds.visitors

    def close(self) -> None:
        """End all streams of updates."""
        self.snapshot.updates.close()
        self.feeds.close()
        self.actions.close()
