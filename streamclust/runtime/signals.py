"""Signals that stop a daemon."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_FORCED = 130
"""Exit code after a second signal."""


class Stop(Protocol):
    """A request to stop; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Return whether to stop."""

    def wait(self, timeout: float, /) -> bool:
        """Wait for `timeout` seconds, or until it is set; return whether it is set."""


class StopEvent(threading.Event):
    """A request to stop that also calls functions, so that no thread must poll it."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners: list[Callable[[], object]] = []

    def call(self, listener: Callable[[], object]) -> None:
        """Call a function when the event is set, or now if it is set already."""
        self._listeners.append(listener)
        if self.is_set():
            listener()

    def set(self) -> None:
        """Set the event, and call the functions."""
        super().set()
        for listener in self._listeners:
            listener()


class ChildStop(threading.Event):
    """A request to stop one part of a process; it is also set when the parent is set.

    Parameters
    ----------
    parent : threading.Event
    """

    def __init__(self, parent: threading.Event) -> None:
        # Without the lock and the condition of an event: there may be ten thousand of these.
        self._parent = parent
        self._is_own_set = False

    def is_set(self) -> bool:
        """Return whether to stop."""
        return self._is_own_set or self._parent.is_set()

    def set(self) -> None:
        """Stop this part. A thread in `wait` returns only when the parent is set."""
        self._is_own_set = True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for `timeout` seconds, or until the parent is set; return whether to stop."""
        return self._is_own_set or self._parent.wait(timeout)


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM set `stop`; a second signal ends the process at once.

    A daemon that was started with SIGINT ignored (by ``&`` in a script) keeps ignoring it. SIGTERM
    always counts. The handler sets `stop` from another thread, because the interrupted thread may
    hold the event's lock.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(_FORCED)
        asked = True
        _thread.start_new_thread(stop.set, ())

    wanted = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        wanted.append(signal.SIGINT)
    before = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def reload_on_signal(stop: threading.Event, reload: Callable[[], object] | None) -> Iterator[None]:
    """Let SIGHUP call `reload`, from another thread. Without `reload`, leave the signal as it is.

    A terminal that is closed sends SIGHUP too. Then the process stops. A daemon that was started
    with SIGHUP ignored (by ``nohup``) keeps ignoring it.
    """
    if reload is None or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        yield
        return
    had_terminal = _has_terminal()

    def handle(number: int, frame: FrameType | None) -> None:
        ends = had_terminal and not _has_terminal()
        _thread.start_new_thread(stop.set if ends else reload, ())

    before = signal.signal(signal.SIGHUP, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
