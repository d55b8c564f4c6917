"""One model's worker: take the lease, load, read, learn, commit; restart after a fault.

A model's life is one generator. Each of its steps is a turn on a thread (`pool`); what it yields is
what it waits for. So the story is told in order, and needs no thread while the model waits.

A fault of the connection is handled as a crash is: the worker discards everything that was not
committed, and continues from the committed state and position. So one recovery path covers both.
Everything that a session reads and writes belongs to one history of the server's data: points that
were read at a primary that has been replaced must not be committed to the next primary.
"""

from __future__ import annotations

import secrets
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import redis

from streamclust.errors import LeaseLostError, StreamclustError
from streamclust.failpoints import passing
from streamclust.runtime.activity import LOOP, Activity
from streamclust.runtime.assemble import largest_batch, points_format
from streamclust.runtime.backoff import Backoff
from streamclust.runtime.log import warn_of_less
from streamclust.store.model.lease import Lease
from streamclust.store.server.faults import passes
from streamclust.store.stream.batches import Batcher, Feed
from streamclust.store.stream.info import any_after
from streamclust.store.stream.reader import StreamReader
from streamclust.worker.context import ModelContext
from streamclust.worker.heartbeat import Heartbeat, Heartbeats, period
from streamclust.worker.lost_commits import LostCommits
from streamclust.worker.model_worker import open_model_worker
from streamclust.worker.parking import Parking, clear
from streamclust.worker.positions import read_checkpoint
from streamclust.worker.reading import Reading
from streamclust.worker.rejected_batches import RejectedBatches
from streamclust.worker.scheduler import Wait
from streamclust.worker.swap import Swap

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from streamclust.runtime.job import Job
    from streamclust.store.server.connect import Server
    from streamclust.store.server.shared import SharedServer
    from streamclust.worker.model_worker import ModelWorker
    from streamclust.worker.solver import Solves
    from streamclust.worker.together import Shared

_QUANTUM = 0.05
"""Seconds after which a turn ends between two batches, and the model returns to the queue."""

_RECOVERING = 0.25
"""Seconds between looks at whether a model has recovered."""

_STANDBY = 1.0
"""Maximum seconds between two tries of a standby to take the lease, which may be released early."""


class ModelRun:
    """The life of one model: its sessions, and everything that outlives a session.

    Parameters
    ----------
    job : Job
    shared : Shared
        What the models of a worker share.

    Attributes
    ----------
    leaving : bool
        Whether to finish and leave. `job.stop` asks for the same.
    """

    def __init__(self, job: Job, shared: Shared) -> None:
        self._job = job
        self._shared = shared
        self._owner = secrets.token_hex(8)
        self._backoff = Backoff(job.server.label, job.stop, job.log)
        self._parking = Parking(job, self._owner, shared.connections)
        self._lost_commits = LostCommits()
        self._rejected = RejectedBatches()
        self.leaving = False

    def life(self) -> Iterator[Wait]:
        """Learn the model until it is asked to leave or, with `until_idle`, all is learned.

        A model that can't continue is parked: the worker retries after pauses that grow. With
        `until_idle` or `worker.fail_fast` it doesn't retry.

        Raises
        ------
        StreamclustError
            If the server can't be used, or its contents don't fit the settings, and this was still
            so at the end.
        """
        job = self._job
        while not self._stopping:
            try:
                if (yield from self._session()):
                    break
                continue
            except Exception as error:
                if job.until_idle or job.settings.worker.fail_fast:
                    failure = clear(error, job.server.label)
                    if failure is error:
                        raise
                    raise failure from error
                self._parking.fail(error)
            yield from self._pauses()
        if self._parking.failure is not None:
            raise self._parking.failure

    @property
    def _stopping(self) -> bool:
        return self.leaving or self._job.stop.is_set()

    def _wake(self) -> None:
        self._shared.pool.news(self._job.name)

    def _late(self) -> float:
        return self._shared.pool.late(self._job.name)

    def _pauses(self) -> Iterator[Wait]:
        """Wait for the next try of a model that has failed."""
        for seconds in self._parking.pauses(self._lost_commits):
            yield Wait(time.monotonic() + seconds)
            if self._stopping:
                return

    def _session(self) -> Generator[Wait, None, bool]:
        """Connect, take the lease and learn; return whether all points are learned.

        After a fault that passes, and after a lost lease, the caller starts the next session.
        """
        job = self._job
        try:
            with (
                self._shared.connections.session() as server,
                _lease(job, server, self._owner) as lease,
            ):
                if (yield from self._wait_for(lease, server)):
                    return (yield from self._learn(server, lease))
                return False
        except redis.RedisError as error:
            seconds = self._backoff.pause(error)
        except LeaseLostError as error:
            job.log.error("lease_lost", error=str(error))
            return False
        yield Wait(time.monotonic() + seconds)
        return False

    def _learn(self, server: SharedServer, lease: Lease) -> Generator[Wait, None, bool]:
        """Learn under one lease until the model leaves or the feed ends; return whether it ended.

        Each round of the outer loop is a turn.
        """
        passing("loading")
        job = replace(self._job, server=server)
        activity = Activity()
        worker = _open_worker(
            job, lease, activity, self._lost_commits, self._rejected, self._shared.solves
        )
        heart = _heartbeat(
            job,
            lease,
            worker,
            activity,
            lambda: self._parking.reason,
            self._late,
            self._wake,
            lambda: self._shared.pool.replace_thread(job.name),
        )
        swap = _swap(job, activity, lambda: self._stopping)
        with self._shared.heartbeats.beating(heart):
            swap.adopt_proposal(worker)
            with closing(self._open_reading(job, server, worker, activity)) as reading:
                while True:
                    ends = time.monotonic() + _QUANTUM
                    while True:
                        passing("waiting")
                        heart.check()
                        if heart.refit:
                            heart.refit = False
                            swap.adopt_proposal(worker)
                        learned = False
                        for batch in reading.step():
                            worker.learn(batch)
                            activity.moved()
                            learned = True
                        if not learned:
                            worker.tick()
                        activity.moved()
                        self._backoff.going_well()
                        self._parking.going_well(worker)
                        if self._stopping or not reading.behind or time.monotonic() >= ends:
                            break
                    if self._stopping or reading.drained:
                        break
                    yield self._next_turn(reading, worker, activity)
                    activity.moved()
                drained = not self._stopping
                if drained:
                    worker.begin_now()
        worker.leave()
        return drained

    def _next_turn(self, reading: Reading, worker: ModelWorker, activity: Activity) -> Wait:
        """Return what the model waits for after a turn."""
        until = reading.rest()
        activity.ended(LOOP)
        if reading.behind:
            return Wait(time.monotonic())
        passing("resting")
        times = [time for time in (until, worker.next_due) if time is not None]
        if self._backoff.troubled or self._parking.failure is not None:
            times.append(time.monotonic() + _RECOVERING)
        return Wait(min(times, default=None))

    def _open_reading(
        self, job: Job, server: SharedServer, worker: ModelWorker, activity: Activity
    ) -> Reading:
        reader = _reader(job, worker)
        return Reading(
            _feed(job, worker, reader),
            reader,
            job.model.streams,
            server.news,
            self._shared.readers,
            activity=activity,
            wake=self._wake,
            name=job.name,
            models=self._shared.models,
        )

    def _wait_for(self, lease: Lease, server: Server) -> Generator[Wait, None, bool]:
        """Take the lease, if need be as a standby; return False if the model leaves before."""
        job = self._job
        is_standby = has_checked = False
        while not lease.take():
            if not is_standby:
                job.log.info("standby_started")
                is_standby = True
            has_checked = has_checked or self._check_standby(server)
            pause = min(float(job.settings.worker.lease) / 4.0, _STANDBY)
            yield Wait(time.monotonic() + pause)
            if self._stopping:
                return False
        return True

    def _check_standby(self, server: Server) -> bool:
        """Check whether this standby could continue the model; return False without a state yet."""
        job = self._job
        try:
            found = read_checkpoint(job.name, job.model, server.client(), job.keys)
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
        activity, settings = Activity(), job.settings.worker
        worker = _open_worker(job, lease, activity)
        swap = _swap(job, activity, job.stop.is_set)
        seconds = period(float(settings.lease), float(settings.health_ttl))
        with (
            Heartbeats(seconds) as heartbeats,
            heartbeats.beating(_heartbeat(job, lease, worker, activity)),
        ):
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
    solves: Solves | None = None,
) -> ModelWorker:
    context = ModelContext(job.name, job.model, job.server.client(), job.keys, job.log)
    return open_model_worker(
        context,
        lease.token,
        lost_commits=lost_commits,
        rejected=rejected,
        reader=job.server.raw_client(job.model.batch.max_entry_bytes),
        activity=activity,
        solves=solves,
    )


def _heartbeat(
    job: Job,
    lease: Lease,
    worker: ModelWorker,
    activity: Activity,
    failure: Callable[[], str] = str,
    late: Callable[[], float] = float,
    wake: Callable[[], object] = lambda: None,
    stalled: Callable[[], object] = lambda: None,
) -> Heartbeat:
    settings = job.settings.worker
    return Heartbeat(
        job.server.client(),
        job.keys,
        lease,
        float(settings.health_ttl),
        lambda: worker.progress,
        activity=activity,
        stall=float(settings.stall),
        entries_wait=lambda client: any_after(client, worker.committed.position),
        failure=failure,
        log=job.log,
        late=late,
        wake=wake,
        stalled=stalled,
    )


def _swap(job: Job, activity: Activity, leaving: Callable[[], bool]) -> Swap:
    client = job.server.client()
    reader = job.server.raw_client(job.model.batch.max_entry_bytes)

    def stopping() -> bool:  # called before each read of the points since the refit started
        activity.moved()
        return leaving()

    return Swap(client, reader, job.keys, job.model, job.log, stopping)


def _reader(job: Job, worker: ModelWorker) -> StreamReader:
    at, settings = worker.checkpoint, job.model
    largest = settings.batch.max_entry_bytes
    client = job.server.raw_client(largest)
    return StreamReader(
        client, at.position, at.read, settings.on_reset, largest, warn_of_less(job.log)
    )


def _feed(job: Job, worker: ModelWorker, reader: StreamReader) -> Feed:
    """Return the feed of batches after the committed position."""
    at, settings = worker.checkpoint, job.model
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
    return Feed(reader, batcher, linger=float(settings.batch.linger), until_idle=job.until_idle)
