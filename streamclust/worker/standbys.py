"""Models that wait for their leases. One thread takes the leases, and reports this worker.

`sharing` decides which models the worker takes and hands over; this module asks the server.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import threading
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.model import workers
from streamclust.store.model.lease import decode_lease, read_leases
from streamclust.store.model.workers import WorkerReport
from streamclust.store.server.faults import passes
from streamclust.store.server.round_trip import round_trip
from streamclust.version import __version__
from streamclust.worker.heartbeat import Counts
from streamclust.worker.sharing import Peer, Sharing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from streamclust.runtime.connections import Connections
    from streamclust.store.model.lease import Lease
    from streamclust.worker.sharing import Take

_TOGETHER = 128
"""Models per round trip. The end of a model waits for a round trip that contains the model."""

_LONGEST = 1.0
"""Maximum seconds between two looks at the other workers, whose leases may be released early."""

_ASK_AGAIN = 60.0
"""Seconds between two tries to report, where the server refuses."""

_GRACE = 1.0
"""Seconds to wait for the thread at the end, if the server doesn't answer."""


class Standby:
    """A model that waits for its lease, and then holds it.

    Parameters
    ----------
    model : str
    client : redis.Redis
    lease : Lease
        Its token is set when it was taken.
    wake : callable
        Called when the lease was taken, or `check` will raise an error.
    hand_over : callable
        Called when another worker is to take the model: its session must end soon.
    """

    def __init__(
        self,
        model: str,
        client: redis.Redis,
        lease: Lease,
        wake: Callable[[], object],
        hand_over: Callable[[], object] = lambda: None,
    ) -> None:
        self.model = model
        self.client = client
        self.lease = lease
        self.wake = wake
        self.hand_over = hand_over
        self.has_looked = False  # whether `wake` was called after a first look at the lease
        self.error: Exception | None = None

    def check(self) -> None:
        """Raise the error of the last try to take the lease, if there was one."""
        if self.error is not None:
            raise self.error

    def take(self, reply: Any) -> bool:
        """Take the reply to a try; return whether the lease was taken."""
        try:
            if isinstance(reply, Exception):
                raise reply
            taken = self.lease.taken(reply)
        except Exception as error:
            self.error, taken = error, False
        if taken or self.error is not None:
            self.wake()
        return taken


class Standbys:
    """Takes the leases of models that wait, as `Sharing` decides, many in one round trip.

    Parameters
    ----------
    namespace : str
    connections : Connections
    lease_seconds : float
    models : callable
        Returns the number of models of this worker.
    log : structlog logger
    digest : callable, optional
        Returns a text that is the same for all workers with the same models; empty if the worker
        doesn't share.
    counts : callable, optional
        Returns the Counts of the models that are held.
    reported : callable, optional
        Called after each report, with whether the server still had the report before it.

    Attributes
    ----------
    id : str
        ID of this worker, and owner of its leases.
    """

    def __init__(
        self,
        namespace: str,
        connections: Connections,
        lease_seconds: float,
        models: Callable[[], int],
        log: FilteringBoundLogger,
        *,
        digest: Callable[[], str] = str,
        counts: Callable[[], Counts] = lambda: Counts(0, 0, 0),
        reported: Callable[[bool], object] = lambda _: None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self._namespace = namespace
        self._connections = connections
        self._seconds = lease_seconds
        self._models = models
        self._digest = digest
        self._counts = counts
        self._reported = reported
        self._period = min(lease_seconds / 4.0, _LONGEST)
        self._sharing = Sharing(self.id, lease_seconds, shares=bool(digest()))
        self._lock = threading.Lock()  # of the following, and held during a try
        self._standbys: dict[str, Standby] = {}
        self._troubles: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._kicked = threading.Event()
        self._closed = threading.Event()
        self._first = WorkerReport(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            release=__version__,
            started=time.time(),
        )
        self._report = self._first
        self._written = self._looked = -math.inf
        self._log = log

    @property
    def is_known(self) -> bool:
        """Whether the server knows that this worker lives."""
        return time.monotonic() < self._written + self._seconds and not self._sharing.blind

    @property
    def waiting(self) -> int:
        """Number of models that wait for their lease."""
        return self._sharing.waiting

    @contextmanager
    def place(self, standby: Standby, *, was_held: bool = False) -> Iterator[Standby]:
        """Take the lease of a model when it is its turn; count it as held until the block ends.

        Parameters
        ----------
        standby : Standby
        was_held : bool, default=False
            Whether this worker held the model until a fault that passes.
        """
        with self._lock:
            self._standbys[standby.model] = standby
            self._sharing.wait(standby.model, time.monotonic(), was_held=was_held)
            self._kicked.set()
            self._start()
        try:
            yield standby
        finally:
            with self._lock:  # no try is on its way when the lease is returned
                self._standbys.pop(standby.model, None)
                self._sharing.ended(standby.model, time.monotonic())

    def note_failure(self, model: str, reason: str) -> None:
        """Record why a model can't continue here; an empty text once it has recovered."""
        with self._lock:
            if reason:
                self._troubles[model] = reason
                self._sharing.failed(model, time.monotonic())
            else:
                self._troubles.pop(model, None)

    def start(self) -> None:
        """Report this worker from now on, also while it has no model."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="standbys", daemon=True)
            self._thread.start()

    def close(self, *, hangs: bool = False) -> None:
        """End the thread, and report that this worker has ended.

        Parameters
        ----------
        hangs : bool, default=False
            Whether the server doesn't answer.
        """
        self._closed.set()
        self._kicked.set()
        if self._thread is None or hangs:
            return
        self._thread.join(_GRACE)
        if not self._thread.is_alive() and self._written > -math.inf:
            with suppress(redis.RedisError), self._connections.session() as server:
                workers.leave(server.client(), self._namespace, self.id)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._tick(time.monotonic())
            except Exception as error:
                self._give_up(error)
            self._kicked.wait(self._period)
            self._kicked.clear()

    def _tick(self, now: float) -> None:
        """Report and look at the other workers, take leases, and hand models over."""
        if now >= self._looked + self._period * 0.9:
            self._look_at_workers(now)
            with self._lock:
                names = self._sharing.to_look_at(now)
                found = [self._standbys[name] for name in names if name in self._standbys]
            for client, standbys in _by_client(found).items():
                values = read_leases(client, [each.lease.key for each in standbys])
                with self._lock:
                    for each, value in zip(standbys, values, strict=True):
                        self._sharing.saw_lease(each.model, decode_lease(value), now)
        with self._lock:
            takes = self._sharing.to_take(now)
        for start in range(0, len(takes), _TOGETHER):
            with self._lock:
                self._try(takes[start : start + _TOGETHER], now)
        with self._lock:
            new = [each for each in self._standbys.values() if not each.has_looked]
            leaving = [self._standbys[name] for name in self._sharing.to_hand_over(now)]
        for each in new:
            each.has_looked = True
            if not each.lease.token:
                each.wake()
        for each in leaving:
            each.hand_over()

    def _try(self, takes: Sequence[Take], now: float) -> None:
        pairs = [
            (self._standbys[take.model], take) for take in takes if take.model in self._standbys
        ]
        ready = [(s, take) for s, take in pairs if not s.lease.token and s.error is None]
        for client, standbys in _by_client([s for s, _ in ready]).items():
            broken = {s: take.broken for s, take in ready}
            commands = [(s.lease.key, s.lease.taking(broken[s])) for s in standbys]
            try:
                replies = round_trip(client, commands)
            except Exception as error:
                replies = [error] * len(standbys)
            for each, reply in zip(standbys, replies, strict=True):
                if each.take(reply):
                    self._sharing.took(each.model)
                else:
                    self._sharing.saw_lease(each.model, decode_lease(reply), now)

    def _look_at_workers(self, now: float) -> None:
        """Report this worker, and read the reports of the others."""
        with self._lock:
            report = self._next_report(now)
        is_due = now >= self._written + self._seconds / 3.0
        is_new = replace(report, time=0.0) != replace(self._report, time=0.0)
        seconds, self._looked = self._seconds, now
        try:
            with self._connections.session() as server:
                client = server.client()
                written = report if is_due or is_new else None
                beat = workers.beat(client, self._namespace, self.id, written, seconds)
                if written is None and not beat.existed:
                    written = report
                    workers.beat(client, self._namespace, self.id, report, seconds)
        except redis.ResponseError as error:
            if passes(error):
                raise
            self._refuse(error, now)
            return
        was_known = beat.existed or self._written == -math.inf
        if written is not None:
            self._written, self._report = now, report
        peers = [
            Peer(
                each.id,
                each.held - each.stalled,
                each.avoids,
                each.offers,
                each.troubles,
                shares=each.shares == report.shares != "",
            )
            for each in beat.others
        ]
        with self._lock:
            sharing, before = self._sharing, self._sharing.workers
            sharing.blind = False
            sharing.models = self._models()
            sharing.saw_workers(peers, now)
        if sharing.workers != before:
            self._log.info(
                "workers_changed",
                workers=sharing.workers,
                models=sharing.models,
                share=sharing.share,
            )
        self._reported(was_known)

    def _next_report(self, now: float) -> WorkerReport:
        counts, sharing = self._counts(), self._sharing
        return replace(
            self._first,
            time=time.time(),
            models=self._models(),
            shares=self._digest(),
            held=sharing.held,
            awake=counts.awake,
            asleep=counts.asleep,
            stalled=counts.stalled,
            waiting=sharing.waiting,
            failed=len(self._troubles),
            avoids=sharing.avoids(now),
            offers=sharing.offers(now),
            troubles=dict(sorted(self._troubles.items())[: workers.TROUBLES]),
        )

    def _refuse(self, error: redis.ResponseError, now: float) -> None:
        """Continue without the other workers, and look for them rarely."""
        if not self._sharing.blind:
            self._log.warning(
                "workers_unknown",
                error=str(error),
                remedy="models are not shared evenly with other workers; permit the keys "
                f"{{{self._namespace}}}:worker* (see deploy/redis-acl.conf)",
            )
        self._looked = now + _ASK_AGAIN
        with self._lock:
            self._sharing.blind = True
            self._sharing.saw_workers([], now)

    def _give_up(self, error: Exception) -> None:
        """Let the models that wait meet a fault."""
        with self._lock:
            waiting = [each for each in self._standbys.values() if not each.lease.token]
        for each in waiting:
            each.error = error
            each.wake()


def _by_client(standbys: Sequence[Standby]) -> dict[redis.Redis, list[Standby]]:
    found: defaultdict[redis.Redis, list[Standby]] = defaultdict(list)
    for each in standbys:
        found[each.client].append(each)
    return found
