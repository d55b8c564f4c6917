"""Parts of data: frozen values that say where points are, without a way to read them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from streamclust.errors import DataError
from streamclust.files import cannot

if TYPE_CHECKING:
    from streamclust.arrays import Array
    from streamclust.formats.layout import Layout
    from streamclust.tables import ModelColumns, TableOptions
    from streamclust.tables.split import Span


@dataclass(frozen=True)
class StreamPart:
    """A range of a stream.

    Parameters
    ----------
    stream : str
    after, until : str
        ID before the first entry, and of the last entry.
    count : int
        Number of points in the range, good or bad, when the part was cut. If fewer are found
        later, the others were trimmed.
    layout : Layout
        Layout of the entries.
    """

    stream: str
    after: str
    until: str
    count: int
    layout: Layout

    kind: ClassVar[str] = "stream"

    @property
    def label(self) -> str:
        """The name of the part in messages."""
        return f"stream {self.stream} after {self.after}, up to {self.until}"


@dataclass(frozen=True)
class Stamp:
    """The size of a file and the time of its last change, to detect another change.

    Parameters
    ----------
    size : int
        Bytes.
    mtime_ns : int
    """

    size: int
    mtime_ns: int


@dataclass(frozen=True)
class FilePart:
    """A piece of a table in a file.

    Parameters
    ----------
    name : str
        The path that the user gave, for messages.
    path : str
        The absolute path. An engine on another machine must see the same file there.
    stamp : Stamp
        Stamp of the file when the part was cut.
    span : Span
        The piece: rows of an .npy file, row groups of a Parquet file, lines of a text, or all of
        a table that can't be split.
    options : TableOptions
        How to read the file.
    model : ModelColumns or None
        The columns that the model needs.
    directions : bool
        Whether only the direction of a point counts; see `streamclust.engine.points.points`.
    """

    name: str
    path: str
    stamp: Stamp
    span: Span
    options: TableOptions
    model: ModelColumns | None
    directions: bool = False

    kind: ClassVar[str] = "file"

    @property
    def label(self) -> str:
        """The name of the part in messages."""
        return f"{self.name} ({self.span})"


@dataclass(frozen=True, eq=False)
class ArrayPart:
    """Points in memory.

    Parameters
    ----------
    X, w : arrays of shape (N, D) and (N,)
        Points, and their weights, all positive.
    """

    X: Array
    w: Array

    kind: ClassVar[str] = "array"

    @property
    def label(self) -> str:
        """The name of the part in messages."""
        return f"{len(self.w):,} points in memory"


Part = StreamPart | FilePart | ArrayPart


def stamp_of(path: str) -> Stamp:
    """Return the stamp of a file as it is now.

    Raises
    ------
    DataError
        If there is no such file.
    """
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise cannot("read", path, error) from None
    return Stamp(found.st_size, found.st_mtime_ns)


def check_unchanged(part: FilePart) -> None:
    """Refuse a file that was changed after the part was cut.

    Raises
    ------
    DataError
    """
    now, stamp = stamp_of(part.path), part.stamp
    if now == stamp:
        return
    how = "its time of change differs"
    if now.size != stamp.size:
        how = f"it had {stamp.size:,} bytes and has {now.size:,}"
    raise DataError(
        f"{part.name} was changed while it was read: {how}; start again when no program writes to "
        "it"
    )
