"""What a worker remembers of its commits, to notice when the server has lost some."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from streamclust.store.checkpoint import Checkpoint


class Memory:
    """The newest commit that this worker knows to have landed, kept from session to session.

    A server that is killed may come back without its last writes (``appendfsync everysec`` loses
    up to a second). State and position went back together, so the model is consistent; but
    points that the stream has lost too will not be learned, and published versions come again with
    other contents. So that is said.

    Attributes
    ----------
    points, version : int
        Of that commit.
    set_aside : int
        Batches in a row, up to now, that could not be learned.
    reasons : set of str
        Why batches could not be learned, as far as it was logged.
    """

    def __init__(self) -> None:
        self.points = 0
        self.version = 0
        self.set_aside = 0
        self.reasons: set[str] = set()

    def landed(self, checkpoint: Checkpoint) -> None:
        """Take note of a commit."""
        self.points = checkpoint.learner.points
        self.version = checkpoint.version

    def compare(self, found: Checkpoint | None, log: FilteringBoundLogger) -> None:
        """Say if what the server has is older than what it had confirmed."""
        points = 0 if found is None else found.learner.points
        version = 0 if found is None else found.version
        if (points, version) >= (self.points, self.version):
            return
        log.error(
            "commits_lost",
            confirmed_points=self.points,
            points=points,
            confirmed_version=self.version,
            version=version,
            remedy="use appendfsync always, or a replica, if that must not happen",
        )
