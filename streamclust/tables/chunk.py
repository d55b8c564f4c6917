"""Chunks of a table, the selection of columns, and the checks of cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.text import has_control, printable

SHOWN = 40
"""Largest number of characters of a cell or a name in messages."""

MOST_COLUMNS = 1 << 20
"""Largest number of columns of a table."""

MOST_CELLS = 1 << 22
"""Largest number of cells of a chunk of several rows: chunks of wide tables have fewer rows."""

ADVICE = "choose columns with --columns or clean the file"

Where = Callable[[int], str]  # row of a chunk -> its place, for messages


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a table.

    Parameters
    ----------
    names
        The names of the columns of X.
    X
        Points, (n, D), finite; float32 where the file holds float32, else float64.
    w
        Weights, (n,), finite and not negative; None without a weight column.
    first_line
        Place of the first row: the line in a text, or the row number (from 1) in an array.
    """

    names: tuple[str, ...]
    X: NDArray[Any]
    w: NDArray[np.float64] | None
    first_line: int


@dataclass(frozen=True)
class Request:
    """A request to read a table.

    Parameters
    ----------
    label
        Name of the table in messages.
    columns
        The columns of X, in this order; None for all except the weights.
    weight_column
        The column of the weights.
    chunk
        Largest number of rows per chunk.
    key
        The name of the array in an .npz file.
    """

    label: str
    columns: tuple[str, ...] | None = None
    weight_column: str | None = None
    chunk: int = 8192
    key: str | None = None

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise DataError(f"chunk is {self.chunk}; expected at least 1")

    def rows(self, n_columns: int) -> int:
        """Return the rows per chunk for this number of columns: `chunk`, or 1/2, 1/4, ... of it.

        Raises
        ------
        DataError
            If the table has too many columns.
        """
        if n_columns > MOST_COLUMNS:
            raise DataError(
                f"{self.label} has {n_columns:,} columns; expected at most {MOST_COLUMNS:,}: "
                "each row is one point"
            )
        rows = self.chunk
        while rows > 1 and rows * n_columns > MOST_CELLS:
            rows //= 2
        return rows

    def bad_cell(self, where: str, column: str, problem: str) -> DataError:
        """Return the error that names a cell."""
        return DataError(f"{self.label} {where}, column {_short(column)}: {problem}; {ADVICE}")


@dataclass(frozen=True)
class Selection:
    """The selected columns and their indices in the table; the weights come last."""

    features: tuple[str, ...]
    weight: str | None
    indexes: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all selected columns."""
        return self.features if self.weight is None else (*self.features, self.weight)


def select(available: Sequence[str], request: Request) -> Selection:
    """Return the selection of the requested columns."""
    weight = request.weight_column
    features = request.columns
    if features is None:
        features = tuple(name for name in available if name != weight)
    wanted = features if weight is None else (*features, weight)
    _check_names(wanted, available, request)
    if not features:
        raise DataError(f"{request.label} has no feature column")
    places = {name: index for index, name in enumerate(available)}
    return Selection(features, weight, tuple(places[name] for name in wanted))


def _check_names(wanted: Sequence[str], available: Sequence[str], request: Request) -> None:
    there, asked = Counter(available), Counter(wanted)
    for name in wanted:
        if name not in there:
            raise DataError(f"{request.label} has no column {name!r}; it has {listed(available)}")
        if there[name] > 1:
            raise DataError(
                f"{request.label} has {there[name]} columns {_short(name)}; rename them"
            )
        if asked[name] > 1:
            raise DataError(f"column {_short(name)} is requested twice; name each column once")
        if has_control(name):
            raise DataError(
                f"{request.label}: the column name {_short(name)} has a control character; "
                "rename the column"
            )


def _short(name: str) -> str:
    return repr(name[:SHOWN]) + ("..." if len(name) > SHOWN else "")


def listed(names: Sequence[str], limit: int = 12) -> str:
    """Return the first names for a message."""
    shown = (printable(name, SHOWN) for name in names[:limit])
    return ", ".join(shown) + (", ..." if len(names) > limit else "")


def default_names(n_columns: int) -> tuple[str, ...]:
    """Return names for columns without names: x0, x1, ..."""
    return tuple(f"x{index}" for index in range(n_columns))


def make_chunk(
    table: NDArray[Any], selection: Selection, first_line: int, request: Request, where: Where
) -> Chunk:
    """Return the selected columns of some rows as a chunk; refuse values that can't be learned.

    Parameters
    ----------
    table
        The selected columns, in the order of the selection.
    selection
        Names of these columns.
    first_line
        Place of the first row.
    request
        The request, for messages.
    where
        Function that returns the place of a row.
    """
    finite = np.isfinite(table)
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        problem = f"{table[row, column]} is not finite"
        raise request.bad_cell(where(row), selection.names[column], problem)
    D = len(selection.features)
    X = np.ascontiguousarray(table[:, :D])
    if selection.weight is None:
        return Chunk(selection.features, X, None, first_line)
    w = table[:, D].astype(np.float64)
    if (w < 0).any():
        row = int(np.argmax(w < 0))
        raise request.bad_cell(where(row), selection.weight, f"the weight {w[row]:g} is negative")
    return Chunk(selection.features, X, w, first_line)
