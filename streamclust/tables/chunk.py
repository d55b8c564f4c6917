"""Chunks of a table, requests for chunks, and checks of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import are_within
from streamclust.errors import DataError
from streamclust.tables.options import TableOptions
from streamclust.text import printable

SHOWN = 40
"""Largest number of characters of a cell or a name in messages."""

EXCERPT = 1024
"""Largest number of characters that are stored of a bad row."""

MAX_COLUMNS = 1 << 20
"""Largest number of columns of a table."""

MAX_CELLS = 1 << 22
"""Largest number of cells of a chunk of several rows: chunks of wide tables have fewer rows."""

Row = TypeVar("Row")
Where = Callable[[int], str]  # row of a chunk -> its place, for messages


@dataclass(frozen=True)
class BadRow:
    """A row that can't be read.

    Parameters
    ----------
    table
        Name of the table.
    place
        Number of good rows before it in the chunk.
    line
        Number of its line in a text, or of its row in an array, from 1.
    reason
        Why the row can't be read, with the name of the table and the place.
    data
        The row as text, cut at 1,024 characters.
    """

    table: str
    place: int
    line: int
    reason: str
    data: str


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a table.

    Parameters
    ----------
    names
        The names of the columns of X.
    X
        Points, (n, D), finite, or NaN for missing values with `missing` "learn"; float32 where the
        file holds float32, else float64.
    w
        Weights, (n,), finite and not negative; None without a weight column.
    first_line
        Number of the line of the first row in a text, or of the row in an array, from 1.
    labels
        The texts of each label column, each of length n.
    times
        Event times, (n,), in milliseconds since 1970, ascending; None without a time column.
    bad
        Rows that can't be read, in the order of the table; only with `on_bad` "skip".
    in_range
        Whether the magnitudes of all numbers of X are checked: at most `MAX_MAGNITUDE`.
    """

    names: tuple[str, ...]
    X: NDArray[Any]
    w: NDArray[np.float64] | None
    first_line: int
    labels: dict[str, list[str]] = field(default_factory=dict)
    times: NDArray[np.int64] | None = None
    bad: tuple[BadRow, ...] = ()
    in_range: bool = False


@dataclass(frozen=True)
class ModelColumns:
    """The columns that a table must have: those of a model, or of an earlier table.

    Parameters
    ----------
    owner
        Name of the model or the earlier table in messages, such as "model 'm'".
    features
        Names of the features, in order; empty if they have no names.
    n_features
        Number of features; None if unknown.
    exact
        Whether a table may have no other columns.
    """

    owner: str
    features: tuple[str, ...] = ()
    n_features: int | None = None
    exact: bool = False


@dataclass(frozen=True)
class Request:
    """A request to read a table.

    Parameters
    ----------
    label
        Name of the table in messages.
    options
        How to read it.
    chunk
        Largest number of rows per chunk.
    model
        The columns that a model needs; None if the table alone decides.
    warn
        Called with a sentence about a column that isn't read.
    line
        Number to add to the numbers of lines, if the text is a piece of a file.
    head
        For a piece of a file: number of lines at the start of the file, up to the row that defines
        the columns. They are read before the piece; their points don't belong to the piece.
    """

    label: str
    options: TableOptions = field(default_factory=TableOptions)
    chunk: int = 8192
    model: ModelColumns | None = None
    warn: Callable[[str], object] = lambda _: None
    line: int = 0
    head: int = 0

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise DataError(f"chunk is {self.chunk}; expected at least 1")

    def rows(self, n_columns: int) -> int:
        """Return the number of rows per chunk: `chunk`, or 1/2, 1/4, ... of it for wide tables.

        Raises
        ------
        DataError
            If the table has too many columns.
        """
        if n_columns > MAX_COLUMNS:
            raise DataError(
                f"{self.label} has {n_columns:,} columns; expected at most {MAX_COLUMNS:,}: "
                "each row is one point"
            )
        rows = self.chunk
        while rows > 1 and rows * n_columns > MAX_CELLS:
            rows //= 2
        return rows

    def bad_row(self, problem: str, advice: str = "") -> DataError:
        """Return the error for a row: the problem, and what to do unless bad rows are skipped."""
        if self.options.on_bad == "skip":
            return DataError(problem)
        return DataError(f"{problem}; {advice}clean the file, or skip bad rows with --on-bad skip")

    def bad_cell(
        self,
        where: str,
        column: str,
        problem: str,
        cause: str | None = None,
        *,
        is_missing: bool = False,
    ) -> DataError:
        """Return the error for a cell; without a `cause`, it explains how to omit the column."""
        text = f"{self.label} {where}, column {short(column)}: {problem}"
        if is_missing and self.options.missing == "reject":
            text += "; points.missing: learn accepts missing values"
        if cause is None:
            return self.bad_row(text, "choose columns with --columns, ")
        return DataError(f"{text}; {cause}" if cause else text)


def short(text: str) -> str:
    """Return a quoted text for a message, cut if it is long."""
    return repr(text[:SHOWN]) + ("..." if len(text) > SHOWN else "")


class Checked(NamedTuple):
    """Points and their weights; `in_range` as in `Chunk`."""

    X: NDArray[Any]
    w: NDArray[np.float64] | None
    in_range: bool


def checked(
    table: NDArray[Any],
    names: Sequence[str],
    weight: str | None,
    where: Where,
    request: Request,
    known: bool = False,
) -> Checked:
    """Return the points and the weights of a table; refuse values that can't be learned.

    Parameters
    ----------
    table
        The selected columns; the weights come last.
    names
        Names of these columns.
    weight
        Name of the weights' column; None if there is none.
    where
        Returns the place of a row, such as "line 5".
    request
        The request, for messages.
    known
        Whether the magnitudes of the table were already checked.
    """
    in_range = known or are_within(table)
    if not in_range and not (finite := np.isfinite(table)).all():
        D = len(names) - (weight is not None)
        if request.options.missing == "learn":
            gaps = np.isnan(table[:, :D])
            if (empty := gaps.all(axis=1)).any():
                row = int(empty.argmax())
                raise request.bad_row(f"{request.label} {where(row)}: all values are missing")
            finite[:, :D] |= gaps
        if not finite.all():
            row, column = np.argwhere(~finite)[0].tolist()
            problem = f"{table[row, column]} is not finite"
            is_gap = column < D and bool(np.isnan(table[row, column]))
            raise request.bad_cell(where(row), names[column], problem, is_missing=is_gap)
    if weight is None:
        return Checked(np.ascontiguousarray(table), None, in_range)
    X, w = np.ascontiguousarray(table[:, :-1]), table[:, -1].astype(np.float64)
    if (w < 0).any():
        row = int(np.argmax(w < 0))
        raise request.bad_cell(where(row), weight, f"the weight {w[row]:g} is negative")
    return Checked(X, w, in_range)


def sift(
    rows: Sequence[Row],
    make: Callable[[Sequence[Row]], Chunk],
    describe: Callable[[Row], tuple[int, str]],
    table: str,
) -> tuple[list[Chunk], list[BadRow]]:
    """Return the chunks of the good rows, and the bad rows.

    Rows with an error are divided into halves until each bad row is alone.

    Parameters
    ----------
    rows
        Rows of a table.
    make
        A function that returns the chunk of some rows, or raises a `DataError`.
    describe
        A function that returns the number of a row, and its text.
    table
        Name of the table.
    """
    if not len(rows):
        return [], []
    try:
        return [make(rows)], []
    except DataError as error:
        if len(rows) == 1:
            number, text = describe(rows[0])
            return [], [BadRow(table, 0, number, str(error), printable(text, EXCERPT))]
    half = len(rows) // 2
    good, bad = sift(rows[:half], make, describe, table)
    before = sum(len(chunk.X) for chunk in good)
    more, others = sift(rows[half:], make, describe, table)
    return good + more, bad + [replace(row, place=row.place + before) for row in others]


def join(parts: Sequence[Chunk], bad: Sequence[BadRow]) -> Chunk:
    """Return one chunk of consecutive parts (at least one), with the bad rows among them."""
    first = parts[0]
    if len(parts) == 1:
        return replace(first, bad=tuple(bad))
    return replace(
        first,
        X=np.concatenate([part.X for part in parts]),
        w=None if first.w is None else np.concatenate([part.w for part in parts]),
        labels={
            name: [text for part in parts for text in part.labels[name]] for name in first.labels
        },
        times=None if first.times is None else np.concatenate([part.times for part in parts]),
        bad=tuple(bad),
        in_range=all(part.in_range for part in parts),
    )


class SkippedRows:
    """Counts the bad rows of a table, and warns of the first ones.

    Parameters
    ----------
    warn
        Called with a sentence.
    """

    def __init__(self, warn: Callable[[str], object]) -> None:
        self.points = 0
        self.count = 0
        self._warn = warn

    def add(self, chunk: Chunk) -> None:
        """Count the rows of a chunk."""
        self.count_rows(len(chunk.X), len(chunk.bad), [row.reason for row in chunk.bad])

    def count_rows(self, good: int, bad: int, reasons: Sequence[str]) -> None:
        """Count good and bad rows; `reasons` are those of the first bad rows, up to five."""
        self.points += good
        for reason in reasons[: max(_SHOWN_ROWS - self.count, 0)]:
            self._warn(f"row skipped: {reason}")
        self.count += bad

    def report(self) -> None:
        """Warn of the number of bad rows, if there was a warning for only some of them.

        Raises
        ------
        DataError
            If all rows were bad.
        """
        if self.count > _SHOWN_ROWS:
            self._warn(f"{self.count:,} rows skipped; the first {_SHOWN_ROWS} are shown above")
        if self.count and not self.points:
            raise DataError(f"all {self.count:,} rows are bad; see the reasons above")


_SHOWN_ROWS = 5
