"""One model's worker: take the lease, load, read, learn, commit; restart after a fault.

A fault of the connection is handled as a crash is: the worker discards everything that was not
committed, and continues from the committed state and position. So one recovery path covers both.
Everything that a session reads and writes belongs to one history of the server's data: points that
were read at a primary that has been replaced must not be committed to the next primary.
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
from streamclust.runtime.backoff import Backoff
from streamclust.runtime.log import warn_of_less
from streamclust.store.model.lease import Lease
from streamclust.store.server.faults import passes
from streamclust.store.stream.batches import Batcher, batches
from streamclust.store.stream.info import any_after
from streamclust.store.stream.reader import StreamReader
from streamclust.worker.awaited import Awaited, refuse_missing
from streamclust.worker.context import ModelContext
from streamclust.worker.heartbeat import Heartbeat
from streamclust.worker.lost_commits import LostCommits
from streamclust.worker.model_worker import open_model_worker
from streamclust.worker.parking import Parking, clear
from streamclust.worker.positions import read_checkpoint
from streamclust.worker.readahead import ReadAhead
from streamclust.worker.rejected_batches import RejectedBatches
from streamclust.worker.swap import Swap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.runtime.job import Job
    from streamclust.store.server.connect import Server
    from streamclust.store.stream.batches import Batch
    from streamclust.worker.model_worker import ModelWorker

_TICK = 0.1
"""Seconds after which the loop runs without a batch, to commit and publish by the clock."""

_STANDBY = 1.0
"""Maximum seconds between two tries of a standby to take the lease, which may be released early."""


def run_model(job: Job) -> None:
    """Learn one model until the job stops or, with `until_idle`, all points are learned.

    A model that can't continue is parked: the worker retries after pauses that grow. With
    `until_idle` or `worker.fail_fast` it doesn't retry.

    Raises
    ------
    StreamclustError
        If the server can't be used, or its contents don't fit the settings, and this was still so
        at the end.
    """
    sessions = _Sessions(job)
    while not job.stop.is_set():
        try:
            if sessions.run_one():
                break
        except Exception as error:
            if job.until_idle or job.settings.worker.fail_fast:
                failure = clear(error, job.server.label)
                if failure is error:
                    raise
                raise failure from error
            sessions.park(error)
    if sessions.failure is not None:
        raise sessions.failure


class _Sessions:
    """The sessions of one model, and everything that outlives a session.

    Parameters
    ----------
    job : Job
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._owner = secrets.token_hex(8)
        self._backoff = Backoff(job.server.label, job.stop, job.log)
        self._parking = Parking(job, self._owner)
        self._lost_commits = LostCommits()
        self._rejected = RejectedBatches()

    @property
    def failure(self) -> StreamclustError | None:
        """The reason why the model is failed, if it is."""
        return self._parking.failure

    def park(self, error: Exception) -> None:
        """Report a model that can't continue, and pause before the next session."""
        self._parking.fail(error)
        self._parking.wait(self._lost_commits)

    def run_one(self) -> bool:
        """Connect, take the lease and learn; return whether all points are learned.

        After a fault that passes, and after a lost lease, the caller starts the next session.
        """
        job = self._job
        try:
            with job.server.session() as server:
                if job.until_idle:  # before any key of the model is written
                    refuse_missing(job, server.client(), every=False)
                with _lease(job, server, self._owner) as lease:
                    if self._wait_for(lease):
                        return self._learn(replace(job, server=server), lease)
        except redis.RedisError as error:
            self._backoff.wait(error)
        except LeaseLostError as error:
            job.log.error("lease_lost", error=str(error))
        return False

    def _learn(self, job: Job, lease: Lease) -> bool:
        """Learn under one lease until the job stops or the feed ends; return whether it ended.

        The loop runs for each batch, and every `_TICK` seconds without one.
        """
        passing("loading")
        activity = Activity()
        worker = _open_worker(job, lease, activity, self._lost_commits, self._rejected)
        heartbeat = _heartbeat(job, lease, worker, activity, lambda: self._parking.reason)
        swap = _swap(job, activity)
        awaited = Awaited(job, job.server.client())
        with heartbeat:
            swap.adopt_proposal(worker)
            with ReadAhead(_feed(job, worker), activity) as feed:
                for batch in feed.ticks(_TICK):
                    heartbeat.check()
                    if heartbeat.refit:
                        heartbeat.refit = False
                        swap.adopt_proposal(worker)
                    if batch is None:
                        worker.tick()
                    else:
                        worker.learn(batch)
                    awaited.look(worker)
                    activity.moved()
                    self._backoff.going_well()
                    self._parking.going_well(worker)
                    if job.stop.is_set():
                        break
                drained = not job.stop.is_set()
                if drained:
                    worker.begin_now()
        worker.leave()
        if drained and job.until_idle:
            refuse_missing(job, job.server.client())
        return drained

    def _wait_for(self, lease: Lease) -> bool:
        """Take the lease, if need be as a standby; return False if the job stops before."""
        job = self._job
        is_standby = has_checked = False
        while not lease.take():
            if not is_standby:
                job.log.info("standby_started")
                is_standby = True
            has_checked = has_checked or self._check_standby()
            if job.stop.wait(min(float(job.settings.worker.lease) / 4.0, _STANDBY)):
                return False
        return True

    def _check_standby(self) -> bool:
        """Check whether this standby could continue the model; return False without a state yet."""
        job = self._job
        try:
            with job.server.client() as client:
                found = read_checkpoint(job.name, job.model, client, job.keys)
        except StreamclustError as error:
            job.log.error("standby_failed", error=str(error))
            return True
        if self._parking.failure is not None:
            self._parking.forget()
            job.log.info("standby_recovered")
        return found is not None


def swap_in_place(job: Job) -> bool:
    """Adopt the proposed refit where no worker has the model; return False if a worker has it.

    Parameters
    ----------
    job : Job
        Its server is a session.

    Raises
    ------
    StreamclustError
        If the contents of the server don't fit the settings.
    LeaseLostError
        If a worker took the model over meanwhile.
    """
    with _lease(job, job.server) as lease:
        if not lease.take():
            return False
        activity = Activity()
        worker = _open_worker(job, lease, activity)
        swap = _swap(job, activity)
        with _heartbeat(job, lease, worker, activity):
            swap.adopt_proposal(worker)
    return True


@contextmanager
def _lease(job: Job, server: Server, owner: str = "") -> Iterator[Lease]:
    """Release the lease at the end, so that a standby takes over at once."""
    lease = Lease(server.client(), job.keys, float(job.settings.worker.lease), owner)
    try:
        yield lease
    except redis.RedisError as error:
        if passes(error):
            lease.token = 0  # a server that is away can't release the lease
        raise
    finally:
        with suppress(redis.RedisError):
            if lease.token:
                lease.drop()


def _open_worker(
    job: Job,
    lease: Lease,
    activity: Activity,
    lost_commits: LostCommits | None = None,
    rejected: RejectedBatches | None = None,
) -> ModelWorker:
    context = ModelContext(job.name, job.model, job.server.client(), job.keys, job.log)
    return open_model_worker(
        context,
        lease.token,
        lost_commits=lost_commits,
        rejected=rejected,
        reader=job.server.raw_client(job.model.batch.max_entry_bytes),
        activity=activity,
    )


def _heartbeat(
    job: Job,
    lease: Lease,
    worker: ModelWorker,
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
        lambda: worker.progress,
        activity=activity,
        stall=float(settings.stall),
        entries_wait=lambda client: any_after(client, worker.committed.position),
        failure=failure,
        log=job.log,
    )


def _swap(job: Job, activity: Activity) -> Swap:
    client = job.server.client()
    reader = job.server.raw_client(job.model.batch.max_entry_bytes)

    def stopping() -> bool:  # called before each read of the points since the refit started
        activity.moved()
        return job.stop.is_set()

    return Swap(client, reader, job.keys, job.model, job.log, stopping)


def _feed(job: Job, worker: ModelWorker) -> Callable[[Callable[[], bool]], Iterator[Batch]]:
    """Return the iterator that the reader thread runs: batches after the committed position."""
    at, settings = worker.checkpoint, job.model
    largest = settings.batch.max_entry_bytes
    client = job.server.raw_client(largest)
    reader = StreamReader(
        client, at.position, at.read, settings.on_reset, largest, warn_of_less(job.log)
    )
    given = at.learner.stats
    batcher = Batcher(
        points_format(settings.points, None if given is None else given.reference.shape[1]),
        at.layout,
        at.position,
        settings.batch.least,
        at.read,
        most=largest_batch(settings),
        learned=at.learner.points,
        keep_dead=settings.dead.keep,
    )
    linger = float(settings.batch.linger)
    return lambda stopping: batches(
        reader, batcher, linger=linger, until_idle=job.until_idle, stopping=stopping
    )
