"""Decides when to stop waiting for a part that other processes compute. It has no clock or I/O."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable
from statistics import median
from threading import Lock
from typing import NamedTuple

SHORTEST = 1.0
"""Least seconds until a deadline, so that a pause of the network costs nothing."""

MEDIANS = 5.0
"""A part that takes this many times the median is computed here."""

UNKNOWN = 10.0
"""Seconds until a deadline while no part has arrived yet, so that no median is known."""

_REMEMBERED = 101
"""Durations in the median."""


class _Submitted(NamedTuple):
    """When a part was submitted, and its kind."""

    time: float
    kind: Hashable


class Deadlines:
    """The parts of all folds that were submitted, and when each of them is overdue.

    A part is *outstanding* until its result arrives, it is lost, or it is overdue. This process
    computes an overdue part, which is *late* from then on: its result may still arrive. A late part
    occupies room until it arrives or is lost. So workers that don't answer get few parts. When late
    parts occupy all room, no part is sent, and nothing waits.

    Several threads may call the methods, each for its own fold.

    Parameters
    ----------
    slots : int
        Parts that the workers compute at the same time.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._limits: dict[Hashable, float] = {}
        self._durations: defaultdict[Hashable, deque[float]] = defaultdict(
            lambda: deque(maxlen=_REMEMBERED)
        )
        self._outstanding: defaultdict[Hashable, dict[int, _Submitted]] = defaultdict(dict)
        self._late: dict[tuple[Hashable, int], _Submitted] = {}
        self._located: set[tuple[Hashable, int]] = set()
        self._lock = Lock()

    def limit(self, kind: Hashable = None) -> float:
        """Return the seconds from a submission to the deadline, for a kind of parts."""
        return self._limits.get(kind, UNKNOWN)

    @property
    def outstanding(self) -> int:
        """The number of parts of all folds that may still arrive in time."""
        with self._lock:
            return sum(map(len, self._outstanding.values()))

    @property
    def room(self) -> int:
        """The number of parts that may be submitted: workers hold two per slot."""
        return 2 * self.slots - self.outstanding - len(self._late) + len(self._located)

    def next(self, fold: Hashable) -> float | None:
        """Return the time of a fold's next deadline; None if no part of it is outstanding."""
        with self._lock:
            first = next(iter(self._outstanding[fold].values()), None)  # they are in order
        return None if first is None else first.time + self.limit(first.kind)

    def submitted(self, fold: Hashable, part: int, now: float, kind: Hashable = None) -> None:
        """Record that a part was given to the workers.

        Parts of the same kind take similar times.
        """
        with self._lock:
            self._outstanding[fold][part] = _Submitted(now, kind)

    def arrived(self, fold: Hashable, part: int, now: float) -> bool:
        """Record a result; return whether it is needed. A late result isn't."""
        with self._lock:
            needed = part in self._outstanding[fold]
            since = self._removed(fold, part)
            if since is not None:
                durations = self._durations[since.kind]
                durations.append(now - since.time)
                self._limits[since.kind] = max(SHORTEST, MEDIANS * median(durations))
        return needed

    def lost(self, fold: Hashable, part: int) -> bool:
        """Record that no result will arrive; return whether the part is still needed."""
        with self._lock:
            needed = part in self._outstanding[fold]
            self._removed(fold, part)
        return needed

    def _removed(self, fold: Hashable, part: int) -> _Submitted | None:
        """Forget a part; return when it was submitted."""
        self._located.discard((fold, part))
        return self._outstanding[fold].pop(part, self._late.pop((fold, part), None))

    def overdue(self, fold: Hashable, now: float) -> int | None:
        """Return the oldest part of a fold if its deadline has passed; it is late from now on."""
        deadline = self.next(fold)
        if deadline is None or now < deadline:
            return None
        with self._lock:
            part, since = next(iter(self._outstanding[fold].items()))
            del self._outstanding[fold][part]
            self._late[fold, part] = since
        return part

    def located(self, fold: Hashable, part: int) -> None:
        """Record that the worker of a late part is known; `slots` doesn't count this worker."""
        with self._lock:
            if (fold, part) in self._late:
                self._located.add((fold, part))

    def end(self, fold: Hashable) -> None:
        """Count all outstanding parts of a fold as late: nobody waits for them any more."""
        with self._lock:
            for part, since in self._outstanding.pop(fold, {}).items():
                self._late[fold, part] = since
