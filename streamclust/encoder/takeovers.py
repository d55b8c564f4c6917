"""Looks for entries of dead encoders in the groups of many streams, many in one round trip."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streamclust.runtime.scheduler import Wait
from streamclust.store.server.round_trip import round_trip

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    import redis

    from streamclust.encoder.between import Between

_TOGETHER = 128
"""Streams per round trip."""

_LONGEST, _EACH = 2.0, 0.005
"""Seconds between two looks: at most, except that it is at least this time per stream."""


class Takeovers:
    """Takes over the entries of dead encoders for encoders that share threads.

    A stream is looked at every 2 s (with a small `encode.takeover`: every quarter of it), or with N
    streams every N / 200 s, whichever is longer.
    """

    def __init__(self) -> None:
        self._encoders: dict[Between, None] = {}

    @contextmanager
    def looking(self, encoder: Between) -> Iterator[None]:
        """Look for entries of dead encoders in the group of an encoder, while the block lasts."""
        self._encoders[encoder] = None
        try:
            yield
        finally:
            self._encoders.pop(encoder, None)

    def life(self, stop: threading.Event) -> Iterator[Wait]:
        """Look again and again; yield the pauses."""
        while not stop.is_set():
            known = list(self._encoders)
            shortest = min((each.takeover_ms / 4000.0 for each in known), default=_LONGEST)
            yield Wait(time.monotonic() + max(min(shortest, _LONGEST), len(known) * _EACH))
            clients: defaultdict[redis.Redis, list[Between]] = defaultdict(list)
            for encoder in list(self._encoders):
                clients[encoder.member.client].append(encoder)
            for client, encoders in clients.items():
                for start in range(0, len(encoders), _TOGETHER):
                    if stop.is_set():
                        return
                    self._look(client, encoders[start : start + _TOGETHER])
                    yield Wait(time.monotonic())  # encoders that have waited longer come first

    def _look(self, client: redis.Redis, encoders: Sequence[Between]) -> None:
        there = [each for each in encoders if each in self._encoders]
        calls = [(each.member.stream, each.member.claim_call(each.takeover_ms)) for each in there]
        try:
            replies = round_trip(client, calls)
        except Exception as error:
            replies = [error] * len(there)
        for each, reply in zip(there, replies, strict=True):
            each.claimed(reply)
