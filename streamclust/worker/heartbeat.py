"""Renews the lease from a thread of its own: a long computation keeps it, a hang loses it."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import redis

from streamclust.errors import LeaseLostError
from streamclust.kernels import describe
from streamclust.store.model.health import FAILED, STALLED, Health, encode_health
from streamclust.store.model.proposal import proposed
from streamclust.store.server.faults import passes

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from structlog.typing import FilteringBoundLogger

    from streamclust.runtime.activity import Activity
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.lease import Lease
    from streamclust.worker.model_worker import Progress


class Heartbeat:
    """Renews the lease and the health key, three times within the shorter of their lifetimes.

    If a thread of the session makes no progress for `stall` seconds while entries wait, the
    heartbeat stops renewing the lease, so that a standby takes the model over.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    lease : Lease
        It must be taken.
    lease_seconds, health_seconds : float
        The lifetime of each key.
    progress : callable
        Returns the Progress to publish.
    activity : Activity
        When the session's threads last made progress.
    stall : float
        Seconds.
    entries_wait : callable
        Given a client, returns whether the streams have entries that are not committed.
    failure : callable
        Returns the reason why the model failed until it recovers, then an empty text.
    log : structlog logger

    Attributes
    ----------
    refit : bool
        Whether a refit waits to be adopted.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        lease: Lease,
        lease_seconds: float,
        health_seconds: float,
        progress: Callable[[], Progress],
        *,
        activity: Activity,
        stall: float,
        entries_wait: Callable[[redis.Redis], bool],
        failure: Callable[[], str],
        log: FilteringBoundLogger,
    ) -> None:
        self._client = client
        self._keys = keys
        self._lease = lease
        self._health_seconds = health_seconds
        self._period = min(lease_seconds, health_seconds) / 3.0
        self._progress = progress
        self._activity = activity
        self._stall = stall
        self._entries_wait = entries_wait
        self._failure = failure
        self._log = log
        self._before = (progress().points, time.monotonic())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._stalled = ""
        self._end: Exception | None = None
        self.refit = False

    def __enter__(self) -> Self:
        self.beat()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raise the error that ended the lease or the heartbeat, if there is one.

        Raises
        ------
        LeaseLostError
            If another worker has taken the lease, or it was not renewed because of a stall.
        Exception
            Any other error that ended the heartbeat's thread.
        """
        if self._end is not None:
            raise self._end
        if self._stalled:
            raise LeaseLostError(f"{self._stalled}; the lease was not renewed")

    def _run(self) -> None:
        while self._end is None and not self._stop.wait(self._period):
            try:
                self.beat()
                self.refit = bool(proposed(self._client, self._keys))
            except redis.RedisError as error:
                if not passes(error):  # else the session's loop meets it, and pauses
                    self._end = error
            except Exception as error:
                self._end = error

    def beat(self) -> None:
        """Renew the lease and the health key, unless the session stalls."""
        thread, age = self._activity.slowest()
        if not self._stalled and age > self._stall and self._entries_wait(self._client):
            self._stalled = f"the {thread} has made no progress for {age:.0f} s (worker.stall)"
            self._log.error("model_stalled", error=self._stalled)
        health = encode_health(self._health(age))
        if self._stalled:
            self._lease.report(health, self._health_seconds)
        elif not self._lease.renew(health, self._health_seconds):
            self._end = LeaseLostError(
                "another worker took the model over while this one slept, or its keys were deleted"
            )

    def _health(self, age: float) -> Health:
        progress, now = self._progress(), time.monotonic()
        points, then = self._before
        self._before = (progress.points, now)
        reason = self._stalled or self._failure()
        state = STALLED if self._stalled else FAILED
        return Health(
            pid=os.getpid(),
            host=socket.gethostname(),
            phase=state if reason else progress.phase,
            points=progress.points,
            rate=round((progress.points - points) / max(now - then, 1e-9), 1),
            version=progress.version,
            dead=progress.dead,
            lost=progress.lost.entries,
            unknown_gaps=progress.lost.unknown,
            drifts=progress.drifts,
            loss=progress.loss,
            time=time.time(),
            kernels=describe(),
            reason=reason,
            progress_age=round(age, 1),
            gathered=progress.gathered,
            warm_up=progress.warm_up,
        )
