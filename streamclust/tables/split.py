"""Splits a table in a file into spans that can be read independently of each other.

The spans depend only on sizes in the file. A text in UTF-8 without quotes is split after line ends.
A text with quotes is one span, because a cell can have a line end.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from streamclust.files import cannot, open_regular
from streamclust.tables.arrays import read_array, reads_all_columns
from streamclust.tables.chunk import Request
from streamclust.tables.delimited import read_names
from streamclust.tables.lines import Lines
from streamclust.tables.npy import read_header, stored_rows
from streamclust.tables.options import TEXT_KINDS, Kind, TableOptions
from streamclust.tables.parquet import opened_parquet, read_parquet
from streamclust.tables.read import (
    delimiter_of,
    kind_of,
    read_chunks,
    read_rows,
    read_table,
    text_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.kernels import StoredPoints
    from streamclust.tables.chunk import Chunk, ModelColumns

Unit = Literal["table", "rows", "row groups", "bytes"]

TEXT_BYTES = 1 << 23
"""Bytes per span of a text: 8 MiB."""

_PLAIN = (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""First bytes of texts that are compressed or in another encoding: one span."""


@dataclass(frozen=True)
class Span:
    """A piece of a table.

    Parameters
    ----------
    unit : {'table', 'rows', 'row groups', 'bytes'}
        'table' is the whole table.
    start, stop : int
        Number of the first unit, and of the first unit after the piece.
    line : int
        Number to add to the numbers of the lines of a text.
    head : int
        Number of bytes at the start of a text, up to the row that defines the columns: the header,
        or the first row. They are read before each piece except the first, which contains them.
    head_lines : int
        Number of lines of the head.
    header : bool
        Whether the head ends with a header.
    """

    unit: Unit = "table"
    start: int = 0
    stop: int = 0
    line: int = 0
    head: int = 0
    head_lines: int = 0
    header: bool = False

    def __str__(self) -> str:
        if self.unit == "table":
            return "whole table"
        return f"{self.unit} {self.start:,} to {self.stop - 1:,}"


@dataclass(frozen=True)
class Split:
    """The spans of a table.

    Parameters
    ----------
    names : tuple of str
        The names of the columns of X; empty if the table has no rows.
    options : TableOptions
        How to read each span.
    spans : tuple of Span
        In the order of the table; empty if the table has no rows.
    """

    names: tuple[str, ...]
    options: TableOptions
    spans: tuple[Span, ...]


def split_table(
    path: str | Path,
    options: TableOptions | None = None,
    *,
    rows: Callable[[int], int],
    model: ModelColumns | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> Split:
    """Return the spans of a table.

    Parameters
    ----------
    path
        A file.
    options, model, warn
        See `read_table`.
    rows
        A function: number of features -> number of rows per span. A row group of Parquet is never
        divided, so a span of Parquet can have more rows.

    Raises
    ------
    DataError
        If the table can't be read.
    MissingExtraError
        If the file needs a package that isn't installed.
    """
    options = options or TableOptions()
    kind = kind_of(path, options)
    request = Request(str(path), options, model=model, warn=warn)
    try:
        if kind in TEXT_KINDS:
            split = _split_text(str(path), kind, request)
            if split is not None:
                return split
        first = next(read_table(path, options, chunk=1, model=model, warn=warn), None)
        if first is None:
            return Split((), options, ())
        per_span = rows(len(first.names))
        spans: tuple[Span, ...] = (Span(),)
        if kind == "npy":
            with open_regular(path) as file:
                n = read_header(file, request).n
            starts = range(0, n, per_span)
            spans = tuple(Span("rows", start, min(start + per_span, n)) for start in starts)
        elif kind == "parquet":
            spans = _row_groups(str(path), request, per_span)
    except OSError as error:
        raise cannot("read", path, error) from error
    return Split(first.names, options, spans)


def _row_groups(path: str, request: Request, per_span: int) -> tuple[Span, ...]:
    """Return spans of whole row groups; each span except the last has `per_span` rows or more."""
    with opened_parquet(path, request) as file:
        meta = file.metadata
        sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
    spans, start, rows = list[Span](), 0, 0
    for group, size in enumerate(sizes, 1):
        rows += size
        if rows >= per_span or group == len(sizes):
            spans.append(Span("row groups", start, group))
            start, rows = group, 0
    return tuple(spans)


def _split_text(path: str, kind: Kind, request: Request) -> Split | None:
    """Return the spans of a text; None if the text must be one span."""
    encoding = request.options.encoding
    if encoding is not None and encoding.lower() not in ("utf-8", "utf8", "ascii"):
        return None
    with open_regular(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        if size < 2 * TEXT_BYTES or file.read(4).startswith(_PLAIN):
            return None
        first_row = _first_row(path, kind, request)
        if first_row is None:
            return None
        names, lines, header = first_row
        file.seek(0)
        head = sum(len(file.readline()) for _ in range(lines))
        first = Span("bytes", 0, head, 0, head, lines, header)
        spans = _spans_of_lines(file, size, first, quotes=kind in ("csv", "tsv"))
    return None if spans is None else Split(names, request.options, spans)


def _first_row(path: str, kind: Kind, request: Request) -> tuple[tuple[str, ...], int, bool] | None:
    """Return the names of the features, the line of the first row, and whether it is a header."""
    if kind in ("csv", "tsv"):
        with text_lines(path, request) as lines:
            return read_names(lines, request, delimiter_of(kind, request.options))
    options, model = request.options, request.model
    for chunk in read_table(path, options, chunk=1, model=model, warn=request.warn):
        if len(chunk.X):
            return chunk.names, chunk.first_line, False
    return None


def _spans_of_lines(
    file: IO[bytes], size: int, first: Span, *, quotes: bool
) -> tuple[Span, ...] | None:
    """Return spans of about `TEXT_BYTES` of whole lines; None if a cell may have quotes.

    The first span contains at least the head.
    """
    spans, start, lines = list[Span](), 0, 0
    while start < size:
        file.seek(start)
        data = file.read(TEXT_BYTES if start else max(TEXT_BYTES, first.head))
        if start + len(data) < size:
            data += file.readline()
        if not data or (quotes and b'"' in data):
            return None
        line = lines - first.head_lines if start else 0
        spans.append(replace(first, start=start, stop=start + len(data), line=line))
        lines += data.count(b"\n")
        start += len(data)
    return tuple(spans)


def read_span(
    path: str | Path,
    options: TableOptions,
    span: Span,
    label: str,
    *,
    chunk: int = 8192,
    model: ModelColumns | None = None,
) -> Iterator[Chunk]:
    """Yield the rows of a span in chunks; see `read_table` for the parameters and the errors.

    The chunks of all spans together have the rows of the table, in its order. `label` is the name
    of the table in messages.
    """
    kind = kind_of(path, options)
    head = 0
    if span.unit == "bytes" and span.start:
        head = span.head_lines
        if kind in ("csv", "tsv"):
            options = replace(options, header=span.header)
    request, path = Request(label, options, chunk, model, line=span.line, head=head), str(path)
    try:
        if span.unit == "table":
            yield from read_chunks(path, kind, request)
        elif kind == "npy":
            yield from read_array(path, request, range(span.start, span.stop))
        elif kind == "parquet":
            yield from read_parquet(path, request, range(span.start, span.stop))
        else:
            with open_regular(path) as file:
                lines = Lines(_Piece(file, span), label, live=False)
                yield from read_rows(kind, lines, request)
    except OSError as error:
        raise cannot("read", label, error) from error


@contextmanager
def stored_span(
    path: str | Path,
    options: TableOptions,
    span: Span,
    label: str,
    model: ModelColumns | None = None,
) -> Iterator[StoredPoints | None]:
    """Yield the rows of a span, for a kernel that reads the file itself; None if it can't.

    A kernel can read an .npy file of floats in C order, after `read_span` has checked the span.
    """
    if span.unit != "rows":
        yield None
        return
    request = Request(label, options, model=model)
    with open_regular(path) as file:
        points = stored_rows(file, request, range(span.start, span.stop))
        if points is not None and not reads_all_columns(points.shape[1], request):
            points = None
        yield points


class _Piece:
    """A piece of a text. The head of the text comes before each piece except the first."""

    def __init__(self, file: IO[bytes], span: Span) -> None:
        self._file = file
        self._ends = [(0, span.head), (span.start, span.stop)][0 if span.start else 1 :]

    def read1(self, size: int, /) -> bytes:
        """Return up to `size` bytes; no bytes at the end."""
        while self._ends:
            start, stop = self._ends[0]
            if start < stop:
                self._file.seek(start)
                data = self._file.read(min(size, stop - start))
                self._ends[0] = (start + len(data), stop)
                if data:
                    return data
            del self._ends[0]
        return b""
