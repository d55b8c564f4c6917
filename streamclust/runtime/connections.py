"""Connections that all models of a daemon share, and the session that they belong to.

A daemon needs few connections: one per thread that talks to the server at the same moment. They
belong to one session of the server (`Server.session`), so they all lead to the same data. When a
connection leads to other data, the session is replaced. Models that still use the old session get
an error at their next connection.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.server.cluster import ClusterClient
from streamclust.store.server.connect import Server
from streamclust.store.server.faults import answered
from streamclust.store.server.history import HistoryChangedError
from streamclust.store.stream.news import StreamNews

if TYPE_CHECKING:
    from collections.abc import Iterator


class SharedServer(Server):
    """A session whose clients are made once and shared. Its owner closes it.

    Parameters
    ----------
    session : Server
        From `Server.session`.
    """

    def __init__(self, session: Server) -> None:
        self.label = session.label
        self.users = 0
        self._session = session
        self._lock = threading.Lock()
        self._made: dict[Any, Any] = {}

    def client(self, *, timeout: float = 10.0) -> redis.Redis:
        """Return the client of this timeout. Don't close it."""
        client: redis.Redis = self._once(("client", timeout), self._session.client)
        return client

    def raw_client(self, max_reply: int | None = None, *, timeout: float = 10.0) -> redis.Redis:
        """Return the raw client of this limit. Don't close it."""
        make = self._session.raw_client
        client: redis.Redis = self._once(max_reply, lambda: make(max_reply, timeout=timeout))
        return client

    @property
    def news(self) -> StreamNews:
        """The object that watches the streams."""
        news: StreamNews = self._once("news", lambda: StreamNews(self._session.client()))
        return news

    def has_same_data(self) -> bool:
        """Open a new connection; return False if it leads to other data, or to no server."""
        try:
            with self._session.client() as client:
                client.ping()
        except HistoryChangedError:
            return False
        except redis.RedisError as error:
            return answered(error)
        with self._lock:
            made = list(self._made.values())
        for client in made:
            if isinstance(client, ClusterClient):
                client.find_nodes()  # a replica may have taken over slots
        return True

    def close(self) -> None:
        """Close all clients."""
        with self._lock:
            news = self._made.get("news")
        if news is not None:
            news.close()
        self._session.close()

    def _once(self, key: Any, make: Any) -> Any:
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]


class Connections:
    """The newest session of a server, for all models of a daemon. Threads share it.

    Parameters
    ----------
    server : Server
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._newest: SharedServer | None = None
        self._suspect = False

    @contextmanager
    def session(self) -> Iterator[SharedServer]:
        """Use the newest session. A session is closed when it is neither used nor the newest.

        Raises
        ------
        redis.RedisError
            If no session can be opened.
        """
        with self._lock:
            if self._suspect:
                self._suspect = False
                self._check()
            session = self._newest = self._newest or SharedServer(self._server.session())
            session.users += 1
        try:
            yield session
        except HistoryChangedError:
            with self._lock:  # in a cluster, a check may reach a node whose data are the same
                if session is self._newest:
                    self._newest = None
            raise
        except redis.RedisError:
            with self._lock:
                self._suspect = self._suspect or session is self._newest
            raise
        finally:
            with self._lock:
                session.users -= 1
                is_unused = not session.users and session is not self._newest
            if is_unused:
                session.close()

    def close(self) -> None:
        """Close the newest session as soon as no model uses it."""
        with self._lock:
            session, self._newest = self._newest, None
        if session is not None and not session.users:
            session.close()

    def _check(self) -> None:
        """Discard the newest session after a fault, unless the server still has the same data."""
        session = self._newest
        if session is None or session.has_same_data():
            return
        self._newest = None
        if not session.users:
            session.close()
