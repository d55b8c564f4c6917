"""Readers of NumPy files: .npy is mapped, an array in an .npz file is unpacked chunk by chunk.

A header is checked before memory is allocated for its array.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.files import SMALL_BYTES, check_expansion, open_regular
from streamclust.tables.chunk import Chunk, Request, checked, join, sift
from streamclust.tables.columns import Selection, default_names, listed, select
from streamclust.tables.npy import (
    array_header,
    known_header,
    read_header,
    rows_of_array,
    unreadable,
)
from streamclust.tables.options import TableOptions
from streamclust.tables.times import EventTimes

MAX_EXPANSION = 256
"""Largest ratio of unpacked to compressed bytes, for arrays above 1 GiB."""

_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06")
_DAMAGES = (
    ValueError,
    TypeError,
    EOFError,
    OverflowError,
    NotImplementedError,  # an unknown compression
    RuntimeError,  # an encrypted archive
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def read_array(path: str, request: Request, rows: range | None = None) -> Iterator[Chunk]:
    """Yield the chunks of an .npy file, or of one array of an .npz file.

    For an .npy file, `rows` can select a range of at least one row.
    """
    with open_regular(path) as file:
        checked_rows: set[range] | None = None
        if rows is not None:
            header, offset, checked_rows = known_header(file, request)
            parts = rows_of_array(file, request, header, offset, rows)
        elif file.read(4) in _ARCHIVES:
            parts = _unpacked(file, request)
        else:
            parts = _mapped(file, request)
        table: _Table | None = None
        start = 0 if rows is None else rows.start
        for part in parts:
            table = table or _Table(part.shape[1], request, checked_rows)
            if len(part):
                yield from table.chunks(part, start)
            start += len(part)


def reads_all_columns(n_columns: int, request: Request) -> bool:
    """Return whether all columns of an array are features, in their order."""
    chosen = select(default_names(n_columns), request, named=False)
    return chosen.indexes == tuple(range(n_columns)) and len(chosen.features) == n_columns


class _Table:
    """The columns of an array.

    `checked_rows` are the ranges of rows whose magnitudes are already checked. If it isn't None,
    the table owns the arrays that `chunks` gets, so points can be views of these arrays.
    """

    def __init__(self, n_columns: int, request: Request, checked_rows: set[range] | None) -> None:
        self._request = request
        self._checked_rows = checked_rows
        self._chosen: Selection = select(default_names(n_columns), request, named=False)
        self._times = EventTimes(request.options.time_format)

    def chunks(self, rows: NDArray[Any], start: int) -> Iterator[Chunk]:
        """Yield the chunk of `rows`; `start` is the index of the first row in the table."""

        def make(indexes: Sequence[int]) -> Chunk:
            return self._chunk(rows[indexes[0] - start : indexes[-1] + 1 - start], indexes[0])

        indexes = range(start, start + len(rows))
        if self._request.options.on_bad == "stop":
            yield make(indexes)
            return

        def describe(index: int) -> tuple[int, str]:
            return index + 1, str(rows[index - start].tolist())

        good, bad = sift(indexes, make, describe, self._request.label)
        yield join(good or [self._chunk(rows[:0], start)], bad)

    def _chunk(self, rows: NDArray[Any], start: int) -> Chunk:
        chosen, request = self._chosen, self._request

        def where(row: int) -> str:
            return f"row {start + row + 1}"

        dtype = np.float32 if rows.dtype == np.float32 else np.float64
        with np.errstate(over="ignore"):  # from long doubles; inf is refused later
            if chosen.indexes != tuple(range(rows.shape[1])):
                table = rows[:, chosen.indexes].astype(dtype)
            elif self._checked_rows is None:
                table = rows.astype(dtype)
            else:
                table = np.ascontiguousarray(rows, dtype)
        place, known = range(start, start + len(rows)), self._checked_rows or set()
        points = checked(table, chosen.numeric, chosen.weight, where, request, place in known)
        if self._checked_rows is not None and points.in_range and table.shape == rows.shape:
            self._checked_rows.add(place)
        labels = {
            name: [f"{value:g}" for value in rows[:, index].tolist()]
            for name, index in zip(chosen.labels, chosen.label_indexes, strict=True)
        }
        times = None
        if chosen.time is not None:
            times = self._times.read(
                rows[:, chosen.time_index].tolist(), chosen.time, where, request
            )
        return Chunk(
            chosen.features,
            points.X,
            points.w,
            start + 1,
            labels,
            times,
            in_range=points.in_range,
        )


def array_sample(path: str, key: str | None, rows: int) -> NDArray[Any]:
    """Return the first rows of an .npy file or of one array of an .npz file, without checks."""
    request = Request(path, TableOptions(key=key), chunk=rows)
    with open_regular(path) as file:
        is_archive = file.read(4) in _ARCHIVES
        parts = _unpacked(file, request) if is_archive else _mapped(file, request)
        return np.array(next(iter(parts)), np.float64)


def _mapped(file: IO[bytes], request: Request) -> Iterator[NDArray[Any]]:
    header = read_header(file, request)
    shape = header.n, header.n_columns
    if 0 in shape:  # an empty array can't be mapped
        yield np.empty((0, header.n_columns), header.dtype)
        return
    order: Literal["C", "F"] = "F" if header.fortran else "C"
    yield from _parts(np.memmap(file, header.dtype, "r", file.tell(), shape, order), request)


def _parts(array: NDArray[Any], request: Request) -> Iterator[NDArray[Any]]:
    """Yield the rows in parts, at least one part."""
    step = request.rows(array.shape[1])
    for start in range(0, max(len(array), 1), step):
        yield np.asarray(array[start : start + step])


def _unpacked(file: IO[bytes], request: Request) -> Iterator[NDArray[Any]]:
    try:
        with zipfile.ZipFile(file) as archive:
            info = _member(archive, request)
            with archive.open(info) as member:
                yield from _unpacked_rows(member, info, request)
    except DataError:
        raise
    except _DAMAGES as error:
        raise unreadable(request.label) from error


def _member(archive: zipfile.ZipFile, request: Request) -> zipfile.ZipInfo:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    names = list(members)
    key = names[0] if request.options.key is None and len(names) == 1 else request.options.key
    if key is None or key not in members:
        if not names:
            raise DataError(f"{request.label} has no array")
        asked = "the file has several arrays" if key is None else f"no array {key!r}"
        raise DataError(f"{request.label}: {asked}; choose one with --key: {listed(names)}")
    return members[key]


def _unpacked_rows(
    member: IO[bytes], info: zipfile.ZipInfo, request: Request
) -> Iterator[NDArray[Any]]:
    name = info.filename.removesuffix(".npy")
    label = f"{request.label}, array {name!r},"
    header = array_header(member, request, label)
    size = header.n * header.row_bytes
    if size != info.file_size - member.tell():
        raise unreadable(label)
    check_expansion(label, size, info.compress_size, MAX_EXPANSION)
    if header.fortran and header.n_columns > 1:  # a row isn't contiguous
        if size > SMALL_BYTES:
            raise DataError(f"{label} is too large in Fortran order; save it in C order or as .npy")
        flat = np.frombuffer(member.read(), header.dtype)
        yield from _parts(flat.reshape((header.n, header.n_columns), order="F"), request)
        return
    step = request.rows(header.n_columns)
    for start in range(0, max(header.n, 1), step):
        n = min(step, header.n - start)
        data = member.read(n * header.row_bytes)
        yield np.frombuffer(data, header.dtype).reshape(n, header.n_columns)
