"""Faults of the server that pass, in a command that ends by itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import redis

from streamclust.errors import StoppedError
from streamclust.runtime.backoff import Backoff
from streamclust.store.history import HistoryChangedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.runtime.job import Job

T = TypeVar("T")

_LIMIT = 60.0
"""Seconds that a fault may last."""

_LOOK = 0.05
"""Seconds between looks for a request to stop."""


@dataclass(frozen=True)
class _Stop:
    """A request to stop that can be waited for."""

    asked: Callable[[], bool]

    def is_set(self) -> bool:
        return self.asked()

    def wait(self, timeout: float, /) -> bool:
        deadline = time.monotonic() + timeout
        while not self.asked() and (remaining := deadline - time.monotonic()) > 0.0:
            time.sleep(min(remaining, _LOOK))
        return self.asked()


class Persistence:
    """Waits after a fault that passes, up to a minute; call it with the fault.

    Parameters
    ----------
    job : Job
        The session of one refit, or whatever reads.
    stop : callable
        Whether the user wants to stop.

    Raises
    ------
    redis.RedisError
        When called: if the server has other data by now than this session began with.
    StreamclustError
        When called: if the fault is none that passes, or has lasted too long.
    StoppedError
        When called: if the user wants to stop.
    """

    def __init__(self, job: Job, stop: Callable[[], bool]) -> None:
        self._stop = _Stop(lambda: stop() or job.stop.is_set())
        self._backoff = Backoff(job.server.label, self._stop, job.log, limit=_LIMIT)

    def __call__(self, error: redis.RedisError) -> None:
        """Wait, so that what met the fault can be tried again."""
        if isinstance(error, HistoryChangedError):
            raise error
        self._backoff.going_well()  # a fault of long ago doesn't count
        self._backoff.wait(error)
        if self._stop.is_set():
            raise StoppedError("interrupted; nothing was changed")

    def do(self, act: Callable[[], T]) -> T:
        """Return what `act` does, which may be done again after a fault that passes."""
        while True:
            try:
                return act()
            except redis.RedisError as error:
                self(error)
