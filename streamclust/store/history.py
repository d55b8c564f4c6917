"""One history of the data: what the connections of a session must have in common.

A connection that was lost is made again in silence, and what answers then need not be what
answered before: a server that was restarted without its last writes, or the next primary, which has
not all that the last one had. Who reads at one and commits at the other learns points that the
stream doesn't have. So each connection of a session looks whose data it leads to.
"""

from __future__ import annotations

import threading
from typing import Any

import redis


class HistoryChangedError(redis.ConnectionError):
    """Raised for a connection to data that aren't those which the session began with."""


class History:
    """Lets connections through that lead to the same data as the first did.

    A *replication ID* "marks a given history of the data set" (Redis's documentation of
    replication): a primary takes a new one when it starts, and when it was made the primary. As the
    second one it then names the history that it goes on from.

    Parameters
    ----------
    of_cluster : bool
        Each node has a history of its own; also replicas tell where the slots are.
    """

    def __init__(self, *, of_cluster: bool = False) -> None:
        self._of_cluster = of_cluster
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}  # node -> replication ID

    def check(self, connection: Any) -> None:
        """Ask the server at the other end of a new connection.

        Raises
        ------
        HistoryChangedError
            If it has other data than those that this session has seen.
        redis.ReadOnlyError
            If the session begins at a replica.
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
