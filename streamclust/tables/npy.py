"""Headers of .npy files, and rows that are read in any order.

A header is checked before any memory is allocated for it.
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
"""Longest header of an array: NumPy's own limit, which it checks only after it has read one."""


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
    there = os.fstat(file.fileno()).st_size - file.tell()
    if header.n * header.row_bytes > there:
        raise DataError(
            f"{request.label} has shape {header.shape}, {header.n * header.row_bytes:,} bytes, but "
            f"holds {there:,}; it is damaged or cut off"
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
    if len(header.shape) not in (1, 2) or not all(map(_is_size, header.shape)):
        raise DataError(
            f"{label} has shape {header.shape}, expected (points, features); "
            "reshape the array to two dimensions"
        )
    request.rows(header.n_columns)  # raises an error if there are too many columns
    return header


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def unreadable(what: str) -> DataError:
    """Return the error of an array that can't be read."""
    return DataError(f"{what} can't be read as numbers; save it by NumPy as float32 or float64")


class Known(NamedTuple):
    """What is known of an .npy file: its header, the start of the array, and sane ranges of rows.

    A range of rows is sane if it was checked, and all numbers are of a magnitude up to
    `MAX_MAGNITUDE`. Such rows aren't checked again in the next pass.
    """

    header: Header
    offset: int
    sane: set[range]


def known_header(file: IO[bytes], request: Request) -> Known:
    """Return what is known of an .npy file; the header is read once.

    Raises
    ------
    DataError
        See `read_header`.
    """
    known = _known(contents_of(file))
    if not known:
        header = read_header(file, request)
        known.append(Known(header, file.tell(), set()))
    return known[0]


@lru_cache(maxsize=64)
def _known(_contents: Contents) -> list[Known]:
    """Return a list for what is known of a file."""
    return []


def rows_of_array(
    file: IO[bytes], request: Request, header: Header, offset: int, rows: range
) -> Iterator[NDArray[Any]]:
    """Yield some rows of an .npy file in parts, each an array of its own.

    The file isn't mapped: if a program cuts off a mapped file, the system ends this process.
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
    """Return some rows of an .npy file for a kernel that reads by itself.

    Returns None if a kernel can't read the numbers as they are, or the rows aren't known to be
    sane.
    """
    header, offset, sane = known_header(file, request)
    is_in_order = not header.fortran or header.n_columns == 1
    if rows not in sane or header.dtype not in (np.float64, np.float32) or not is_in_order:
        return None
    shape = len(rows), header.n_columns
    start = offset + rows.start * header.row_bytes
    return StoredPoints(file, start, shape, header.dtype, request.label)
