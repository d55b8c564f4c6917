"""A TCP proxy before a server, which does what networks and servers do at bad moments."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Deed = Literal["lose the reply", "cut the reply", "cut the request", "hold the reply"]
_CHUNK = 1 << 16


@dataclass
class _Trap:
    """What happens to the next requests that hold `words`."""

    words: bytes
    deed: Deed
    after: int
    times: int


class Proxy:
    """Passes bytes on, between clients and a server, unless a trap is set.

    Attributes
    ----------
    url : str
        Where clients find it.
    sprung : int
        Requests that met a trap.
    """

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self._server = (parts.hostname or "", parts.port or 6379)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._door.getsockname()[1]}{parts.path}"
        self._trap = _Trap(b"", "lose the reply", 0, 0)
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        self.sprung = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def set_trap(self, words: bytes, deed: Deed, *, after: int = 0, times: int = 1) -> None:
        """Do `deed` to the next requests that hold `words`, after so many bytes of what is cut."""
        with self._lock:
            self._trap = _Trap(words, deed, after, times)

    def hang(self) -> None:
        """Take connections and requests, and answer nothing."""
        self._open.clear()

    def resume(self) -> None:
        """Go on after `hang`; what was held back is passed on."""
        self._open.set()

    def close(self) -> None:
        """End all connections."""
        self.resume()
        self._door.close()
        for each in self._sockets:
            _shut(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                link = _Link(self, client, server)
                threading.Thread(target=link.requests, daemon=True).start()
                threading.Thread(target=link.replies, daemon=True).start()

    def sprung_by(self, request: bytes) -> _Trap | None:
        """Return the trap that a request meets."""
        with self._lock:
            if not self._trap.times or self._trap.words not in request:
                return None
            self._trap.times -= 1
            self.sprung += 1
            return self._trap

    def wait_while_hanging(self) -> None:
        self._open.wait()


class _Link:
    """One client's connection, and the one to the server that is for it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._trap: _Trap | None = None

    def requests(self) -> None:
        for data in _received(self._client):
            trap = self._proxy.sprung_by(data)
            if trap is not None and trap.deed == "cut the request":
                with suppress(OSError):
                    self._server.sendall(data[: trap.after])
                break
            self._trap = self._trap or trap
            with suppress(OSError):
                self._server.sendall(data)
        self.cut()

    def replies(self) -> None:
        for data in _received(self._server):
            self._proxy.wait_while_hanging()
            if self._trap is not None and self._trap.deed == "hold the reply":
                continue
            with suppress(OSError):
                if self._trap is not None:
                    cut = self._trap.deed == "cut the reply"
                    self._client.sendall(data[: self._trap.after] if cut else b"")
                    break
                self._client.sendall(data)
        self.cut()

    def cut(self) -> None:
        _shut(self._client)
        _shut(self._server)


def _received(connection: socket.socket) -> Iterator[bytes]:
    with suppress(OSError):
        while data := connection.recv(_CHUNK):
            yield data


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def proxy_before(server_url: str) -> Iterator[Proxy]:
    """A proxy for the block."""
    proxy = Proxy(server_url)
    try:
        yield proxy
    finally:
        proxy.close()
