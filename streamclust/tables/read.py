"""Reading of a table from a file or stdin, in chunks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import UnsupportedOperation
from pathlib import Path
from typing import Literal, cast, get_args

from streamclust.errors import DataError
from streamclust.files import cannot, open_regular
from streamclust.tables.arrays import read_array, read_header
from streamclust.tables.chunk import Chunk, Request
from streamclust.tables.lines import Lines, Readable
from streamclust.tables.parquet import opened_parquet, read_parquet
from streamclust.tables.text import read_csv, read_json_lines

Kind = Literal["csv", "tsv", "jsonl", "ndjson", "npy", "npz", "parquet"]
KINDS: tuple[Kind, ...] = get_args(Kind)
STDIN = "-"

_TEXTS: dict[Kind, Callable[[Lines, Request], Iterator[Chunk]]] = {
    "csv": lambda lines, request: read_csv(lines, request, ","),
    "tsv": lambda lines, request: read_csv(lines, request, "\t"),
    "jsonl": read_json_lines,
    "ndjson": read_json_lines,
}
_FILES: dict[Kind, Callable[[str, Request], Iterator[Chunk]]] = {
    "npy": read_array,
    "npz": read_array,
    "parquet": read_parquet,
}


def read_table(
    path: str | Path,
    *,
    kind: Kind | None = None,
    columns: Sequence[str] | None = None,
    weight_column: str | None = None,
    chunk: int = 8192,
    key: str | None = None,
    wait_for: Callable[[int], None] | None = None,
) -> Iterator[Chunk]:
    """Return the rows of a table in chunks.

    Text is read line by line, .npy is mapped, Parquet and .npz are read in batches. A chunk of a
    table with more than 512 columns has fewer rows. Columns without names are called x0, x1, and
    so on. Lines on stdin are returned as soon as they arrive, so chunks can be short.

    Parameters
    ----------
    path
        A file, or "-" for text on stdin.
    kind
        Format of the file; by default from the suffix, and CSV for stdin.
    columns
        The columns of X, in this order; None for all except the weights.
    weight_column
        The column of the weights.
    chunk
        Largest number of rows per chunk.
    key
        Name of the array in an .npz file with several arrays.
    wait_for
        Called with the file descriptor before each read of a pipe or a terminal. It must return
        when data is ready, and may raise an exception to end the wait.

    Raises
    ------
    DataError
        If the table can't be read, or a cell isn't a finite number; the text names the place.
    MissingExtraError
        If the file is Parquet and pyarrow isn't installed.
    """
    found = kind or _guess_kind(path)
    if key is not None and found != "npz":
        raise DataError(f"key {key!r} names an array in an .npz file, but {path} isn't one")
    label = "stdin" if path == STDIN else str(path)
    chosen = None if columns is None else tuple(columns)
    return _read(str(path), found, Request(label, chosen, weight_column, chunk, key), wait_for)


def _guess_kind(path: str | Path) -> Kind:
    if path == STDIN:
        return "csv"
    suffix = Path(path).suffix.lower().removeprefix(".")
    for kind in KINDS:
        if suffix == kind:
            return kind
    raise DataError(f"can't tell the format of {path}; name it with --kind: {', '.join(KINDS)}")


def _read(
    path: str, kind: Kind, request: Request, wait_for: Callable[[int], None] | None
) -> Iterator[Chunk]:
    try:
        if kind in _FILES:
            yield from _FILES[kind](_real_file(path, kind), request)
        else:
            with _opened(path, wait_for) as file:
                lines = Lines(file, request.label, live=path == STDIN)
                yield from _TEXTS[kind](lines, request)
    except OSError as error:
        raise cannot("read", request.label, error) from error


@contextmanager
def _opened(path: str, wait_for: Callable[[int], None] | None) -> Iterator[Readable]:
    """Open a text; reads of a pipe or a terminal wait by `wait_for`, if given."""
    if path == STDIN:
        stdin = cast(Readable, sys.stdin.buffer)
        try:
            fd = sys.stdin.fileno()
        except UnsupportedOperation:  # not a file of the system
            fd = -1
        yield stdin if wait_for is None or fd < 0 else _Waiting(fd, wait_for)
    elif wait_for is not None and Path(path).is_fifo():
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # doesn't wait for a writer
        try:
            yield _Waiting(fd, wait_for)
        finally:
            os.close(fd)
    else:
        with Path(path).open("rb") as file:
            yield file


class _Waiting:
    """A pipe or a terminal whose reads wait by `wait_for`."""

    def __init__(self, fd: int, wait_for: Callable[[int], None]) -> None:
        self._fd = fd
        self._wait_for = wait_for

    def read1(self, size: int, /) -> bytes:
        """Return up to `size` bytes; no bytes at the end."""
        while True:
            self._wait_for(self._fd)
            try:
                return os.read(self._fd, size)
            except BlockingIOError:  # another process read the data
                continue


def _real_file(path: str, kind: Kind) -> str:
    if path == STDIN:
        raise DataError(f"{kind} can't be read from stdin; name a file")
    return path


def count_rows(path: str | Path, *, kind: Kind | None = None) -> int | None:
    """Return the number of rows of a table if its header has it, else None."""
    found = kind or _guess_kind(path)
    request = Request(str(path))
    try:
        if found == "npy":
            with open_regular(_real_file(str(path), found)) as file:
                return read_header(file, request).n
        if found == "parquet":
            with opened_parquet(_real_file(str(path), found), request) as file:
                return int(file.metadata.num_rows)
    except OSError as error:
        raise cannot("read", path, error) from error
    return None
