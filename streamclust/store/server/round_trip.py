"""Many commands in one round trip, or in one per node of a cluster."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, cast

import redis
from redis.exceptions import AskError, TryAgainError

from streamclust.store.server.cluster import ClusterClient
from streamclust.store.server.wrong_type import is_wrong_type, with_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.cluster import ClusterNode

    Command = tuple[str, tuple[Any, ...]]


def round_trip(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    """Send commands together; return the reply, or the error, of each.

    Parameters
    ----------
    client : redis.Redis
    commands : sequence of (str, tuple)
        A key of the command, and its words. In a cluster, the key decides the node.

    Raises
    ------
    redis.ConnectionError, redis.TimeoutError
        If a connection is lost. Any of the commands may have been executed.
    """
    cluster: Any = client
    if not isinstance(cluster, ClusterClient):
        return _sent(client, client, commands)
    nodes: defaultdict[ClusterNode, list[int]] = defaultdict(list)
    for number, (key, _) in enumerate(commands):
        nodes[cluster.node_of(key)].append(number)
    replies: list[Any] = [None] * len(commands)
    for node, numbers in nodes.items():
        node_client = cluster.get_redis_connection(node)
        try:
            found = _sent(client, node_client, [commands[number] for number in numbers])
        except (redis.ConnectionError, redis.TimeoutError):
            cluster.find_nodes()  # another node may have the slots now
            raise
        for number, reply in zip(numbers, found, strict=True):
            replies[number] = reply
    return replies


def _sent(client: redis.Redis, node: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    pipeline = node.pipeline(transaction=False)
    for _, words in commands:
        pipeline.execute_command(*words)  # type: ignore[no-untyped-call]
    replies = pipeline.execute(raise_on_error=False)
    return [
        _settled(client, words, reply) for (_, words), reply in zip(commands, replies, strict=True)
    ]


def _settled(client: redis.Redis, words: tuple[Any, ...], reply: Any) -> Any:
    """Return a reply; follow a redirection, and name the key of the wrong type."""
    if isinstance(reply, AskError | TryAgainError):  # MOVED is an AskError too
        try:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            return error
    if is_wrong_type(reply):
        return with_key(cast("redis.ResponseError", reply), words, client.type)
    return reply
