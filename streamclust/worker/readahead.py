"""Reads and decodes points in a thread of its own, so that this overlaps with learning."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Self

from streamclust.failpoints import passing
from streamclust.formats.points import EXCERPT_BYTES
from streamclust.runtime.activity import READER, Activity
from streamclust.store.stream.batches import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

_AHEAD = 256
"""Maximum batches that wait, so that reading continues during a long step."""

_AHEAD_BYTES = 1 << 24
"""Maximum bytes of points that wait. A single batch may wait whatever its size. Together with the
batch that is being learned, this is all of the feed that is held in memory."""

_LOOK = 0.005
"""Seconds between checks whether the queue has room."""

_GRACE = 1.0
"""Seconds to wait for the reader thread at the end. If a server that hangs holds the thread up, it
is left running: it only reads."""


class _End:
    pass


class ReadAhead:
    """Runs an iterator of batches in a thread, named after the thread that learns.

    Parameters
    ----------
    make : callable
        Given `stopping`, returns the iterator. The iterator calls `stopping()` before each read,
        and must end soon after this returns True.
    activity : Activity, optional
        Where the reader thread records its progress.
    """

    def __init__(
        self,
        make: Callable[[Callable[[], bool]], Iterator[Batch]],
        activity: Activity | None = None,
    ) -> None:
        self._make = make
        self._activity = activity or Activity()
        self._stop = threading.Event()
        self._read = self._taken = 0  # bytes, each counted by one of the two threads
        self._queue: queue.Queue[Batch | BaseException | _End] = queue.Queue(maxsize=_AHEAD)
        name = f"{threading.current_thread().name} reader"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._drain()
        self._thread.join(_GRACE)

    def ticks(self, seconds: float) -> Iterator[Batch | None]:
        """Yield each batch when it is decoded, and None after `seconds` without a batch.

        An error of the iterator is raised here.
        """
        while True:
            passing("waiting")
            try:
                item = self._queue.get(timeout=seconds)
            except queue.Empty:
                yield None
                continue
            if isinstance(item, _End):
                return
            if isinstance(item, BaseException):
                raise item
            self._taken += _held(item)
            yield item

    def _run(self) -> None:
        last: BaseException | _End = _End()
        try:
            for batch in self._make(self._stopping):
                held = _held(batch)
                while self._read > self._taken and self._read + held - self._taken > _AHEAD_BYTES:
                    if self._stop.wait(_LOOK):
                        return
                    self._activity.moved(READER)
                self._read += held
                self._put(batch)
        except Exception as error:
            last = error
        self._put(last)
        self._activity.ended(READER)

    def _stopping(self) -> bool:
        self._activity.moved(READER)
        return self._stop.is_set()

    def _put(self, item: Batch | BaseException | _End) -> None:
        while not self._stopping():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def _drain(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()


def _held(batch: Batch) -> int:
    """Return the approximate bytes of a batch: its points, and excerpts of its dead letters."""
    return batch.X.nbytes + 2 * EXCERPT_BYTES * len(batch.dead)
