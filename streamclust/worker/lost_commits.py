"""The newest confirmed commit of a model, from session to session: a lost commit is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from streamclust.formats.checkpoint import Checkpoint


class LostCommits:
    """Remembers the newest confirmed commit from session to session, to detect a lost one.

    A server that is killed may restart without its latest writes (``appendfsync everysec`` loses up
    to a second). State and position are lost together, so the model stays consistent. But points
    that the stream has lost too will not be learned, and versions are published again with other
    contents. So the worker logs the loss.

    Attributes
    ----------
    points, version : int
        Points and version of the newest confirmed commit.
    """

    def __init__(self) -> None:
        self.points = 0
        self.version = 0

    def record(self, committed: Checkpoint) -> None:
        """Record a confirmed commit."""
        self.points = committed.learner.points
        self.version = committed.version

    def compare(self, found: Checkpoint | None, log: FilteringBoundLogger) -> None:
        """Log an error if the server has an older commit than the newest confirmed one."""
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
            remedy="to prevent this, use appendfsync always, or a replica",
        )
