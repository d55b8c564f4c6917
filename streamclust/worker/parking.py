"""A model that can't continue is parked: reported, and retried after pauses that grow."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import redis

from streamclust.errors import StreamclustError, unexpected
from streamclust.kernels import describe
from streamclust.runtime.failures import LONGEST_PAUSE, clear_error, pause
from streamclust.store.model.health import FAILED, Health, encode_health
from streamclust.store.model.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.runtime.connections import Connections
    from streamclust.runtime.job import Job
    from streamclust.worker.lost_commits import LostCommits
    from streamclust.worker.model_worker import ModelWorker

_STEADY = 1.0
"""Seconds without a failure after which a model counts as recovered, once everything that it has
learned is committed. Where commits are rare, `LONGEST_PAUSE` seconds without a failure are enough.
"""


class Parking:
    """Remembers from session to session why a model can't continue.

    Parameters
    ----------
    job : Job
    owner : str
        The worker's name in leases.
    connections : Connections
    noted : callable, optional
        Called with the reason when it changes; with an empty text once the model has recovered.

    Attributes
    ----------
    failure : StreamclustError or None
        The newest reason, until the model has recovered.
    """

    def __init__(
        self,
        job: Job,
        owner: str,
        connections: Connections,
        noted: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._job = job
        self._owner = owner
        self._connections = connections
        self._noted = noted
        self._tries = 0
        self._resumed: float | None = None
        self.failure: StreamclustError | None = None

    @property
    def reason(self) -> str:
        """Return the reason as text; empty without one."""
        return "" if self.failure is None else str(self.failure)

    def fail(self, error: Exception) -> None:
        """Record why the model can't continue; log each reason once."""
        before, found = self.reason, clear_error(error, self._job.server.label)
        trace = {}
        if not isinstance(found, StreamclustError):
            found, trace = StreamclustError(unexpected(error)), {"exc_info": error}
        self.failure, self._resumed = found, None
        self._noted(self.reason)
        if self.reason != before:
            self._job.log.error("model_failed", error=self.reason, retrying=True, **trace)

    def pauses(self, lost_commits: LostCommits) -> Iterator[float]:
        """Yield the seconds to wait, until the next try is due; report the model as failed."""
        settings = self._job.settings.worker
        until, period = time.monotonic() + pause(self._tries), float(settings.health_ttl) / 3.0
        self._tries += 1
        while (remaining := until - time.monotonic()) > 0.0:
            self._report(lost_commits, float(settings.health_ttl))
            yield min(remaining, period)

    def _report(self, lost_commits: LostCommits, seconds: float) -> None:
        health = Health(
            pid=os.getpid(),
            host=socket.gethostname(),
            phase=FAILED,
            points=lost_commits.points,
            version=lost_commits.version,
            time=time.time(),
            kernels=describe(),
            reason=self.reason,
            worker=self._owner,
        )
        # The log already names a server that can't be reached.
        with suppress(redis.RedisError, OSError), self._connections.session() as server:
            lease = Lease(server.client(), self._job.keys, 1.0, self._owner)
            lease.report(encode_health(health), seconds)

    def record_success(self, worker: ModelWorker) -> None:
        """Record that the model works; it has recovered after some time without a failure."""
        if self.failure is None:
            return
        now = time.monotonic()
        if self._resumed is None:
            self._resumed = now
        steady = now - self._resumed
        if (steady >= _STEADY and worker.settled) or steady >= LONGEST_PAUSE:
            self._job.log.info("model_recovered", after=self.reason)
            self.forget()

    def forget(self) -> None:
        """Forget the failure."""
        self.failure, self._resumed, self._tries = None, None, 0
        self._noted("")
