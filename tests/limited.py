"""A server that closes connections whose replies are large, as a hardened one does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

LIMIT = 1 << 18


@contextmanager
def limited_replies(client: redis.Redis, limit: int = LIMIT) -> Iterator[None]:
    """Let the server close each connection whose replies outgrow so many bytes, for the block."""
    client.config_set("client-output-buffer-limit", f"normal {limit} 0 0")
    try:
        yield
    finally:
        client.config_set("client-output-buffer-limit", "normal 0 0 0")
