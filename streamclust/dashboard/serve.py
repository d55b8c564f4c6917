"""Serves the page and the API over HTTP, from a thread with its own event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import uvicorn

from streamclust.dashboard.app import make_app
from streamclust.dashboard.context import Context
from streamclust.dashboard.security import allowed_hosts
from streamclust.dashboard.source import Source
from streamclust.errors import ConfigError, ServerUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from structlog.typing import FilteringBoundLogger

    from streamclust.config import Settings
    from streamclust.store.server.connect import Server

_CONNECTIONS = 512
"""Maximum number of connections; further ones get the status 503."""

_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Listen:
    """The address of the dashboard, and its permissions.

    Parameters
    ----------
    host : str
        Address to listen on.
    port : int
        0 chooses a free port.
    hosts : sequence of str
        Further names of hosts that requests may have.
    token : str or None
        Permits actions; None turns actions off.
    """

    host: str = "127.0.0.1"
    port: int = 0
    hosts: Sequence[str] = ()
    token: str | None = None


class Dashboard:
    """The running dashboard. As a context manager, it serves during the block.

    Parameters
    ----------
    settings : Settings
    open_server : callable
        Returns the server to read; raises `ServerUnreachableError` while there is none.
    label : str
        Name of the server before it is opened.
    listen : Listen
    log : structlog logger

    Raises
    ------
    ConfigError
        If the address can't be used.
    """

    def __init__(
        self,
        settings: Settings,
        open_server: Callable[[], Server],
        label: str,
        listen: Listen,
        log: FilteringBoundLogger,
    ) -> None:
        self._socket = bound(listen.host, listen.port)
        self._source = Source(settings, open_server, label, log)
        self._context = Context(self._source, listen.token)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # `Guard` logs errors
        config = uvicorn.Config(
            make_app(self._context, allowed_hosts(listen.host, listen.hosts), log),
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)

    @property
    def url(self) -> str:
        """Address of the page."""
        host, port = self._socket.getsockname()[:2]
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        return f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"

    @property
    def server_label(self) -> str:
        """Name of the server that the dashboard reads."""
        return self._source.state.label

    def use(self, settings: Settings) -> None:
        """Use other settings from now on; the server stays."""
        self._source.settings = settings

    def check(self) -> None:
        """Raise the error of a server that refuses the login, but not if it can't be reached.

        Raises
        ------
        ServerError
        """
        with suppress(ServerUnreachableError):
            self._source.call(lambda: self._source.client().ping())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._context.close)
        self._thread.join(_STOP_SECONDS)
        self.close()

    def close(self) -> None:
        """Close the connections to the server, and stop to listen."""
        self._source.close()
        self._socket.close()

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve(sockets=[self._socket])

        try:
            asyncio.run(serve())
        except Exception:  # a worker that shares the process must continue
            self._log.exception("dashboard_failed", model="all")


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises
    ------
    ConfigError
        If another program uses the port, or the address isn't one of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(128)  # a request before the start of the thread waits
        except OSError:
            opened.close()
            raise
    except OSError as error:
        where = f"{host}:{port}"
        why = (error.strerror or str(error)).lower()
        raise ConfigError(f"can't listen on {where}: {why}; port 0 chooses a free port") from None
    return opened
