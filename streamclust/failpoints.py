"""Named instants of the worker, at which a test can watch it, hold it or kill it.

Nothing can be switched on from outside: a watcher is set by a call in the worker's own process,
before it runs (``tests/chaos`` does so). Without one, an instant costs one comparison, a few times
a batch.
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
"""The first six are of a model's turn: it has the lease; it wants a batch; it learns one; it is
about to send a commit; it knows that the commit landed; it waits for news. The next two are of its
reader's thread, or of its turn: it has read entries, or found none. The last is of an encoder: it
works out codes."""

_watcher: Callable[[Instant], None] | None = None


def watch(watcher: Callable[[Instant], None]) -> None:
    """Call `watcher` at each instant from now on, in the thread that comes by."""
    global _watcher  # noqa: PLW0603
    _watcher = watcher


def passing(instant: Instant) -> None:
    """Come by a named instant."""
    if _watcher is not None:
        _watcher(instant)
