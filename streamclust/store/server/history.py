"""Checks that all connections of a session lead to the same history of the data.

redis-py reconnects silently after a lost connection. The new connection can lead to other data: to
a server that was restarted without its last writes, or to a new primary that doesn't have all data
of the old primary. A worker that reads from one and commits to the other learns points that aren't
in the stream. So each new connection of a session is checked.
"""

from __future__ import annotations

import threading
from typing import Any

import redis


class HistoryChangedError(redis.ConnectionError):
    """Raised for a connection to other data than the data at the start of the session."""


class History:
    """Accepts connections that lead to the same data as the first connection.

    A *replication ID* "marks a given history of the data set" (Redis's documentation of
    replication). A primary gets a new ID when it starts, and when it is promoted. Its second ID
    is then the ID of the history that it continues.

    Parameters
    ----------
    of_cluster : bool
        Whether each node has its own history, and replicas are accepted for their slot tables.
    """

    def __init__(self, *, of_cluster: bool = False) -> None:
        self._of_cluster = of_cluster
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}  # node -> replication ID

    def check(self, connection: Any) -> None:
        """Check the server of a new connection.

        Raises
        ------
        HistoryChangedError
            If the server has other data than the session.
        redis.ReadOnlyError
            If the first connection of the session leads to a replica.
        """
        connection.send_command("INFO", "replication")
        lines = connection.read_response().decode().splitlines()
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        replica = found["role"] != "master" and not self._of_cluster
        node = f"{connection.host}:{connection.port}" if self._of_cluster else ""
        with self._lock:
            if replica and not self._known:
                raise redis.ReadOnlyError("connected to a read only replica")
            known = self._known.setdefault(node, found["master_replid"])
            others = {known for other, known in self._known.items() if other != node}
        if replica or known != found["master_replid"] or found.get("master_replid2") in others:
            raise HistoryChangedError("was restarted, or is no longer the primary")
