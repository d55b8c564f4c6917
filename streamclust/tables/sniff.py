"""Finds the format of a file and the meaning of its columns from its first rows."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from streamclust.errors import DataError
from streamclust.files import cannot
from streamclust.tables.cells import is_missing, is_number
from streamclust.tables.columns import default_names
from streamclust.tables.header import has_header, is_index
from streamclust.tables.opening import STDIN, open_text
from streamclust.tables.options import TEXT_KINDS, Kind, TableOptions
from streamclust.tables.times import TimeReader, guess_form

SAMPLE_BYTES = 1 << 18
SAMPLE_ROWS = 1000

DELIMITERS = (",", ";", "\t", "|", " ")

ColumnKind = Literal["number", "integer", "time", "text", "empty"]
Role = Literal["feature", "time", "label", "index", "constant", "ignored"]

_TIME_NAMES = ("time", "date", "ts", "epoch", "when", "created", "updated", "_at")
_MOST_DISTINCT = 0.5
"""Largest share of distinct texts in a label: a label repeats."""

_TIMES = 1e8, 1e20
"""Smallest and largest number that can be a time: 1973 in seconds, ..., 5138 in nanoseconds."""


@dataclass(frozen=True)
class Column:
    """A column of a table, as its first rows show it.

    Parameters
    ----------
    name
        Its name, or x0, x1, ...
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


@dataclass(frozen=True)
class Sniffed:
    """The format of a file and its columns.

    Parameters
    ----------
    path
        The file.
    options
        Options for `read_table`: the format, the features as `columns`, the labels and the time.
    columns
        All columns, in the order of the file.
    rows
        Number of rows in the sample.
    sorted_by_time
        Whether the times in the sample never decrease; False without a time column.
    notes
        Sentences about what isn't used, and why.
    """

    path: str
    options: TableOptions
    columns: tuple[Column, ...]
    rows: int
    sorted_by_time: bool
    notes: tuple[str, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns that are proposed as features."""
        return tuple(column.name for column in self.columns if column.role == "feature")


def sniff(path: str | Path, options: TableOptions | None = None) -> Sniffed:
    """Return the format of a file and the meaning of its columns, from its first 1,000 rows.

    Parameters
    ----------
    path
        A file: CSV, TSV, JSON lines, .npy, .npz or Parquet; a text can be compressed.
    options
        Options that are known; they aren't changed.

    Raises
    ------
    DataError
        If the file has no rows, or its format can't be found.
    """
    options = options or TableOptions()
    label = str(path)
    if label == STDIN:
        raise DataError("the format of stdin can't be found; name a file")
    try:
        options = replace(options, kind=options.kind or _kind(label))
        if options.kind in TEXT_KINDS:
            options, names, rows = _text_sample(label, options)
        else:
            names, rows = _array_sample(label, options)
    except OSError as error:
        raise cannot("read", label, error) from error
    if not rows:
        raise DataError(f"{label} has no rows")
    return _profiled(label, options, names, rows)


def _kind(path: str) -> Kind:
    from streamclust.tables.read import suffix_kind

    found = suffix_kind(path)
    with Path(path).open("rb") as file:
        head = file.read(8)
    for magic, kind in ((b"PAR1", "parquet"), (b"\x93NUMPY", "npy")):
        if head.startswith(magic):
            return kind  # type: ignore[return-value]
    if head.startswith(b"PK\x03\x04") and found == "npz":
        return "npz"
    if found is not None:
        return found
    with open_text(path, path, None) as text:
        start = text.read1(SAMPLE_BYTES).lstrip(b"\xef\xbb\xbf \r\n")
    return "jsonl" if start[:1] in (b"{", b"[") else "csv"


# Texts ----------------------------------------------------------------------------------------


def _text_sample(
    path: str, options: TableOptions
) -> tuple[TableOptions, Sequence[str], list[list[Any]]]:
    raw, complete = _start(path, options.encoding)
    if options.encoding is None:
        options = replace(options, encoding=_encoding(raw, complete))
        raw, complete = _start(path, options.encoding)
    text = raw.decode("utf-8-sig", "replace")
    lines = text.splitlines(keepends=True)
    if not complete and len(lines) > 1:
        lines.pop()
    if options.kind in ("jsonl", "ndjson"):
        return (options, *_json_sample(lines, path))
    delimiter, decimal = _dialect(lines, options)
    options = replace(options, delimiter=delimiter, decimal=decimal)
    rows = _split(lines, delimiter)
    if not rows:
        return options, (), []
    if options.header is None:
        header = has_header(rows[0], rows[1] if len(rows) > 1 else None, options.decimal)
        options = replace(options, header=header)
    width = len(rows[0])
    names = [cell.strip() for cell in rows[0]] if options.header else default_names(width)
    body = rows[1:] if options.header else rows
    return options, names, [row for row in body[:SAMPLE_ROWS] if len(row) == width]


def _start(path: str, encoding: str | None) -> tuple[bytes, bool]:
    """Return the first bytes of a text as UTF-8, and whether they are all."""
    with open_text(path, path, encoding) as file:
        parts, size = [], 0
        while size < SAMPLE_BYTES and (data := file.read1(SAMPLE_BYTES)):
            parts.append(data)
            size += len(data)
        return b"".join(parts), size < SAMPLE_BYTES


def _encoding(raw: bytes, complete: bool) -> str | None:
    """Return None for UTF-8, else cp1252, which has every byte of Western European text."""
    text = raw if complete else raw[: raw.rfind(b"\n") + 1]
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        try:
            text.decode("cp1252")
        except UnicodeDecodeError:
            return "latin-1"
        return "cp1252"
    return None


def _dialect(lines: list[str], options: TableOptions) -> tuple[str, str]:
    """Return the delimiter and the decimal point that give the most columns of numbers."""
    if options.delimiter is not None:
        candidates: Sequence[str] = (options.delimiter,)
    else:
        candidates = ("\t",) if options.kind == "tsv" else DELIMITERS
    best, found = (-1.0, -1.0), (",", ".")
    for delimiter in candidates:
        rows = _split(lines[:200], delimiter)
        points = (".",) if delimiter == "," else (".", ",")
        for decimal in points if options.decimal == "." else (options.decimal,):
            score = _score(rows, decimal)
            if score > best:
                best, found = score, (delimiter, decimal)
    return found


def _score(rows: list[list[str]], decimal: str) -> tuple[float, float]:
    """Return the share of rows of the usual width, if this is above 1, and numbers per row."""
    if not rows:
        return (0.0, 0.0)
    widths = [len(row) for row in rows]
    usual = max(widths, key=widths.count)
    body = [row for row in rows[1:] if len(row) == usual] or rows[:1]
    numeric = sum(is_number(cell, decimal) for row in body for cell in row) / len(body)
    share = widths.count(usual) / len(rows)
    return (round(share, 1) if usual > 1 else 0.05 + 0.1 * (numeric > 0), numeric)


def _split(lines: list[str], delimiter: str) -> list[list[str]]:
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " ")
    try:
        return [row for row in rows if len(row) > 1 or "".join(row).strip()]
    except csv.Error:
        return []


def _json_sample(lines: list[str], path: str) -> tuple[Sequence[str], list[list[Any]]]:
    docs = []
    for number, line in enumerate(islice(filter(str.strip, lines), SAMPLE_ROWS), 1):
        try:
            docs.append(json.loads(line))
        except (ValueError, RecursionError):
            if not docs:
                raise DataError(f"{path} row {number} is not JSON; one line is one point") from None
    if docs and isinstance(docs[0], list):
        width = len(docs[0])
        return default_names(width), [
            doc for doc in docs if isinstance(doc, list) and len(doc) == width
        ]
    objects = [doc for doc in docs if isinstance(doc, dict)]
    names = list(dict.fromkeys(name for doc in objects for name in doc))
    return names, [[doc.get(name) for name in names] for doc in objects]


# Arrays and Parquet ---------------------------------------------------------------------------


def _array_sample(path: str, options: TableOptions) -> tuple[Sequence[str], list[list[Any]]]:
    if options.kind == "parquet":
        from streamclust.tables.parquet import parquet_sample

        return parquet_sample(path, SAMPLE_ROWS)
    from streamclust.tables.arrays import array_sample

    rows = array_sample(path, options.key, SAMPLE_ROWS)
    return default_names(rows.shape[1]), rows.tolist()


# Columns --------------------------------------------------------------------------------------


def _profiled(
    path: str, options: TableOptions, names: Sequence[str], rows: list[list[Any]]
) -> Sniffed:
    columns = [
        _column(name, place, [row[place] for row in rows], options)
        for place, name in enumerate(names)
    ]
    columns, is_sorted = _with_one_time(columns, rows, options)
    notes = [note for column in columns if (note := _note(column, len(rows)))]
    features = tuple(column.name for column in columns if column.role == "feature")
    time_column = next((column.name for column in columns if column.role == "time"), None)
    labels = tuple(column.name for column in columns if column.role == "label")
    chosen = replace(
        options,
        columns=options.columns or features or None,
        label_columns=options.label_columns or labels,
        time_column=options.time_column or time_column,
    )
    return Sniffed(path, chosen, tuple(columns), len(rows), is_sorted, tuple(notes))


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
        return "integer" if all(float(value).is_integer() for value in values) else "number"
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
        is_label = 0 < distinct <= max(1, _MOST_DISTINCT * len(values))
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
    """Return the columns with at most one time, the first that is sorted or else the first."""
    times = [place for place, column in enumerate(columns) if column.role == "time"]
    if not times:
        return columns, False
    in_order = [place for place in times if _is_sorted([row[place] for row in rows], options)]
    best = in_order[0] if in_order else times[0]
    kept = [
        replace(column, role="ignored") if place in times and place != best else column
        for place, column in enumerate(columns)
    ]
    return kept, best in in_order


def _is_sorted(values: list[Any], options: TableOptions) -> bool:
    present = [value for value in values if not _is_missing(value)]
    try:
        form = options.time_format or guess_form(present[0])
        ms = TimeReader(form).read(present)
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return False
    return bool((ms[1:] >= ms[:-1]).all())


def _note(column: Column, rows: int) -> str | None:
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
