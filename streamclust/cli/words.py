"""Numbers as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEVELS = "▁▂▃▄▅▆▇█"


def bars(values: Sequence[float], width: int = 24) -> str:
    """Return a small bar for each value, in order, against the largest; cut at `width`."""
    top = max(values, default=0.0)
    if top <= 0.0:
        return ""
    steps = [round(value / top * (len(_LEVELS) - 1)) for value in values[:width]]
    return "".join(_LEVELS[step] for step in steps) + ("…" if len(values) > width else "")


def number(value: float | None, digits: int = 4) -> str:
    """Return a measured value with so many significant digits, or a dash."""
    return "-" if value is None else f"{value:.{digits}g}"


def count(value: int | None, unknown: str = "?") -> str:
    """Return a count with thousands set off."""
    return unknown if value is None else f"{value:,}"
