"""Asks the workers of a namespace to read their settings again, and transfers their answers."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from streamclust.store.model.keys import WorkerKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

_BLOCK = 1.0
"""Maximum seconds of one read, shorter than the timeout of a client."""

_ANSWERS = 1000
"""Maximum number of answers that the server stores."""


def read_requests(client: redis.Redis, namespace: str) -> int:
    """Return the number of requests so far."""
    number: Any = client.get(WorkerKeys(namespace).reload)
    try:
        return int(number or 0)
    except ValueError:  # not written by `reload`
        return 0


def request_reload(client: redis.Redis, namespace: str) -> str:
    """Ask all workers; return the position before their answers."""
    newest: Any = client.xrevrange(WorkerKeys(namespace).reloaded, count=1)
    client.incr(WorkerKeys(namespace).reload)
    return str(newest[0][0].decode()) if newest else "0-0"


def write_answer(client: redis.Redis, namespace: str, answer: dict[str, Any]) -> None:
    """Report what a worker or an encoder did, or that an encoder has seen the request."""
    fields: Any = {"answer": json.dumps(answer)}
    client.xadd(WorkerKeys(namespace).reloaded, fields, maxlen=_ANSWERS)


def read_answers(
    client: redis.Redis, namespace: str, after: str, ends: Callable[[], float]
) -> Iterator[dict[str, Any]]:
    """Yield the answers after a position, from `request_reload`.

    Parameters
    ----------
    client : redis.Redis
    namespace : str
    after : str
    ends : callable
        Returns until when to wait for another answer, by the monotonic clock.
    """
    key = WorkerKeys(namespace).reloaded
    while found := _read(client, key, after, ends):
        for entry_id, fields in found:
            after = entry_id.decode()
            try:
                yield dict(json.loads(fields[b"answer"]))
            except (KeyError, ValueError, TypeError, RecursionError):
                continue  # not written by a worker


def _read(client: redis.Redis, key: str, after: str, ends: Callable[[], float]) -> list[Any]:
    """Return the entries after a position; wait for them until a time."""
    while (remaining := ends() - time.monotonic()) > 0.0:
        block = max(int(1000 * min(remaining, _BLOCK)), 1)
        found: Any = client.xread({key: after}, block=block)
        if found:
            return list(found[0][1])
    return []
