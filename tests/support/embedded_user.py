"""Processes that use an embedded server; the module is small, because each of them imports it."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from streamclust.store.server.embedded import EmbeddedServer
from tests.support.waiting import LIMIT


def _use(data_dir: Path, orders: Connection) -> None:
    """Use the server until the order to leave comes."""
    with EmbeddedServer.acquire(data_dir) as server:
        orders.send(server.port)
        orders.recv()


class User:
    """A process that uses the server until it is told to leave."""

    def __init__(self, data_dir: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        self.orders, theirs = context.Pipe()
        self.process = context.Process(target=_use, args=(data_dir, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def port(self) -> int:
        return int(self.orders.recv())

    def leave(self) -> None:
        self.orders.send("leave")
        self.process.join(LIMIT)
        assert self.process.exitcode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
