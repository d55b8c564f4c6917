"""The threads on which the models' turns run."""

from __future__ import annotations

import contextvars
import math
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from streamclust.runtime.scheduler import Scheduler
from streamclust.runtime.signals import StopEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.runtime.scheduler import Turn, Wait

_NAME = "turns"
"""Name of a thread without a turn. During a turn it has the name of the model."""

_LOOK = 0.2
"""Seconds between checks for a request to stop, if it can't call the pool."""


class Pool:
    """Runs turns on a few threads, in the order of a `Scheduler`. Threads may share it.

    A thread starts when a model is ready and no thread is free, in a copy of the context in which
    the pool was made. The threads end when the last model has left.

    Parameters
    ----------
    run : callable
        Runs a turn of a model, and returns what the model waits for; None if it has left.
    threads : int
        Maximum number of turns at the same time.
    on_left : callable, optional
        Called with the name of a model that has left; it may add the model again.
    """

    def __init__(
        self,
        run: Callable[[Turn], Wait | None],
        threads: int,
        on_left: Callable[[str], object] = lambda model: None,
    ) -> None:
        self._run = run
        self._on_left = on_left
        self._context = contextvars.copy_context()
        self._scheduler = Scheduler(threads)
        lock = threading.Lock()
        self._ready = threading.Condition(lock)  # for the threads
        self._changed = threading.Condition(lock)  # for `wait`
        self._started = self._idle = 0
        self._awaited = math.inf  # the time for which `wait` waits
        self._refusal: RuntimeError | None = None

    def __len__(self) -> int:
        """Return the number of models that haven't left."""
        with self._ready:
            return len(self._scheduler)

    def add(self, model: str) -> None:
        """Add a model, which gets a turn at once."""
        with self._ready:
            self._scheduler.add(model, time.monotonic())
            self._wake_thread()

    def remove(self, model: str) -> None:
        """Let a model leave."""
        with self._ready:
            self._scheduler.remove(model, time.monotonic())
            self._wake_thread()

    def news(self, model: str) -> None:
        """Give a model a turn."""
        with self._ready:
            if self._scheduler.news(model, time.monotonic()):
                self._wake_thread()

    def stop(self) -> None:
        """Let all models leave."""
        with self._ready:
            self._scheduler.stop(time.monotonic())
            self._wake_thread()

    @property
    def crowded(self) -> bool:
        """Whether a model waits for a thread."""
        with self._ready:
            return self._scheduler.crowded

    def seconds_late(self, model: str) -> float:
        """Return for how many seconds a model has waited for a thread."""
        with self._ready:
            return self._scheduler.seconds_late(model, time.monotonic())

    def replace_thread(self, model: str) -> None:
        """Start another thread in place of one whose turn makes no progress."""
        with self._ready:
            if self._scheduler.hang(model):
                self._wake_thread()

    def wait(self, stop: threading.Event) -> None:
        """Return when all models have left; let them leave when `stop` is set.

        Meanwhile, this thread wakes another thread at each time for which a model waits.

        Raises
        ------
        RuntimeError
            If the system refuses the first thread.
        """
        look = _LOOK
        if isinstance(stop, StopEvent):
            stop.call(self.stop)
            look = math.inf
        with self._changed:
            while len(self._scheduler):
                if self._refusal is not None:
                    raise self._refusal
                now = time.monotonic()
                if look < math.inf and stop.is_set():
                    look = math.inf
                    self._scheduler.stop(now)
                    self._wake_thread()
                due = self._scheduler.next_due()
                if due is not None and due <= now:
                    self._wake_thread()
                    due = None  # a thread takes this turn now, or after its current turn
                self._awaited = math.inf if due is None else due
                timeout = min(self._awaited - now, look)
                self._changed.wait(None if timeout == math.inf else timeout)

    def _wake_thread(self) -> None:
        """Wake a thread to look for a turn; start a thread if all are busy."""
        if self._idle:
            self._ready.notify()
        elif self._started < self._scheduler.threads:
            work = partial(self._context.copy().run, self._work)
            thread = threading.Thread(target=work, name=_NAME, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                if not self._started:
                    self._refusal = error
                return
            self._started += 1

    def _work(self) -> None:
        own = threading.current_thread()
        while True:
            with self._ready:
                turn = self._next()
            if turn is None:
                return
            own.name = turn.model
            wait = self._run(turn)
            own.name = _NAME
            with self._ready:
                self._scheduler.ended(turn.model, time.monotonic(), wait)
            if wait is None:
                self._on_left(turn.model)

    def _next(self) -> Turn | None:
        """Wait for the next turn; return None if this thread isn't needed any more."""
        scheduler = self._scheduler
        while len(scheduler) and self._started <= scheduler.threads:
            turn = scheduler.take(time.monotonic())
            due = scheduler.next_due()
            if due is not None and due < self._awaited:
                self._changed.notify()
            if turn is not None:
                if scheduler.crowded:
                    self._wake_thread()
                return turn
            self._idle += 1
            self._ready.wait()
            self._idle -= 1
        self._started -= 1
        self._ready.notify()  # the others end too
        self._changed.notify()
        return None
