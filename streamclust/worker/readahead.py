"""Reading and decoding in a thread of their own, so that they overlap with learning."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Self

from streamclust.failpoints import passing
from streamclust.runtime.activity import READER, Activity
from streamclust.store.points import EXCERPT_BYTES
from streamclust.store.source import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

_AHEAD = 256
"""Batches that may wait, so that reading goes on while a step takes long."""

_AHEAD_BYTES = 1 << 24
"""Bytes of points that may wait; with the batch in work, all that is held in memory of the feed.
But one batch may, however large it is."""

_LOOK = 0.005
"""Seconds between looks for room."""

_GRACE = 1.0
"""Seconds to wait for the reader. One that a hanging server holds up is left: it only reads."""


class _End:
    pass


class ReadAhead:
    """Runs an iterator of batches in a thread, which is called the reader of this one.

    Parameters
    ----------
    make : callable
        Given `stopping`, returns the iterator; it must end soon after `stopping()` holds, which it
        asks before each read.
    activity : Activity, optional
        Where the reader records its progress.
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
        """Yield each batch as it comes, and None whenever none came for `seconds`.

        What the iterator raised in its thread is raised here.
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
    """Return about how many bytes a batch holds: its points, and what is kept of refused ones."""
    return batch.X.nbytes + 2 * EXCERPT_BYTES * len(batch.dead)
