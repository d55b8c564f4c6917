"""Wait for what other processes do, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT = 30.0
"""Seconds that anything may take on a busy machine."""

SHORTEST, LONGEST, SHARE = 0.005, 0.025, 0.1
"""Limits of a pause between two polls in seconds, and its share of the time waited so far."""


def wait_until(condition: Callable[[], object], timeout: float = LIMIT) -> None:
    """Return when the condition is true; fail if it isn't within ``timeout`` seconds.

    The longer the wait, the rarer the polls: a poll takes processor time that other tests need.
    """
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        if waited > timeout:
            raise AssertionError(f"still false after {timeout} s: {condition}")
        time.sleep(min(max(SHARE * waited, SHORTEST), LONGEST))
