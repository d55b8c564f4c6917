"""The table of events in docs/logging.md is what the code logs, and all of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from streamclust.formats.lost import Gap
from streamclust.store.stream.gaps import gap_words
from tests.support.sources import parsed

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "streamclust"

LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error"}
LEVELS |= {"exception": "error"}

PASSED_ON = {
    "Backoff": "warning",
    "run_together": "error",
}
"""Calls that are given the event that they log, as an argument, and the level at which they do."""


class Logged(NamedTuple):
    """An event where the code logs it, with those of its fields that are written out."""

    event: str
    level: str
    fields: frozenset[str]


def documented() -> dict[str, tuple[set[str], str]]:
    """The tables of the page: event -> levels, and the text that names its fields."""
    page = (ROOT / "docs" / "logging.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|(.*)\|.*\|$", page, re.MULTILINE)
    events = [event for event, _, _ in rows]
    assert len(set(events)) == len(events), "an event has two rows"
    return {event: (set(levels.split(", ")), fields) for event, levels, fields in rows}


@cache
def logged() -> tuple[Logged, ...]:
    """Return every event of the package."""
    return tuple(find_logged())


def find_logged() -> Iterator[Logged]:
    """Search every module of the package."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                yield from of_call(node)
    gaps = [Gap("s", "1-0", "trimmed"), Gap("s", "1-0", "restarted")]
    gaps += [Gap("s", "1-0", "waiting"), Gap("s", "1-0", "gone")]
    for event, fields in map(gap_words, gaps):
        yield Logged(event, "warning", frozenset(fields))


def of_call(call: ast.Call) -> Iterator[Logged]:
    """The events of a call `log.<level>(event, ...)`, or of one that is given an event."""
    named = call.func.id if isinstance(call.func, ast.Name) else None
    if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value).endswith(
        ("log", "get_logger()")
    ):
        level, arguments = LEVELS.get(call.func.attr), call.args[:1]
    elif isinstance(call.func, ast.Attribute) and call.func.attr == "log_often":
        level, arguments, named = "debug", call.args[:1], "log_often"  # debug or info
    else:
        level, arguments = PASSED_ON.get(named or ""), call.args
    if level is None:
        return
    fields = frozenset(each.arg for each in call.keywords if each.arg not in (None, "exc_info"))
    for argument in arguments:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield Logged(argument.value, level, fields if named is None else frozenset())


def test_every_event_is_a_short_name_that_is_documented_with_its_level_and_fields() -> None:
    table = documented()
    for event, level, fields in logged():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", event), f"{event!r} is no name of an event"
        assert event in table, f"docs/logging.md lacks {event}"
        levels, text = table[event]
        assert level in levels, f"docs/logging.md gives {event} other levels than {level}"
        for field in fields:
            assert f"`{field}`" in text, f"docs/logging.md lacks the field {field} of {event}"


def test_every_documented_event_is_logged() -> None:
    written_out = {each.event for each in logged()}
    elsewhere = {
        "server_lost": "runtime/backoff.py",
        "server_still_unavailable": "runtime/backoff.py",
        "entry_unreadable": "runtime/backoff.py",
        "log_lines_lost": "runtime/log.py",
    }
    for event, file in elsewhere.items():
        assert f'"{event}"' in (PACKAGE / file).read_text(encoding="utf-8")
    assert documented().keys() == written_out | elsewhere.keys()
