"""Clients, and versions to subscribe to, on each server and on one that is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamclust.client.client import Client
from streamclust.store.server.connect import Address, find_server
from tests.support.publisher import Publisher, Restarting
from tests.support.servers import own_server


@pytest.fixture
def client(server_url: str, namespace: str) -> Iterator[Client]:
    with Client(server_url, namespace=namespace) as found:
        yield found


@pytest.fixture
def publisher(address: Address, namespace: str) -> Iterator[Publisher]:
    with find_server(address) as server:
        yield Publisher(server, namespace)


@pytest.fixture
def restarting(tmp_path: Path) -> Iterator[Restarting]:
    with own_server(tmp_path) as server:
        yield Restarting(server)
