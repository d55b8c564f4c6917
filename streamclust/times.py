"""Times as text: for people, and by ISO 8601 for programs."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def ago(time_ms: float | None, now: float | None = None) -> str:
    """Return how long ago a time was, in the largest unit, or a dash for None.

    Parameters
    ----------
    time_ms : float or None
        Milliseconds since the epoch.
    now : float, optional
        Seconds since the epoch. Default: the clock of this machine.

    Examples
    --------
    >>> ago(1_000, now=186.0), ago(1_000, now=1.2), ago(100_000, now=10.0)
    ('3 min ago', 'just now', 'in 1 min')
    """
    if time_ms is None or not math.isfinite(time_ms):
        return "-"
    seconds = (time.time() if now is None else now) - time_ms / 1e3
    for unit, name in _UNITS:
        if abs(seconds) >= unit:
            words = f"{int(abs(seconds) / unit):,} {name}"
            return f"{words} ago" if seconds > 0.0 else f"in {words}"
    return "just now"


def local_time(time_ms: float | None) -> str:
    """Return a time with the date and the zone of this machine, or a dash if there is none."""
    time_utc = _datetime(time_ms)
    return "-" if time_utc is None else f"{time_utc.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def iso_time(time_ms: float | None) -> str | None:
    """Return a time in UTC by ISO 8601, for JSON."""
    time_utc = _datetime(time_ms)
    if time_utc is None:
        return None
    return time_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _datetime(time_ms: float | None) -> datetime | None:
    """Return a time in UTC; None if it is outside the calendar: a producer may set any ID."""
    if time_ms is None:
        return None
    try:
        return datetime.fromtimestamp(time_ms / 1e3, UTC)
    except (OverflowError, OSError, ValueError):
        return None
