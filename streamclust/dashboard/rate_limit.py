"""A limit of the number of requests of each client."""

from __future__ import annotations

import math

from streamclust.dashboard.errors import ApiError

PREDICTIONS_PER_MINUTE, REQUESTS_PER_MINUTE = 600, 6_000
"""Maximum number of requests per minute and client: predictions, and all requests."""

_CLIENTS = 1024
"""Maximum number of clients whose requests are counted one by one."""


class RateLimit:
    """Counts the requests of each client (a token bucket of one minute's requests)."""

    def __init__(self, per_minute: int) -> None:
        self._per_second = per_minute / 60.0
        self._most = float(per_minute)
        self._buckets: dict[str, tuple[float, float]] = {}

    def check(self, client: str, now: float) -> None:
        """Count a request.

        Raises
        ------
        ApiError
            If the client has sent too many.
        """
        tokens, time = self._buckets.pop(client, (self._most, now))
        tokens = min(self._most, tokens + (now - time) * self._per_second)
        if len(self._buckets) >= _CLIENTS:
            del self._buckets[next(iter(self._buckets))]  # the client that was silent longest
        self._buckets[client] = max(tokens - 1.0, 0.0) if tokens >= 1.0 else tokens, now
        if tokens < 1.0:
            wait = math.ceil((1.0 - tokens) / self._per_second)
            text = f"more than {int(self._most):,} requests in a minute; try again in {wait} s"
            raise ApiError(429, "too_many_requests", text, retry_after=wait)
