"""One model's life in a worker: sessions, pauses after faults, and waits for the lease.

The life is one generator. Each of its steps is a turn on a thread (`pool`). It yields a `Wait` with
what it waits for. So the code is in the order of events, and a waiting model needs no thread.

A fault of the connection is handled as a crash is: the worker discards everything that was not
committed, and continues from the committed state and position. So one recovery path covers both.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import redis

from streamclust.errors import LeaseLostError, StreamclustError
from streamclust.runtime.failures import clear_error
from streamclust.runtime.scheduler import Wait
from streamclust.store.model.lease import Lease
from streamclust.store.model.pause import read_pause
from streamclust.store.server.faults import passes
from streamclust.worker.awaited import refuse_missing
from streamclust.worker.model_run import ModelRun
from streamclust.worker.pausing import log_pause
from streamclust.worker.positions import read_checkpoint
from streamclust.worker.session import Session
from streamclust.worker.standbys import Standby

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from streamclust.store.server.connect import Server

_LOOK_AGAIN = 1.0
"""Seconds between two looks of a standby for a state to check."""


class ModelLife(ModelRun):
    """The life of one model: its sessions, one after another."""

    _was_held = False  # whether a session had the lease until a fault

    def life(self) -> Iterator[Wait]:
        """Learn the model until it is asked to leave or, with `until_idle`, all is learned.

        A model that can't continue is parked: the worker retries after pauses that grow. With
        `until_idle` or `worker.fail_fast` it doesn't retry.

        Raises
        ------
        StreamclustError
            If the server can't be used, or its contents don't fit the settings, and this didn't
            change until the end.
        """
        job = self.job
        while not self.stopping:
            try:
                if (yield from self._session()):
                    break
                continue
            except Exception as error:
                self._was_held = False
                if not self._retries:
                    failure = clear_error(error, job.server.label)
                    if failure is error:
                        raise
                    raise failure from error
                self.parking.fail(error)
            yield from self._pauses()
        if self.parking.failure is not None:
            raise self.parking.failure

    @property
    def _retries(self) -> bool:
        """Whether a model that can't continue is retried."""
        return not (self.job.until_idle or self.job.settings.worker.fail_fast)

    def _pauses(self) -> Iterator[Wait]:
        """Wait for the next try of a model that has failed."""
        for seconds in self.parking.pauses(self.lost_commits):
            yield Wait(time.monotonic() + seconds)
            if self.stopping:
                return

    def _session(self) -> Generator[Wait, None, bool]:
        """Connect, take the lease and learn; return whether all points are learned.

        After a fault that passes, and after a lost lease, the caller starts the next session.
        """
        job = self.job
        try:
            with self.shared.connections.session() as server:
                if job.until_idle:  # before any key of the model is written
                    if self._is_left_out(server):
                        return True
                    refuse_missing(job, server.client(), every=False)
                client, seconds = server.client(), float(job.settings.worker.lease)
                lease = Lease(client, job.keys, seconds, self.owner)
                standby = Standby(job.name, client, lease, self.wake, self.hand_over)
                was_held, self._was_held, self.hands_over = self._was_held, False, False
                place = self.shared.standbys.place(standby, was_held=was_held)
                with returned_at_end(lease, retries=self._retries), place:
                    if (yield from self._wait_for(standby, server)):
                        self._was_held = True
                        ended = yield from Session(self, server, lease).run()
                        self._was_held = False
                        if self.hands_over:
                            self.log_often("model_handed_over")
                        return ended
                return False
        except redis.RedisError as error:
            if isinstance(error, redis.TimeoutError) and self.stopping:
                self.shared.heartbeats.server_hangs.set()
            seconds = self.backoff.pause(error)
        except LeaseLostError as error:
            self._was_held = False
            job.log.error("lease_lost", error=str(error))
            return False
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.stopping:  # late news doesn't end the pause
            yield Wait(until)
        return False

    def _wait_for(self, standby: Standby, server: Server) -> Generator[Wait, None, bool]:
        """Wait for the lease; return False if the model leaves before it was taken."""
        has_checked = is_standby = False
        until: float | None = None
        while not self.stopping:
            standby.check()
            if standby.lease.token:
                return True
            if standby.has_looked:
                if not is_standby:
                    is_standby = True
                    self.backoff.over()
                    self.log_often("standby_started")
                has_checked = has_checked or self._check_standby(server)
                if self.job.until_idle and read_pause(server.client(), self.job.keys) is not None:
                    return False  # the worker that has the lease keeps it
                looks_again = self.job.until_idle or not has_checked
                until = time.monotonic() + _LOOK_AGAIN if looks_again else None
            yield Wait(until)
        return False

    def _is_left_out(self, server: Server) -> bool:
        """Return whether the model is paused; log it, for a worker that doesn't wait."""
        pause = read_pause(server.client(), self.job.keys)
        if pause is None:
            return False
        log_pause(self, pause)
        return True

    def _check_standby(self, server: Server) -> bool:
        """Check whether this standby could continue the model; return False without a state yet."""
        job = self.job
        if self.has_many_models:
            return True
        try:
            found = read_checkpoint(job.name, job.model, server.client(), job.keys)
        except StreamclustError as error:
            job.log.error("standby_failed", error=str(error))
            return True
        if self.parking.failure is not None:
            self.parking.forget()
            job.log.info("standby_recovered")
        return found is not None


@contextmanager
def returned_at_end(lease: Lease, *, retries: bool = False) -> Iterator[Lease]:
    """Release the lease at the end, so that a standby takes over at once.

    With `retries`, the report of a model that has failed stays, so that the model has a report
    between two tries too.
    """
    has_failed = False
    try:
        yield lease
    except redis.RedisError as error:
        if passes(error):
            lease.token = 0  # an unreachable server can't release the lease
        has_failed = True
        raise
    except Exception as error:
        has_failed = not isinstance(error, LeaseLostError)
        raise
    finally:
        with suppress(redis.RedisError):
            if lease.token:
                lease.drop(keeps_report=has_failed and retries)
