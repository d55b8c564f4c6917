"""Growing pauses while the server is unavailable."""

from __future__ import annotations

import math
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.reply.limits import UnreadableError
from streamclust.store.server.connect import translated
from streamclust.store.server.faults import passes

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from streamclust.runtime.signals import Stop
    from streamclust.store.server.connect import Server

_LONGEST_PAUSE = 10.0
"""Maximum pause before the next try to reach the server, in seconds."""

_LONGEST_START_PAUSE = 1.0
"""Maximum pause at the start, because servers and workers are often started together."""

_REPLY_SECONDS = 10.0
"""Maximum wait for the answer to a ping."""

_STEADY = 1.0
"""Seconds without a fault after which the server counts as available again."""

_REMINDER = 60.0
"""Seconds between two log lines while the server is unavailable."""

_UNREADABLE = "entry_unreadable"
"""The log event if the server answers, but one reply is cut off."""

_LOOK = 0.1
"""Seconds between checks for a request to stop, while a server may not answer."""


class Faults:
    """Lets only one of many jobs log a fault of their server. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._troubled: set[object] = set()
        self._reminded = 0.0
        self.started = 0.0

    def begins(self, job: object) -> bool:
        """Record that a job meets a fault; return whether it is the first."""
        with self._lock:
            first = not self._troubled
            self._troubled.add(job)
            if first:
                self.started = self._reminded = time.monotonic()
            return first

    def reminds(self) -> bool:
        """Return whether to log again that the fault lasts."""
        with self._lock:
            now = time.monotonic()
            if now - self._reminded < _REMINDER:
                return False
            self._reminded = now
            return True

    def ends(self, job: object) -> bool:
        """Record that the server works for a job; return whether it was the last."""
        with self._lock:
            was_troubled = job in self._troubled
            self._troubled.discard(job)
            return was_troubled and not self._troubled


class Backoff:
    """Pauses before each retry; the pauses grow. Logs the fault once per minute, and its end.

    Parameters
    ----------
    label : str
        The server's name in messages.
    stop : threading.Event
        Ends a pause.
    log : structlog logger
    event : str
        The log event of the first fault.
    limit : float
        Seconds after the first fault, after which a fault is raised. Default: no limit.
    longest : float
        Maximum pause, in seconds.
    faults : Faults, optional
        Shared by jobs of the same server, so that they log its faults once. Default: its own.
    """

    def __init__(
        self,
        label: str,
        stop: Stop,
        log: FilteringBoundLogger,
        event: str = "server_lost",
        limit: float = math.inf,
        longest: float = _LONGEST_PAUSE,
        faults: Faults | None = None,
    ) -> None:
        self._label = label
        self._stop = stop
        self._log = log
        self._event = event
        self._limit = limit
        self._longest = longest
        self._own_faults = Faults()
        self._shared = faults or self._own_faults
        self._current = self._own_faults  # the object that counts the current fault
        self._faults = 0
        self._tried = self._started = 0.0
        self._since = ""

    def wait(self, error: redis.RedisError) -> None:
        """Pause after a fault; see `pause`."""
        self._stop.wait(self.pause(error))
        self._tried = time.monotonic()

    def pause(self, error: redis.RedisError) -> float:
        """Log a fault; return the seconds until the next try.

        Raises
        ------
        StreamclustError
            If the fault doesn't pass by itself, or `limit` is over.
        """
        now = time.monotonic()
        if self._faults == 0:
            self._started = now
        remaining = self._started + self._limit - now
        if remaining <= 0.0 or not passes(error):
            raise translated(error, self._label) from error
        self._report(error)
        self._faults += 1
        pause = min(self._longest, 0.1 * 2.0 ** min(self._faults, 10))
        pause = min(pause * random.uniform(0.5, 1.0), remaining)  # noqa: S311
        self._tried = now + pause
        return pause

    def _report(self, error: redis.RedisError) -> None:
        """Log the first fault, and once per minute that the fault lasts."""
        first, unreadable = self._faults == 0, isinstance(error, UnreadableError)
        if first:
            self._since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self._current = self._own_faults if unreadable else self._shared
            first = self._current.begins(self)
        if not first and not self._current.reminds():
            return
        event = self._event if first else "server_still_unavailable"
        log = self._logger()
        log.warning(
            _UNREADABLE if unreadable else event,
            server=self._label,
            since=self._since,
            error=str(translated(error, self._label)),
        )

    @property
    def troubled(self) -> bool:
        """Whether the server was unavailable, and isn't back yet."""
        return self._faults > 0

    def record_success(self) -> None:
        """Record that the server works; after `_STEADY` seconds, it is back."""
        if self._faults and time.monotonic() - self._tried >= _STEADY:
            self.over()

    def over(self) -> None:
        """Log that the server is back, if it was unavailable."""
        if self._faults and self._current.ends(self):
            seconds = round(time.monotonic() - self._current.started, 1)
            log = self._logger()
            log.info("server_back", server=self._label, seconds=seconds)
        self._faults = 0

    def _logger(self) -> FilteringBoundLogger:
        """Return the log; without the model if all models share the fault."""
        log: Any = self._log
        return self._log if self._current is self._own_faults else log.try_unbind("model")


def wait_for_server(
    server: Server,
    stop: threading.Event,
    log: FilteringBoundLogger,
    limit: float,
    *,
    primary: bool = True,
) -> bool:
    """Wait until the server can be used; return False if `stop` is set before.

    Parameters
    ----------
    server : Server
    stop : threading.Event
    log : structlog logger
    limit : float
        Seconds to wait while the server is unavailable, loads its data, is busy, or is a replica
        where a `primary` is needed. 0 raises the first fault.
    primary : bool, default=True
        Whether a primary is needed.

    Raises
    ------
    StreamclustError
        If the fault doesn't pass by itself, or `limit` is over.
    """
    backoff = Backoff(server.label, stop, log, "server_unavailable", limit, _LONGEST_START_PAUSE)
    started = time.monotonic()
    reply_timeout = min(max(limit, 1.0), _REPLY_SECONDS) if limit else _REPLY_SECONDS
    while not stop.is_set():
        try:
            if _reached(server, stop, primary, reply_timeout):
                backoff.over()
                return True
        except redis.RedisError as error:
            if time.monotonic() - started >= limit:
                raise translated(error, server.label) from error
            backoff.wait(error)
    return False


def _reached(server: Server, stop: threading.Event, primary: bool, reply_timeout: float) -> bool:
    """Ping the server in a separate thread, because no signal ends a wait for an answer.

    The wait for each answer lasts up to `reply_timeout` seconds.
    """
    errors: list[redis.RedisError] = []

    def ask() -> None:
        try:
            if primary:
                with server.session() as session, session.client(timeout=reply_timeout) as client:
                    client.ping()
            else:
                with server.client(timeout=reply_timeout) as client:
                    client.ping()
        except redis.RedisError as error:
            errors.append(error)

    asking = threading.Thread(target=ask, name="ping", daemon=True)
    asking.start()
    while asking.is_alive() and not stop.is_set():
        asking.join(_LOOK)
    if errors:
        raise errors[0]
    return not asking.is_alive()
