"""Decides which model gets the next turn on a thread. It has no I/O, no clock and no threads.

A daemon has few threads and many models. A model gets a *turn* when it has something to do: one
thread runs it for a short time, and then the model waits for news or for a time. The scheduler
keeps these promises, whatever the order of the events:

* A model never has two turns at the same time. So whatever a turn does for a model stays in order.
* News that comes after the start of a turn gives the model another turn. No news is lost.
* Among the models that are ready, the one that has used the least time comes first. So a model with
  little to do doesn't wait for all models with a backlog. A model that was idle gets a credit of at
  most `CREDIT`, so that it can't keep the threads when it wakes.
* Models whose turns are long use all threads but one. So short turns never wait for a long one,
  except for a turn that is long for the first time.
* After `stop`, or `remove`, a model gets turns that are marked as leaving until it has left.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

LONG = 0.5
"""Seconds after which a turn is long."""

CREDIT = 0.5
"""Maximum seconds that a model that was idle is ahead of models that weren't idle."""


class Turn(NamedTuple):
    """A turn of a model.

    Parameters
    ----------
    model : str
    leaving : bool
        Whether the model must finish and leave.
    """

    model: str
    leaving: bool


class Wait(NamedTuple):
    """What a model waits for after a turn: news, or a time, whichever is first.

    Parameters
    ----------
    until : float or None
        Time of the next turn, by the caller's clock. None: wait for news only. A time in the past:
        take another turn immediately.
    """

    until: float | None = None


@dataclass(eq=False)
class _Entry:
    """A model, and when it may run."""

    state: Literal["waiting", "ready", "running"] = "ready"
    since: float = 0.0  # when it became ready, or its turn began
    due: float | None = None  # while it waits
    has_news: bool = False  # news came during its turn
    leaving: bool = False
    long: bool = False  # whether its last turn was long
    hung: bool = False  # its turn makes no progress, and another thread replaces its thread
    used: float = 0.0  # seconds of all turns, at least those of the models that run now


@dataclass(eq=False)
class Scheduler:
    """Models that wait, are ready or run, and the events that change this.

    All times are of one clock that never goes back.

    Parameters
    ----------
    threads : int
        The number of turns that run at the same time.
    """

    threads: int
    _models: dict[str, _Entry] = field(default_factory=dict)
    _timers: list[tuple[float, str]] = field(default_factory=list)
    _short: list[tuple[float, int, str]] = field(default_factory=list)
    _long: list[tuple[float, int, str]] = field(default_factory=list)
    _places: int = 0
    _ready: int = 0
    _running: int = 0
    _running_long: int = 0  # without hung turns
    _hung: int = 0
    _floor: float = 0.0
    _stopping: bool = False

    def __len__(self) -> int:
        """Return the number of models that haven't left."""
        return len(self._models)

    def __contains__(self, model: str) -> bool:
        return model in self._models

    @property
    def crowded(self) -> bool:
        """Whether a model is ready and waits for a thread."""
        return self._ready > 0

    def add(self, model: str, now: float) -> None:
        """Add a model; it is ready at once."""
        if model in self._models:
            raise ValueError(f"model {model!r} was added before")
        entry = self._models[model] = _Entry(leaving=self._stopping, used=self._floor)
        self._make_ready(model, entry, now)

    def remove(self, model: str, now: float) -> None:
        """Let a model leave: its turns are marked from now on."""
        if model in self._models:
            self._models[model].leaving = True
            self.news(model, now)

    def stop(self, now: float) -> None:
        """Let all models leave."""
        self._stopping = True
        for model in list(self._models):
            self.remove(model, now)

    def news(self, model: str, now: float) -> bool:
        """Record that a model has something to do; return whether it became ready."""
        entry = self._models.get(model)
        if entry is None:
            return False
        if entry.state == "running":
            entry.has_news = True
        if entry.state != "waiting":
            return False
        self._make_ready(model, entry, now)
        return True

    def take(self, now: float) -> Turn | None:
        """Begin the next turn; return None if no model is ready, or no thread is free for it."""
        due = self.next_due()
        while due is not None and due <= now:
            _, due_model = heapq.heappop(self._timers)
            self._make_ready(due_model, self._models[due_model], now)
            due = self.next_due()
        if self._running >= self.threads:
            return None
        # Long turns leave at least one thread to short ones, unless there is only one.
        most_long = max(self.threads - self._hung - 1, 1)
        usable = [self._short] if self._running_long >= most_long else [self._short, self._long]
        filled = [queue for queue in usable if queue]
        if not filled:
            return None
        used, _, model = heapq.heappop(min(filled, key=lambda queue: queue[0]))
        entry = self._models[model]
        entry.state, entry.since, entry.has_news = "running", now, False
        self._floor = max(self._floor, used)
        self._ready -= 1
        self._running += 1
        self._running_long += entry.long
        return Turn(model, entry.leaving)

    def ended(self, model: str, now: float, wait: Wait | None) -> None:
        """End a turn.

        Parameters
        ----------
        model : str
        now : float
        wait : Wait or None
            None if the model has left.
        """
        entry = self._models[model]
        seconds = now - entry.since
        self._running -= 1
        if entry.hung:
            self.threads, self._hung, entry.hung = self.threads - 1, self._hung - 1, False
        else:
            self._running_long -= entry.long
        entry.used += seconds
        entry.long = seconds >= LONG or (entry.long and seconds >= LONG / 2.0)
        if wait is None:
            del self._models[model]
        elif entry.has_news or entry.leaving or (wait.until is not None and wait.until <= now):
            self._make_ready(model, entry, now)
        else:
            entry.state, entry.since, entry.due = "waiting", now, wait.until
            if wait.until is not None:
                heapq.heappush(self._timers, (wait.until, model))

    def hang(self, model: str) -> bool:
        """Replace the thread of a turn that makes no progress; return False if it is replaced."""
        entry = self._models.get(model)
        if entry is None or entry.state != "running" or entry.hung:
            return False
        self.threads, self._hung, entry.hung = self.threads + 1, self._hung + 1, True
        self._running_long -= entry.long
        return True

    def next_due(self) -> float | None:
        """Return the time at which the next waiting model becomes ready; None if there is none."""
        while self._timers:
            due, model = self._timers[0]
            entry = self._models.get(model)
            if entry is not None and entry.state == "waiting" and entry.due == due:
                return due
            heapq.heappop(self._timers)  # the model had news before
        return None

    def seconds_late(self, model: str, now: float) -> float:
        """Return for how many seconds a model has waited for a thread; 0 if it doesn't."""
        entry = self._models.get(model)
        if entry is None or entry.state == "running":
            return 0.0
        if entry.state == "ready":
            return now - entry.since
        return 0.0 if entry.due is None else max(now - entry.due, 0.0)

    def _make_ready(self, model: str, entry: _Entry, now: float) -> None:
        entry.state, entry.since, entry.due = "ready", now, None
        entry.used = max(entry.used, self._floor - CREDIT)
        self._ready += 1
        self._places += 1
        queue = self._long if entry.long else self._short
        heapq.heappush(queue, (entry.used, self._places, model))
