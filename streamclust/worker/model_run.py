"""The objects that all models of a worker share, and data for all sessions of one model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from streamclust.runtime.backoff import Backoff
from streamclust.worker.lost_commits import LostCommits
from streamclust.worker.parking import Parking
from streamclust.worker.rejected_batches import RejectedBatches

if TYPE_CHECKING:
    from streamclust.online.batch_parts import EachPart
    from streamclust.runtime.backoff import Faults
    from streamclust.runtime.connections import Connections
    from streamclust.runtime.job import Job
    from streamclust.runtime.pool import Pool
    from streamclust.worker.heartbeat import Heartbeats
    from streamclust.worker.reading import ReaderThreads
    from streamclust.worker.solver import Solves
    from streamclust.worker.standbys import Standbys


@dataclass(frozen=True)
class Shared:
    """The objects that all models of a worker share.

    Parameters
    ----------
    connections : Connections
    heartbeats : Heartbeats
    pool : Pool
    readers : ReaderThreads
    solves : Solves
    standbys : Standbys
    faults : Faults
    each_part : callable
        Computes the parts of costly batches; see `StreamLearner`.
    """

    connections: Connections
    heartbeats: Heartbeats
    pool: Pool
    readers: ReaderThreads
    solves: Solves
    standbys: Standbys
    faults: Faults
    each_part: EachPart


_MANY = 100
"""From this number of models on, standbys aren't checked, and common events have level debug."""


class ModelRun:
    """One model of a worker: the data that all its sessions share.

    Parameters
    ----------
    job : Job
    shared : Shared
        Objects that all models of the worker share.

    Attributes
    ----------
    leaving : bool
        Whether to finish and leave, as after `job.stop`.
    hands_over : bool
        Whether to end the session, so that another worker takes the model.
    """

    def __init__(self, job: Job, shared: Shared) -> None:
        self.job = job
        self.shared = shared
        self.backoff = Backoff(job.server.label, job.stop, job.log, faults=shared.faults)
        self.owner = shared.standbys.id
        noted = partial(shared.standbys.note_failure, job.name)
        self.parking = Parking(job, self.owner, shared.connections, noted)
        self.lost_commits = LostCommits()
        self.rejected = RejectedBatches()
        self.leaving = self.hands_over = False

    @property
    def stopping(self) -> bool:
        """Whether the model must finish and leave."""
        return self.leaving or self.job.stop.is_set()

    @property
    def session_ends(self) -> bool:
        """Whether the session must commit, publish and return the lease."""
        return self.hands_over or self.stopping

    def hand_over(self) -> None:
        """End the session, so that another worker takes the model."""
        self.hands_over = True
        self.wake()

    @property
    def has_many_models(self) -> bool:
        """Whether the worker has so many models that it does and logs less for each of them."""
        return len(self.shared.pool) > _MANY

    def log_often(self, event: str, **fields: object) -> None:
        """Log an event that can happen to all models at once; for many models, at level debug."""
        log = self.job.log.debug if self.has_many_models else self.job.log.info
        log(event, **fields)

    def wake(self) -> None:
        """Give the model a turn."""
        self.shared.pool.news(self.job.name)

    def seconds_late(self) -> float:
        """Return the seconds for which the model has waited for a thread."""
        return self.shared.pool.seconds_late(self.job.name)
