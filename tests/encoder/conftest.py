"""A fixture on each server in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamclust.store.server.connect import Address, Server, find_server
from tests.support.encoder_fixture import EncoderFixture


@pytest.fixture
def server(address: Address) -> Iterator[Server]:
    with find_server(address) as found:
        yield found


@pytest.fixture
def fixture(server: Server, namespace: str) -> EncoderFixture:
    return EncoderFixture(server, server.client(), namespace)
