"""Updates for each visitor. A slow visitor gets only the newest updates, so memory is limited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streamclust.dashboard.source import now_ms
from streamclust.text import exact_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BEAT_SECONDS = 10.0
"""Seconds without an event, after which the event `beat` shows that the connection lives."""

_MOST = 64
"""Maximum number of events of one kind that wait for a visitor."""

_START = b"retry: 2000\n\n"


def encode_event(kind: str, value: object, event_id: str) -> bytes:
    """Return the bytes of a server-sent event."""
    return f"event: {kind}\nid: {event_id}\ndata: {exact_json(value)}\n\n".encode()


class Mailbox:
    """The events that wait for one visitor.

    Events of most kinds replace an earlier event of the same kind that still waits. Events of the
    kinds in `KEPT` all wait, up to a limit; then the oldest is dropped.
    """

    KEPT = ("event", "alert", "action", "reset")

    def __init__(self) -> None:
        self._waiting: list[tuple[str, bytes]] = []
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, kind: str, data: bytes, after_loss: bytes | None = None) -> None:
        """Add an event.

        Parameters
        ----------
        kind : str
        data : bytes
        after_loss : bytes, optional
            The event to add instead of `data`, if it replaces an event that still waits.
        """
        same = [place for place, (other, _) in enumerate(self._waiting) if other == kind]
        if same and (kind not in self.KEPT or len(same) >= _MOST):
            del self._waiting[same[0]]
            data = after_loss or data
        self._waiting.append((kind, data))
        self._filled.set()

    def close(self) -> None:
        """End the stream after the events that wait."""
        self._closed = True
        self._filled.set()

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the events until the mailbox is closed; the event `beat` while there are none."""
        yield _START
        while True:
            try:
                await asyncio.wait_for(self._filled.wait(), BEAT_SECONDS)
            except TimeoutError:
                yield f"event: beat\ndata: {exact_json({'time_ms': now_ms()})}\n\n".encode()
                continue
            waiting, self._waiting = self._waiting, []
            self._filled.clear()
            for _, data in waiting:
                yield data
            if self._closed:
                return


class Mailboxes:
    """The mailboxes of all visitors of one page."""

    def __init__(self) -> None:
        self._boxes: set[Mailbox] = set()

    @property
    def count(self) -> int:
        """Number of visitors."""
        return len(self._boxes)

    def open(self) -> Mailbox:
        """Return a new mailbox."""
        box = Mailbox()
        self._boxes.add(box)
        return box

    def remove(self, box: Mailbox) -> None:
        """Forget a visitor who has left."""
        self._boxes.discard(box)

    def put(self, kind: str, data: bytes, after_loss: bytes | None = None) -> None:
        """Add an event to each mailbox; see `Mailbox.put`."""
        for box in self._boxes:
            box.put(kind, data, after_loss)

    def close(self) -> None:
        """End all streams."""
        for box in self._boxes:
            box.close()
