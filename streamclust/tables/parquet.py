"""Reader of Parquet files; needs pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError, MissingExtraError
from streamclust.files import Contents, check_expansion, contents_of, open_regular
from streamclust.kernels import interleave
from streamclust.tables.chunk import Chunk, Request, checked, join, short, sift
from streamclust.tables.columns import Selection, expanded, list_names, select
from streamclust.tables.times import EventTimes

MAX_EXPANSION = 256
"""Largest ratio of unpacked to stored bytes, for tables above 1 GiB."""

_BUFFER_BYTES = 1 << 16
"""Bytes per read of a column, so that no whole row group is in memory."""


def read_parquet(path: str, request: Request, groups: range | None = None) -> Iterator[Chunk]:
    """Yield the chunks of a Parquet file, or of a range of its row groups."""
    with opened_parquet(path, request) as file:
        table = _Table(file, request)
        values = file.metadata.num_rows * len(table.chosen.numeric)
        check_expansion(request.label, 8 * values, Path(path).stat().st_size, MAX_EXPANSION)
        start, selected = 0, None if groups is None else list(groups)
        if groups is not None:
            start = sum(file.metadata.row_group(group).num_rows for group in range(groups.start))
        for batch in file.iter_batches(
            table.rows, row_groups=selected, columns=table.columns, use_threads=groups is None
        ):
            if len(batch):
                yield table.chunk(batch, start)
            start += len(batch)


@contextmanager
def opened_parquet(path: str, request: Request) -> Iterator[Any]:
    """Open a Parquet file; errors of pyarrow in the block become a `DataError` of one line."""
    try:
        from pyarrow import ArrowException, OSFile
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtraError(
            f"{request.label}: Parquet needs pyarrow: pip install pyarrow"
        ) from None
    try:
        with (
            open_regular(path) as regular,  # refuses directories, and files that would block
            OSFile(path) as source,  # read without the interpreter's lock
            ParquetFile(
                source,
                pre_buffer=False,
                buffer_size=_BUFFER_BYTES,
                metadata=_metadata(path, contents_of(regular)),
            ) as file,
        ):
            yield file
    except DataError:
        raise
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{request.label} can't be read as Parquet: {reason}") from error


@lru_cache(maxsize=2)
def _metadata(path: str, _contents: Contents) -> Any:
    """Return the metadata at the end of a file, which all parts of the file need."""
    from pyarrow import OSFile
    from pyarrow.parquet import ParquetFile

    with OSFile(path) as source, ParquetFile(source, pre_buffer=False) as file:
        return file.metadata


class _Table:
    """The columns of a Parquet file. A list of numbers becomes the columns NAME_0, NAME_1, ..."""

    def __init__(self, file: Any, request: Request) -> None:
        schema = file.schema_arrow
        options = request.options
        self._request = request
        self._schema = schema
        self._widths = _widths(file, request)
        groups = {name: list_names(name, width) for name, width in self._widths.items()}
        names, self._sources = [], dict[str, tuple[str, int | None]]()
        for name in schema.names:
            for element, column in enumerate(groups.get(name, (name,))):
                names.append(column)
                self._sources[column] = (name, element if name in groups else None)
        request = replace(request, options=expanded(options, groups))
        self.chosen: Selection = select(names, request, index=_pandas_index(schema))
        self.rows = request.rows(len(names))
        self._check_types()
        self._numeric = [self._sources[name] for name in self.chosen.numeric]
        self._dtype = self._find_dtype()
        self._times = EventTimes(options.time_format)
        points = [self._sources[name][0] for name in self.chosen.numeric]
        other_columns = (*self.chosen.labels, *((self.chosen.time,) if self.chosen.time else ()))
        self.columns = list(dict.fromkeys((*points, *other_columns)))
        """The columns to read."""

    def chunk(self, batch: Any, start: int) -> Chunk:
        """Return the chunk of a batch of rows; `start` is the index of its first row."""

        def make(places: Sequence[int]) -> Chunk:
            return self._chunk(batch.slice(places[0], len(places)), start + places[0])

        places = range(len(batch))
        if self._request.options.on_bad == "stop":
            return make(places)

        def describe(place: int) -> tuple[int, str]:
            (row,) = batch.slice(place, 1).to_pylist()
            return start + place + 1, str(row)

        good, bad = sift(places, make, describe, self._request.label)
        return join(good or [self._chunk(batch.slice(0, 0), start)], bad)

    def _chunk(self, batch: Any, start: int) -> Chunk:
        chosen, request = self.chosen, self._request

        def where(row: int) -> str:
            return f"row {start + row + 1}"

        X, w, in_range = checked(
            self._numbers(batch, start), chosen.numeric, chosen.weight, where, request
        )
        columns = {name: batch.column(name).to_pylist() for name in chosen.labels}
        labels = {
            name: ["" if value is None else str(value) for value in values]
            for name, values in columns.items()
        }
        times = None
        if chosen.time is not None:
            values = batch.column(chosen.time).to_pylist()
            times = self._times.read(values, chosen.time, where, request)
        return Chunk(chosen.features, X, w, start + 1, labels, times, in_range=in_range)

    def _numbers(self, batch: Any, start: int) -> NDArray[Any]:
        """Return the selected columns, (n, F)."""
        lists = {
            name: self._list(self._column(batch, name, start), name, start)
            for name in self._widths
            if any(home == name for home, _ in self._numeric)
        }
        for name, values in lists.items():
            if self._numeric == [(name, element) for element in range(values.shape[1])]:
                return values.astype(self._dtype, copy=False)  # a whole list, in its order
        table = np.empty((len(batch), len(self._numeric)), self._dtype)
        columns = [
            _plain(self._column(batch, name, start)) if element is None else lists[name][:, element]
            for name, element in self._numeric
        ]
        with np.errstate(over="ignore"):  # inf is refused later
            interleave(columns, table)
        return table

    def _column(self, batch: Any, name: str, start: int) -> Any:
        """Return a column; refuse nulls unless missing values of the column are accepted."""
        column = batch.column(name)
        if column.null_count and not self._may_miss(name):
            row = column.is_null().to_pylist().index(True)
            raise self._null(start + row, name)
        return column

    def _may_miss(self, name: str) -> bool:
        """Return whether values of a column may be missing: only those of features."""
        return self._request.options.missing == "learn" and name != self.chosen.weight

    def _null(self, row: int, name: str) -> DataError:
        return self._request.bad_cell(
            f"row {row + 1}", name, "null is not a number", is_missing=name != self.chosen.weight
        )

    def _list(self, column: Any, name: str, start: int) -> NDArray[Any]:
        import pyarrow.compute as pc

        width = self._widths[name]
        is_present = column.is_valid().to_numpy(zero_copy_only=False)
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        if (has_other_length := is_present & (lengths != width)).any():
            row = int(np.argmax(has_other_length))
            problem = f"the list has {int(lengths[row])} values; expected {width}"
            raise self._request.bad_cell(f"row {start + row + 1}", name, problem)
        flat = (column if is_present.all() else column.drop_null()).flatten()
        if flat.null_count and not self._may_miss(name):
            row = flat.is_null().to_pylist().index(True) // width
            raise self._null(start + row, name)
        values = _plain(flat).reshape(int(is_present.sum()), width)
        if is_present.all():
            return values
        with_gaps = np.full((len(column), width), np.nan)
        with_gaps[is_present] = values
        return with_gaps

    def _check_types(self) -> None:
        for column in self.chosen.numeric:
            name = self._sources[column][0]
            kind = self._schema.field(name).type
            if not _is_numeric(kind.value_type if name in self._widths else kind):
                raise DataError(
                    f"{self._request.label}, column {short(name)} holds {kind}, not numbers; "
                    "choose columns with --columns, or leave it out with --exclude"
                )

    def _find_dtype(self) -> type[np.floating[Any]]:
        from pyarrow import types

        kinds = [self._schema.field(self._sources[name][0]).type for name in self.chosen.features]
        kinds = [kind.value_type if _is_list(kind) else kind for kind in kinds]
        return np.float32 if all(map(types.is_float32, kinds)) else np.float64


def _widths(file: Any, request: Request) -> dict[str, int]:
    """Return the width of each column of lists of numbers: the length of its first list."""
    from pyarrow import types

    widths: dict[str, int] = {}
    for column in file.schema_arrow:
        if not _is_list(column.type) or not _is_numeric(column.type.value_type):
            continue
        if types.is_fixed_size_list(column.type):
            widths[column.name] = column.type.list_size
            continue
        for batch in file.iter_batches(1024, columns=[column.name]):
            lengths = [len(value) for value in batch.column(0).to_pylist() if value is not None]
            if lengths:
                widths[column.name] = lengths[0]
                break
    request.rows(len(file.schema_arrow.names) + sum(widths.values()))  # refuses too many columns
    return widths


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_numeric(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind))


def _plain(column: Any) -> NDArray[Any]:
    import pyarrow as pa

    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return numbers


def _pandas_index(schema: Any) -> set[str]:
    """Return the columns that pandas wrote as the index of the rows."""
    try:
        index = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        return {name for name in index if isinstance(name, str)}
    except (KeyError, TypeError, ValueError):
        return set()


def parquet_sample(path: str, rows: int) -> tuple[list[str], list[list[Any]]]:
    """Return the names of the columns and the first rows of a Parquet file, without checks.

    A column that pandas wrote as an index has the name ``__index_level_0__``.
    """
    with opened_parquet(path, Request(path)) as file:
        batch = next(file.iter_batches(rows), None)
        index = _pandas_index(file.schema_arrow)
        names = ["__index_level_0__" if name in index else name for name in file.schema_arrow.names]
        columns = [] if batch is None else [column.to_pylist() for column in batch.columns]
        return names, [list(row) for row in zip(*columns, strict=True)]
