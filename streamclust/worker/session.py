"""One model's worker: take the lease, load, read, learn, commit; begin again after a fault.

A fault of the connection is answered as a crash would be: what was not committed is forgotten,
and learning goes on from the committed state and position. So there is one way back, not two.
All that a session reads and writes belongs to one history of the server's data: what was read at
a primary that has been replaced must not be committed to the next one.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import redis

from streamclust.errors import LeaseLostError, StreamclustError
from streamclust.failpoints import passing
from streamclust.runtime.activity import Activity
from streamclust.runtime.assemble import largest_batch, points_format
from streamclust.runtime.backoff import Patience
from streamclust.runtime.log import warn_of_less
from streamclust.store.faults import passes
from streamclust.store.lease import Lease
from streamclust.store.reader import StreamReader
from streamclust.store.source import Batcher, batches
from streamclust.store.streams import any_after
from streamclust.worker.heartbeat import Heartbeat
from streamclust.worker.learning import Learning, read_checkpoint
from streamclust.worker.lost_commits import Memory
from streamclust.worker.parking import Parking, clear
from streamclust.worker.readahead import ReadAhead
from streamclust.worker.swap import Swap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.runtime.job import Job
    from streamclust.store.connect import Server
    from streamclust.store.source import Batch

_TICK = 0.1
"""Seconds between looks at the clock while no batch comes."""

_STANDBY = 1.0
"""Seconds between a standby's looks at the lease, at most: it may be given back early."""


def run_model(job: Job) -> None:
    """Work on one model until the job says stop or, with `until_idle`, all is learned.

    A model that can't go on is parked: tried again after pauses that grow. With `until_idle` or
    `worker.fail_fast` it isn't tried again.

    Raises
    ------
    StreamclustError
        If the server can't be used at all, or what it holds doesn't fit the settings, and that was
        still so in the end.
    """
    patience = Patience(job.server.label, job.stop, job.log)
    memory, owner = Memory(), secrets.token_hex(8)
    parking = Parking(job, owner)
    while not job.stop.is_set():
        try:
            if _try(job, owner, patience, memory, parking):
                break
        except Exception as error:
            if job.until_idle or job.settings.worker.fail_fast:
                failure = clear(error, job.server.label)
                if failure is error:
                    raise
                raise failure from error
            parking.fail(error)
            parking.wait(memory)
    if parking.failure is not None:
        raise parking.failure


def _try(job: Job, owner: str, patience: Patience, memory: Memory, parking: Parking) -> bool:
    """Work for one session; say whether all is learned."""
    try:
        with job.server.session() as server, _lease(job, server, owner) as lease:
            return _session(replace(job, server=server), lease, patience, memory, parking)
    except redis.RedisError as error:
        patience.wait(error)
    except LeaseLostError as error:
        job.log.error("lost the model", error=str(error))
    return False


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


def _session(job: Job, lease: Lease, patience: Patience, memory: Memory, parking: Parking) -> bool:
    """Learn under one lease until there is no more to do; say whether the feed was drained."""
    if not _wait_for(lease, job, parking):
        return False
    passing("loading")
    activity = Activity()
    learning = _learning(job, lease, memory, activity)
    heartbeat = _heartbeat(job, lease, learning, activity, lambda: parking.reason)
    swap = _swap(job, activity)
    with heartbeat:
        swap.look(learning)
        with ReadAhead(_feed(job, learning), activity) as feed:
            for _ in _batches(job, learning, heartbeat, feed, swap):
                activity.moved()
                patience.going_well()
                parking.going_well(learning)
            drained = not job.stop.is_set()
            if drained:
                learning.begin_now()
    learning.leave()
    return drained


def _learning(job: Job, lease: Lease, memory: Memory, activity: Activity) -> Learning:
    client = job.server.client()
    reader = job.server.raw_client(job.model.batch.max_entry_bytes)
    return Learning(
        job.name,
        job.model,
        client,
        job.keys,
        lease.token,
        job.log,
        memory=memory,
        reader=reader,
        activity=activity,
    )


def _heartbeat(
    job: Job,
    lease: Lease,
    learning: Learning,
    activity: Activity,
    failure: Callable[[], str] = str,
) -> Heartbeat:
    settings = job.settings.worker
    return Heartbeat(
        job.server.client(),
        job.keys,
        lease,
        float(settings.lease),
        float(settings.health_ttl),
        lambda: learning.progress,
        activity=activity,
        stall=float(settings.stall),
        entries_wait=lambda client: any_after(client, learning.committed.position),
        failure=failure,
        log=job.log,
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
        activity = Activity()
        learning = _learning(job, lease, Memory(), activity)
        swap = _swap(job, activity)
        with _heartbeat(job, lease, learning, activity):
            swap.look(learning)
    return True


def _swap(job: Job, activity: Activity) -> Swap:
    client = job.server.client()
    reader = job.server.raw_client(job.model.batch.max_entry_bytes)

    def stopping() -> bool:  # asked before each read of what was learned since
        activity.moved()
        return job.stop.is_set()

    return Swap(client, reader, job.keys, job.model, job.log, stopping)


def _wait_for(lease: Lease, job: Job, parking: Parking) -> bool:
    """Take the lease, if need be as a standby for the worker that has it."""
    said = looked = False
    while not lease.take():
        if not said:
            job.log.info("standing by: another worker has the model")
            said = True
        looked = looked or _look_at_state(job, parking)
        if job.stop.wait(min(float(job.settings.worker.lease) / 4.0, _STANDBY)):
            return False
    return True


def _look_at_state(job: Job, parking: Parking) -> bool:
    """Say at once what would keep this standby from going on; False if there is no state yet."""
    try:
        with job.server.client() as client:
            found = read_checkpoint(job.name, job.model, client, job.keys)
    except StreamclustError as error:
        job.log.error("this worker could not take the model over", error=str(error))
        return True
    if parking.failure is not None:
        parking.forget()
        job.log.info("another worker learns the model, which this one could do too")
    return found is not None


def _feed(job: Job, learning: Learning) -> Callable[[Callable[[], bool]], Iterator[Batch]]:
    """Return what the reader's thread runs: batches from the committed position on."""
    at = learning.checkpoint
    largest = job.model.batch.max_entry_bytes
    client = job.server.raw_client(largest)
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


def _batches(
    job: Job, learning: Learning, heartbeat: Heartbeat, feed: ReadAhead, swap: Swap
) -> Iterator[None]:
    """Learn batches as they come, and yield after each; end with the feed, or when told to stop."""
    for batch in feed.ticks(_TICK):
        heartbeat.check()
        if heartbeat.refit:
            heartbeat.refit = False
            swap.look(learning)
        if batch is None:
            learning.tick()
        else:
            learning.learn(batch)
        yield
        if job.stop.is_set():
            return
