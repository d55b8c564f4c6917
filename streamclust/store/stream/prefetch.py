"""Sends the next read while the entries of the last read are still processed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.stream.info import probe_command, probed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamclust.store.stream.info import StreamInfo


class Prefetch:
    """Sends one XREAD that doesn't block, before its reply is needed.

    The XREAD is followed by a probe of each stream's last read entry (`streams.probe`).

    The connection comes from the client's pool, and is used for nothing else until the reply is
    received. A read changes nothing at the server, so a reply that is lost or unused does no harm.

    Parameters
    ----------
    client : redis.Redis
        A client of a cluster sends nothing in advance, because it must follow redirections.

    Attributes
    ----------
    positions : mapping of str to str
        Stream -> ID after which the read that was sent begins; empty without one.
    count : int
        Entries per stream that were requested.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._pool: Any = client.connection_pool if isinstance(client, redis.Redis) else None
        self._connection: Any = None
        self.positions: Mapping[str, str] = {}
        self.count = 0

    def send(self, positions: Mapping[str, str], count: int) -> None:
        """Send a read of `count` entries of each stream after the IDs in `positions`."""
        if self._pool is None:
            return
        self._connection = self._pool.get_connection()
        self.positions, self.count = positions, count
        commands = [("XREAD", "COUNT", count, "STREAMS", *positions, *positions.values())]
        commands += [probe_command(stream, at) for stream, at in positions.items()]
        with suppress(redis.ConnectionError):
            self._connection.send_packed_command(self._connection.pack_commands(commands))
            return
        self._give_back()

    def receive(self, positions: Mapping[str, str]) -> tuple[Any, dict[str, StreamInfo | bool]]:
        """Return the reply to a read after the IDs in `positions`, and each stream's probe.

        Both are empty if no read or another read was sent, or if the reply was lost.
        """
        if self._connection is None:
            return None, {}
        try:
            with suppress(redis.ConnectionError):
                reply = self._connection.read_response()
                probes = {stream: probed(self._connection.read_response()) for stream in positions}
                return (reply, probes) if positions == self.positions else (None, {})
        except redis.ResponseError:  # the next read repeats the error, and names the key
            self._connection.disconnect()  # more replies may follow
        finally:
            self._give_back()
        return None, {}

    def drop(self) -> None:
        """Discard the read that was sent, if there is one; its reply may still arrive."""
        connection = self._connection
        if connection is not None:
            connection.disconnect()
            self._give_back()

    def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        self.positions = {}
        if connection is not None:  # else another thread has dropped it
            self._pool.release(connection)
