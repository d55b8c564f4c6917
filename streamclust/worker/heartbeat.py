"""Signs of life from a thread of its own, so that a long computation can't cost the lease."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import redis

from streamclust.kernels import describe
from streamclust.store.health import Health, encode_health
from streamclust.store.proposal import proposed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from streamclust.store.keys import Keys
    from streamclust.store.lease import Lease
    from streamclust.worker.learning import Progress


class Heartbeat:
    """Renews the lease and the health key, three times within the shorter of their lives.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    lease : Lease
        A taken one.
    lease_seconds, health_seconds : float
        How long each lasts.
    progress : callable
        Returns the Progress to show.

    Attributes
    ----------
    lost : bool
        Whether another worker has taken the lease.
    refit : bool
        Whether a refit waits to be taken over.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        lease: Lease,
        lease_seconds: float,
        health_seconds: float,
        progress: Callable[[], Progress],
    ) -> None:
        self._client = client
        self._keys = keys
        self._lease = lease
        self._health_seconds = health_seconds
        self._period = min(lease_seconds, health_seconds) / 3.0
        self._progress = progress
        self._before = (progress().points, time.monotonic())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.lost = False
        self.refit = False

    def __enter__(self) -> Self:
        self.lost = not self._say()
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

    def _run(self) -> None:
        while not self._stop.wait(self._period) and not self.lost:
            try:
                self.lost = not self._say()
                self.refit = bool(proposed(self._client, self._keys))
            except redis.RedisError:
                continue  # the model's own loop meets the same fault, and deals with it

    def _say(self) -> bool:
        """Renew the lease and the health key; False if another worker has the model."""
        progress, now = self._progress(), time.monotonic()
        points, then = self._before
        self._before = (progress.points, now)
        health = Health(
            pid=os.getpid(),
            host=socket.gethostname(),
            phase=progress.phase,
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
        )
        return self._lease.renew(encode_health(health), self._health_seconds)
