"""Reader of delimited text: CSV and TSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.number_text import number_hint
from streamclust.tables.cells import (
    FOREIGN,
    NAMES_HINT,
    cell_hint,
    is_data,
    is_foreign,
    is_missing,
    is_number,
    numbers,
    numbers_and_gaps,
    separator_hint,
)
from streamclust.tables.chunk import Chunk, Request, Where, checked, join, short, sift
from streamclust.tables.columns import Selection, default_names, listed, select
from streamclust.tables.header import ABOVE_HEADER, has_header
from streamclust.tables.lines import Lines
from streamclust.tables.rows import Row, Rows, UnreadableRow
from streamclust.tables.times import EventTimes


def read_delimited(lines: Lines, request: Request, delimiter: str) -> Iterator[Chunk]:
    """Yield the chunks of delimited text; see `header.has_header` for its first row."""
    rows = Rows(lines, request, delimiter)
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


def read_names(
    lines: Lines, request: Request, delimiter: str
) -> tuple[tuple[str, ...], int, bool] | None:
    """Return the names of the features, the line of the first row, and whether it is a header.

    The result is None if there is no row.
    """
    rows = Rows(lines, request, delimiter)
    first = rows.first()
    if first is None:
        return None
    table = _Table.of(first, rows, request, delimiter)
    return table.selection.features, first[0], table.header is not None


def _has_known_name(cells: Sequence[str], request: Request) -> bool:
    """Return whether a row has the name of a column that is requested or that the model needs."""
    options, model = request.options, request.model
    known = {*(options.columns or ()), *options.exclude, *options.label_columns}
    known |= set(filter(None, (options.weight_column, options.time_column)))
    known |= set() if model is None else set(model.features)
    in_row = known.intersection(cell.strip() for cell in cells)
    return any(name and not is_data(name, options.decimal) for name in in_row)


def _warn_of_positions(request: Request) -> None:
    """Warn that columns without names are used as the features of a model, in their order."""
    model = request.model
    if model is not None and model.features and request.options.columns is None:
        request.warn(
            f"{request.label} has no names of columns; the columns are used as "
            f"{listed(model.features)}, the features of {model.owner}; --no-header confirms this"
        )


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
    def of(cls, first: Row, rows: Rows, request: Request, delimiter: str) -> _Table:
        """Return the table whose first row is `first`."""
        line, cells = first
        options = request.options
        if isinstance(cells, UnreadableRow):
            raise DataError(cells.reason)
        named = (
            True if options.header is None and _has_known_name(cells, request) else options.header
        )
        if named is None:
            second = rows.second() if len(cells) == 2 else None
            try:
                named = has_header(cells, second and second[1], options.decimal)
            except DataError as error:
                raise DataError(f"{request.label} line {line}: {error}") from None
        names = [cell.strip() for cell in cells] if named else default_names(len(cells))
        rows.width = len(names)
        if not named and not request.head:
            rows.put_back(first)
        try:
            selection = select(names, request, named=named)
        except DataError as error:
            hint = separator_hint(cells if named else None, cells, delimiter)
            if not hint and not named and options.header is None:
                hint = NAMES_HINT
            raise DataError(f"{error}{f'; {hint}' if hint else ''}") from None
        if not named and options.header is None:
            _warn_of_positions(request)
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

        X, w, in_range = checked(
            self._numbers(batch), chosen.numeric, chosen.weight, where, request
        )
        labels = {
            name: self._labels(batch, index, name, where)
            for name, index in zip(chosen.labels, chosen.label_indexes, strict=True)
        }
        times = None
        if chosen.time is not None and chosen.time_index is not None:
            texts = [cells[chosen.time_index] for _, cells in batch]
            times = self.times.read(texts, chosen.time, where, request)
        return Chunk(chosen.features, X, w, batch[0][0], labels, times, in_range=in_range)

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
        return line, "" if isinstance(cells, UnreadableRow) else self.delimiter.join(cells)

    def _numbers(self, batch: Sequence[Row]) -> NDArray[Any]:
        try:
            columns = [
                self._column([cells[index] for _, cells in batch], place)
                for place, index in enumerate(self.selection.indexes)
            ]
        except ValueError:
            raise self._bad_number(batch) from None
        return np.stack(columns, axis=1)

    def _column(self, texts: Sequence[str], place: int) -> NDArray[np.float64]:
        """Return the numbers of a selected column, by its place in the selection."""
        decimal = self.request.options.decimal
        try:
            return numbers(texts, decimal)
        except ValueError:
            if not self._may_miss(place):
                raise
            return numbers_and_gaps(texts, decimal)

    def _may_miss(self, place: int) -> bool:
        """Return whether values of a selected column may be missing: only those of features."""
        chosen = self.selection
        return self.request.options.missing == "learn" and place < len(chosen.features)

    def _labels(self, batch: Sequence[Row], index: int, name: str, where: Where) -> list[str]:
        texts = [cells[index].strip() for _, cells in batch]
        for row, text in enumerate(texts):
            if not text.isascii() and is_foreign(text):
                raise self.request.bad_cell(where(row), name, f"{short(text)} {FOREIGN}", "")
        return texts

    def _bad_width(self, batch: Sequence[Row]) -> DataError:
        width = len(self.names)
        line, cells = next((line, cells) for line, cells in batch if len(cells) != width)
        if isinstance(cells, UnreadableRow):
            return DataError(cells.reason)
        hint = self._hint(line, cells)
        if not hint and self.header is not None and len(cells) == width + 1:
            hint = "the header may lack a name for an index column"
            if width == 1:
                hint = f"line {self.first_line} has 1 cell: {ABOVE_HEADER}"
        problem = f"{self.request.label} line {line} has {len(cells)} cells; expected {width}"
        return DataError(f"{problem}; {hint}") if hint else self.request.bad_row(problem)

    def _bad_number(self, batch: Sequence[Row]) -> DataError:
        decimal, chosen = self.request.options.decimal, self.selection
        line, cells, place, text = next(
            (line, cells, place, cells[index])
            for line, cells in batch
            for place, index in enumerate(chosen.indexes)
            if not is_number(cells[index], decimal)
            and not (self._may_miss(place) and is_missing(cells[index]))
        )
        name, is_gap = chosen.numeric[place], place < len(chosen.features) and is_missing(text)
        if isinstance(cells, UnreadableRow):
            return DataError(cells.reason)
        problem = FOREIGN if is_foreign(text) else "is not a number"
        where = f"line {line}"
        causes = [cell_hint(text, self.delimiter, decimal), self._hint(line, cells)]
        if self.header is not None and len(self.header[1]) == 1:
            causes.reverse()  # a table of one column is rare: the separator comes first
        cause = causes[0] or causes[1]
        if problem == FOREIGN or cause:
            return self.request.bad_cell(where, name, f"{short(text)} {problem}", cause)
        problem = f"{short(text)} {problem}{number_hint(text)}"
        return self.request.bad_cell(where, name, problem, is_missing=is_gap)

    def _hint(self, line: int, cells: Sequence[str]) -> str:
        """Return the probable cause why a row can't be read, for a message."""
        named = None if self.header is None else self.header[1]
        hint = separator_hint(named, cells, self.delimiter)
        if not hint and named is None and line == self.first_line:
            hint = NAMES_HINT if self.request.options.header is None else ""
        return hint
