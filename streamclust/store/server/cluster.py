"""A client for a cluster. It has all methods of a client for one server that the store uses.

The client differs from redis-py's in three ways. Streams in several slots can be read in one call.
A command that may have reached a node is never repeated. Passing errors (the cluster is down, a
node can't be reached) count as lost connections.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import (
    AskError,
    ClusterError,
    NoPermissionError,
    RedisClusterException,
    TryAgainError,
)
from redis.retry import Retry

from streamclust.store.server.wrong_type import is_wrong_type, with_key

_SLICE_MS = 25
"""Maximum wait at one node while entries may arrive at another."""


class ClusterClient(RedisCluster):
    """A client that sends commands to the node of their key, and follows redirections."""

    @classmethod
    def open(cls, hosts: Iterable[tuple[str, int]], **options: Any) -> Self:
        """Connect to the cluster through one of these nodes.

        Raises
        ------
        redis.RedisError
            If no node can be reached, or none accepts this client.
        """
        try:
            return cls(
                startup_nodes=[ClusterNode(*host) for host in hosts],  # type: ignore[no-untyped-call]
                retry=Retry(NoBackoff(), 0),
                require_full_coverage=False,  # the nodes check this
                **options,
            )
        except RedisClusterException as error:
            raise _lost(error) from error

    def __init__(self, **options: Any) -> None:
        self._callbacks: dict[str, Callable[..., Any]] = {}
        super().__init__(**options)

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Send a command to the node of its key."""
        try:
            return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]
        except (ClusterError, RedisClusterException) as error:
            raise _lost(error) from error
        except redis.ResponseError as error:
            if is_wrong_type(error):
                raise with_key(error, args, self.type) from error
            raise

    def node_of(self, key: Any) -> ClusterNode:
        """Return the node of a key."""
        try:
            node: ClusterNode = self.get_node_from_key(key)  # type: ignore[no-untyped-call]
        except RedisClusterException as error:  # no node has the slot now
            raise _lost(error) from error
        return node

    def find_nodes(self) -> None:
        """Ask the cluster again which node has which slots, if a node can be reached."""
        with suppress(redis.RedisError, RedisClusterException):
            self.nodes_manager.initialize()

    def set_response_callback(self, command: str, callback: Callable[..., Any]) -> None:
        """Set the function that converts the nodes' raw replies to a command."""
        self._callbacks[command] = callback

    def get_redis_connection(self, node: ClusterNode) -> redis.Redis:
        """Return the client for one node."""
        client: redis.Redis = super().get_redis_connection(node)
        for command, callback in self._callbacks.items():
            client.set_response_callback(command, callback)
        return client

    def xread(  # type: ignore[override]
        self, streams: Mapping[str, str], count: int | None = None, block: int | None = None
    ) -> list[Any]:
        """Read streams, which can be in several slots.

        A node can only wait for its own streams. Several slots are read in turn, so that an entry
        is delayed by at most 25 ms per other slot.
        """
        by_slot: defaultdict[int, dict[str, str]] = defaultdict(dict)
        for stream, after in streams.items():
            by_slot[self.keyslot(stream)][stream] = after  # type: ignore[no-untyped-call]
        groups = list(by_slot.values())
        if len(groups) == 1:
            return self._xread(groups[0], count, block)
        found = [part for group in groups for part in self._xread(group, count, None)]
        deadline = time.monotonic() + (block or 0) / 1000.0
        while not found and time.monotonic() < deadline:
            for group in groups:
                found += self._xread(group, count, None if found else _SLICE_MS)
        return found

    def _xread(self, streams: Mapping[str, str], count: int | None, block: int | None) -> list[Any]:
        limits = (("COUNT", count), ("BLOCK", block))
        options = [part for pair in limits if pair[1] is not None for part in pair]
        # Without a given node, redis-py asks a server for the keys in the command.
        node = self.node_of(next(iter(streams)))
        words = ("XREAD", *options, "STREAMS", *streams, *streams.values())
        return self.execute_command(*words, target_nodes=node) or []

    def exists(self, *keys: Any) -> Any:
        """Return how many of these keys of one slot exist; redis-py's method uses a pipeline."""
        return self.execute_command("EXISTS", *keys)

    def delete(self, *keys: Any) -> Any:
        """Delete keys of one slot."""
        return self.execute_command("DEL", *keys)

    def pipeline(self, *_: Any, **__: Any) -> _Pipeline:
        """Return a pipeline for keys of one slot.

        redis-py's pipeline repeats all commands when the connection is lost before the last reply.
        """
        return _Pipeline(self)


class _Pipeline:
    """Commands with a key as their first argument, sent together to the node of the first key."""

    def __init__(self, cluster: ClusterClient) -> None:
        self._cluster = cluster
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *args: Any) -> None:
        """Queue a command."""
        self._commands.append(args)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands; repeat those that the node redirected."""
        commands, self._commands = self._commands, []
        node = self._cluster.node_of(commands[0][1])
        pipeline = self._cluster.get_redis_connection(node).pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        replies = pipeline.execute(raise_on_error=False)
        pairs = zip(commands, replies, strict=True)
        return [self._settled(*pair, raise_on_error) for pair in pairs]

    def _settled(self, command: tuple[Any, ...], reply: Any, raise_on_error: bool) -> Any:
        if isinstance(reply, AskError | TryAgainError):  # MOVED is an AskError too
            return self._cluster.execute_command(*command)
        if is_wrong_type(reply):
            reply = with_key(reply, command, self._cluster.type)
        if raise_on_error and isinstance(reply, redis.RedisError):
            raise reply
        return reply


def _lost(error: Exception) -> redis.RedisError:
    """Return a lost connection in place of an error, except if a node refused this client."""
    cause = error.__cause__
    if isinstance(cause, redis.AuthenticationError | NoPermissionError):
        return cause
    return redis.ConnectionError(str(cause or error))
