"""From a path, or stdin, to the chunks of a table."""

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
    table of more than 512 columns has fewer rows. Columns without names are called x0, x1, and so
    on. Lines on stdin are handed on as they arrive, so that chunks can be short.

    Parameters
    ----------
    path
        A file, or "-" for text on stdin.
    kind
        What it holds; by default what its suffix says, and CSV on stdin.
    columns
        The columns of X in their order; None for all but the weights.
    weight_column
        The column of the weights.
    chunk
        Rows a chunk, at most.
    key
        The name of the array in an .npz file that has several.
    wait_for
        Called with the file descriptor before each read of a pipe or a terminal; returns when there
        is something to read, and may raise to end the wait.

    Raises
    ------
    DataError
        When the table can't be read, or a cell is no finite number; its text names the place.
    MissingExtraError
        When a Parquet file is to be read without pyarrow.
    """
    found = kind or _guess_kind(path)
    if key is not None and found != "npz":
        raise DataError(f"key {key!r} names an array in an .npz file, and {path} is none")
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
    raise DataError(f"can't tell what {path} holds; name its kind with --kind: {', '.join(KINDS)}")


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
    """Open a text; what may have to be waited for is read by `wait_for`, if there is such."""
    if path == STDIN:
        stdin = cast(Readable, sys.stdin.buffer)
        try:
            fd = sys.stdin.fileno()
        except UnsupportedOperation:  # not of the system
            fd = -1
        yield stdin if wait_for is None or fd < 0 else _Waiting(fd, wait_for)
    elif wait_for is not None and Path(path).is_fifo():
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # waits for no writer
        try:
            yield _Waiting(fd, wait_for)
        finally:
            os.close(fd)
    else:
        with Path(path).open("rb") as file:
            yield file


class _Waiting:
    """A pipe or a terminal, whose reads wait by `wait_for`."""

    def __init__(self, fd: int, wait_for: Callable[[int], None]) -> None:
        self._fd = fd
        self._wait_for = wait_for

    def read1(self, size: int, /) -> bytes:
        """Return up to so many bytes; none at the end."""
        while True:
            self._wait_for(self._fd)
            try:
                return os.read(self._fd, size)
            except BlockingIOError:  # another process took it
                continue


def _real_file(path: str, kind: Kind) -> str:
    if path == STDIN:
        raise DataError(f"{kind} can't be read from stdin; name a file")
    return path


def count_rows(path: str | Path, *, kind: Kind | None = None) -> int | None:
    """Return how many rows a table has, if a glance at its head tells; otherwise None."""
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
