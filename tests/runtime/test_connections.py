"""Connections that models share: one session, until it leads to other data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from streamclust.runtime.connections import Connections
from streamclust.store.server.connect import Address, Server, open_server
from streamclust.store.server.history import HistoryChangedError
from tests.support.servers import OwnServer, own_server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnServer]:
    with own_server(tmp_path) as server:
        yield server


@pytest.fixture
def server(own: OwnServer) -> Iterator[Server]:
    with open_server(Address(own.url)) as server:
        yield server


def test_models_share_the_clients_of_one_session(server: Server) -> None:
    connections = Connections(server)
    with connections.session() as first, connections.session() as second:
        assert first is second
        assert first.client() is second.client()
        assert first.raw_client(1000) is second.raw_client(1000)
        assert first.raw_client(1000) is not first.raw_client(2000)
        assert first.news is second.news
    with connections.session() as third:
        assert third is first
    connections.close()


def test_a_fault_that_leaves_the_data_alone_keeps_the_session(server: Server) -> None:
    connections = Connections(server)
    with pytest.raises(redis.ConnectionError), connections.session() as first:
        first.client().ping()
        raise redis.ConnectionError("one connection was cut")
    with connections.session() as second:
        assert second is first
        assert second.client().ping()
    connections.close()


def test_a_connection_to_other_data_ends_the_session_whatever_a_check_would_find(
    server: Server,
) -> None:
    # In a cluster, a check may reach a node whose data are the same.
    connections = Connections(server)
    with pytest.raises(HistoryChangedError), connections.session() as first:
        assert first.has_same_data()
        raise HistoryChangedError("one node was restarted")
    with connections.session() as second:
        assert second is not first
    connections.close()


def test_a_server_that_was_restarted_gets_a_new_session(own: OwnServer, server: Server) -> None:
    # Given two models in a session
    connections = Connections(server)
    other = connections.session()
    first = other.__enter__()
    assert first.client().ping()
    # When the server is restarted, and one of them meets the fault
    own.kill()
    own.start()
    with pytest.raises(redis.ConnectionError), connections.session() as same:
        assert same is first
        same.client().ping()
    # Then the next session is a new one, which works
    with connections.session() as second:
        assert second is not first
        assert second.client().ping()
    # and the other model meets the fault itself
    with pytest.raises(HistoryChangedError):
        for _ in range(2):
            try:
                first.client().ping()
            except HistoryChangedError:
                raise
            except redis.ConnectionError:
                continue  # the connection from before the restart
    other.__exit__(None, None, None)
    connections.close()


def test_a_server_that_is_away_is_an_error_and_the_next_session_works(
    own: OwnServer, server: Server
) -> None:
    connections = Connections(server)
    with connections.session() as first:
        assert first.client().ping()
    own.kill()
    for _ in range(3):
        with pytest.raises(redis.ConnectionError), connections.session() as session:
            session.client().ping()
    own.start()
    with connections.session() as session:
        assert session.client().ping()
    connections.close()
