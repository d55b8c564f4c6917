"""The server that the dashboard reads: its connection, and whether it answers now."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from streamclust.errors import ServerUnreachableError
from streamclust.store.model.keys import Keys
from streamclust.store.server.connect import translated
from streamclust.store.server.faults import passes
from streamclust.store.stream.recent import LARGEST_REPLY

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from streamclust.config import Settings
    from streamclust.store.server.connect import Server

T = TypeVar("T")

THREADS = 6
"""Maximum number of requests that read the server at the same time."""


_REPLY_SECONDS = 3.0
"""Maximum wait for a reply: the only way to detect a hanging server, which accepts connections."""


@dataclass(frozen=True)
class ServerState:
    """Whether the server answers.

    Parameters
    ----------
    label : str
        Name of the server, without a password.
    state : str
        'starting' before the first answer, 'ok', or 'retrying' after a fault.
    error : str or None
        The fault, and a note that the dashboard retries.
    since_ms : int
        Time of the latest change of `state`.
    """

    label: str
    state: str = "starting"
    error: str | None = None
    since_ms: int = 0


class Source:
    """Runs functions that read the server, in threads, and records its faults.

    Parameters
    ----------
    settings : Settings
    open_server : callable
        Returns the server; raises `ServerUnreachableError` while there is none.
    label : str
        Name of the server before it is opened.
    log : structlog logger
    """

    def __init__(
        self,
        settings: Settings,
        open_server: Callable[[], Server],
        label: str,
        log: FilteringBoundLogger,
    ) -> None:
        self.settings = settings
        self.log = log
        self.state = ServerState(label, since_ms=now_ms())
        self._open = open_server
        self._server: Server | None = None
        self._client: redis.Redis | None = None
        self._raw: redis.Redis | None = None
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, "dashboard")

    def keys(self, model: str) -> Keys:
        """Return the keys of a model."""
        return Keys(self.settings.namespace, model)

    def server(self) -> Server:
        """Return the server; open it first if needed."""
        with self._lock:
            if self._server is None:
                self._server = self._open()
            return self._server

    def client(self) -> redis.Redis:
        """Return the client that all threads share."""
        server = self.server()
        with self._lock:
            if self._client is None:
                self._client = server.client(timeout=_REPLY_SECONDS)
            return self._client

    def raw_client(self) -> redis.Redis:
        """Return the client for entries of streams that all threads share."""
        server = self.server()
        with self._lock:
            if self._raw is None:
                self._raw = server.raw_client(LARGEST_REPLY, timeout=_REPLY_SECONDS)
            return self._raw

    async def run(self, loop: asyncio.AbstractEventLoop, work: Callable[..., T], *args: Any) -> T:
        """Return the result of `work`, which runs in a thread; see `call`."""
        return await loop.run_in_executor(self._threads, partial(self.call, work, *args))

    def call(self, work: Callable[..., T], *args: Any) -> T:
        """Return the result of a function that uses the server, and record whether it answers.

        Raises
        ------
        ServerUnreachableError
            If the server can't be used now.
        ServerError
            If the server refuses the command.
        """
        try:
            found = work(*args)
        except redis.RedisError as error:
            why = translated(error, self.state.label)
            if not passes(error):
                raise why from error
            raise self._unreachable(str(why)) from error
        except ServerUnreachableError as error:
            raise self._unreachable(str(error)) from error
        self._set("ok", None)
        return found

    def _unreachable(self, why: str) -> ServerUnreachableError:
        text = f"{why.partition(';')[0]}; retrying"
        self._set("retrying", text)
        return ServerUnreachableError(text)

    def _set(self, state: str, error: str | None) -> None:
        label = self.state.label if self._server is None else self._server.label
        old = self.state
        since = old.since_ms if old.state == state else now_ms()
        if (old.label, old.state, old.error) != (label, state, error):
            self.state = ServerState(label, state, error, since)

    def close(self) -> None:
        """Close the connections; the caller closes the server."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in (self._client, self._raw):
            if client is not None:
                client.close()


def now_ms() -> int:
    """Return the time, in milliseconds since 1970."""
    return int(time.time() * 1000)
