"""Asks the workers of a namespace to read their settings again, and carries their answers."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

_BLOCK = 1.0
"""Maximum seconds of one read, shorter than the timeout of a client."""

_ANSWERS = 1000
"""Maximum number of answers that the server stores."""


def request_key(namespace: str) -> str:
    """Integer. The number of requests; its change is the request. Never expires.

    Increased by ``reload``; read by workers, which watch it.
    """
    return f"{{{namespace}:}}:reload"


def answers_key(namespace: str) -> str:
    """Stream. One entry per worker and request; field ``answer``, a line of JSON.

    Written by workers; read by ``reload``. Trimmed to 1,000 entries.
    """
    return f"{{{namespace}:}}:reloaded"


def read_requests(client: redis.Redis, namespace: str) -> int:
    """Return the number of requests so far."""
    number: Any = client.get(request_key(namespace))
    return int(number or 0)


def request_reload(client: redis.Redis, namespace: str) -> str:
    """Ask all workers; return the position after which their answers are."""
    newest: Any = client.xrevrange(answers_key(namespace), count=1)
    client.incr(request_key(namespace))
    return str(newest[0][0].decode()) if newest else "0-0"


def answer(client: redis.Redis, namespace: str, what: dict[str, Any]) -> None:
    """Report what a worker did."""
    fields: Any = {"answer": json.dumps(what)}
    client.xadd(answers_key(namespace), fields, maxlen=_ANSWERS)


def read_answers(
    client: redis.Redis, namespace: str, after: str, timeout: float, quiet: float
) -> Iterator[dict[str, Any]]:
    """Yield the answers after a position.

    Parameters
    ----------
    client : redis.Redis
    namespace : str
    after : str
        From `request_reload`.
    timeout : float
        Seconds to wait for the first answer.
    quiet : float
        Seconds without an answer that end the wait for others.
    """
    key, seconds = answers_key(namespace), timeout
    while found := _read(client, key, after, seconds):
        seconds = quiet
        for entry_id, fields in found:
            after = entry_id.decode()
            try:
                yield dict(json.loads(fields[b"answer"]))
            except (KeyError, ValueError):
                continue  # not written by a worker


def _read(client: redis.Redis, key: str, after: str, seconds: float) -> list[Any]:
    """Return the entries after a position; wait for them."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0.0:
        block = max(int(1000 * min(left, _BLOCK)), 1)
        found: Any = client.xread({key: after}, block=block)
        if found:
            return list(found[0][1])
    return []
