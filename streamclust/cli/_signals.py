"""Ctrl-C for commands that finish a step first, or that wait for input.

Python runs a signal's handler some time after the signal arrives. So a signal that arrives between
the check of a flag and a blocking read doesn't interrupt the read, and neither does a signal that
another thread receives. But the interpreter writes a byte to a pipe at once
(``signal.set_wakeup_fd``), and a wait for input also waits for that pipe.

A command that was started with SIGINT ignored (by ``&`` in a script) continues to ignore SIGINT.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

T = TypeVar("T")

GLANCE_SECONDS = 0.05


class Wakeup:
    """Ends a wait for input in the main thread at any signal that has a handler.

    The handler decides what happens: with Python's own, `wait_for` raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self._wakes = self._woken = self._previous_fd = -1

    def __enter__(self) -> Self:
        self._woken, self._wakes = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wakes, False)
        self._previous_fd = signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self._wakes)
        os.close(self._woken)

    def wait_for(self, fd: int) -> None:
        """Return when `fd` can be read without waiting or is at its end."""
        while True:
            self._check()  # after the byte of a signal, and before each wait
            ready, _, _ = select.select([fd, self._woken], [], [])
            if self._woken not in ready:
                return
            os.read(self._woken, 512)

    def _check(self) -> None:
        """Raise KeyboardInterrupt to end the wait."""


class CtrlC(Wakeup):
    """Turns the first Ctrl-C into a request to stop; the second one raises KeyboardInterrupt.

    A wait for input ends at once, since no work is in progress. The handler takes no lock: it could
    wait forever for a lock that its own thread holds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._set = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        super().__enter__()
        self._previous = signal.getsignal(signal.SIGINT)
        if self._previous is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._previous)
        super().__exit__()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        was_set, self._set = self._set, True
        if was_set:
            raise KeyboardInterrupt

    def _check(self) -> None:
        if self._set:
            raise KeyboardInterrupt

    def is_set(self) -> bool:
        """Return whether Ctrl-C was pressed."""
        return self._set

    def wait(self, timeout: float) -> bool:
        """Wait for `timeout` seconds, or until Ctrl-C."""
        deadline = time.monotonic() + timeout
        while not self._set and (remaining := deadline - time.monotonic()) > 0:
            time.sleep(min(remaining, GLANCE_SECONDS))
        return self._set

    def guard(self, chunks: Iterator[T]) -> Iterator[T]:
        """Yield the chunks until Ctrl-C."""
        while not self._set:
            try:
                chunk = next(chunks)
            except (StopIteration, KeyboardInterrupt):
                return
            yield chunk
