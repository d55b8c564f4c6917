"""One model's worker: take the lease, load, read, learn, commit; begin again after a fault.

A fault of the connection is answered as a crash would be: what was not committed is forgotten,
and learning goes on from the committed state and position. So there is one way back, not two.
All that a session reads and writes belongs to one history of the server's data: what was read at
a primary that has been replaced must not be committed to the next one.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import redis

from streamclust.errors import LeaseLostError
from streamclust.failpoints import passing
from streamclust.store.faults import passes
from streamclust.store.keys import Keys
from streamclust.store.lease import Lease
from streamclust.store.reader import StreamReader
from streamclust.store.source import Batcher, batches
from streamclust.worker.build import largest_batch, points_format
from streamclust.worker.heartbeat import Heartbeat
from streamclust.worker.learning import Learning
from streamclust.worker.log import warn_of_less
from streamclust.worker.memory import Memory
from streamclust.worker.patience import Patience
from streamclust.worker.readahead import ReadAhead
from streamclust.worker.swap import Swap

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

_STANDBY = 1.0
"""Seconds between a standby's looks at the lease, at most: it may be given back early."""


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
    patience = Patience(job.server.label, job.stop, job.log)
    memory, owner = Memory(), secrets.token_hex(8)
    while not job.stop.is_set():
        try:
            with job.server.session() as server, _lease(job, server, owner) as lease:
                if _session(replace(job, server=server), lease, patience, memory):
                    return
        except redis.RedisError as error:
            patience.wait(error)
        except LeaseLostError as error:
            job.log.error("lost the model", error=str(error))


@contextmanager
def _lease(job: Job, server: Server, owner: str = "") -> Iterator[Lease]:
    """Give the lease back in the end, so that a standby takes over at once."""
    lease = Lease(server.client(), job.keys, float(job.settings.worker.lease), owner)
    try:
        yield lease
    except redis.RedisError as error:
        if passes(error):
            lease.token = 0  # at a server that is away nothing can be given back
        raise
    finally:
        with suppress(redis.RedisError):
            if lease.token:
                lease.drop()


def _session(job: Job, lease: Lease, patience: Patience, memory: Memory) -> bool:
    """Learn under one lease until there is no more to do; say whether the feed was drained."""
    if not _wait_for(lease, job):
        return False
    passing("loading")
    learning = _learning(job, lease, memory)
    heartbeat = _heartbeat(job, lease, learning)
    swap = _swap(job)
    with heartbeat:
        swap.look(learning)
        with ReadAhead(_feed(job, learning)) as feed:
            drained = _learn(job, learning, heartbeat, feed, swap, patience)
    learning.leave()
    return drained


def _learning(job: Job, lease: Lease, memory: Memory) -> Learning:
    client = job.server.client()
    reader = job.server.client(max_reply=job.model.batch.max_entry_bytes, packed=True)
    return Learning(
        job.name,
        job.model,
        client,
        job.keys,
        lease.token,
        job.log,
        memory=memory,
        reader=reader,
    )


def _heartbeat(job: Job, lease: Lease, learning: Learning) -> Heartbeat:
    return Heartbeat(
        job.server.client(),
        job.keys,
        lease,
        float(job.settings.worker.lease),
        float(job.settings.worker.health_ttl),
        lambda: learning.progress,
    )


def swap_in_place(job: Job) -> bool:
    """Take over the proposed refit where no worker has the model; False if one has it.

    The job's server is to be a session of it.

    Raises
    ------
    StreamclustError
        If what the server holds doesn't fit the settings.
    LeaseLostError
        If a worker took the model meanwhile.
    """
    with _lease(job, job.server) as lease:
        if not lease.take():
            return False
        learning = _learning(job, lease, Memory())
        swap = _swap(job)
        with _heartbeat(job, lease, learning):
            swap.look(learning)
    return True


def _swap(job: Job) -> Swap:
    client = job.server.client()
    reader = job.server.client(max_reply=job.model.batch.max_entry_bytes, packed=True)
    return Swap(client, reader, job.keys, job.model, job.log, job.stop.is_set)


def _wait_for(lease: Lease, job: Job) -> bool:
    """Take the lease, if need be as a standby for the worker that has it."""
    said = False
    while not lease.take():
        if not said:
            job.log.info("standing by: another worker has the model")
            said = True
        if job.stop.wait(min(float(job.settings.worker.lease) / 4.0, _STANDBY)):
            return False
    return True


def _feed(job: Job, learning: Learning) -> Callable[[Callable[[], bool]], Iterator[Batch]]:
    """Return what the reader's thread runs: batches from the committed position on."""
    at = learning.checkpoint
    largest = job.model.batch.max_entry_bytes
    client = job.server.client(max_reply=largest, packed=True)
    reader = StreamReader(
        client, at.position, at.read, job.model.on_reset, largest, warn_of_less(job.log)
    )
    given = at.learner.stats
    spec = points_format(job.model.points, None if given is None else given.reference.shape[1])
    batcher = Batcher(
        spec,
        at.layout,
        at.position,
        job.model.batch.least,
        at.read,
        most=largest_batch(job.model),
        learned=at.learner.points,
        keep_dead=job.model.dead.keep,
    )
    linger = float(job.model.batch.linger)
    return lambda stopping: batches(
        reader, batcher, linger=linger, until_idle=job.until_idle, stopping=stopping
    )


def _learn(
    job: Job,
    learning: Learning,
    heartbeat: Heartbeat,
    feed: ReadAhead,
    swap: Swap,
    patience: Patience,
) -> bool:
    """Learn batches as they come; True when the feed ended, False when told to stop."""
    for batch in feed.ticks(_TICK):
        if heartbeat.lost:
            raise LeaseLostError(
                "another worker took the model over while this one slept, or its keys were deleted"
            )
        if heartbeat.refit:
            heartbeat.refit = False
            swap.look(learning)
        if batch is None:
            learning.tick()
        else:
            learning.learn(batch)
        patience.going_well()
        if job.stop.is_set():
            return False
    learning.begin_now()
    return True
