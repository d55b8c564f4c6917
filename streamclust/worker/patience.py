"""Growing pauses while the server is away."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from streamclust.store.connect import translated
from streamclust.store.faults import passes

if TYPE_CHECKING:
    import threading

    import redis
    from structlog.typing import FilteringBoundLogger

_LONGEST_PAUSE = 10.0
"""Cap of the pause before the next try to reach the server, in seconds."""

_STEADY = 1.0
"""Seconds without a fault after which the server counts as back."""


class Patience:
    """Pauses before each next try, longer and longer; said once, and once more when it is over.

    Parameters
    ----------
    label : str
        The server's name for people.
    stop : threading.Event
        Ends a pause.
    log : structlog logger
    """

    def __init__(self, label: str, stop: threading.Event, log: FilteringBoundLogger) -> None:
        self._label = label
        self._stop = stop
        self._log = log
        self._faults = 0
        self._tried = 0.0

    def wait(self, error: redis.RedisError) -> None:
        """Pause after a fault.

        Raises
        ------
        StreamclustError
            If the fault is none that passes.
        """
        if not passes(error):
            raise translated(error, self._label) from error
        if self._faults == 0:
            line = str(translated(error, self._label))
            self._log.warning("lost the server; trying again", error=line)
        self._faults += 1
        pause = min(_LONGEST_PAUSE, 0.1 * 2.0 ** min(self._faults, 10))
        self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
        self._tried = time.monotonic()

    def going_well(self) -> None:
        """Take note that there is no fault; when that has lasted, the server is back."""
        if self._faults and time.monotonic() - self._tried >= _STEADY:
            self._log.info("the server is back")
            self._faults = 0
