"""The kind and the proposed use of each column, from the first rows of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from streamclust.tables.cells import is_missing, is_number
from streamclust.tables.header import is_index
from streamclust.tables.options import TableOptions
from streamclust.tables.times import TimeReader, guess_form

ColumnKind = Literal["number", "integer", "time", "text", "empty"]
Role = Literal["feature", "time", "label", "index", "constant", "ignored"]

_TIME_NAMES = ("time", "date", "ts", "epoch", "when", "created", "updated", "_at")
_MAX_DISTINCT = 0.5
"""Largest share of distinct texts in a label column, because labels repeat."""

_TIMES = 1e8, 1e20
"""Smallest and largest number that can be a time: 1973 in seconds, ..., 5138 in nanoseconds."""


@dataclass(frozen=True)
class Column:
    """A column of a table, described from its first rows.

    Parameters
    ----------
    name
        Name of the column; x0, x1, ... if the table has no names.
    kind
        Kind of the values.
    role
        Proposed use: a feature, the event time, a label, or none.
    missing
        Number of missing values in the sample.
    distinct
        Number of distinct values in the sample.
    example
        The first value that isn't missing, as text.
    """

    name: str
    kind: ColumnKind
    role: Role
    missing: int
    distinct: int
    example: str


def find_columns(
    names: Sequence[str], rows: list[list[Any]], options: TableOptions
) -> tuple[list[Column], bool]:
    """Return the columns of some rows, and whether the times among them never decrease."""
    columns = [
        _column(name, place, [row[place] for row in rows], options)
        for place, name in enumerate(names)
    ]
    return _with_one_time(columns, rows, options)


def _column(name: str, place: int, values: list[Any], options: TableOptions) -> Column:
    present = [value for value in values if not _is_missing(value)]
    missing, distinct = len(values) - len(present), len(set(map(str, present)))
    example = "" if not present else str(present[0]).strip()
    kind = _value_kind(present, options.decimal)
    return Column(
        name, kind, _role(name, place, kind, present, distinct, options), missing, distinct, example
    )


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return is_missing(value)
    return value is None or (isinstance(value, float) and math.isnan(value))


def _value_kind(values: list[Any], decimal: str) -> ColumnKind:
    if not values:
        return "empty"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        whole = all(isinstance(value, int) or value.is_integer() for value in values)
        return "integer" if whole else "number"
    texts = [value for value in values if isinstance(value, str)]
    numeric = sum(is_number(text, decimal) for text in texts)
    if texts and numeric >= 0.9 * len(values):
        whole = all(text.strip().lstrip("+-").isdigit() for text in texts)
        return "integer" if whole else "number"
    if all(map(_is_time, values[:100])):
        return "time"
    if values and all(isinstance(value, list) for value in values):
        return "number"
    return "text"


def _is_time(value: Any) -> bool:
    if isinstance(value, bool | int | float | list | dict):
        return False
    return TimeReader("iso").problem(value) is None


def _role(
    name: str, place: int, kind: ColumnKind, values: list[Any], distinct: int, options: TableOptions
) -> Role:
    if known := _known_role(name, options):
        return known
    if is_index(name, place) or not name:
        return "index"
    if kind == "time" or (kind in ("integer", "number") and _is_epoch(name, values)):
        return "time"
    if kind in ("text", "empty"):
        is_label = 0 < distinct <= max(1, _MAX_DISTINCT * len(values))
        return "label" if is_label else "ignored"
    return "constant" if distinct == 1 and len(values) > 1 else "feature"


def _known_role(name: str, options: TableOptions) -> Role | None:
    """Return the role that the options give to a column."""
    if name == options.time_column:
        return "time"
    if name in options.label_columns:
        return "label"
    if name == options.weight_column or name in options.exclude:
        return "ignored"
    if options.columns is not None:
        return "feature" if name in options.columns else "ignored"
    return None


def _is_epoch(name: str, values: list[Any]) -> bool:
    """Return whether numbers are times: by the name of the column, and by their size."""
    low, high = _TIMES
    named = any(part in name.lower() for part in _TIME_NAMES)
    try:
        return named and all(low <= float(value) < high for value in values)
    except (TypeError, ValueError):
        return False


def _with_one_time(
    columns: list[Column], rows: list[list[Any]], options: TableOptions
) -> tuple[list[Column], bool]:
    """Return the columns with at most one time column: the first sorted one, else the first."""
    times = [place for place, column in enumerate(columns) if column.role == "time"]
    if not times:
        return columns, False
    in_order = [place for place in times if _is_sorted([row[place] for row in rows], options)]
    best = in_order[0] if in_order else times[0]
    with_roles = [
        replace(column, role="ignored") if place in times and place != best else column
        for place, column in enumerate(columns)
    ]
    return with_roles, best in in_order


def _is_sorted(values: list[Any], options: TableOptions) -> bool:
    present = [value for value in values if not _is_missing(value)]
    try:
        form = options.time_format or guess_form(present[0])
        ms = TimeReader(form).read(present)
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return False
    return bool((ms[1:] >= ms[:-1]).all())


def note(column: Column, rows: int) -> str | None:
    """Return a sentence if a column isn't used or has missing values, else None."""
    name = repr(column.name)
    if column.role == "index":
        return f"column {name} numbers the rows; it isn't a feature"
    if column.role == "constant":
        return f"column {name} is always {column.example}; it isn't a feature"
    if column.role == "ignored" and column.kind == "text":
        return f"column {name} has {column.distinct:,} distinct texts in {rows:,} rows; not used"
    if column.role == "feature" and column.missing:
        return f"column {name} has {column.missing:,} missing values in {rows:,} rows"
    return None
