"""One session of a model: load, read, learn, commit; sleep while nothing arrives, or in a pause.

Everything that a session reads and writes belongs to one history of the server's data: points that
were read at a primary that has been replaced must not be committed to the next primary.
"""

from __future__ import annotations

import random
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import redis

from streamclust.failpoints import passing
from streamclust.runtime.activity import LOOP, Activity
from streamclust.runtime.scheduler import Wait
from streamclust.store.model.pause import pause_command
from streamclust.store.model.proposal import proposal_command
from streamclust.store.server.round_trip import round_trip
from streamclust.store.stream.info import any_after, has_entry_after, look_command
from streamclust.worker.asleep import SleepingModel, find_asleep, find_paused, watched
from streamclust.worker.awaited import Awaited, refuse_missing
from streamclust.worker.context import ModelContext
from streamclust.worker.heartbeat import Heartbeat
from streamclust.worker.model_worker import open_model_worker
from streamclust.worker.pausing import PauseWatch, check_token, log_pause
from streamclust.worker.reading import Reading
from streamclust.worker.swap import open_swap

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from streamclust.runtime.connections import SharedServer
    from streamclust.runtime.job import Job
    from streamclust.store.model.lease import Lease
    from streamclust.store.stream.batches import Batch
    from streamclust.worker.model_run import ModelRun
    from streamclust.worker.model_worker import ModelWorker
    from streamclust.worker.progress import Progress

    End = Literal["leaving", "drained", "asleep", "paused"]

_QUANTUM = 0.05
"""Seconds after which a turn ends between two batches, and the model returns to the queue."""

_RECOVERING = 0.25
"""Seconds between looks at whether a model has recovered."""

_LOOK_AGAIN = 900.0
"""Seconds after which a sleeping model looks for entries, because a report can be missing."""


class Session:
    """Learns one model under one lease, on connections that lead to the same data.

    Parameters
    ----------
    run : ModelRun
    server : SharedServer
    lease : Lease
        It must be taken.
    """

    def __init__(self, run: ModelRun, server: SharedServer, lease: Lease) -> None:
        passing("loading")
        self._run = run
        self._job: Job = replace(run.job, server=server)
        self._server = server
        self._lease = lease
        self._activity = Activity()
        self._swap = open_swap(self._job, self._activity, lambda: run.session_ends)
        self._idle_after = float(run.job.settings.worker.idle_after)
        self._worker: ModelWorker | None = None
        self._pauses = PauseWatch(run, server, lease, self._activity)
        asleep = None
        if run.parking.failure is None and not run.job.until_idle:
            asleep = find_asleep(self._job, run.lost_commits, server.news, run.wake)
        if asleep is not None:
            self._sleeping_model = asleep
            self._pauses.set_unpaused()
            run.log_often("model_resumed", **asleep.learned)
            run.backoff.over()
        elif self._pauses.look() is not None:
            self._sleeping_model = find_paused(self._job, server.client())
            run.backoff.over()
        else:
            self._remember(self._open())

    def run(self) -> Generator[Wait, None, bool]:
        """Learn until the model leaves or the feed ends; return whether it ended."""
        run, heart = self._run, self._heartbeat()
        at_once = self._worker is not None or not run.has_many_models
        if self._worker is None:
            heart.sleep()
        try:
            with run.shared.heartbeats.beating(heart, at_once=at_once):
                end = yield from self._phases(heart)
                if self._worker is not None and end == "drained":
                    self._worker.begin_now()
                self._note_hang(heart.unanswered)
        except redis.TimeoutError:
            self._note_hang(True)
            raise
        finally:
            self._server.news.forget(self._job.model.streams, run.wake)
            self._pauses.close()
        # Commit and publish the rest, unless the server doesn't answer.
        if self._run.stopping and self._run.shared.heartbeats.server_hangs.is_set():
            self._lease.token = 0  # it can't be returned either
        elif self._worker is not None:
            self._worker.leave()
        if end == "drained":
            refuse_missing(self._job, self._server.client())
        return end in ("drained", "paused")

    def _phases(self, heart: Heartbeat) -> Generator[Wait, None, End]:
        """Run the phases of the model (awake, asleep, paused); return why the session ends."""
        run, asleep = self._run, self._worker is None
        while True:
            if (pause := self._pauses.look(heart)) is not None:
                if run.job.until_idle:
                    log_pause(run, pause, **self._sleeping_model.learned)
                    return "paused"
                yield from self._pauses.wait(heart, self._sleeping_model)
            elif asleep:
                yield from self._asleep(heart)
            if run.session_ends:
                return "leaving"
            if self._pauses.look(heart, again=asleep) is not None:
                continue
            self._worker = self._worker or self._open(woken=True)
            end = yield from self._awake(self._worker, heart)
            if end in ("leaving", "drained"):
                return end
            asleep = end == "asleep"
            self._remember(self._worker)
            self._worker = None  # it leaves memory
            run.shared.heartbeats.slept = True

    def _note_hang(self, unanswered: bool) -> None:
        """Record, for all models that leave, that the server doesn't answer."""
        if unanswered and self._run.stopping:
            self._run.shared.heartbeats.server_hangs.set()

    def _awake(self, worker: ModelWorker, heart: Heartbeat) -> Generator[Wait, None, End]:
        """Read, learn and commit; return why this ended. Each round of the outer loop is a turn."""
        run, activity = self._run, self._activity
        awaited = Awaited(self._job, self._server.client())
        reading = Reading(
            self._job,
            worker.checkpoint,
            news=self._server.news,
            readers=run.shared.readers,
            activity=activity,
            wake=run.wake,
            models=len(run.shared.pool),
        )
        with closing(reading):
            while True:
                ends = time.monotonic() + _QUANTUM
                while True:
                    if end := self._end(worker, heart):
                        return end
                    self._adopt_refit(worker, heart)
                    learned = False
                    for batch in self._batches(reading, heart):
                        worker.learn(batch)
                        activity.record_progress()
                        learned = True
                        del batch  # its points would stay in memory while the model waits
                    if not learned:
                        worker.tick()
                    activity.record_progress()
                    awaited.look(worker)
                    run.backoff.record_success()
                    run.parking.record_success(worker)
                    if not reading.behind or time.monotonic() >= ends:
                        break
                if end := self._end(worker, heart):
                    return end
                if reading.drained:
                    return "drained"
                wait = self._next_turn(reading, worker, awaited)
                if wait is None:
                    return "asleep"
                activity.ended(LOOP)
                yield wait
                activity.record_progress()

    def _batches(self, reading: Reading, heart: Heartbeat) -> Iterator[Batch]:
        """Yield the batches of one read, up to a pause."""
        for batch in reading.step():
            yield batch
            if self._pauses.look(heart) is not None:
                return

    def _end(self, worker: ModelWorker, heart: Heartbeat) -> End | None:
        """Return why the model must stop learning, if it must; commit before a pause."""
        passing("waiting")
        heart.check()
        if self._run.session_ends:
            return "leaving"
        if self._pauses.look(heart) is None:
            return None
        if not worker.settled:
            worker.commit(publish=False)
        return "paused"

    def _adopt_refit(self, worker: ModelWorker, heart: Heartbeat) -> None:
        """Adopt a refit that waits."""
        if heart.refit:
            heart.refit = False
            self._swap.adopt_proposal(worker)

    def _next_turn(self, reading: Reading, worker: ModelWorker, awaited: Awaited) -> Wait | None:
        """Return what the model waits for after a turn; None if it may leave memory."""
        until, now = reading.rest(), time.monotonic()
        if reading.behind:
            return Wait(now)
        passing("resting")
        times = [until, worker.next_due, awaited.due]
        if self._run.backoff.troubled or self._run.parking.failure is not None:
            times.append(now + _RECOVERING)
        elif times[1:] == [None, None] and worker.settled and reading.is_quiet:
            asleep = reading.last_read + self._idle_after
            if now >= asleep:
                return None
            times.append(asleep)
        return Wait(min((time for time in times if time is not None), default=None))

    def _asleep(self, heart: Heartbeat) -> Iterator[Wait]:
        """Wait until something happens to a model that isn't in memory.

        The server reports entries, refits, and tokens of other workers or of users.
        """
        run, news, keys = self._run, self._server.news, self._job.keys
        streams = self._job.model.streams
        heart.sleep()
        try:
            while not run.session_ends and news.watch((*streams, *watched(keys)), run.wake):
                heart.check()
                if self._is_needed(heart):
                    break
                self._activity.ended(LOOP)
                yield Wait(time.monotonic() + _LOOK_AGAIN * random.uniform(0.7, 1.0))  # noqa: S311
                self._activity.record_progress()
        finally:
            news.forget(watched(keys), run.wake)
        if not run.session_ends:
            heart.wake_up()
            heart.check()

    def _is_needed(self, heart: Heartbeat) -> bool:
        """Return whether a model that isn't in memory has entries or a refit, in one round trip."""
        keys, position = self._job.keys, self._sleeping_model.position
        asked = [(stream, look_command(stream)) for stream in position]
        asked += [(keys.proposal, proposal_command(keys)), (keys.token, ("GET", keys.token))]
        replies = round_trip(heart.client, [*asked, (keys.paused, pause_command(keys))])
        for reply in replies[:-1]:
            if isinstance(reply, Exception):
                raise reply
        *looks, refit, token, pause = replies
        check_token(token, self._lease)
        heart.refit = heart.refit or refit is not None
        if pause is not None and self._pauses.look(heart, again=True) is not None:
            return True
        pairs = zip(looks, position.values(), strict=True)
        return heart.refit or any(has_entry_after(look, end) for look, end in pairs)

    def _open(self, *, woken: bool = False) -> ModelWorker:
        """Load the committed state, or create the model."""
        job, run = self._job, self._run
        context = ModelContext(
            *(job.name, job.model, job.server.client(), job.keys, job.log),
            reader=job.server.raw_client(job.model.batch.max_entry_bytes),
            activity=self._activity,
            solves=run.shared.solves,
            each_part=run.shared.each_part,
            lost_commits=run.lost_commits,
            rejected=run.rejected,
        )
        self._worker = worker = open_model_worker(context, self._lease.token, woken=woken)
        return worker

    def _remember(self, worker: ModelWorker) -> None:
        """Remember what the heartbeat reports while the model isn't in memory."""
        checkpoint = worker.committed
        self._sleeping_model = SleepingModel(worker.progress, checkpoint.position, checkpoint.read)

    def _heartbeat(self) -> Heartbeat:
        settings, run, pool = self._job.settings.worker, self._run, self._run.shared.pool

        def progress() -> Progress:
            worker = self._worker
            return self._sleeping_model.progress if worker is None else worker.progress

        def entries_wait(client: redis.Redis) -> bool:
            worker = self._worker
            last = self._sleeping_model if worker is None else worker.committed
            return any_after(client, last.position)

        return Heartbeat(
            self._server.client(),
            self._job.keys,
            self._lease,
            float(settings.health_ttl),
            progress,
            activity=self._activity,
            stall=float(settings.stall),
            entries_wait=entries_wait,
            failure=lambda: run.parking.reason,
            log=self._job.log,
            seconds_late=run.seconds_late,
            wake=run.wake,
            stalled=lambda: pool.replace_thread(self._job.name),
        )
