"""Reads the settings of an encoder process again, in a separate thread."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import redis

from streamclust.runtime.connections import Connections
from streamclust.runtime.reloads import ReloadRequests

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from streamclust.encoder.roster import EncoderRoster
    from streamclust.store.server.connect import Server

_AFTER_FAULT = 2.0
"""Seconds until the next try after a fault of the server, which the encoders log."""

_GRACE = 1.0
"""Seconds to wait for the thread at the end, if the server doesn't answer."""


class Reloading:
    """Reloads the settings on request; a context manager.

    Parameters
    ----------
    roster : EncoderRoster
    server : Server
    log : structlog logger

    Attributes
    ----------
    changed : callable
        Called after models were added, removed or changed. Returns when no encoder uses its old
        settings any more.
    """

    def __init__(self, roster: EncoderRoster, server: Server, log: FilteringBoundLogger) -> None:
        self._roster = roster
        self._connections = Connections(server)
        self._log = log
        self._event = threading.Event()
        self._ended = False
        namespace = roster.settings.namespace
        self._requests = ReloadRequests(namespace, "encoder", log)
        self._requests.wake = self._event.set
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self.changed: Callable[[], object] = lambda: None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._event.set()
        self._thread.join(_GRACE)
        self._connections.close()

    def ask(self) -> None:
        """Ask for the settings to be read again; a signal may call this."""
        self._requests.ask()

    def _run(self) -> None:
        while not self._ended:
            self._event.clear()
            try:
                until = self._round()
            except redis.RedisError:
                until = time.monotonic() + _AFTER_FAULT
            except Exception:
                self._log.exception("reload_failed")
                until = time.monotonic() + _AFTER_FAULT
            self._event.wait(max(until - time.monotonic(), 0.0))

    def _round(self) -> float:
        """Reload if it was requested; return when to look again."""
        requests = self._requests
        with self._connections.session() as server:
            until = requests.look(server)
            while requests.is_requested and not self._ended:
                requests.is_requested = False
                try:
                    requests.write_answer(server.client(), {"is_pending": True})
                    answer = self._roster.reload(server.client(), self.changed)
                except redis.RedisError:
                    requests.is_requested = True
                    raise
                requests.write_answer(server.client(), answer)
        return until
