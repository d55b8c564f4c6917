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

    from streamclust.encoder.waits import EncoderWaits

_TOGETHER = 128
"""Streams per round trip."""

_LONGEST, _EACH = 2.0, 0.005
"""Maximum seconds between two looks, and minimum seconds per stream; the larger time counts."""


class Takeovers:
    """Takes over the entries of dead encoders for encoders that share threads.

    Seconds between two looks at a stream: max(min(2, takeover / 4), N / 200) with N streams and the
    smallest `encode.takeover`.
    """

    def __init__(self) -> None:
        self._encoders: dict[EncoderWaits, None] = {}

    @contextmanager
    def looking(self, encoder: EncoderWaits) -> Iterator[None]:
        """Look for entries of dead encoders in the group of an encoder, while the block lasts."""
        self._encoders[encoder] = None
        try:
            yield
        finally:
            self._encoders.pop(encoder, None)

    def life(self, stop: threading.Event) -> Iterator[Wait]:
        """Look at regular times; yield the pauses."""
        while not stop.is_set():
            waiting = list(self._encoders)
            shortest = min((each.takeover_ms / 4000.0 for each in waiting), default=_LONGEST)
            pause = max(min(shortest, _LONGEST), len(waiting) * _EACH)
            yield Wait(time.monotonic() + pause)
            clients: defaultdict[redis.Redis, list[EncoderWaits]] = defaultdict(list)
            for encoder in list(self._encoders):
                clients[encoder.member.client].append(encoder)
            for client, encoders in clients.items():
                for start in range(0, len(encoders), _TOGETHER):
                    if stop.is_set():
                        return
                    self._look(client, encoders[start : start + _TOGETHER])
                    yield Wait(time.monotonic())  # encoders that have waited longer come first

    def _look(self, client: redis.Redis, encoders: Sequence[EncoderWaits]) -> None:
        current = [each for each in encoders if each in self._encoders]
        calls = [
            (each.member.stream, each.member.claim_command(each.takeover_ms)) for each in current
        ]
        try:
            replies = round_trip(client, calls)
        except Exception as error:
            replies = [error] * len(current)
        for each, reply in zip(current, replies, strict=True):
            each.report_claim(reply)
