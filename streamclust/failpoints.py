"""Named instants of a worker, at which a test can observe, pause or kill the worker.

Only a call of `watch` in the worker's own process sets a watcher; ``tests/chaos`` does this before
the worker runs. Without a watcher, an instant costs one comparison. A batch has a few instants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Instant = Literal[
    "loading",
    "waiting",
    "computing",
    "committing",
    "landed",
    "resting",
    "reading",
    "idle",
    "coding",
]
"""A model's turn has six instants: it has the lease ('loading'), needs a batch ('waiting'), learns
a batch ('computing'), is about to send a commit ('committing'), has the reply to the commit
('landed'), and waits for news ('resting'). A reader, in a thread or in a turn, has read entries
('reading') or found none ('idle'). An encoder computes codes ('coding')."""

_watcher: Callable[[Instant], None] | None = None


def watch(watcher: Callable[[Instant], None]) -> None:
    """Call `watcher` at each instant from now on, in the thread that reaches the instant."""
    global _watcher  # noqa: PLW0603
    _watcher = watcher


def passing(instant: Instant) -> None:
    """Call the watcher, if there is one: this thread has reached `instant`."""
    if _watcher is not None:
        _watcher(instant)
