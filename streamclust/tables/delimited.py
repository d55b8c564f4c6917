"""Reader of delimited text: CSV and TSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.number_text import number_hint
from streamclust.tables import lines as limits
from streamclust.tables.cells import is_number, numbers
from streamclust.tables.chunk import Chunk, Request, Where, checked, join, short, sift
from streamclust.tables.columns import Selection, default_names, select
from streamclust.tables.header import has_header
from streamclust.tables.lines import Lines
from streamclust.tables.times import EventTimes

_SLICE = 64
_SEPARATORS = {";": "';'", "\t": "tab", "|": "'|'", ",": "','"}
"""Separators, and how --delimiter names them."""

Row = tuple[int, Sequence[str]]  # its line, its cells


def read_delimited(lines: Lines, request: Request, delimiter: str) -> Iterator[Chunk]:
    """Yield the chunks of delimited text; see `header.has_header` for its first row."""
    rows = _Rows(lines, request, delimiter)
    first = rows.first()
    if first is None:
        return
    table = _Table.of(first, rows, request, delimiter)
    for batch in rows.batches(request.rows(len(first[1]))):
        if request.options.on_bad == "stop":
            yield table.chunk(batch)
        else:
            good, bad = sift(batch, table.chunk, table.describe, request.label)
            if good or bad:
                yield join(good or [table.empty(batch[0][0])], bad)


class _Rows:
    """The rows of a text."""

    def __init__(self, lines: Lines, request: Request, delimiter: str) -> None:
        self.width = 0
        """Number of cells of a row; 0 if it isn't known yet."""

        self._lines = lines
        self._label = request.label
        self._format: dict[str, Any] = {
            "delimiter": delimiter,
            "skipinitialspace": delimiter == " ",
        }
        self._reader = csv.reader(chain.from_iterable(lines.blocks()), **self._format)
        self._tolerant = self._read_on() if request.options.on_bad == "skip" else None
        self._done = 0
        """Number of lines that `_tolerant` has used."""

        self._kept: list[Row] = []
        self._step = _SLICE
        lines.row_at = 0

    @property
    def _line(self) -> int:
        """Number of the lines that were used so far."""
        return self._reader.line_num if self._tolerant is None else self._done

    def first(self) -> Row | None:
        """Return the next row; None if there is none."""
        while rows := self._next(1):
            if not _is_blank(rows[0][1]):
                return rows[0]
        return None

    def second(self) -> Row | None:
        """Return the row after the first, if no wait is necessary; `batches` yields it too."""
        if self._lines.live and self._lines.ready <= self._line:
            return None
        row = self.first()
        if row is not None:
            self._kept.append(row)
        return row

    def put_back(self, first: Row) -> None:
        """Let `batches` yield the first row too."""
        self._kept.insert(0, first)

    def batches(self, size: int) -> Iterator[list[Row]]:
        """Yield batches of rows that aren't blank.

        A batch is shorter than `size` at the end, if a live text has no more lines ready, and if
        its rows have `BATCH_BYTES` of text.
        """
        lines, most = self._lines, self._lines.bytes + limits.BATCH_BYTES
        batch, self._kept = self._kept, []
        while True:
            full = len(batch) >= size or lines.bytes > most
            if batch and (full or (lines.live and lines.ready <= self._line)):
                yield batch[:size]
                batch, most = batch[size:], lines.bytes + limits.BATCH_BYTES
                continue
            ready = lines.ready - self._line
            rows = self._next(max(1, min(ready, size - len(batch), self._step)))
            if not rows:
                break
            batch += [row for row in rows if not _is_blank(row[1])]
        if batch:
            yield batch

    def _next(self, n: int) -> list[Row]:
        """Return up to `n` rows; none at the end."""
        reader, before = self._reader, self._line
        if self._tolerant is not None:
            rows = list(islice(self._tolerant, n))
        else:
            try:
                rows = [(reader.line_num, cells) for cells in islice(reader, n)]
            except csv.Error as error:
                raise self._error(reader.line_num, error) from error
        if self._line - before > len(rows):
            self._step = 1  # a row can have several lines
        elif self._step > 1:
            self._step = min(2 * self._step, 1 << 12)
        self._lines.row_at = self._lines.bytes
        return rows

    def _error(self, line: int, error: object) -> DataError:
        return DataError(f"{self._label} line {line}: {error}; clean the file")

    def _read_on(self) -> Iterator[Row]:
        """Yield the rows, and go on after a row that can't be split.

        A row with an open quote ends before a line that is a row by itself.
        """
        open_lines: list[str] = []
        for block in self._lines.blocks():
            if not open_lines and not any('"' in line for line in block):
                yield from self._split(block)
                continue
            for line in block:
                self._done += 1
                if open_lines:
                    alone, is_open = self._cells(line)
                    if is_open or len(alone) != self.width or self.width == 1:
                        open_lines.append(line)
                        joined, is_open = self._cells(*open_lines)
                        if not is_open or sum(map(len, open_lines)) > limits.LINE_BYTES:
                            yield self._done, joined
                            open_lines = []
                        continue
                    reason = "a quote isn't closed"
                    yield self._done - 1, _Unreadable(str(self._error(self._done - 1, reason)))
                    open_lines = []
                cells, is_open = self._cells(line)
                if is_open:
                    open_lines = [line]
                else:
                    yield self._done, cells
        if open_lines:
            yield self._done, self._cells(*open_lines)[0]

    def _split(self, block: list[str]) -> Iterator[Row]:
        """Yield the rows of lines without quotes."""
        reader = csv.reader(block, **self._format)
        while True:
            self._done += 1
            try:
                cells = next(reader)
            except StopIteration:
                self._done -= 1
                return
            except csv.Error as error:
                yield self._done, _Unreadable(str(self._error(self._done, error)))
            else:
                yield self._done, cells

    def _cells(self, *lines: str) -> tuple[Sequence[str], bool]:
        """Return the cells of a row, and whether a quote is open at its end."""
        try:
            return next(csv.reader(lines, strict=True, **self._format), []), False
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
        try:
            return next(csv.reader(lines, **self._format), []), is_open
        except csv.Error as error:
            return _Unreadable(str(self._error(self._done, error))), False


class _Unreadable(tuple[str, ...]):
    """The cells of a row that can't be split; `reason` is the error."""

    reason: str

    def __new__(cls, reason: str) -> _Unreadable:
        """Return the cells of a row with this error."""
        cells = super().__new__(cls, ("?",))
        cells.reason = reason
        return cells


def _is_blank(cells: Sequence[str]) -> bool:
    return len(cells) <= 1 and not "".join(cells).strip()


@dataclass
class _Table:
    """The columns of a text, and the conversion of its rows."""

    request: Request
    delimiter: str
    names: Sequence[str]
    selection: Selection
    header: Row | None
    first_line: int
    times: EventTimes = field(default_factory=EventTimes)

    @classmethod
    def of(cls, first: Row, rows: _Rows, request: Request, delimiter: str) -> _Table:
        """Return the table with this first row."""
        line, cells = first
        options = request.options
        if isinstance(cells, _Unreadable):
            raise DataError(cells.reason)
        named = options.header
        if named is None:
            second = rows.second() if len(cells) == 2 else None
            try:
                named = has_header(cells, second and second[1], options.decimal)
            except DataError as error:
                raise DataError(f"{request.label} line {line}: {error}") from None
        names = [cell.strip() for cell in cells] if named else default_names(len(cells))
        rows.width = len(names)
        if not named:
            rows.put_back(first)
        try:
            selection = select(names, request, named=named)
        except DataError as error:
            hint = _separator_hint(cells if named else None, cells, delimiter)
            if not hint and not named and options.header is None and options.columns:
                hint = _NAMES_HINT
            raise DataError(f"{error}{f'; {hint}' if hint else ''}") from None
        header = first if named else None
        times = EventTimes(options.time_format)
        return cls(request, delimiter, names, selection, header, line, times)

    def chunk(self, batch: Sequence[Row]) -> Chunk:
        """Return the chunk of some rows; raise a `DataError` for the first bad one."""
        width, chosen, request = len(self.names), self.selection, self.request
        if set(map(len, [cells for _, cells in batch])) - {width}:
            raise self._bad_width(batch)

        def where(row: int) -> str:
            return f"line {batch[row][0]}"

        X, w = checked(self._numbers(batch), chosen.numeric, chosen.weight, where, request)
        labels = {
            name: self._labels(batch, index, name, where)
            for name, index in zip(chosen.labels, chosen.label_indexes, strict=True)
        }
        times = None
        if chosen.time is not None and chosen.time_index is not None:
            texts = [cells[chosen.time_index] for _, cells in batch]
            times = self.times.read(texts, chosen.time, where, request)
        return Chunk(chosen.features, X, w, batch[0][0], labels, times)

    def empty(self, line: int) -> Chunk:
        """Return a chunk without rows."""
        chosen = self.selection
        w = None if chosen.weight is None else np.empty(0)
        times = None if chosen.time is None else np.empty(0, np.int64)
        labels: dict[str, list[str]] = {name: [] for name in chosen.labels}
        return Chunk(chosen.features, np.empty((0, len(chosen.features))), w, line, labels, times)

    def describe(self, row: Row) -> tuple[int, str]:
        """Return the line of a row, and its text."""
        line, cells = row
        return line, "" if isinstance(cells, _Unreadable) else self.delimiter.join(cells)

    def _numbers(self, batch: Sequence[Row]) -> NDArray[Any]:
        decimal = self.request.options.decimal
        try:
            columns = [
                numbers([cells[index] for _, cells in batch], decimal)
                for index in self.selection.indexes
            ]
        except ValueError:
            raise self._bad_number(batch) from None
        return np.stack(columns, axis=1)

    def _labels(self, batch: Sequence[Row], index: int, name: str, where: Where) -> list[str]:
        texts = [cells[index].strip() for _, cells in batch]
        for row, text in enumerate(texts):
            if not text.isascii() and _is_foreign(text):
                raise self.request.bad_cell(where(row), name, f"{short(text)} {_FOREIGN}", "")
        return texts

    def _bad_width(self, batch: Sequence[Row]) -> DataError:
        width = len(self.names)
        line, cells = next((line, cells) for line, cells in batch if len(cells) != width)
        if isinstance(cells, _Unreadable):
            return DataError(cells.reason)
        hint = self._hint(line, cells)
        if not hint and self.header is not None and len(cells) == width + 1:
            hint = "does the header lack a name for an index?"
        return DataError(
            f"{self.request.label} line {line} has {len(cells)} cells; expected {width}"
            f"{f'; {hint}' if hint else ': clean the file'}"
        )

    def _bad_number(self, batch: Sequence[Row]) -> DataError:
        decimal, chosen = self.request.options.decimal, self.selection
        line, cells, name, text = next(
            (line, cells, name, cells[index])
            for line, cells in batch
            for name, index in zip(chosen.numeric, chosen.indexes, strict=True)
            if not is_number(cells[index], decimal)
        )
        if isinstance(cells, _Unreadable):
            return DataError(cells.reason)
        problem = _FOREIGN if _is_foreign(text) else "is not a number"
        where = f"line {line}"
        causes = [_cell_hint(text, self.delimiter, decimal), self._hint(line, cells)]
        if self.header is not None and len(self.header[1]) == 1:
            causes.reverse()  # a table of one column is rare: the separator comes first
        cause = causes[0] or causes[1]
        if problem == _FOREIGN or cause:
            return self.request.bad_cell(where, name, f"{short(text)} {problem}", cause)
        return self.request.bad_cell(where, name, f"{short(text)} {problem}{number_hint(text)}")

    def _hint(self, line: int, cells: Sequence[str]) -> str:
        """Return the probable cause of a row that can't be read, for a message."""
        named = None if self.header is None else self.header[1]
        hint = _separator_hint(named, cells, self.delimiter)
        if not hint and named is None and line == self.first_line:
            hint = _NAMES_HINT if self.request.options.header is None else ""
        return hint


_NAMES_HINT = "if this row has the names of the columns, give --header"
_FOREIGN = "is not UTF-8; give --encoding, such as latin-1 or cp1252"


def _is_foreign(text: str) -> bool:
    return any("\udc80" <= char <= "\udcff" for char in text)


def _separator_hint(named: Sequence[str] | None, cells: Sequence[str], delimiter: str) -> str:
    """Return the question whether another separator is right; empty if none is likely."""
    text = delimiter.join(cells)
    for other, name in _SEPARATORS.items():
        parts = [part.strip() for part in text.split(other)]
        in_header = named is not None and len(named) == 1 and other in named[0]
        numeric = len(parts) > 1 and all(is_number(p) or is_number(p, ",") for p in parts)
        if other != delimiter and (in_header or numeric):
            comma = other != "," and any("," in part and is_number(part, ",") for part in parts)
            decimal = " and --decimal ','" if comma else ""
            return f"is {name} the separator? Give --delimiter {name}{decimal}"
    parts = text.split(" ")
    if len(cells) == 1 and len(parts) > 1 and all(map(is_number, filter(None, parts))):
        return "is a space the separator? Give --delimiter space"
    return ""


def _cell_hint(text: str, delimiter: str, decimal: str) -> str:
    """Return the probable cause of a cell that isn't a number, for a message."""
    if text.startswith("\ufeff"):
        return "it begins with a byte-order mark in the middle of the text: remove the mark"
    if decimal == "," and is_number(text, "."):
        return "is '.' the decimal point? Leave --decimal out"
    if decimal == "," and "." in text and is_number(text.replace(".", ""), ","):
        return "write it without the points between thousands"
    if decimal == "." and delimiter != "," and is_number(text, ","):
        return "is ',' the decimal point? Give --decimal ','"
    return ""
