"""Readers of text tables: CSV, TSV and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.number_text import json_hint, number_hint
from streamclust.tables.chunk import (
    SHOWN,
    Chunk,
    Request,
    Selection,
    default_names,
    make_chunk,
    select,
)
from streamclust.tables.lines import Lines

CsvRow = tuple[int, list[str]]  # its line, its cells
JsonRow = tuple[int, Any]


def read_csv(lines: Lines, request: Request, delimiter: str) -> Iterator[Chunk]:
    """Yield the chunks of delimited text; a first row with text that isn't a number is a header."""
    rows = _csv_rows(lines, request, delimiter)
    before, first = next(((n, row) for n, row in enumerate(rows) if row is not None), (0, None))
    if first is None:
        return
    size = request.rows(len(first[1]))
    header = not all(map(_is_number, first[1]))
    if header and lines.number > before + 1:
        raise DataError(
            f"{request.label} line {before + 1}: a column name has a line end; rename the column"
        )
    names = [cell.strip() for cell in first[1]] if header else default_names(len(first[1]))
    selection = select(names, request)
    points = rows if header else chain([first], rows)
    for batch in lines.batches(points, size):
        _check_widths(batch, len(names), request)
        yield _chunk(batch, _csv_table(batch, selection, request), selection, request)


def _csv_rows(lines: Lines, request: Request, delimiter: str) -> Iterator[CsvRow | None]:
    try:
        lines.row_at = 0
        for cells in csv.reader(lines, delimiter=delimiter):
            lines.row_at = lines.bytes
            blank = not "".join(cells).strip() and len(cells) <= 1
            yield None if blank else (lines.number, cells)
    except csv.Error as error:
        raise DataError(f"{request.label} line {lines.number}: {error}; clean the file") from error


def _check_widths(batch: list[CsvRow], width: int, request: Request) -> None:
    for line, cells in batch:
        if len(cells) != width:
            raise DataError(
                f"{request.label} line {line} has {len(cells)} cells; expected {width}: "
                "clean the file"
            )


def _csv_table(batch: list[CsvRow], selection: Selection, request: Request) -> NDArray[Any]:
    try:
        columns = [_numbers([cells[index] for _, cells in batch]) for index in selection.indexes]
    except ValueError:
        raise _bad_text(batch, selection, request) from None
    return np.stack(columns, axis=1)


def _numbers(texts: list[str]) -> NDArray[np.float64]:
    joined = "".join(texts)
    if "_" in joined or not joined.isascii():
        raise ValueError("only Python accepts this number")
    return np.fromiter(map(float, texts), np.float64, len(texts))


def _is_number(text: str) -> bool:
    try:
        _numbers([text])
    except ValueError:
        return False
    return True


def _bad_text(batch: list[CsvRow], selection: Selection, request: Request) -> DataError:
    line, name, text = next(
        (line, name, cells[index])
        for line, cells in batch
        for name, index in zip(selection.names, selection.indexes, strict=True)
        if not _is_number(cells[index])
    )
    return request.bad_cell(
        f"line {line}", name, f"{_short(repr(text))} is not a number{number_hint(text)}"
    )


def _short(text: str) -> str:
    return text[:SHOWN] + ("..." if len(text) > SHOWN else "")


# Integers are read as floats, so that a huge one is inf, and true isn't accepted as 1.
_loads = json.JSONDecoder(parse_int=float).decode


def read_json_lines(lines: Lines, request: Request) -> Iterator[Chunk]:
    """Yield the chunks of JSON lines: all arrays, or all objects with the keys of the first."""
    rows = _json_rows(lines, request)
    first = next(filter(None, rows), None)
    if first is None:
        return
    names = _json_names(first, request)
    selection = select(names, request)
    keys = selection.names if isinstance(first[1], dict) else selection.indexes
    allowed = None if request.columns else set(names)
    for batch in lines.batches(chain([first], rows), request.rows(len(names))):
        for row in batch:
            _check_shape(row, first[1], allowed, request)
        yield _chunk(batch, _json_table(batch, keys, selection, request), selection, request)


def _json_rows(lines: Lines, request: Request) -> Iterator[JsonRow | None]:
    for text in lines:
        yield (lines.number, _parse(text, lines.number, request)) if text.strip() else None


def _parse(text: str, line: int, request: Request) -> Any:
    try:
        return _loads(text.strip())
    except json.JSONDecodeError as error:
        problem = f"bad JSON: {error.msg} at character {error.pos}{json_hint(text)}"
    except RecursionError:
        problem = "JSON is nested too deeply"
    raise DataError(f"{request.label} line {line}: {problem}; clean the file")


def _json_names(first: JsonRow, request: Request) -> tuple[str, ...]:
    line, doc = first
    if isinstance(doc, dict | list):
        request.rows(len(doc))
        return tuple(doc) if isinstance(doc, dict) else default_names(len(doc))
    raise DataError(f"{request.label} line {line} is neither an array nor an object of numbers")


def _check_shape(row: JsonRow, first: Any, allowed: set[str] | None, request: Request) -> None:
    line, doc = row
    where = f"{request.label} line {line}"
    if type(doc) is not type(first):
        raise DataError(f"{where} differs from the first line; write only arrays, or only objects")
    if isinstance(doc, list) and len(doc) != len(first):
        raise DataError(f"{where} has {len(doc)} values; expected {len(first)}: clean the file")
    if isinstance(doc, dict) and allowed and not doc.keys() <= allowed:
        extra = next(key for key in doc if key not in allowed)
        raise DataError(f"{where} has another key, {extra!r}; choose columns with --columns")


def _json_table(
    batch: list[JsonRow], keys: Iterable[Any], selection: Selection, request: Request
) -> NDArray[Any]:
    """Return the values of the keys: names in objects, indices in arrays."""
    keys = tuple(keys)
    try:
        values = [doc[key] for _, doc in batch for key in keys]
    except KeyError as error:
        line = next(line for line, doc in batch if error.args[0] not in doc)
        raise request.bad_cell(f"line {line}", error.args[0], "missing") from None
    if set(map(type, values)) != {float}:
        place, value = next(pair for pair in enumerate(values) if type(pair[1]) is not float)
        row, column = divmod(place, len(keys))
        hint = number_hint(value) if isinstance(value, str) else ""
        problem = f"{_short(json.dumps(value))} is not a number{hint}"
        raise request.bad_cell(f"line {batch[row][0]}", selection.names[column], problem)
    return np.array(values).reshape(len(batch), len(keys))


def _chunk(
    batch: list[tuple[int, Any]], table: NDArray[Any], selection: Selection, request: Request
) -> Chunk:
    return make_chunk(table, selection, batch[0][0], request, lambda row: f"line {batch[row][0]}")
