"""Detection of the format of a file, and of the use of its columns, from its first rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from streamclust.errors import DataError
from streamclust.files import cannot
from streamclust.tables.cells import is_number
from streamclust.tables.columns import default_names
from streamclust.tables.header import ABOVE_HEADER, has_header
from streamclust.tables.opening import STDIN, open_text
from streamclust.tables.options import ONE_DOCUMENT, TEXT_KINDS, Kind, TableOptions
from streamclust.tables.profile import Column, find_columns, note

SAMPLE_BYTES = 1 << 18
SAMPLE_ROWS = 1000

DELIMITERS = (",", ";", "\t", "|", " ")


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
        Sentences about columns that aren't used or have missing values.
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
    """Return the format of a file and the use of its columns, from its first 1,000 rows.

    Parameters
    ----------
    path
        A file: CSV, TSV, JSON lines, .npy, .npz or Parquet; a text can be compressed.
    options
        Options that the user has set; they aren't changed.

    Raises
    ------
    DataError
        If the file has no rows, or its format can't be detected.
    """
    options = options or TableOptions()
    label = str(path)
    if label == STDIN:
        raise DataError("the format of stdin can't be detected; name a file")
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

    by_suffix = suffix_kind(path)
    with Path(path).open("rb") as file:
        head = file.read(8)
    for magic, kind in ((b"PAR1", "parquet"), (b"\x93NUMPY", "npy")):
        if head.startswith(magic):
            return kind  # type: ignore[return-value]
    if head.startswith(b"PK\x03\x04") and by_suffix == "npz":
        return "npz"
    if by_suffix is not None:
        return by_suffix
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
        try:
            header = has_header(rows[0], rows[1] if len(rows) > 1 else None, options.decimal)
        except DataError as error:
            raise DataError(f"{path} line 1: {error}") from None
        options = replace(options, header=header)
    width, usual = len(rows[0]), _usual_width(rows)
    if len(rows) > 2 and width == 1 < usual:
        raise DataError(f"{path} line 1 has 1 cell, most lines have {usual}; {ABOVE_HEADER}")
    names = [cell.strip() for cell in rows[0]] if options.header else default_names(width)
    body = rows[1:] if options.header else rows
    return options, names, [row for row in body[:SAMPLE_ROWS] if len(row) == width]


def _usual_width(rows: Sequence[Sequence[str]]) -> int:
    widths = [len(row) for row in rows]
    return max(widths, key=widths.count)


def _start(path: str, encoding: str | None) -> tuple[bytes, bool]:
    """Return the first bytes of a text as UTF-8, and whether these are all bytes."""
    with open_text(path, path, encoding) as file:
        parts, size = [], 0
        while size < SAMPLE_BYTES and (data := file.read1(SAMPLE_BYTES)):
            parts.append(data)
            size += len(data)
        return b"".join(parts), size < SAMPLE_BYTES


def _encoding(raw: bytes, complete: bool) -> str | None:
    """Return None for UTF-8, else cp1252 (Western European), or latin-1 if it isn't cp1252."""
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
    best, dialect = (-1.0, -1.0), (",", ".")
    for delimiter in candidates:
        rows = _split(lines[:200], delimiter)
        points = (".",) if delimiter == "," else (".", ",")
        for decimal in points if options.decimal == "." else (options.decimal,):
            score = _score(rows, decimal)
            if score > best:
                best, dialect = score, (delimiter, decimal)
    return dialect


def _score(rows: list[list[str]], decimal: str) -> tuple[float, float]:
    """Return two scores of a dialect: for equal widths of rows above 1, and for numbers per row."""
    if not rows:
        return (0.0, 0.0)
    widths = [len(row) for row in rows]
    usual = _usual_width(rows)
    body = [row for row in rows[1:] if len(row) == usual] or rows[:1]
    numeric = sum(is_number(cell, decimal) for row in body for cell in row) / len(body)
    share = widths.count(usual) / len(rows)
    if widths[0] != usual:  # a comma in each number gives more cells than the header has
        share -= 0.2
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
                raise DataError(f"{path} row {number} is not JSON; {ONE_DOCUMENT}") from None
    if len(docs) == 1 and _is_one_document(docs[0]):
        raise DataError(f"{path} is one JSON document; {ONE_DOCUMENT}")
    if docs and not isinstance(docs[0], dict | list):
        raise DataError(f"{path} line 1 is neither an array nor an object of numbers")
    if docs and isinstance(docs[0], list):
        width = len(docs[0])
        return default_names(width), [
            doc for doc in docs if isinstance(doc, list) and len(doc) == width
        ]
    objects = [doc for doc in docs if isinstance(doc, dict)]
    names = list(dict.fromkeys(name for doc in objects for name in doc))
    return names, [[doc.get(name) for name in names] for doc in objects]


def _is_one_document(doc: Any) -> bool:
    """Return whether a line has many points: an array of points, also within an object."""
    if isinstance(doc, dict):
        return any(isinstance(value, list) and _is_one_document(value) for value in doc.values())
    return isinstance(doc, list) and len(doc) > 1 and isinstance(doc[0], dict | list)


# Arrays and Parquet ---------------------------------------------------------------------------


def _array_sample(path: str, options: TableOptions) -> tuple[Sequence[str], list[list[Any]]]:
    if options.kind == "parquet":
        from streamclust.tables.parquet import parquet_sample

        return parquet_sample(path, SAMPLE_ROWS)
    from streamclust.tables.arrays import array_sample

    rows = array_sample(path, options.key, SAMPLE_ROWS)
    return default_names(rows.shape[1]), rows.tolist()


def _profiled(
    path: str, options: TableOptions, names: Sequence[str], rows: list[list[Any]]
) -> Sniffed:
    columns, is_sorted = find_columns(names, rows, options)
    notes = [text for column in columns if (text := note(column, len(rows)))]
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
