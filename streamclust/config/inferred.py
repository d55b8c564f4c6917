"""The `kind` of a section that names none, from its other keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches

from pydantic import BeforeValidator

from streamclust.config.values import parse_latest

KINDS: Mapping[str, Mapping[str, str]] = {
    "forgetting": {
        "half_life": "points",
        "kappa": "power",
        "t0": "power",
        "hold": "power",
        "average": "power",
    },
    "init": {
        "points": "warm_up",
        "restarts": "warm_up",
        "centroids": "parameters",
        "weights": "parameters",
        "means": "parameters",
        "covariances": "parameters",
        "path": "file",
    },
    "trim": {"age": "age", "entries": "length"},
}
"""The kind that each key of a section belongs to, by the name of the section."""

_EMPTY = {"forgetting": "none", "init": "warm_up", "trim": "none"}


def kind_of_keys(name: str, section: Mapping[str, object]) -> str:
    """Return the kind of a section: its own `kind`, or that of its keys; "" if they fit none.

    Examples
    --------
    >>> kind_of_keys("forgetting", {"half_life": "10m"}), kind_of_keys("init", {"points": 200})
    ('time', 'warm_up')
    """
    if "kind" in section:
        return str(section["kind"])
    if not section:
        return _EMPTY[name]
    near = (key for word in section for key in get_close_matches(word, KINDS[name], n=1))
    key = next(near, "")
    if key == "half_life" and _is_duration(section.get(key)):
        return "time"
    return KINDS[name].get(key, "")


def _is_duration(value: object) -> bool:
    try:
        return isinstance(value, str) and parse_latest(value)[0] is None
    except ValueError:
        return False


def with_kind(name: str) -> BeforeValidator:
    """Return a validator that adds the kind to a section that names none."""
    return BeforeValidator(_adding(name))


def _adding(name: str) -> Callable[[object], object]:
    def add(section: object) -> object:
        if section is None:
            section = {}
        if not isinstance(section, dict) or "kind" in section:
            return section
        kind = kind_of_keys(name, section)
        return {"kind": kind} | section if kind else section

    return add
