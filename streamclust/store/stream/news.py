"""Reports which streams have changed, without a request per stream and without polling.

The server does the work (``CLIENT TRACKING``): a connection that has read a key gets one message
when the key changes, and no more until it reads the key again. So the cost depends on the number
of changes, not on the number of streams, and a stream that is written a thousand times while its
model is busy costs one message.

With RESP2 the messages need a connection of their own, which is subscribed to a channel. One thread
waits on it. In a cluster each node has such a pair of connections and a thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.server.cluster import ClusterClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Wake = Callable[[], object]

_CHANNEL = "__redis__:invalidate"

_PING = 5.0
"""Seconds without a message after which both connections must answer a PING."""

_GRACE = 1.0
"""Seconds that `close` waits for the threads, if the server doesn't answer."""

_AGAIN = 60.0
"""Seconds after a refusal before the server is asked again."""


class StreamNews:
    """Calls a function once when a watched stream changes. Threads may share it.

    Parameters
    ----------
    client : redis.Redis
        Its connections are used.

    Attributes
    ----------
    refusal : str
        Why the server refused the last call of `watch`; empty if it didn't.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        self._refused = -math.inf
        self.refusal = ""

    def watch(self, streams: Iterable[str], wake: Wake) -> bool:
        """Call `wake` once, from another thread, when one of the streams changes from now on.

        The caller must read the streams after this call. Then no entry is missed: either the read
        returns it, or `wake` is called. `wake` can also be called without a new entry. Watching an
        unchanged stream again costs nothing.

        Returns
        -------
        bool
            False if the server doesn't permit it.

        Raises
        ------
        redis.RedisError
            If a connection is lost.
        """
        if time.monotonic() < self._refused + _AGAIN:
            return False
        nodes: defaultdict[_Node, list[str]] = defaultdict(list)
        try:
            for stream in streams:
                nodes[self._node_of(stream)].append(stream)
            for node, keys in nodes.items():
                node.watch(keys, wake)
        except redis.ResponseError as error:
            self.refusal = str(error)
            return False
        self.refusal = ""
        return True

    def forget(self, streams: Iterable[str], wake: Wake) -> None:
        """Don't call `wake` for these streams any more."""
        for node in list(self._nodes.values()):
            node.forget(streams, wake)

    def close(self) -> None:
        """End the threads, which close the connections."""
        with self._lock:
            nodes, self._nodes = list(self._nodes.values()), {}
        for node in nodes:
            node.end()
        until = time.monotonic() + _GRACE
        for node in nodes:
            node.thread.join(max(until - time.monotonic(), 0.0))

    def _node_of(self, stream: str) -> _Node:
        """Return the open connections to the node of a stream."""
        client: Any = self._client
        name = ""
        if isinstance(client, ClusterClient):
            place = client.node_of(stream)
            client, name = client.get_redis_connection(place), place.name
        with self._lock:
            node = self._nodes.get(name)
            if node is not None and not node.lost:
                return node
            try:
                self._nodes[name] = _Node(client)
            except redis.ResponseError:
                self._refused = time.monotonic()
                raise
            return self._nodes[name]


class _Node:
    """Watches streams of one server."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool: Any = client.connection_pool
        self._lock = threading.Lock()  # protects the reading connection and `_wakes`
        self._sends = threading.Lock()  # protects what is sent by the listener, and `lost`
        self._wakes: defaultdict[bytes, set[Wake]] = defaultdict(set)
        self.lost = False
        self._listener: Any = self._pool.get_connection()
        self._reading: Any = None
        try:
            number = _ask(self._listener, "CLIENT", "ID")
            _ask(self._listener, "SUBSCRIBE", _CHANNEL)
            self._reading = self._pool.get_connection()
            _ask(self._reading, "CLIENT", "TRACKING", "ON", "REDIRECT", number)
        except BaseException:
            self._close()
            raise
        self.thread = threading.Thread(target=self._listen, name="news", daemon=True)
        self.thread.start()

    def watch(self, streams: Sequence[str], wake: Wake) -> None:
        keys = [stream.encode() for stream in streams]
        with self._lock:
            if self.lost:
                raise redis.ConnectionError("the connection that watches the streams was lost")
            new = [key for key in keys if key not in self._wakes]
            for key in new:
                self._reading.send_command("EXISTS", key)  # the server remembers what was read
            for reply in [_reply(self._reading) for _ in new]:
                if isinstance(reply, Exception):
                    raise reply
            for key in keys:
                self._wakes[key].add(wake)

    def forget(self, streams: Iterable[str], wake: Wake) -> None:
        with self._lock:
            for stream in streams:
                self._wakes.get(stream.encode(), set()).discard(wake)

    def end(self) -> None:
        """Ask the thread to end.

        Only the thread closes the connections: it would open a closed connection again.
        """
        with self._sends, suppress(redis.RedisError, OSError):
            if not self.lost:
                self.lost = True
                self._listener.send_command("PING")  # the reply wakes the thread

    def _close(self) -> None:
        for connection in (self._listener, self._reading):
            if connection is not None:
                connection.disconnect()
                with suppress(ValueError, redis.RedisError):
                    self._pool.release(connection)

    def _listen(self) -> None:
        """Call the functions of each changed stream; when a connection is lost, all functions."""
        with suppress(Exception):
            while not self.lost:
                if self._listener.can_read(_PING):
                    self._take(self._listener.read_response())
                elif not self.lost:
                    self._check()
        with self._sends:
            self.lost = True
        self._wake(None)
        self._close()

    def _take(self, message: Any) -> None:
        if isinstance(message, list) and message[0] == b"message":
            self._wake(message[2])  # None after FLUSHALL

    def _check(self) -> None:
        """Detect a silently lost connection, on which no message would arrive."""
        with self._sends:
            self._listener.send_command("PING")
        with self._lock:
            _ask(self._reading, "PING")
        while (message := self._listener.read_response())[0] != b"pong":
            self._take(message)

    def _wake(self, keys: Iterable[bytes] | None) -> None:
        with self._lock:
            found = list(self._wakes) if keys is None else keys
            wakes = {wake for key in found for wake in self._wakes.pop(key, ())}
        for wake in wakes:
            wake()


def _ask(connection: Any, *command: Any) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def _reply(connection: Any) -> Any:
    """Return the next reply, or the error that the server replied."""
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
