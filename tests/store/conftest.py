"""A connection to each server in turn, and the keys of a model that no other test has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from streamclust.store.model.keys import Keys
from streamclust.store.server.connect import Address, Server, open_server
from tests.support.commits import take


@pytest.fixture
def server(address: Address) -> Iterator[Server]:
    with open_server(address) as found:
        yield found


@pytest.fixture
def client(server: Server) -> redis.Redis:
    return server.client()


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace, "m")


@pytest.fixture
def token(client: redis.Redis, keys: Keys) -> int:
    """A fencing token that was just taken."""
    return take(client, keys)
