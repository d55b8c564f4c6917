"""Reading of a table from a file or stdin, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streamclust.errors import DataError
from streamclust.files import cannot, open_regular
from streamclust.tables.arrays import read_array
from streamclust.tables.chunk import Chunk, ModelColumns, Request
from streamclust.tables.delimited import read_delimited
from streamclust.tables.json_lines import read_json_lines
from streamclust.tables.lines import Lines
from streamclust.tables.npy import read_header
from streamclust.tables.opening import STDIN, open_text
from streamclust.tables.options import KINDS, ONE_DOCUMENT, TEXT_KINDS, Kind, TableOptions
from streamclust.tables.parquet import opened_parquet, read_parquet

COMPRESSED = (".gz", ".zst")
"""Suffixes of compressed texts."""

_FILES: dict[Kind, Callable[[str, Request], Iterator[Chunk]]] = {
    "npy": read_array,
    "npz": read_array,
    "parquet": read_parquet,
}


def read_table(
    path: str | Path,
    options: TableOptions | None = None,
    *,
    chunk: int = 8192,
    model: ModelColumns | None = None,
    warn: Callable[[str], object] = lambda _: None,
    wait_for: Callable[[int], None] | None = None,
) -> Iterator[Chunk]:
    """Return the rows of a table in chunks.

    Text is read line by line, .npy is mapped, Parquet and .npz are read in batches. A chunk of a
    table with more than 512 columns has fewer rows. Columns without names get the names x0, x1,
    ... Lines on stdin are returned as soon as they arrive, so chunks can be short.

    Parameters
    ----------
    path
        A file, or "-" for text on stdin.
    options
        How to read it.
    chunk
        Largest number of rows per chunk.
    model
        The columns that a model needs: they are selected by name, and none may be missing.
    warn
        Called with a sentence about a column that isn't read, or about a file without rows.
    wait_for
        Called with the file descriptor before each read of a pipe or a terminal. It must return
        when data is ready, and may raise an exception to end the wait.

    Raises
    ------
    DataError
        If the table can't be read, or a cell isn't a finite number; the text names the place.
    MissingExtraError
        If the file needs a package that isn't installed.
    """
    options = options or TableOptions()
    kind = kind_of(path, options)
    label = "stdin" if path == STDIN else str(path)
    return _read(str(path), kind, Request(label, options, chunk, model, warn), wait_for)


def kind_of(path: str | Path, options: TableOptions) -> Kind:
    """Return the format of a table, by the options or the suffix.

    Raises
    ------
    DataError
        If the format is unknown, or an option isn't for this format.
    """
    kind = options.kind or _guess_kind(path)
    _check_options(path, kind, options)
    return kind


def suffix_kind(path: str | Path) -> Kind | None:
    """Return the format of a file by its suffix, or None."""
    name = Path(path)
    if name.suffix.lower() in COMPRESSED:
        name = name.with_suffix("")
    suffix = name.suffix.lower().removeprefix(".")
    return next((kind for kind in KINDS if suffix == kind), None)


def _guess_kind(path: str | Path) -> Kind:
    kind: Kind | None = "csv" if path == STDIN else suffix_kind(path)
    if kind is None:
        hint = ""
        if str(path).lower().endswith(".json"):
            hint = f". For JSON, --kind jsonl: {ONE_DOCUMENT}"
        raise DataError(
            f"can't tell the format of {path}; name it with --kind: {', '.join(KINDS)}{hint}"
        )
    return kind


def _check_options(path: str | Path, kind: Kind, options: TableOptions) -> None:
    if options.key is not None and kind != "npz":
        raise DataError(f"key {options.key!r} is only for .npz files, but {path} is {kind}")
    if kind not in TEXT_KINDS and Path(path).suffix.lower() in COMPRESSED:
        raise DataError(f"{path}: a compressed {kind} file can't be read; unpack it first")
    delimited = kind in ("csv", "tsv")
    for name in ("delimiter", "header"):
        if getattr(options, name) is not None and not delimited:
            raise DataError(f"{name} is only for CSV, but {path} is {kind}")
    if options.decimal != "." and not delimited:
        raise DataError(f"decimal is only for CSV, but {path} is {kind}")
    if options.encoding is not None and kind not in TEXT_KINDS:
        raise DataError(f"encoding is only for texts, but {path} is {kind}")


def _read(
    path: str, kind: Kind, request: Request, wait_for: Callable[[int], None] | None
) -> Iterator[Chunk]:
    is_empty = True
    try:
        for chunk in read_chunks(path, kind, request, wait_for):
            is_empty = False
            yield chunk
    except OSError as error:
        raise cannot("read", request.label, error) from error
    if is_empty:
        request.warn(f"{request.label} has no rows")


def read_chunks(
    path: str, kind: Kind, request: Request, wait_for: Callable[[int], None] | None = None
) -> Iterator[Chunk]:
    """Yield the chunks of a table of a known format; see `read_table`."""
    if kind in _FILES:
        yield from _FILES[kind](_real_file(path, kind), request)
        return
    with text_lines(path, request, wait_for) as lines:
        yield from read_rows(kind, lines, request)


@contextmanager
def text_lines(
    path: str, request: Request, wait_for: Callable[[int], None] | None = None
) -> Iterator[Lines]:
    """Open a text and return its lines."""
    with open_text(path, request.label, request.options.encoding, wait_for) as file:
        yield Lines(file, request.label, live=path == STDIN)


def read_rows(kind: Kind, lines: Lines, request: Request) -> Iterator[Chunk]:
    """Yield the chunks of a text."""
    if kind in ("jsonl", "ndjson"):
        yield from read_json_lines(lines, request)
    else:
        yield from read_delimited(lines, request, delimiter_of(kind, request.options))


def delimiter_of(kind: Kind, options: TableOptions) -> str:
    """Return the separator of the cells of CSV or TSV."""
    if options.delimiter is not None:
        return options.delimiter
    if kind == "tsv":
        return "\t"
    return ";" if options.decimal == "," else ","


def _real_file(path: str, kind: Kind) -> str:
    if path == STDIN:
        raise DataError(f"{kind} can't be read from stdin; name a file")
    return path


def count_rows(path: str | Path, *, kind: Kind | None = None) -> int | None:
    """Return the number of rows of a table if its header has it, else None."""
    file_kind = kind or _guess_kind(path)
    request = Request(str(path))
    try:
        if file_kind == "npy":
            with open_regular(_real_file(str(path), file_kind)) as file:
                return read_header(file, request).n
        if file_kind == "parquet":
            with opened_parquet(_real_file(str(path), file_kind), request) as file:
                return int(file.metadata.num_rows)
    except OSError as error:
        raise cannot("read", path, error) from error
    return None
