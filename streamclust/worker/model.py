"""One model's worker: take the lease, load, read, learn, commit; begin again after a fault.

A fault of the connection is answered as a crash would be: what was not committed is forgotten,
and learning goes on from the committed state and position. So there is one way back, not two.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from streamclust.errors import LeaseLostError
from streamclust.store.connect import translated
from streamclust.store.keys import Keys
from streamclust.store.lease import Lease
from streamclust.store.source import Batcher, StreamReader, batches
from streamclust.worker.build import points_format
from streamclust.worker.heartbeat import Heartbeat
from streamclust.worker.learning import Learning
from streamclust.worker.readahead import ReadAhead

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from structlog.typing import FilteringBoundLogger

    from streamclust.config import Settings as AllSettings
    from streamclust.store.connect import Server
    from streamclust.store.source import Batch
    from streamclust.worker.build import Settings

_TICK = 0.1
"""Seconds between looks at the clock while no batch comes."""

_LONGEST_PAUSE = 10.0
"""Cap of the pause before the next try to reach the server, in seconds."""

_PASSING = (redis.ConnectionError, redis.TimeoutError)
"""Faults that may pass: the server is away, restarts, or loads its data."""


@dataclass(frozen=True)
class Job:
    """What a model's worker needs to know.

    Parameters
    ----------
    name : str
    settings : Settings
        Of the whole worker.
    server : Server
    stop : threading.Event
        Set when the worker is to finish its batch and leave.
    until_idle : bool
        Leave when all that is there is learned.
    log : structlog logger
    """

    name: str
    settings: AllSettings
    server: Server
    stop: threading.Event
    until_idle: bool
    log: FilteringBoundLogger

    @property
    def model(self) -> Settings:
        """The settings of this model."""
        return self.settings.models[self.name]

    @property
    def keys(self) -> Keys:
        """The keys of this model."""
        return Keys(self.settings.namespace, self.name)


def run_model(job: Job) -> None:
    """Work on one model until the job says stop or, with `until_idle`, all is learned.

    Raises
    ------
    StreamclustError
        If the server can't be used at all, or what it holds doesn't fit the settings.
    """
    faults = 0
    while not job.stop.is_set():
        try:
            drained = _session(job)
        except _PASSING as error:
            faults += 1
            if faults == 1:
                job.log.warning("lost the server; trying again", error=_line(job, error))
            job.stop.wait(_pause(faults))
        except redis.RedisError as error:
            raise translated(error, job.server.label) from error
        except LeaseLostError as error:
            job.log.error("lost the model", error=str(error))
        else:
            faults = 0
            if drained:
                return


def _line(job: Job, error: redis.RedisError) -> str:
    return str(translated(error, job.server.label))


def _pause(faults: int) -> float:
    """Return a growing, capped, jittered pause in seconds."""
    return min(_LONGEST_PAUSE, 0.1 * 2.0 ** min(faults, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


def _session(job: Job) -> bool:
    """Learn under one lease until there is no more to do; say whether the feed was drained."""
    client = job.server.client()
    lease_seconds = float(job.settings.worker.lease)
    lease = Lease(client, job.keys, lease_seconds)
    if not _wait_for(lease, job):
        return False
    learning = Learning(job.name, job.model, client, job.keys, lease.token, job.log)
    heartbeat = Heartbeat(
        job.server.client(),
        job.keys,
        lease,
        lease_seconds,
        float(job.settings.worker.health_ttl),
        lambda: learning.progress,
    )
    with heartbeat, ReadAhead(_feed(job, learning)) as feed:
        drained = _learn(job, learning, heartbeat, feed)
    learning.leave()
    lease.drop()
    client.delete(job.keys.health)
    return drained


def _wait_for(lease: Lease, job: Job) -> bool:
    """Take the lease, if need be as a standby for the worker that has it."""
    said = False
    while not lease.take():
        if not said:
            job.log.info("standing by: another worker has the model")
            said = True
        if job.stop.wait(float(job.settings.worker.lease) / 4.0):
            return False
    return True


def _feed(job: Job, learning: Learning) -> Callable[[Callable[[], bool]], Iterator[Batch]]:
    """Return what the reader's thread runs: batches from the committed position on."""
    at = learning.checkpoint
    reader = StreamReader(job.server.client(), at.position)
    spec = points_format(job.model.points)
    batcher = Batcher(spec, at.layout, at.position, job.model.batch.size)
    linger = float(job.model.batch.linger)
    return lambda stopping: batches(
        reader, batcher, linger=linger, until_idle=job.until_idle, stopping=stopping
    )


def _learn(job: Job, learning: Learning, heartbeat: Heartbeat, feed: ReadAhead) -> bool:
    """Learn batches as they come; True when the feed ended, False when told to stop."""
    for batch in feed.ticks(_TICK):
        if heartbeat.lost:
            raise LeaseLostError("another worker took the model over while this one slept")
        if batch is None:
            learning.tick()
        else:
            learning.learn(batch)
        if job.stop.is_set():
            return False
    learning.begin_now()
    return True
