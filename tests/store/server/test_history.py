"""All connections of a session lead to the same data, or are lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from streamclust.errors import ServerUnreachableError
from streamclust.store.server.connect import Address, open_server, translate
from streamclust.store.server.history import HistoryChangedError
from tests.support.fleet import node
from tests.support.servers import free_port, own_server


def _set(client: redis.Redis) -> None:
    with translate("the server"):
        client.set("x", 1)


@pytest.mark.every_server
def test_a_connection_that_is_made_again_to_the_same_server_goes_on(address: Address) -> None:
    with open_server(address) as server, server.session() as session:
        client, other = session.client(), session.client()
        for _ in range(2):
            assert client.ping()
            client.connection_pool.disconnect()
        assert other.ping()


def test_a_session_ends_with_the_server_that_it_began_with(tmp_path: Path) -> None:
    # Given two clients, one of which isn't in use
    with own_server(tmp_path) as own, open_server(Address(own.url)) as server:
        session = server.session()
        idle, late = session.client(), session.client()
        assert idle.ping()
        # When the server is killed and started again
        own.kill()
        own.start()
        # Then neither goes on as if nothing had been, but a new session does
        for client in (idle, late):
            with pytest.raises(ServerUnreachableError, match="was restarted or has another"):
                _set(client)
        session.close()
        with server.session() as session:
            _set(session.client())


def test_a_primary_that_was_a_replica_in_between_has_another_history(tmp_path: Path) -> None:
    with node(tmp_path) as one, one.client as admin, open_server(Address(one.url)) as server:
        client = server.session().client()
        assert client.ping()
        admin.execute_command("REPLICAOF", "127.0.0.1", free_port())
        client.connection_pool.disconnect()
        with pytest.raises(HistoryChangedError):
            client.ping()
        with pytest.raises(redis.ReadOnlyError):  # what was a replica from the beginning
            server.session().client().ping()
        admin.execute_command("REPLICAOF", "NO", "ONE")
        with pytest.raises(HistoryChangedError):
            client.ping()
