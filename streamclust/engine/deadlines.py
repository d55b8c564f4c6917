"""When to stop waiting for a part that other processes compute: rules without clock and I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from statistics import median

SHORTEST = 1.0
"""Least seconds until a deadline, so that a pause of the network costs nothing."""

MEDIANS = 5.0
"""A part that takes this many times the median is computed here."""

UNKNOWN = 10.0
"""Seconds until a deadline while no part has arrived yet, so that no median is known."""

_REMEMBERED = 101
"""Durations in the median."""


class Deadlines:
    """The parts that were submitted, and when each of them is overdue.

    A part is *outstanding* until its result arrives, it is lost, or it is overdue. An overdue part
    is computed here, and its own result, which may still arrive, is *late*. If nothing at all has
    arrived since an overdue part was submitted, the workers are *silent*: then all outstanding
    parts are overdue, and no part is submitted until a late result arrives or all late ones are
    lost.

    Parameters
    ----------
    slots : int
        Parts that the workers compute at the same time.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.silent = False
        self._limit = UNKNOWN
        self._durations: deque[float] = deque(maxlen=_REMEMBERED)
        self._outstanding: dict[Hashable, float] = {}  # the oldest first
        self._late: dict[Hashable, float] = {}
        self._last_arrival = float("-inf")

    @property
    def limit(self) -> float:
        """Return the seconds from a submission to the deadline."""
        return self._limit

    @property
    def room(self) -> int:
        """Return how many parts may be submitted: two per slot are with the workers at a time.

        Late parts count, because a worker that doesn't answer keeps them.
        """
        if self.silent:
            return 0
        return max(0, 2 * self.slots - len(self._outstanding) - len(self._late))

    @property
    def next(self) -> float | None:
        """Return the time of the next deadline; None if no part is outstanding."""
        first = next(iter(self._outstanding.values()), None)
        return None if first is None else first if self.silent else first + self.limit

    def submitted(self, part: Hashable, now: float) -> None:
        """Record that a part was given to the workers."""
        self._outstanding[part] = now

    def arrived(self, part: Hashable, now: float) -> bool:
        """Record a result; return whether it is needed, which a late one isn't."""
        needed = part in self._outstanding
        since = self._outstanding.pop(part, self._late.pop(part, None))
        if since is not None:
            self._durations.append(now - since)
            self._limit = max(SHORTEST, MEDIANS * median(self._durations))
            self._last_arrival, self.silent = now, False
        return needed

    def lost(self, part: Hashable) -> bool:
        """Record that no result will arrive; return whether the part is still needed."""
        needed = self._outstanding.pop(part, None) is not None
        self._late.pop(part, None)
        if not self._late:
            self.silent = False
        return needed

    def overdue(self, now: float) -> Hashable | None:
        """Return the oldest part whose deadline has passed, which is late from now on; or None."""
        deadline = self.next
        if deadline is None or now < deadline:
            return None
        part = next(iter(self._outstanding))
        since = self._late[part] = self._outstanding.pop(part)
        self.silent = self.silent or self._last_arrival <= since
        return part

    def abandon(self) -> None:
        """Count all outstanding parts as late: nobody waits for them any more."""
        self._late.update(self._outstanding)
        self._outstanding.clear()
