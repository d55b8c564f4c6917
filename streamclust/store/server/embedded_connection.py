"""Connections to the embedded server, which may have stopped or moved to another port."""

from __future__ import annotations

from typing import Any

import redis

from streamclust.errors import ServerError
from streamclust.store.server.embedded import EmbeddedServer
from streamclust.store.server.faults import passes
from streamclust.store.server.history import HistoryChangedError


class NotRevivedError(redis.ConnectionError):
    """Raised when the embedded server has stopped and can't be started again."""


class EmbeddedConnection(redis.Connection):
    """A connection to the embedded server, which is started again if it doesn't run.

    The address of the server is looked up for each connection, because its port can change.
    """

    def __init__(self, *, embedded: EmbeddedServer, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._embedded = embedded
        self._look_up()

    def _look_up(self) -> bool:
        """Set the server's address; return whether it has changed."""
        before = (self.host, self.port, self.password)
        self.host, self.port = self._embedded.host, self._embedded.port
        self.password = self._embedded.password
        return before != (self.host, self.port, self.password)

    def connect(self) -> None:
        """Connect. After an error, make sure that the server runs, and connect once more."""
        self._look_up()
        try:
            super().connect()  # type: ignore[no-untyped-call]
        except HistoryChangedError:
            raise
        except (redis.ConnectionError, redis.TimeoutError) as fault:
            if not passes(fault):
                raise
            try:
                self._embedded.revive()
            except ServerError as error:
                raise NotRevivedError(str(error)) from error
            if not self._look_up() and isinstance(fault, redis.TimeoutError):
                raise  # the server hangs
            super().connect()  # type: ignore[no-untyped-call]
