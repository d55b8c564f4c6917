"""Wait for what other processes do, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT = 30.0
"""Seconds that anything may take on a busy machine."""


def wait_until(condition: Callable[[], object], timeout: float = LIMIT) -> None:
    """Return as soon as the condition is true; fail if it isn't within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"still false after {timeout} s: {condition}")
        time.sleep(0.01)
