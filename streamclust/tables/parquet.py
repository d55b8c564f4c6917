"""Reader of Parquet files; needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError, MissingExtraError
from streamclust.files import check_expansion, open_regular
from streamclust.tables.chunk import Chunk, Request, Selection, Where, make_chunk, select

MOST_EXPANSION = 256
"""Largest ratio of unpacked to stored bytes, for tables above 1 GiB."""

_BUFFER_BYTES = 1 << 16  # of each column, instead of a whole row group


def read_parquet(path: str, request: Request) -> Iterator[Chunk]:
    """Yield the chunks of a Parquet file."""
    with opened_parquet(path, request) as file:
        schema = file.schema_arrow
        names = schema.names
        size = request.rows(len(names))
        selection = select(names, request)
        dtype = _dtype(schema, selection, request)
        values = file.metadata.num_rows * len(selection.names)
        check_expansion(request.label, 8 * values, Path(path).stat().st_size, MOST_EXPANSION)
        start = 0
        for batch in file.iter_batches(size, columns=list(selection.names)):
            table = _table(batch, selection, dtype, start, request)
            yield make_chunk(table, selection, start + 1, request, _place(start))
            start += len(table)


@contextmanager
def opened_parquet(path: str, request: Request) -> Iterator[Any]:
    """Open a Parquet file; errors of pyarrow in the block become a `DataError` of one line."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtraError(
            f"{request.label}: Parquet needs pyarrow: pip install pyarrow"
        ) from None
    try:
        with (
            open_regular(path) as source,
            ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file,
        ):
            yield file
    except DataError:
        raise
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{request.label} can't be read as Parquet: {reason}") from error


def _dtype(schema: Any, selection: Selection, request: Request) -> type[np.floating[Any]]:
    from pyarrow import types

    for name in selection.names:
        kind = schema.field(name).type
        if not (types.is_floating(kind) or types.is_integer(kind)):
            raise DataError(
                f"{request.label}, column {name!r} holds {kind}, not numbers; "
                "choose columns with --columns"
            )
    single = all(types.is_float32(schema.field(name).type) for name in selection.features)
    return np.float32 if single else np.float64


def _place(start: int) -> Where:
    return lambda row: f"row {start + row + 1}"


def _table(
    batch: Any, selection: Selection, dtype: Any, start: int, request: Request
) -> NDArray[Any]:
    for name in selection.names:
        if batch.column(name).null_count:
            row = batch.column(name).is_null().to_pylist().index(True)
            raise request.bad_cell(f"row {start + row + 1}", name, "null is not a number")
    columns = [
        batch.column(name).to_numpy(zero_copy_only=False).astype(dtype) for name in selection.names
    ]
    return np.stack(columns, axis=1)
