"""Standbys: models whose leases other workers hold. One thread asks for all of them."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streamclust.store.server.round_trip import round_trip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

    from streamclust.store.model.lease import Lease

_TOGETHER = 128
"""Models per round trip."""

_LONGEST = 1.0
"""Maximum seconds between two tries to take a lease, which may be released early."""


class Standby:
    """A model that waits for its lease.

    Parameters
    ----------
    client : redis.Redis
    lease : Lease
        Its token is set when it was taken.
    wake : callable
        Called when the lease was taken, or `check` will raise an error.
    """

    def __init__(self, client: redis.Redis, lease: Lease, wake: Callable[[], object]) -> None:
        self.client = client
        self.lease = lease
        self.wake = wake
        self.error: Exception | None = None

    def check(self) -> None:
        """Raise the error of the last try to take the lease, if there was one."""
        if self.error is not None:
            raise self.error

    def take(self, reply: Any) -> None:
        """Take the reply to a try."""
        try:
            if isinstance(reply, Exception):
                raise reply
            taken = self.lease.taken(reply)
        except Exception as error:
            self.error, taken = error, True
        if taken:
            self.wake()


class Standbys:
    """Tries to take the leases of all models that wait, many in one round trip.

    Parameters
    ----------
    lease_seconds : float
    """

    def __init__(self, lease_seconds: float) -> None:
        self._period = min(lease_seconds / 4.0, _LONGEST)
        self._lock = threading.Lock()  # held during a round trip
        self._waiting: dict[Standby, None] = {}
        self._thread: threading.Thread | None = None
        self._added = threading.Event()
        self._closed = threading.Event()

    @contextmanager
    def waiting(self, standby: Standby) -> Iterator[Standby]:
        """Try to take a lease again and again, while the block lasts."""
        with self._lock:
            self._waiting[standby] = None
            self._added.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="standbys", daemon=True)
                self._thread.start()
        try:
            yield standby
        finally:
            with self._lock:  # no try is on its way when the lease is returned
                self._waiting.pop(standby, None)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._added.set()

    def _run(self) -> None:
        while not self._closed.wait(self._period):
            self._added.wait()
            clients: defaultdict[redis.Redis, list[Standby]] = defaultdict(list)
            for standby in list(self._waiting):
                clients[standby.client].append(standby)
            for client, standbys in clients.items():
                for start in range(0, len(standbys), _TOGETHER):
                    with self._lock:
                        self._try(client, standbys[start : start + _TOGETHER])
            with self._lock:
                if not self._waiting and not self._closed.is_set():
                    self._added.clear()

    def _try(self, client: redis.Redis, standbys: Sequence[Standby]) -> None:
        asked = [
            each
            for each in standbys
            if each in self._waiting and not each.lease.token and each.error is None
        ]
        commands = [(each.lease.key, each.lease.taking()) for each in asked]
        try:
            replies = round_trip(client, commands)
        except Exception as error:
            replies = [error] * len(asked)
        for each, reply in zip(asked, replies, strict=True):
            each.take(reply)
