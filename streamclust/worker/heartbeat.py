"""Renews leases from a separate thread: a long computation keeps a lease, a hang loses it.

One thread renews the leases of all models of a worker, many in one round trip.
"""

from __future__ import annotations

import math
import os
import random
import socket
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import redis

from streamclust.errors import LeaseLostError
from streamclust.kernels import describe
from streamclust.runtime.threads import release_memory
from streamclust.store.model.health import FAILED, PAUSED, STALLED, Health, encode_health
from streamclust.store.model.lease import ASLEEP_SECONDS, RENEWED_PAUSED
from streamclust.store.model.proposal import proposal_command
from streamclust.store.server.faults import passes
from streamclust.store.server.history import HistoryChangedError
from streamclust.store.server.round_trip import round_trip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from streamclust.runtime.activity import Activity
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.lease import Lease
    from streamclust.store.model.pause import Pause
    from streamclust.worker.progress import Progress

_GRACE = 1.0
"""Seconds to wait for the thread at the end, if the server doesn't answer."""

_RELEASE = 10.0
"""Minimum seconds between two returns of free memory to the system."""

_SLEEP_LIFETIMES = 3.0
"""The lease of a sleeping model lasts at least this many lifetimes of a report."""

_TOGETHER = 128
"""Models per round trip. The end of a model waits for a round trip that contains the model."""


def period(lease_seconds: float, health_seconds: float) -> float:
    """Return the seconds between beats: three beats within the shorter of the lifetimes."""
    return min(lease_seconds, health_seconds) / 3.0


class Heartbeat:
    """The heartbeat of one session: it renews the lease and the health key.

    If the session makes no progress for `stall` seconds while entries wait, the lease isn't renewed
    any more, so that a standby takes the model over.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    lease : Lease
        It must be taken.
    health_seconds : float
        The lifetime of the health key.
    progress : callable
        Returns the Progress to publish.
    activity : Activity
        When the session's threads last made progress.
    stall : float
        Seconds.
    entries_wait : callable
        Given a client, returns whether the streams have entries that are not committed.
    failure : callable
        Returns why the model has failed; empty after it has recovered.
    log : structlog logger
    seconds_late : callable, optional
        Returns for how many seconds the model has waited for a thread.
    wake : callable, optional
        Called when `check` will raise an error, or a refit waits.
    stalled : callable, optional
        Called when the session has stalled.

    Attributes
    ----------
    refit : bool
        Whether a refit waits to be adopted.
    is_paused : bool
        Whether a user had paused the model, at the last beat.
    unanswered : bool
        Whether the server didn't answer the last beat in time.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        lease: Lease,
        health_seconds: float,
        progress: Callable[[], Progress],
        *,
        activity: Activity,
        stall: float,
        entries_wait: Callable[[redis.Redis], bool],
        failure: Callable[[], str],
        log: FilteringBoundLogger,
        seconds_late: Callable[[], float] = lambda: 0.0,
        wake: Callable[[], object] = lambda: None,
        stalled: Callable[[], object] = lambda: None,
    ) -> None:
        self.client = client
        self._keys = keys
        self._lease = lease
        self._health_seconds = health_seconds
        self._progress = progress
        self._activity = activity
        self._stall = stall
        self._entries_wait = entries_wait
        self._failure = failure
        self._log = log
        self._seconds_late = seconds_late
        self._wake = wake
        self._when_stalled = stalled
        self._last_progress = (progress().points, time.monotonic())
        self._stalled = ""
        self._end: Exception | None = None
        self.refit = self.unanswered = self.is_paused = False
        self._asleep = self._is_long = False
        self._pause: Pause | None = None
        self._due = -math.inf

    @property
    def ended(self) -> bool:
        """Whether an error has ended the heartbeat."""
        return self._end is not None

    @property
    def asleep(self) -> bool:
        """Whether the model has left memory."""
        return self._asleep

    @property
    def is_paused_asleep(self) -> bool:
        """Whether the model has left memory because a user has paused it."""
        return self._pause is not None

    @property
    def stalled(self) -> bool:
        """Whether the lease isn't renewed any more, because of a stall."""
        return bool(self._stalled)

    def sleep(self) -> None:
        """Beat rarely from now on: the model has left memory."""
        self._asleep, self._due = True, -math.inf

    def sleep_paused(self, pause: Pause) -> None:
        """Report the model as paused, with one beat at once; then beat rarely.

        Raises
        ------
        redis.RedisError
            If the server can't be reached, or refuses.
        """
        self._pause = pause
        self.sleep()
        self.beat()

    def wake_up(self) -> None:
        """Beat often again, and once immediately if the beats were rare.

        Raises
        ------
        redis.RedisError
            If the server can't be reached, or refuses.
        """
        self._asleep, self._due, self._pause = False, -math.inf, None
        if self._is_long:
            self.beat()

    def hurry(self) -> None:
        """Beat in the next period."""
        self._due = -math.inf

    def is_due(self, now: float) -> bool:
        """Whether to beat in this period."""
        return now >= self._due

    def check(self) -> None:
        """Raise the error that ended the lease or the heartbeat, if there is one.

        Raises
        ------
        LeaseLostError
            If another worker has taken the lease, or it was not renewed because of a stall.
        Exception
            Any other error that ended the heartbeat.
        """
        if self._end is not None:
            raise self._end
        if self._stalled:
            raise LeaseLostError(f"{self._stalled}; the lease was not renewed")

    def beat(self) -> None:
        """Renew the lease and the health key, unless the session stalls.

        Raises
        ------
        redis.RedisError
            If the server can't be reached, or refuses.
        """
        replies = round_trip(self.client, self.commands())
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        self.take(replies)

    def commands(self, *, is_known: bool = False) -> list[tuple[str, tuple[Any, ...]]]:
        """Return the commands of the next beat.

        Parameters
        ----------
        is_known : bool, default=False
            Whether the server knows that this worker lives. Then the lease and the report of a
            model that sleeps last long.
        """
        slowest, age = self._slowest()
        if not self._stalled and age > self._stall and self._entries_wait(self.client):
            self._stalled = f"{slowest} {age:.0f} s (worker.stall)"
            self._log.error("model_stalled", error=self._stalled)
            self._when_stalled()
            self._wake()
        health, seconds = encode_health(self._health(age)), self._health_seconds
        command = self._lease.report_command if self._stalled else self._lease.renew_command
        self._is_long = self._asleep and is_known and not self._stalled
        if self._is_long:
            command, seconds = (
                self._lease.sleep_command,
                max(ASLEEP_SECONDS, _SLEEP_LIFETIMES * seconds),
            )
            self._due = time.monotonic() + seconds * random.uniform(0.2, 0.4)  # noqa: S311
        return [
            (self._keys.lease, command(health, seconds)),
            (self._keys.proposal, proposal_command(self._keys)),
        ]

    def take(self, replies: Sequence[Any]) -> None:
        """Process the replies to the commands; some of them may be errors."""
        self.unanswered = False
        for reply in replies:
            if isinstance(reply, Exception):
                self.fail(reply)
                return
        renewed, refit = replies
        if renewed == RENEWED_PAUSED and not (self.is_paused or self._stalled):
            self._wake()
        self.is_paused = renewed == RENEWED_PAUSED and not self._stalled
        if not renewed and not self._stalled:
            self.fail(
                LeaseLostError(
                    "another worker took the model over while this one slept, "
                    "or its keys were deleted"
                )
            )
        if refit:
            self.refit = True
            self._wake()

    def fail(self, error: Exception) -> None:
        """End the heartbeat after an error, except if the session will meet the error itself."""
        self.unanswered = isinstance(error, redis.TimeoutError)
        lost = isinstance(error, redis.RedisError) and passes(error)
        if not lost or isinstance(error, HistoryChangedError):
            self._end = error
            self._wake()

    def _slowest(self) -> tuple[str, float]:
        """Return the start of a message on the slowest thread, and its seconds without progress."""
        thread, age = self._activity.slowest()
        late = self._seconds_late()
        if late > age:
            return "the model has waited for a thread for", late
        return f"the {thread} has made no progress for", age

    def _health(self, age: float) -> Health:
        progress, now = self._progress(), time.monotonic()
        points, then = self._last_progress
        self._last_progress = (progress.points, now)
        pause = self._pause
        reason = self._stalled or ("" if pause is None else pause.text) or self._failure()
        state = STALLED if self._stalled else FAILED if pause is None else PAUSED
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
            missing=progress.missing,
            loss=progress.loss,
            time=time.time(),
            kernels=describe(),
            reason=reason,
            progress_age=round(age, 1),
            gathered=progress.gathered,
            warm_up=progress.warm_up,
            worker=self._lease.owner,
            asleep=self._asleep,
            paused_since=0.0 if pause is None else pause.since,
        )


class Counts(NamedTuple):
    """Numbers of models that are held; those that are paused are asleep too."""

    awake: int
    asleep: int
    stalled: int
    paused: int = 0


class Heartbeats:
    """Runs the heartbeats of all models in one thread; a context manager.

    Parameters
    ----------
    period : float
        Seconds between two beats.
    is_known : callable, optional
        Returns whether the server knows that this worker lives.

    Attributes
    ----------
    server_hangs : threading.Event
        Set when the server doesn't answer a model that leaves. Then the other models don't wait
        for an answer, and don't return their leases.
    slept : bool
        Set when a model has left memory. Then the freed memory is returned to the system.
    """

    def __init__(self, period: float, is_known: Callable[[], bool] = lambda: False) -> None:
        self._period = period
        self.is_known = is_known
        self.server_hangs = threading.Event()
        self.slept = False
        self._lock = threading.Lock()
        self._hearts: dict[Heartbeat, None] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_GRACE if self.server_hangs.is_set() else None)

    @contextmanager
    def beating(self, heart: Heartbeat, *, at_once: bool = True) -> Iterator[None]:
        """Let a heart beat regularly while the block lasts.

        Parameters
        ----------
        heart : Heartbeat
        at_once : bool, default=True
            Whether the first beat is before the block.
        """
        if at_once:
            heart.beat()
        self._hearts[heart] = None
        try:
            yield
        finally:
            if self.server_hangs.is_set():
                self._hearts.pop(heart, None)
            else:
                with self._lock:  # no beat is being sent when the lease is returned
                    self._hearts.pop(heart, None)

    @property
    def counts(self) -> Counts:
        """The numbers of models that are held."""
        hearts = list(self._hearts)
        asleep, stalled = sum(h.asleep for h in hearts), sum(h.stalled for h in hearts)
        return Counts(
            len(hearts) - asleep, asleep, stalled, sum(h.is_paused_asleep for h in hearts)
        )

    def hurry(self) -> None:
        """Renew the leases of all models soon: other workers may have taken them."""
        for heart in list(self._hearts):
            heart.hurry()

    def _run(self) -> None:
        released = time.monotonic()
        while not self._stop.wait(self._period):
            clients: defaultdict[redis.Redis, list[Heartbeat]] = defaultdict(list)
            now, is_known = time.monotonic(), self.is_known()
            for heart in list(self._hearts):
                if not heart.ended and (heart.is_due(now) or not is_known):
                    clients[heart.client].append(heart)
            for client, hearts in clients.items():
                for start in range(0, len(hearts), _TOGETHER):
                    with self._lock:
                        self._beat(client, hearts[start : start + _TOGETHER])
            if self.slept and time.monotonic() - released > _RELEASE:
                self.slept, released = False, time.monotonic()
                release_memory()

    def _beat(self, client: redis.Redis, hearts: Sequence[Heartbeat]) -> None:
        """Beat once for each heart that wasn't removed meanwhile, in one round trip."""
        asked: list[tuple[Heartbeat, list[Any]]] = []
        is_known = self.is_known()
        for heart in hearts:
            if heart in self._hearts:
                try:
                    asked.append((heart, heart.commands(is_known=is_known)))
                except Exception as error:
                    heart.fail(error)
        try:
            replies = round_trip(client, [each for _, commands in asked for each in commands])
        except Exception as error:
            for heart, _ in asked:
                heart.fail(error)
            return
        for number, (heart, _) in enumerate(asked):
            heart.take(replies[2 * number : 2 * number + 2])
