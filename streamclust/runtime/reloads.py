"""Requests to read the settings again: from signals, and from `streamclust reload`."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.model.keys import WorkerKeys
from streamclust.store.model.reload import read_requests, write_answer
from streamclust.store.server.faults import passes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from streamclust.config import Settings
    from streamclust.runtime.connections import SharedServer

_SHOWN = 20
"""Maximum number of refused models that an answer names."""

_AFTER_FAILURE = 10.0
"""Seconds until the next look after the server has refused one."""

_LOOK_AGAIN, _POLL = 300.0, 10.0
"""Seconds between two looks for a request: with news of the key, and without."""


class ReloadRequests:
    """Records requests to reload, and answers them.

    Parameters
    ----------
    namespace : str
    role : {'worker', 'encoder'}
        Role of this process, for the answers.
    log : structlog logger

    Attributes
    ----------
    is_requested : bool
        Whether a request waits.
    wake : callable
        Called after a request, or when the key of requests may have changed.
    """

    def __init__(self, namespace: str, role: str, log: FilteringBoundLogger) -> None:
        self._namespace = namespace
        self._role = role
        self._log = log
        self._number: int | None = None  # number of requests on the server so far
        self._is_forbidden = False  # the user may not read requests on the server
        self.is_requested = False
        self.wake: Callable[[], object] = lambda: None

    def ask(self) -> None:
        """Ask for the settings to be read again; a signal may call this."""
        self.is_requested = True
        self.wake()

    def look(self, server: SharedServer) -> float:
        """Record a request on the server; return when to look again if no news arrives before."""
        try:
            is_watched = server.news.watch([WorkerKeys(self._namespace).reload], self.wake)
            number = read_requests(server.client(), self._namespace)
        except redis.ResponseError as error:
            if passes(error):
                raise
            if not self._is_forbidden and self._role == "encoder":  # its user has few rights
                self._log.info("reload_unavailable", error=str(error))
            elif not self._is_forbidden:
                self._log.warning("reload_unavailable", error=str(error))
            self._is_forbidden = True
            return time.monotonic() + _AFTER_FAILURE
        self._is_forbidden = False
        if self._number is not None and number != self._number:
            self.is_requested = True
        self._number = number
        return time.monotonic() + (_LOOK_AGAIN if is_watched else _POLL)

    def write_answer(self, client: redis.Redis, answer: Mapping[str, Any]) -> None:
        """Report what this process did; see `reload_answer`."""
        process = f"process {os.getpid()} on {socket.gethostname()}"
        with suppress(redis.exceptions.NoPermissionError):
            write_answer(client, self._namespace, {self._role: process, **answer})


def reload_answer(
    added: Sequence[str] = (),
    removed: Sequence[str] = (),
    changed: Sequence[str] = (),
    refused: Mapping[str, str] | None = None,
    fixed: Sequence[str] = (),
    error: str = "",
) -> dict[str, Any]:
    """Return the answer to a request.

    Parameters
    ----------
    added, removed, changed : sequence of str
        Names of models.
    refused : mapping of str to str, optional
        Why a model keeps its old settings, by its name.
    fixed : sequence of str
        Settings that need a restart.
    error : str
        Why nothing was changed.
    """
    if error:
        return {"error": error}
    refused = refused or {}
    return {
        "added": len(added),
        "removed": len(removed),
        "changed": len(changed),
        "kept": len(refused),
        "refused": dict(list(refused.items())[:_SHOWN]),
        "fixed": list(fixed),
    }


def fixed_settings(old: Settings, new: Settings) -> list[str]:
    """Return the settings that differ, but that a process can't apply while it runs."""
    found = ["namespace"] if old.namespace != new.namespace else []
    for section in ("redis", "worker", "log"):
        before, after = getattr(old, section), getattr(new, section)
        for key in type(before).model_fields:
            if getattr(before, key) != getattr(after, key):
                found.append(f"{section}.{key}")
    return found
