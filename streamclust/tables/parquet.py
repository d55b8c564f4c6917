"""Tables as Parquet files, if pyarrow is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError, MissingExtraError
from streamclust.tables.chunk import Chunk, Request, Selection, Where, make_chunk, select


def read_parquet(path: str, request: Request) -> Iterator[Chunk]:
    """Yield the chunks of a Parquet file."""
    with open_parquet(path, request) as file:
        selection = select(file.schema_arrow.names, request)
        dtype = _dtype(file.schema_arrow, selection, request)
        start = 0
        for batch in file.iter_batches(request.chunk, columns=list(selection.names)):
            table = _table(batch, selection, dtype, start, request)
            yield make_chunk(table, selection, start + 1, request, _place(start))
            start += len(table)


def open_parquet(path: str, request: Request) -> Any:
    """Return an open Parquet file."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtraError(
            f"{request.label}: Parquet needs pyarrow: pip install 'streamclust[parquet]'"
        ) from None
    try:
        return ParquetFile(path)
    except ArrowException as error:
        raise DataError(f"{request.label} can't be read as Parquet: {error}") from error


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
