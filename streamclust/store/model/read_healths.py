"""Reads the reports of the workers of many models."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.model.attempts import attempt, is_forbidden, raised
from streamclust.store.model.health import decode_health
from streamclust.store.model.keys import Keys
from streamclust.store.model.workers import read_workers
from streamclust.store.server.round_trip import round_trip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamclust.store.model.health import Health

TOGETHER = 128
"""Maximum number of models per round trip."""


class LiveWorkers:
    """Checks whether the worker of a sleeping model still lives. Reads the workers once.

    Parameters
    ----------
    client : redis.Redis
    namespace : str
    """

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._ids: set[str] | None = None
        self._may_read = True

    def alive(self, health: Health | None) -> Health | None:
        """Return a report; None if the worker of a model that sleeps has died."""
        if health is None or not health.asleep:
            return health
        if self._ids is None:
            try:
                self._ids = {each.id for each in read_workers(self._client, self._namespace)}
            except redis.ResponseError as error:
                if not is_forbidden(error):
                    raise
                self._ids, self._may_read = set(), False
        return health if health.worker in self._ids or not self._may_read else None


def read_healths(
    client: redis.Redis, namespace: str, names: Iterable[str]
) -> Iterator[tuple[str, Health | None, str]]:
    """Yield the name, the report of the live worker, and why it can't be read, of each model."""
    rest, workers = iter(names), LiveWorkers(client, namespace)
    while chunk := list(islice(rest, TOGETHER)):
        keys = [Keys(namespace, name).health for name in chunk]
        replies = round_trip(client, [(key, ("GET", key)) for key in keys])
        for name, key, reply in zip(chunk, keys, replies, strict=True):
            troubles: list[str] = []

            def decode(reply: Any = reply, key: str = key) -> Health | None:
                data = raised(reply)
                return workers.alive(None if data is None else decode_health(data, key))

            yield name, attempt(decode, key, troubles), "".join(troubles)
