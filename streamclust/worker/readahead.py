"""Reads and decodes points in a separate thread, while other points are learned."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from streamclust.formats.dead import EXCERPT_BYTES
from streamclust.runtime.activity import READER, Activity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.store.stream.batches import Batch

_AHEAD = 256
"""Maximum batches that wait, so that reading continues during a long step."""

_AHEAD_BYTES = 1 << 24
"""Maximum bytes of points that wait; one batch may wait whatever its size. Besides these points,
only the batch that is being learned is in memory."""

_MOVES = 1.0
"""Seconds after which a reader that waits for room shows that it makes progress."""

_GRACE = 1.0
"""Seconds to wait for the reader thread at the end. A thread that waits for a hanging server is
left running, because it only reads."""


class ReadAhead:
    """Runs an iterator of batches in a thread, named after the model.

    Parameters
    ----------
    make : callable
        Given `stopping`, returns the iterator. The iterator calls `stopping()` before each read,
        and must end soon after this returns True.
    activity : Activity, optional
        Records the progress of the reader thread.
    arrived : callable, optional
        Called in the reader thread when `take` has something new to return or to raise.
    name : str, optional
        Name of the model.
    """

    def __init__(
        self,
        make: Callable[[Callable[[], bool]], Iterator[Batch]],
        activity: Activity | None = None,
        arrived: Callable[[], object] = lambda: None,
        name: str = "",
    ) -> None:
        self._make = make
        self._activity = activity or Activity()
        self._arrived = arrived
        self._changed = threading.Condition()
        self._batches: deque[Batch] = deque()
        self._bytes = 0  # of the batches that wait
        self._retired = self._closed = self._ended = False
        self._error: Exception | None = None
        owner = name or threading.current_thread().name
        self._thread = threading.Thread(target=self._run, name=f"{owner} reader", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def take(self) -> Batch | None:
        """Return the next batch; None if none has been read.

        An error of the iterator is raised after the batches before it.
        """
        with self._changed:
            if self._batches:
                batch = self._batches.popleft()
                self._bytes -= _bytes_of(batch)
                self._changed.notify()
                return batch
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    @property
    def has_news(self) -> bool:
        """Whether batches, an error or the end wait to be taken."""
        return bool(self._batches) or self._ended

    @property
    def ended(self) -> bool:
        """Whether the iterator has ended and all its batches were taken."""
        return self._ended and not self._batches and self._error is None

    def retire(self) -> None:
        """End the thread after its current read. All batches that were read can be taken."""
        with self._changed:
            self._retired = True
            self._changed.notify()

    def close(self) -> None:
        """End the thread and discard what it has read."""
        with self._changed:
            self._closed = True
            self._batches.clear()
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(_GRACE)

    def _run(self) -> None:
        try:
            for batch in self._make(self._stopping):
                self._put(batch)
                self._arrived()
        except Exception as error:
            self._error = error
        self._activity.ended(READER)
        self._ended = True
        self._arrived()

    def _stopping(self) -> bool:
        self._activity.record_progress(READER)
        return self._retired or self._closed

    def _put(self, batch: Batch) -> None:
        """Add a batch as soon as there is room for it."""
        size = _bytes_of(batch)
        with self._changed:
            while self._is_full(size) and not self._retired and not self._closed:
                self._activity.record_progress(READER)
                self._changed.wait(_MOVES)
            if not self._closed:
                self._batches.append(batch)
                self._bytes += size

    def _is_full(self, size: int) -> bool:
        waiting = len(self._batches)
        return waiting >= _AHEAD or (waiting > 0 and self._bytes + size > _AHEAD_BYTES)


def _bytes_of(batch: Batch) -> int:
    """Return the approximate bytes of a batch: its points, and excerpts of its dead letters."""
    return batch.X.nbytes + 2 * EXCERPT_BYTES * len(batch.dead)
