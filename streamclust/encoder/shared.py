"""The objects that the encoders of many streams share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.encoder.job import Job
    from streamclust.encoder.takeovers import Takeovers
    from streamclust.runtime.backoff import Faults
    from streamclust.runtime.connections import Connections
    from streamclust.runtime.pool import Pool

_POLL, _POLL_EACH = 0.1, 0.001
"""If the server doesn't report news: minimum seconds between reads, and seconds per encoder."""


@dataclass(frozen=True)
class Shared:
    """The objects that the encoders of many streams share.

    Parameters
    ----------
    connections : Connections
    pool : Pool
    takeovers : Takeovers
    faults : Faults
    encoders : callable
        Returns the number of encoders.
    """

    connections: Connections
    pool: Pool
    takeovers: Takeovers
    faults: Faults
    encoders: Callable[[], int]

    @property
    def poll(self) -> float:
        """Seconds between reads where the server doesn't report news."""
        return max(_POLL, self.encoders() * _POLL_EACH)

    def wake(self, job: Job) -> Callable[[], object]:
        """Return a function that gives an encoder a turn."""
        return partial(self.pool.news, job.id)
