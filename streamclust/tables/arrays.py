"""Tables as NumPy files: .npy is mapped, an array of an .npz is loaded whole."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.tables.chunk import Chunk, Request, Where, default_names, make_chunk, select


def read_array(path: str, request: Request) -> Iterator[Chunk]:
    """Yield the chunks of an .npy file or of one array of an .npz file."""
    array = _columns(load(path, request), request)
    selection = select(default_names(array.shape[1]), request)
    dtype = np.float32 if array.dtype == np.float32 else np.float64
    for start in range(0, len(array), request.chunk):
        rows = array[start : start + request.chunk]
        table = np.asarray(rows)[:, selection.indexes].astype(dtype)
        yield make_chunk(table, selection, start + 1, request, _place(start))


def _place(start: int) -> Where:
    return lambda row: f"row {start + row + 1}"


def load(path: str, request: Request) -> NDArray[Any]:
    """Return the array of a file; never by unpickling."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable(request.label) from error
    if isinstance(found, np.ndarray):
        return found
    with found:
        return _member(found, request)


def _unreadable(what: str) -> DataError:
    return DataError(f"{what} can't be read as numbers; save it by NumPy as float32 or float64")


def _member(archive: Any, request: Request) -> NDArray[Any]:
    names = archive.files
    key = names[0] if request.key is None and len(names) == 1 else request.key
    if key not in names:
        asked = "which array?" if key is None else f"no array {key!r}."
        raise DataError(f"{request.label}: {asked} Choose with --key: {', '.join(names)}")
    try:
        array: NDArray[Any] = archive[key]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable(f"{request.label}, array {key!r},") from error
    return array


def _columns(array: NDArray[Any], request: Request) -> NDArray[Any]:
    """Return a 2-D array of real numbers; a 1-D array is one column."""
    if array.dtype.kind not in "fiu":
        raise DataError(f"{request.label} holds {array.dtype}; save it as float32 or float64")
    if array.ndim not in (1, 2):
        raise DataError(
            f"{request.label} has shape {array.shape}, expected (points, features); "
            "reshape the array to two dimensions"
        )
    return array[:, None] if array.ndim == 1 else array
