"""The rows of delimited text, split into cells."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from streamclust.errors import DataError
from streamclust.tables import lines as limits
from streamclust.tables.chunk import Request
from streamclust.tables.lines import Lines

_SLICE = 64

Row = tuple[int, Sequence[str]]  # number of its line, its cells


class Rows:
    """The rows of a delimited text."""

    def __init__(self, lines: Lines, request: Request, delimiter: str) -> None:
        self.width = 0
        """Number of cells of a row; 0 if it isn't known yet."""

        self._lines = lines
        self._request = request
        self._format: dict[str, Any] = {
            "delimiter": delimiter,
            "skipinitialspace": delimiter == " ",
        }
        self._reader = csv.reader(chain.from_iterable(lines.blocks()), **self._format)
        self._tolerant = self._read_past_errors() if request.options.on_bad == "skip" else None
        self._done = 0
        """Number of lines that `_tolerant` has used."""

        self._returned: list[Row] = []
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
        """Return the row after the first, if it is available at once; `batches` yields it too."""
        if self._lines.live and self._lines.ready <= self._line:
            return None
        row = self.first()
        if row is not None:
            self._returned.append(row)
        return row

    def put_back(self, first: Row) -> None:
        """Return the first row to the input, so that `batches` yields it."""
        self._returned.insert(0, first)

    def batches(self, size: int) -> Iterator[list[Row]]:
        """Yield batches of rows that aren't blank.

        A batch is shorter than `size` at the end, if a live text has no more lines ready, or if its
        rows have `BATCH_BYTES` of text.
        """
        lines, most = self._lines, self._lines.bytes + limits.BATCH_BYTES
        batch, self._returned = self._returned, []
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
        if skipped := self._request.line:
            return [(line + skipped, cells) for line, cells in rows]
        return rows

    def _error(self, line: int, error: object) -> DataError:
        if "new-line character" in str(error):
            error = "a line ends with CR alone; convert the line ends to LF"
        line += self._request.line
        return self._request.bad_row(f"{self._request.label} line {line}: {error}")

    def _read_past_errors(self) -> Iterator[Row]:
        """Yield the rows; continue after a row that can't be split.

        A row with an open quote ends before the next line that is a complete row.
        """
        open_lines: list[str] = []
        for block in self._lines.blocks():
            if not open_lines and not any('"' in line for line in block):
                yield from self._split(block)
                continue
            for line in block:
                self._done += 1
                if open_lines:
                    cells_of_line, is_open = self._cells(line)
                    if is_open or len(cells_of_line) != self.width or self.width == 1:
                        open_lines.append(line)
                        joined, is_open = self._cells(*open_lines)
                        if not is_open or sum(map(len, open_lines)) > limits.LINE_BYTES:
                            yield self._done, joined
                            open_lines = []
                        continue
                    reason = "a quote isn't closed"
                    yield self._done - 1, UnreadableRow(str(self._error(self._done - 1, reason)))
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
                yield self._done, UnreadableRow(str(self._error(self._done, error)))
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
            return UnreadableRow(str(self._error(self._done, error))), False


class UnreadableRow(tuple[str, ...]):
    """A row that can't be split; `reason` is the text of the error."""

    reason: str

    def __new__(cls, reason: str) -> UnreadableRow:
        """Return the cells of a row with this error."""
        cells = super().__new__(cls, ("?",))
        cells.reason = reason
        return cells


def _is_blank(cells: Sequence[str]) -> bool:
    return len(cells) <= 1 and not "".join(cells).strip()
