"""The first rows of a file, and the roles of its columns."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import MAX_MAGNITUDE
from streamclust.errors import DataError
from streamclust.quickstart.columns import row_numbers, with_roles
from streamclust.tables import Chunk, Column, Sniffed, TableOptions, read_table, sniff
from streamclust.tables.chunk import short

MAX_NAMED_FEATURES = 32
"""Largest number of features of entries with named fields, and of arrays whose columns may have
different units."""

_MAX_SHOWN = 12
"""Largest number of columns that an error names."""

_MAX_ROWS = 200_000
_MAX_BYTES = 1 << 28
"""Limits of the part of a file that is read."""

_MIN_COMPLETE = 200
"""With at least this many complete rows, a proposal ignores rows with missing values."""


@dataclass(frozen=True, eq=False)
class FirstRows:
    """The first rows of a file, and how to read all of them.

    Parameters
    ----------
    options : TableOptions
    columns : tuple of Column
        All columns with their roles.
    notes : tuple of str
        Sentences about columns that aren't learned.
    is_wide : bool
        Whether the file is an array of many columns of the same unit, such as pixels or embeddings.
    X : array of shape (n, D)
        Rows that can be learned.
    features : tuple of str
    bad : int
        Number of rows that can't be learned.
    reason : str
        Why the first bad row can't be learned.
    is_complete : bool
        Whether all rows of the file were read.
    """

    options: TableOptions
    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    is_wide: bool
    X: NDArray[Any]
    features: tuple[str, ...]
    bad: int
    reason: str
    is_complete: bool

    @property
    def are_named(self) -> bool:
        """Whether the features have names other than x0, x1, ..."""
        return self.features != tuple(f"x{index}" for index in range(len(self.features)))

    @property
    def needs_columns(self) -> bool:
        """Whether --columns is needed to read only the features of the file."""
        unused = {"constant", "ignored", "index"}
        if self.options.time_column is None:
            unused.add("time")
        return any(column.role in unused for column in self.columns if column.name)

    def sample(self, most: int = 5000) -> NDArray[np.float64]:
        """Return up to `most` rows, at equal intervals."""
        return np.asarray(self.X[_even(len(self.X), most)], np.float64)

    def complete_sample(self, most: int = 5000) -> NDArray[np.float64]:
        """Return up to `most` rows without missing values.

        If there are few such rows, missing values are replaced by the mean of the feature.
        """
        gaps = np.isnan(self.X)
        complete = ~gaps.any(axis=1)
        if (n := int(complete.sum())) == len(self.X):
            return self.sample(most)
        if n >= _MIN_COMPLETE:
            return np.asarray(self.X[complete][_even(n, most)], np.float64)
        present = np.maximum((~gaps).sum(axis=0), 1)
        means = np.where(gaps, 0.0, self.X).sum(axis=0, dtype=np.float64) / present
        places = _even(len(self.X), most)
        return np.where(gaps[places], means, self.X[places])


def _even(n: int, most: int) -> NDArray[np.int64]:
    return np.linspace(0, n - 1, min(n, most)).astype(np.int64)


def read_first_rows(path: Path, options: TableOptions) -> FirstRows:
    """Return the first rows of a file. `options` are those that the user has set.

    Raises
    ------
    DataError
        If the file has fewer than two rows of numbers, or no feature.
    """
    sniffed = sniff(path, options)
    is_wide = sniffed.options.kind in ("npy", "npz") and len(sniffed.columns) > MAX_NAMED_FEATURES
    is_open = options.columns is None and not is_wide
    columns = with_roles(sniffed) if is_open else sniffed.columns
    chosen = _with_columns(sniffed, columns, options)
    if is_wide:
        chosen = replace(chosen, columns=options.columns)
    rows = _Rows(path, read_table(path, chosen))
    features, X = rows.names, rows.X
    counts = row_numbers(X, features) if is_open else frozenset()
    if counts and len(counts) < len(features):
        X = X[:, [name not in counts for name in features]]
        features = tuple(name for name in features if name not in counts)
        chosen = replace(chosen, columns=features)
        columns = tuple(
            replace(column, role="index") if column.name in counts else column for column in columns
        )
    notes = [
        _note(column)
        for column in columns
        if column.role not in ("feature", "time") and column.name != options.weight_column
    ]
    if rows.last_time > time.time() * 1e3:
        notes.append(f"{chosen.time_column!r} isn't used: it has times in the future")
        chosen = replace(chosen, time_column=None)
    return FirstRows(
        chosen,
        columns,
        tuple(notes),
        is_wide,
        X,
        features,
        rows.bad,
        rows.reason,
        rows.is_complete,
    )


def _with_columns(
    sniffed: Sniffed, columns: tuple[Column, ...], options: TableOptions
) -> TableOptions:
    """Return the options with the roles of the columns."""
    features = tuple(column.name for column in columns if column.role == "feature")
    if not features:
        listing = ", ".join(
            f"{short(column.name)} ({'empty' if column.kind == 'empty' else column.role})"
            for column in columns[:_MAX_SHOWN]
        )
        if more := len(columns[_MAX_SHOWN:]):
            listing += f", and {more:,} more"
        raise DataError(
            f"{sniffed.path} has no column of features: {listing}; name features with --columns"
        )
    labels = tuple(column.name for column in columns if column.role == "label")
    use_time = options.time_column or (sniffed.sorted_by_time and sniffed.options.time_column)
    return replace(
        sniffed.options,
        columns=features,
        label_columns=options.label_columns or labels,
        time_column=use_time or None,
    )


class _Rows:
    """The rows that can be learned, up to a limit."""

    def __init__(self, path: Path, chunks: Iterable[Chunk]) -> None:
        parts: list[NDArray[Any]] = []
        rows = size = 0
        self.names: tuple[str, ...] = ()
        self.bad = self.last_time = 0
        self.reason = ""
        self.is_complete = True
        for chunk in chunks:
            if rows >= _MAX_ROWS or size >= _MAX_BYTES:
                self.is_complete = False
                break
            good = np.ones(len(chunk.X), bool)
            if chunk.X.dtype != np.float32:
                good = ~(np.abs(chunk.X) > MAX_MAGNITUDE).any(axis=1)
            parts.append(chunk.X if good.all() else chunk.X[good])
            rows += len(parts[-1])
            size += parts[-1].nbytes
            self.names = chunk.names
            self.bad += len(chunk.bad) + int((~good).sum())
            self.reason = self.reason or "".join(row.reason for row in chunk.bad[:1])
            if chunk.times is not None and len(chunk.times):
                self.last_time = int(chunk.times[-1])
        if rows < 2:
            count = "one row" if rows else "no row"
            reason = f"; the first bad row: {self.reason}" if self.reason else ""
            raise DataError(f"{path} has {count} of numbers; expected at least two{reason}")
        self.X = np.concatenate(parts)


def _note(column: Column) -> str:
    name = repr(column.name)
    if column.role == "label":
        return f"{name} isn't learned: it goes to the codes as a label"
    if column.role == "index":
        return f"{name} isn't used: it identifies rows"
    if column.role == "constant":
        return f"{name} isn't used: it is always {column.example}"
    if column.missing:
        return (
            f"{name} isn't used: {column.missing:,} of the first rows have no value; to use it, "
            "give --missing learn"
        )
    return f"{name} isn't used: {column.kind}"
