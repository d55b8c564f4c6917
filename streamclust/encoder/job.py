"""The job of an encoder, and the counts of its work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from streamclust.runtime.activity import Activity
from streamclust.runtime.job import Job as ModelJob


@dataclass(frozen=True)
class Job(ModelJob):
    """One stream of a model to encode.

    Parameters
    ----------
    stream : str
        The stream of points.
    key : str
        The stream of codes.
    activity : Activity
        Records the progress of the loop.
    """

    stream: str
    key: str
    activity: Activity = field(default_factory=Activity)

    @property
    def id(self) -> str:
        """A name that no other job of this process has."""
        return f"{self.name} {self.stream}"


@dataclass
class Tally:
    """The counts of one encoder.

    Parameters
    ----------
    stream : str
    entries : int
        Entries of codes that this encoder wrote.
    points : int
        Points with a code in these entries.
    bad : int
        Points without a code in these entries, because they can't be read.
    repeated : int
        Entries whose codes another encoder had written before.
    taken_over : int
        Unfinished entries of another encoder.
    gone : int
        Entries that were deleted or trimmed before they had codes.
    unknown_gaps : int
        Gaps whose number of entries the server could not report.
    version : int
        Newest version of the model that was used.
    flagged : int
        Points of which this encoder wrote alerts.
    """

    stream: str
    entries: int = 0
    points: int = 0
    bad: int = 0
    repeated: int = 0
    taken_over: int = 0
    gone: int = 0
    unknown_gaps: int = 0
    version: int = 0
    flagged: int = 0


class Run(Protocol):
    """The data and reports of an encoder that all its sessions share."""

    job: Job
    tally: Tally

    def log_often(self, event: str, **fields: Any) -> object:
        """Log an event of normal work."""

    def started(self, version: int) -> None:
        """Log the first version that is used."""

    def record_success(self) -> None:
        """Record that the encoder works."""
