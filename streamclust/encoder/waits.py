"""The waits of one of many encoders that share threads: for news, or for a time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from streamclust.runtime.activity import LOOP
from streamclust.runtime.scheduler import Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from streamclust.encoder.job import Job
    from streamclust.store.stream.group import GroupMember
    from streamclust.store.stream.news import StreamNews

T = TypeVar("T")

_QUANTUM = 0.05
"""Seconds after which an encoder with more to do lets the next one run."""

_LOOK_AGAIN = 300.0
"""Seconds after which an encoder without news reads once, because a report can be missing."""

_IDLE = 0.1
"""Seconds between reads of an encoder that ends when all entries have codes."""


class EncoderWaits:
    """The waits of one session of an encoder, and the reports that arrive meanwhile.

    Parameters
    ----------
    job : Job
    member : GroupMember
    news : StreamNews
        Watches the keys.
    wake : callable
        Gives the encoder a turn; called from any thread.
    poll : float
        Seconds between reads where the server doesn't report news.
    """

    def __init__(
        self,
        job: Job,
        member: GroupMember,
        news: StreamNews,
        wake: Callable[[], object],
        poll: float,
    ) -> None:
        self.member = member
        self.takeover_ms = int(job.model.encode.takeover * 1000)
        self.wake = wake
        self._job = job
        self._news = news
        self._poll = poll
        self._idle_after = float(job.settings.worker.idle_after)
        self._watched = self._versions_watched = False
        self._versions_changed = True
        self._busy = time.monotonic()  # when the encoder last had something to do
        self._ends = self._busy + _QUANTUM
        self._lock = threading.Lock()
        self._claims = (0, 0)

    def watch(self) -> None:
        """Wake the encoder once when its stream changes from now on. Read the stream afterwards."""
        self._watched = self._news.watch([self._job.stream], self.wake)

    def versions_may_differ(self) -> bool:
        """Return whether `:models` may have changed since the last call. Read it afterwards."""
        if self._versions_watched and not self._versions_changed:
            return False
        self._versions_changed = False
        self._versions_watched = self._news.watch([self._job.keys.models], self._note_version)
        return True

    def _note_version(self) -> None:
        self._versions_changed = True  # the next turn of the encoder reads it

    def rest(self, *, busy: bool) -> Generator[Wait, None, bool]:
        """Let other encoders run, or wait for entries; return whether to leave memory."""
        now = time.monotonic()
        if busy:
            self._busy = now
            if now >= self._ends:
                yield from self._pause(0.0)
            return False
        if self._job.until_idle:
            yield from self._pause(_IDLE)
            return False
        remaining = self._busy + self._idle_after - now
        if remaining <= 0.0 and self._watched:
            return True
        longest = _LOOK_AGAIN if self._watched else self._poll
        yield from self._pause(min(longest, max(remaining, 0.0)) if self._watched else longest)
        return False

    def sleep(self) -> Iterator[Wait]:
        """Wait for news of the stream, or of a takeover."""
        yield from self._pause(_LOOK_AGAIN)
        self._busy = time.monotonic()

    def wait_for(
        self, key: str, look: Callable[[], T], seconds: float = _LOOK_AGAIN
    ) -> Generator[Wait, None, T]:
        """Return the result of `look` for a key; if it is empty, wait once until the key changes.

        Parameters
        ----------
        key : str
        look : callable
        seconds : float
            Maximum wait.
        """
        watched = self._news.watch([key], self.wake)
        found = look()
        if not found:
            yield from self._pause(seconds if watched else min(seconds, self._poll))
            found = look()
        return found

    def report_claim(self, reply: Any) -> None:
        """Record the reply to `GroupMember.claim_command`; called from another thread."""
        if isinstance(reply, Exception):
            self.wake()  # the encoder gets the error at its next command
            return
        taken, gone = len(reply[1]), len(reply[2]) if len(reply) > 2 else 0
        if taken or gone:
            with self._lock:
                self._claims = (self._claims[0] + taken, self._claims[1] + gone)
            self.wake()

    def take_claims(self) -> tuple[int, int]:
        """Return how many entries were taken over since the last call, and how many are gone."""
        with self._lock:
            claims, self._claims = self._claims, (0, 0)
        return claims

    def forget(self) -> None:
        """Don't wake the encoder for its keys any more."""
        job = self._job
        self._news.forget([job.stream, job.key, job.keys.models], self.wake)
        self._news.forget([job.keys.models], self._note_version)

    def _pause(self, seconds: float) -> Iterator[Wait]:
        activity = self._job.activity
        activity.ended(LOOP)
        yield Wait(time.monotonic() + seconds)
        activity.record_progress()
        self._ends = time.monotonic() + _QUANTUM
