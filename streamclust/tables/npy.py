"""Headers of .npy files, and rows that are read in any order.

A header is checked before memory is allocated for its array.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.files import Contents, contents_of
from streamclust.kernels import StoredPoints, read_into
from streamclust.tables.chunk import Request

HEADER_BYTES = 10_000
"""Longest header of an array. NumPy has the same limit, but checks it after reading the header."""


class Header(NamedTuple):
    """The header of an .npy file: shape, order and type of the numbers."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def n(self) -> int:
        """Number of rows; an array of one dimension is one column."""
        return self.shape[0]

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self.shape[1] if len(self.shape) == 2 else 1

    @property
    def row_bytes(self) -> int:
        """Number of bytes per row."""
        return self.n_columns * self.dtype.itemsize


def read_header(file: IO[bytes], request: Request) -> Header:
    """Return the header of a complete .npy file; the file position is then the start of the array.

    Raises
    ------
    DataError
        If the file isn't a table of numbers, or is too short.
    """
    file.seek(0)
    header = array_header(file, request, request.label)
    available = os.fstat(file.fileno()).st_size - file.tell()
    if header.n * header.row_bytes > available:
        raise DataError(
            f"{request.label} has shape {header.shape}, {header.n * header.row_bytes:,} bytes, but "
            f"holds {available:,}; it is damaged or cut off"
        )
    return header


def array_header(file: IO[bytes], request: Request, label: str) -> Header:
    """Return the header at the position of a file, which is then the start of the array."""
    try:
        version = np.lib.format.read_magic(file)
        head = file.read({(1, 0): 2, (2, 0): 4}[version])
        if int.from_bytes(head, "little") > HEADER_BYTES:
            raise ValueError("header too long")
        file.seek(-len(head), os.SEEK_CUR)
        if version == (1, 0):
            header = Header(*np.lib.format.read_array_header_1_0(file))
        else:
            header = Header(*np.lib.format.read_array_header_2_0(file))
    except Exception as error:  # the exceptions of NumPy's header parser aren't documented
        raise unreadable(label) from error
    if header.dtype.hasobject:
        raise unreadable(label)  # it would need pickle
    if header.dtype.kind not in "fiu":
        raise DataError(f"{label} holds {header.dtype}; save it as float32 or float64")
    if len(header.shape) not in (1, 2) or any(
        type(size) is not int or size < 0 for size in header.shape
    ):
        raise DataError(
            f"{label} has shape {header.shape}, expected (points, features); "
            "reshape the array to two dimensions"
        )
    request.rows(header.n_columns)  # raises an error if there are too many columns
    return header


def unreadable(what: str) -> DataError:
    """Return the error for an array that can't be read."""
    return DataError(f"{what} can't be read as numbers; save it by NumPy as float32 or float64")


class KnownFile(NamedTuple):
    """An .npy file that was read before: its header, the start of the array, and checked rows.

    All numbers of the rows in a checked range have a magnitude up to `MAX_MAGNITUDE`. The next pass
    doesn't check these rows again.
    """

    header: Header
    offset: int
    checked_rows: set[range]


def known_header(file: IO[bytes], request: Request) -> KnownFile:
    """Return the header of an .npy file, which is read only once, and its checked rows.

    Raises
    ------
    DataError
        See `read_header`.
    """
    known = _known(contents_of(file))
    if not known:
        header = read_header(file, request)
        known.append(KnownFile(header, file.tell(), set()))
    return known[0]


@lru_cache(maxsize=64)
def _known(_contents: Contents) -> list[KnownFile]:
    """Return a list for the `KnownFile` of a file; empty for a new file."""
    return []


def rows_of_array(
    file: IO[bytes], request: Request, header: Header, offset: int, rows: range
) -> Iterator[NDArray[Any]]:
    """Yield some rows of an .npy file in parts; each part is a separate array.

    The file isn't mapped: if a program truncates a mapped file, the system ends this process.
    """
    step, F, size = request.rows(header.n_columns), header.n_columns, header.dtype.itemsize
    for start in range(rows.start, rows.stop, step):
        n = min(step, rows.stop - start)
        if header.fortran and F > 1:
            columns = np.empty((F, n), header.dtype)
            for f in range(F):
                read_into(columns[f], file, offset + (f * header.n + start) * size, request.label)
            yield columns.T
            continue
        table = np.empty((n, F), header.dtype)
        read_into(table, file, offset + start * F * size, request.label)
        yield table


def stored_rows(file: IO[bytes], request: Request, rows: range) -> StoredPoints | None:
    """Return some rows of an .npy file, for a kernel that reads the file itself.

    The result is None if a kernel can't read the numbers, or the rows aren't checked yet.
    """
    header, offset, checked_rows = known_header(file, request)
    is_in_order = not header.fortran or header.n_columns == 1
    if rows not in checked_rows or header.dtype not in (np.float64, np.float32) or not is_in_order:
        return None
    shape = len(rows), header.n_columns
    start = offset + rows.start * header.row_bytes
    return StoredPoints(file, start, shape, header.dtype, request.label)
