"""Opening of text tables: files and pipes are unpacked and converted to UTF-8."""

from __future__ import annotations

import codecs
import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import UnsupportedOperation
from pathlib import Path
from typing import Any, Protocol, cast

from streamclust.errors import DataError, MissingExtraError

READ_BYTES = 1 << 16
STDIN = "-"
_ZSTD_BYTES = 1 << 12
"""Compressed bytes per step; one byte can become 32 KiB of text."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LONG_MAGIC = frozenset(b"\x1f\x28\xff\xfe\x00\x89\x93BPS\xfd")
"""First bytes of files whose kind is known only from further bytes."""

_MAGIC_BYTES = 8
_OTHER_KINDS = (
    (b"PAR1", "is a Parquet file; give --kind parquet"),
    (b"\x93NUMPY", "is a NumPy array; give --kind npy"),
    (b"PK\x03\x04", "is a zip archive; give --kind npz, or save a workbook as CSV"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it first"),
    (b"SQLite f", "is an SQLite database; export a table as CSV"),
    (b"\x89HDF", "is an HDF5 file; save the table as .npy or Parquet"),
)


class Readable(Protocol):
    """A binary file whose reads return the bytes that are available."""

    def read1(self, size: int, /) -> bytes:
        """Return up to `size` bytes; no bytes at the end."""


@contextmanager
def open_text(
    path: str, label: str, encoding: str | None, wait_for: Callable[[int], None] | None = None
) -> Iterator[Readable]:
    """Open a text as UTF-8: unpack gzip and Zstandard, and convert other encodings.

    Parameters
    ----------
    path
        A file, or "-" for stdin.
    label
        Name of the text in messages.
    encoding
        Encoding of the text. None: the encoding of the byte-order mark, or UTF-8 without a mark.
    wait_for
        Called with the file descriptor before each read of a pipe or a terminal.

    Raises
    ------
    DataError
        If the file is known to be something other than text.
    """
    with _opened(path, wait_for) as file:
        plain = _unpacked(_Joined(b"", file), label)
        head = _head(plain)
        yield _as_utf8(_Joined(head, plain), head, label, encoding)


def _unpacked(file: _Joined, label: str) -> Readable:
    head = _head(file)
    whole = _Joined(head, file)
    if head.startswith(_GZIP):
        packed: Any = whole
        return _Guarded(gzip.GzipFile(fileobj=packed, mode="rb"), label, "gzip")
    if head.startswith(_ZSTD):
        return _Guarded(_Zstd(whole, label), label, "Zstandard")
    suffix = Path(label).suffix.lower()
    if suffix in (".gz", ".zst") and head:
        raise DataError(f"{label} isn't compressed as its suffix {suffix} says; rename it")
    return whole


def _as_utf8(file: Readable, head: bytes, label: str, encoding: str | None) -> Readable:
    for magic, advice in _OTHER_KINDS:
        if head.startswith(magic):
            raise DataError(f"{label} {advice}")
    if encoding is None:
        encoding = next((name for bom, name in _BOMS if head.startswith(bom)), None)
        if encoding is None:
            _refuse_utf16(head, label)
    if encoding is None or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii"):
        return file
    return _Transcoded(file, label, encoding)


def _refuse_utf16(head: bytes, label: str) -> None:
    even, odd = head[0:200:2], head[1:200:2]
    for name, text, zeros in (("utf-16-le", even, odd), ("utf-16-be", odd, even)):
        if len(zeros) > 1 and not any(zeros) and all(text):
            raise DataError(f"{label} is probably {name} text; give --encoding {name}")


def _head(file: Readable) -> bytes:
    """Return the first bytes that are available, at least as many as the kind of file needs."""
    head = file.read1(READ_BYTES)
    while head and len(head) < _MAGIC_BYTES and head[0] in _LONG_MAGIC:
        more = file.read1(READ_BYTES)
        if not more:
            break
        head += more
    return head


class _Joined:
    """The first bytes of a file, and then the rest of it."""

    def __init__(self, head: bytes, file: Readable) -> None:
        self._head = head
        self._file = file

    def read1(self, size: int, /) -> bytes:
        """Return up to `size` bytes; no bytes at the end."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._file.read1(size)

    def read(self, size: int = READ_BYTES, /) -> bytes:
        """Return up to `size` bytes; no bytes at the end."""
        return self.read1(size)


class _Zstd:
    """A text that is compressed by Zstandard, in one frame or several."""

    def __init__(self, file: Readable, label: str) -> None:
        try:
            from zstandard import ZstdDecompressor
        except ImportError:
            raise MissingExtraError(
                f"{label}: Zstandard files need the package zstandard: pip install zstandard, or "
                "unpack the file with zstd -d"
            ) from None
        self._file = file
        self._new = ZstdDecompressor().decompressobj
        self._frame = self._new()
        self._whole = True

    def read1(self, size: int, /) -> bytes:
        """Return the next bytes; no bytes at the end."""
        while True:
            packed = self._file.read1(min(size, _ZSTD_BYTES))
            if not packed:
                if not self._whole:
                    raise EOFError("an early end")
                return b""
            parts = []
            while packed:
                parts.append(self._frame.decompress(packed))
                self._whole = self._frame.eof
                packed = self._frame.unused_data if self._whole else b""
                if self._whole:
                    self._frame = self._new()
            if any(parts):
                return b"".join(parts)


class _Guarded:
    """A compressed text. Errors of the decompressor become a `DataError`."""

    def __init__(self, file: Readable, label: str, kind: str) -> None:
        self._file = file
        self._label = label
        self._kind = kind
        self._damages = _damages(kind)

    def read1(self, size: int, /) -> bytes:
        """Return up to `size` bytes; no bytes at the end."""
        try:
            return self._file.read1(size)
        except self._damages as error:
            raise DataError(
                f"{self._label} is damaged or cut off: {self._kind} reports {error}"
            ) from error


def _damages(kind: str) -> tuple[type[Exception], ...]:
    if kind == "gzip":
        return (EOFError, zlib.error, gzip.BadGzipFile)
    from zstandard import ZstdError

    return (EOFError, ZstdError)


class _Transcoded:
    """A text that is converted from another encoding to UTF-8."""

    def __init__(self, file: Readable, label: str, encoding: str) -> None:
        self._file = file
        self._label = label
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def read1(self, size: int, /) -> bytes:
        """Return bytes of UTF-8; no bytes at the end."""
        while True:
            data = self._file.read1(size)
            try:
                text = self._decoder.decode(data, final=not data)
                if text or not data:
                    return text.encode()
            except UnicodeError as error:
                raise DataError(
                    f"{self._label} can't be read as {self._encoding}: "
                    f"{str(error).partition(chr(10))[0]}; choose the right --encoding"
                ) from None


@contextmanager
def _opened(path: str, wait_for: Callable[[int], None] | None) -> Iterator[Readable]:
    """Open a file or stdin; before each read of a pipe or a terminal, `wait_for` is called."""
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
    """A pipe or a terminal; `wait_for` is called before each read."""

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
