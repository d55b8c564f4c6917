"""A connection to each server in turn, and the keys of a model that no other test has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from streamclust.store.model.keys import Keys
from streamclust.store.server.connect import Address, Server, find_server
from tests.support.commits import take


@pytest.fixture
def server(address: Address) -> Iterator[Server]:
    with find_server(address) as found:
        yield found


@pytest.fixture(scope="session")
def clients() -> Iterator[dict[str, redis.Redis]]:
    """A client of each server."""
    found: dict[str, redis.Redis] = {}
    yield found
    for client in found.values():
        client.close()


@pytest.fixture
def client(address: Address, clients: dict[str, redis.Redis]) -> redis.Redis:
    """The same client for all tests: most need no more than one connection."""
    if address.url not in clients:
        clients[address.url] = find_server(address).client()
    return clients[address.url]


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace, "m")


@pytest.fixture
def token(client: redis.Redis, keys: Keys) -> int:
    """A fencing token that was just taken."""
    return take(client, keys)
