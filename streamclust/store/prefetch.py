"""A read that is under way while the entries before it are worked on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.streams import probe_command, probed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamclust.store.streams import StreamInfo


class Prefetch:
    """Sends one XREAD, which doesn't wait, ahead of the moment when its reply is wanted.

    Behind it goes what is asked when the reply is there: whether the entry that was read last is
    there too (`streams.probe`).

    The connection is of the client's pool, and nobody else's meanwhile. A read changes nothing at
    the server: a reply that was lost, or isn't wanted any more, is as good as never asked for.

    Parameters
    ----------
    client : redis.Redis
        A cluster's, which follows redirections, sends nothing early.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._pool: Any = client.connection_pool if isinstance(client, redis.Redis) else None
        self._connection: Any = None
        self._wanted: Mapping[str, str] = {}

    def send(self, wanted: Mapping[str, str], count: int) -> None:
        """Ask for `count` entries of each stream after these IDs."""
        if self._pool is None:
            return
        self._connection, self._wanted = self._pool.get_connection(), wanted
        commands = [("XREAD", "COUNT", count, "STREAMS", *wanted, *wanted.values())]
        commands += [probe_command(stream, at) for stream, at in wanted.items()]
        with suppress(redis.ConnectionError):
            self._connection.send_packed_command(self._connection.pack_commands(commands))
            return
        self._give_back()

    def receive(self, wanted: Mapping[str, str]) -> tuple[Any, dict[str, StreamInfo | bool]]:
        """Return the reply to exactly this, and what `probe` says of each stream after it.

        Both are empty if it wasn't asked for, and where it is lost.
        """
        if self._connection is None:
            return None, {}
        try:
            with suppress(redis.ConnectionError):
                reply = self._connection.read_response()
                probes = {stream: probed(self._connection.read_response()) for stream in wanted}
                return (reply, probes) if wanted == self._wanted else (None, {})
        except redis.ResponseError:  # the same read, sent alone, meets it too, and names the key
            self._connection.disconnect()  # more replies may be to come
        finally:
            self._give_back()
        return None, {}

    def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        self._pool.release(connection)
