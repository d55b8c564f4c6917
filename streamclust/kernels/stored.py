"""Points in a file that a kernel reads by itself, chunk by chunk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from streamclust.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.arrays import Points


@dataclass(frozen=True, eq=False)
class StoredPoints:
    """Points in the rows of an array in a file, already checked (`streamclust.arrays.are_within`).

    A kernel reads each chunk into memory that stays in the processor's cache. If all points were
    read first, a step with K 64 and D 16 would take 1.2 times the processor time.

    Parameters
    ----------
    file : file
        An open file.
    offset : int
        Position of the first point in the file, in bytes.
    shape : (int, int)
        Number of points N, and of features D.
    dtype : dtype
        float64 or float32.
    label : str
        Name of the file in messages.
    """

    file: IO[bytes]
    offset: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    label: str

    def __len__(self) -> int:
        return self.shape[0]

    def read(self) -> Points:
        """Return all points.

        Raises
        ------
        DataError
            If the file was cut off.
        """
        out: Points = np.empty(self.shape, self.dtype)
        read_into(out, self.file, self.offset, self.label)
        return out


def read_into(out: NDArray[Any], file: IO[bytes], offset: int, label: str) -> None:
    """Fill a contiguous array from the bytes at `offset` of a file.

    Raises
    ------
    DataError
        If the file was cut off.
    """
    view = memoryview(cast("Any", out.view(np.uint8).reshape(-1)))
    while view:
        count = os.preadv(file.fileno(), [view], offset)
        if not count:
            raise cut_off(label)
        view, offset = view[count:], offset + count


def cut_off(label: str) -> DataError:
    """Return the error of a file that ends before its last point."""
    return DataError(f"{label} was cut off while it was read")
