"""A desk on each server in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamclust.store.server.connect import Address, Server, open_server
from tests.encoder.desk import Desk


@pytest.fixture
def server(address: Address) -> Iterator[Server]:
    with open_server(address) as found:
        yield found


@pytest.fixture
def desk(server: Server, namespace: str) -> Desk:
    return Desk(server, server.client(), namespace)
