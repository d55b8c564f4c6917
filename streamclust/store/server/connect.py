"""Connections to a server: the user's own server (Redis or Valkey), or the embedded one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Self, cast
from weakref import WeakSet

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from streamclust.store.reply import native as wire
from streamclust.store.reply.limits import limit_replies
from streamclust.store.reply.parser import parse_streams
from streamclust.store.reply.redis_parser import check_redis
from streamclust.store.server.address import Address, Endpoint, read_address
from streamclust.store.server.cluster import ClusterClient
from streamclust.store.server.embedded import EmbeddedServer
from streamclust.store.server.embedded_connection import EmbeddedConnection
from streamclust.store.server.faults import answered
from streamclust.store.server.history import History
from streamclust.store.server.translation import translate, translated
from streamclust.store.server.url import EMBEDDED, server_label
from streamclust.store.server.wrong_type import is_wrong_type, with_key

__all__ = ["EMBEDDED", "Address", "Server", "open_server", "translate", "translated"]


_SENTINEL_TIMEOUT = 2.0
"""Seconds to wait for one sentinel before the next sentinel is asked."""

_RAW_COMMANDS = ("XREAD", "XREADGROUP", "XRANGE", "XREVRANGE", "XPENDING", "XAUTOCLAIM")
"""Commands whose replies a raw client returns as the server sends them."""


class Server:
    """A server. As a context manager, it closes its clients and leaves the embedded server.

    Attributes
    ----------
    label : str
        Name of the server for messages and logs, without a password.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        embedded: EmbeddedServer | None = None,
        history: History | None = None,
    ) -> None:
        self.label = endpoint.label
        self._endpoint = endpoint
        self._embedded = embedded
        self._history = history
        self._clients: WeakSet[redis.Redis] = WeakSet()

    def session(self) -> Server:
        """Return a session, a context manager: a server whose clients all use the same data.

        When the server is restarted, or has another primary, each new connection raises
        ``HistoryChangedError``. Then the caller must start a new session.

        Raises
        ------
        redis.RedisError
            If no sentinel knows a running primary.
        """
        endpoint = self._endpoint
        if endpoint.kind == "sentinel":
            sentinel = self._sentinels()
            host, port = sentinel.discover_master(endpoint.service)  # type: ignore[no-untyped-call]
            for client in sentinel.sentinels:
                client.close()
            options = {**endpoint.options, "host": host, "port": port}
            endpoint = replace(endpoint, kind="server", options=options)
        return Server(endpoint, history=History(of_cluster=endpoint.kind == "cluster"))

    def client(self, *, timeout: float = 10.0) -> redis.Redis:
        """Return a new client, with its own connections. Threads may share the client.

        A blocking command must block for less than ``timeout`` seconds. The client never retries
        a command; the caller decides which commands are safe to repeat. A client of a cluster
        connects at once, and can raise the same errors as a command.
        """
        return self._open_client(timeout, None)

    def raw_client(self, max_reply: int | None = None, *, timeout: float = 10.0) -> redis.Redis:
        """Return a new client that returns the raw replies of stream commands.

        The IDs, fields and values of XREAD, XREADGROUP, XRANGE, XREVRANGE, XPENDING and XAUTOCLAIM
        stay bytes in lists. With ``max_reply``, a reply of more bytes raises a
        ``ReplyTooLargeError``, and the entries of XREAD and XREADGROUP are `Packed` where native
        code is available.
        """
        client = self._open_client(timeout, max_reply)
        for command in _RAW_COMMANDS:
            client.set_response_callback(command, lambda reply, **_: reply)
        return client

    def _open_client(self, timeout: float, max_reply: int | None) -> redis.Redis:
        options = {
            **self._endpoint.options,
            "protocol": 2,  # all servers and versions of redis-py support it
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "client_name": "streamclust",
        }
        if self._history is not None or max_reply is not None:
            options["redis_connect_func"] = partial(self._greet, max_reply)
        if self._endpoint.kind == "cluster":
            # It has the same commands, but isn't a subclass.
            options.pop("connection_class", None)
            cluster = ClusterClient.open(
                self._endpoint.hosts, **options, ssl=bool(self._endpoint.tls)
            )
            client = cast("redis.Redis", cluster)
        else:
            options["retry"] = Retry(NoBackoff(), 0)
            sentinel = self._endpoint.kind == "sentinel"
            client = _Client.from_pool(
                self._sentinel_pool(options) if sentinel else ConnectionPool(**options)
            )
        self._clients.add(client)
        return client

    def _greet(self, max_reply: int | None, connection: Any) -> None:
        """Log in on a new connection, check the server's data, and limit the replies."""
        if self._endpoint.kind != "cluster":  # a cluster's client does this itself
            connection.on_connect()
        if self._history is not None:
            self._history.check(connection)
        if max_reply is not None:
            (parse_streams if wire.available() else limit_replies)(connection, max_reply)

    def _sentinel_pool(self, options: dict[str, Any]) -> SentinelConnectionPool:
        """Return a pool whose new connections ask the sentinels for the primary."""
        options.pop("connection_class", None)
        sentinel = self._sentinels()
        self._clients.update(sentinel.sentinels)
        service = self._endpoint.service
        secure = {"ssl": True} if self._endpoint.tls else {}
        return SentinelConnectionPool(service, sentinel, **options, **secure)  # type: ignore[no-untyped-call]

    def _sentinels(self) -> Sentinel:
        return Sentinel(  # type: ignore[no-untyped-call]
            self._endpoint.hosts,
            sentinel_kwargs={
                **self._endpoint.tls,
                **self._endpoint.login,
                "protocol": 2,
                "socket_timeout": _SENTINEL_TIMEOUT,
                "socket_connect_timeout": _SENTINEL_TIMEOUT,
                "retry": Retry(NoBackoff(), 0),
            },
        )

    def close(self) -> None:
        """Close all clients and leave the embedded server. A second call does nothing."""
        for client in list(self._clients):
            client.close()
        if self._embedded is not None:
            self._embedded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Client(redis.Redis):
    """A client whose WRONGTYPE errors name the key."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if is_wrong_type(error) and args[0] != "TYPE":
                raise with_key(error, args, self.type) from error
            raise


def open_server(address: Address, *, start: bool = True) -> Server:
    """Start or share the embedded server, or check the user's own server with a PING.

    A server that answers with a passing error is accepted too: it runs a script, loads its data,
    or has lost its primary.

    Raises
    ------
    ConfigError
        If the address is invalid.
    ServerError
        If the server refuses the connection, or can't be reached (``ServerUnreachableError``).
    """
    server = find_server(address, start=start)
    try:
        with server.client() as client:
            client.ping()
    except redis.RedisError as error:
        if not answered(error):
            raise translated(error, server.label) from error
    return server


def find_server(address: Address, *, start: bool = True) -> Server:
    """Start or share the embedded server, or return the user's own server without a check.

    Parameters
    ----------
    address : Address
    start : bool, default=True
        Whether to start the embedded server if it doesn't run. Otherwise this is an error, and no
        folder is created.

    Raises
    ------
    ConfigError
        If the address is invalid.
    ServerError
        If the embedded server can't be started, or the installed redis-py isn't supported.
    ServerUnreachableError
        If the embedded server doesn't run and `start` is False.
    """
    check_redis()
    if address.url != EMBEDDED:
        return Server(read_address(address))
    data_dir = address.data_dir
    embedded = EmbeddedServer.acquire(data_dir) if start else EmbeddedServer.join(data_dir)
    options = {"connection_class": EmbeddedConnection, "embedded": embedded}
    return Server(Endpoint(server_label(EMBEDDED, embedded.data_dir), options), embedded)
