"""Models that wait for their leases. One thread takes the leases, and reports this worker.

`sharing` decides which models the worker takes and hands over; this module asks the server.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.model.lease import decode_lease, read_leases
from streamclust.store.model.workers import TROUBLES
from streamclust.store.server.round_trip import round_trip
from streamclust.worker.heartbeat import Counts
from streamclust.worker.reports import WorkerReports
from streamclust.worker.sharing import Sharing

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
        Called so that another worker takes the model: its session must end soon.
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
        """Process the reply to a try; return whether the lease was taken."""
        try:
            if isinstance(reply, Exception):
                raise reply
            taken = self.lease.was_taken(reply)
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
        self._reports = WorkerReports(namespace, connections, lease_seconds, log)
        self._models = models
        self._log = log
        self._digest = digest
        self._counts = counts
        self._reported = reported
        self._period = min(lease_seconds / 4.0, _LONGEST)
        self._looked = -math.inf
        self._sharing = Sharing(self.id, lease_seconds, shares=bool(digest()))
        self._lock = threading.Lock()  # protects the following; held during a try
        self._standbys: dict[str, Standby] = {}
        self._troubles: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._kicked = threading.Event()
        self._closed = threading.Event()

    @property
    def id(self) -> str:
        """ID of this worker, and owner of its leases."""
        return self._reports.id

    @property
    def is_known(self) -> bool:
        """Whether the server knows that this worker lives."""
        return self._reports.is_known

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
            with self._lock:  # no try is being sent when the lease is returned
                self._standbys.pop(standby.model, None)
                self._sharing.record_end(standby.model, time.monotonic())

    def note_failure(self, model: str, reason: str) -> None:
        """Record why a model can't continue here; an empty text once it has recovered."""
        with self._lock:
            if reason:
                self._troubles[model] = reason
                self._sharing.record_failure(model, time.monotonic())
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
        if not self._thread.is_alive():
            self._reports.leave()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._tick(time.monotonic())
            except Exception as error:
                with self._lock:
                    waiting = [each for each in self._standbys.values() if not each.lease.token]
                for each in waiting:
                    each.error = error
                    each.wake()
            self._kicked.wait(self._period)
            self._kicked.clear()

    def _tick(self, now: float) -> None:
        """Report and look at the other workers, take leases, and hand models over."""
        if now >= self._looked + self._period * 0.9:
            self._looked = now
            self._look_at_workers(now)
            self._look_at_leases(now)
        with self._lock:
            new = [self._standbys[name] for name in self._sharing.new_models]
            takes = self._sharing.to_take(now)
        for start in range(0, len(takes), _TOGETHER):
            with self._lock:
                self._try(takes[start : start + _TOGETHER], now)
        for each in new:
            each.has_looked = True
            if not each.lease.token:
                each.wake()
        with self._lock:
            leaving = [self._standbys[name] for name in self._sharing.to_hand_over(now)]
        for each in leaving:
            each.hand_over()

    def _look_at_workers(self, now: float) -> None:
        """Report this worker, and read the reports of the others."""
        counts, models = self._counts(), self._models()
        with self._lock:
            sharing, before = self._sharing, self._sharing.workers
            values: dict[str, Any] = {
                "models": models,
                "shares": self._digest(),
                "held": sharing.held_models,
                "awake": counts.awake,
                "asleep": counts.asleep,
                "stalled": counts.stalled,
                "paused": counts.paused,
                "waiting": sharing.waiting,
                "failed": len(self._troubles),
                "avoids": sharing.avoids(now),
                "offers": sharing.offers(now),
                "troubles": dict(sorted(self._troubles.items())[:TROUBLES]),
            }
        peers = self._reports.exchange(now, **values)
        with self._lock:
            sharing.blind, sharing.models = peers is None, models
            sharing.update_workers(peers or [], now)
            workers, share = sharing.workers, sharing.share
        if workers != before:
            self._log.info("workers_changed", workers=workers, models=models, share=share)
        self._reported(self._reports.existed)

    def _look_at_leases(self, now: float) -> None:
        """Read the leases that may be free."""
        with self._lock:
            names = self._sharing.to_look_at(now)
            found = [self._standbys[name] for name in names]
        for client, standbys in _by_client(found).items():
            values = read_leases(client, [each.lease.key for each in standbys])
            with self._lock:
                for each, value in zip(standbys, values, strict=True):
                    self._sharing.update_lease(each.model, decode_lease(value), now)

    def _try(self, takes: Sequence[Take], now: float) -> None:
        pairs = [
            (self._standbys[take.model], take) for take in takes if take.model in self._standbys
        ]
        ready = [(s, take) for s, take in pairs if not s.lease.token and s.error is None]
        for client, standbys in _by_client([s for s, _ in ready]).items():
            broken = {s: take.broken for s, take in ready}
            commands = [(s.lease.key, s.lease.take_command(broken[s])) for s in standbys]
            try:
                replies = round_trip(client, commands)
            except Exception as error:
                replies = [error] * len(standbys)
            for each, reply in zip(standbys, replies, strict=True):
                if each.take(reply):
                    self._sharing.record_taken(each.model, now)
                else:
                    self._sharing.update_lease(each.model, decode_lease(reply), now)


def _by_client(standbys: Sequence[Standby]) -> dict[redis.Redis, list[Standby]]:
    found: defaultdict[redis.Redis, list[Standby]] = defaultdict(list)
    for each in standbys:
        found[each.client].append(each)
    return found
