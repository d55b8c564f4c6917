"""Reading a user's files with a size limit, and writing files atomically."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from streamclust.errors import DataError

SMALL_BYTES = 1 << 30
"""Unpacked contents of up to this size, 1 GiB, are accepted from a file of any size."""

_NAME_BYTES = 100


def open_regular(path: str | Path) -> IO[bytes]:
    """Open a regular file for reading; refuse files that could block or never end.

    Raises
    ------
    DataError
        If the file can't be read, or is a directory, a FIFO, a device or a socket.
    """
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    except OSError as error:
        raise cannot("read", path, error) from None
    except ValueError as error:  # a NUL in the name
        raise DataError(f"can't read {path}: {error}") from None
    kind = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(kind):
        file.close()
        raise DataError(f"can't read {path}: it is {_kind(kind)}; name a regular file")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # else a FIFO without a writer blocks


class Contents(NamedTuple):
    """What identifies the contents of an open file, unless a program hides a change."""

    device: int
    inode: int
    size: int
    mtime_ns: int


def contents_of(file: IO[bytes]) -> Contents:
    """Return the identity of the contents of an open file."""
    status = os.fstat(file.fileno())
    return Contents(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def read_whole(path: str | Path, most: int) -> bytes:
    """Return the contents of a regular file of up to `most` bytes.

    Raises
    ------
    DataError
        If the file can't be read, is larger, or isn't a regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise DataError(
                f"{path} has {size:,} bytes; expected at most {most:,}: name another file"
            )
        try:
            return file.read(most)
        except OSError as error:
            raise cannot("read", path, error) from None


def check_expansion(label: str, size: int, stored: int, factor: int) -> None:
    """Refuse a file of `stored` bytes whose header announces far more contents: `size` bytes.

    Raises
    ------
    DataError
        If the contents are larger than 1 GiB and than `factor` times the file.
    """
    most = max(SMALL_BYTES, factor * stored)
    if size > most:
        raise DataError(
            f"{label} would unpack to {size:,} bytes from {stored:,}; expected at most {most:,}: "
            "the file may be damaged, or made to fill the memory"
        )


def check_target(path: str | Path) -> None:
    """Refuse a path that `new_file` can't write. Call it before a long computation.

    Raises
    ------
    DataError
        If the folder doesn't exist, or the path is something other than a regular file.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise DataError(f"can't write {path}: {target.parent} doesn't exist or isn't a folder")
    _mode_of(target)


@contextmanager
def new_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a new file for writing; it replaces `path` when the block ends without an exception.

    The file is written in the same folder under a temporary name, flushed to the disk, and then
    renamed. So a reader sees either the complete old file or the complete new one. After an
    exception, Ctrl-C included, the temporary file is removed. The permissions of an existing file
    are kept; a new file gets those of the umask. Symbolic links, devices, FIFOs and folders are
    refused.

    Raises
    ------
    DataError
        If the file can't be written.
    """
    target = Path(path)
    mode = _mode_of(target)
    start = os.fsencode(target.name)[:_NAME_BYTES].decode(errors="ignore")
    part = target.with_name(f".{start}.{secrets.token_hex(8)}.part")
    try:
        with open(part, "x+b", opener=without_links) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise cannot("write", path, error) from None
    finally:
        with suppress(OSError):  # no temporary file, for example on a read-only file system
            part.unlink()


def without_links(path: str, flags: int) -> int:
    """Open a file for writing unless it is a symbolic link; an `opener` for `open`."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file; see `new_file`."""
    with new_file(path) as file:
        file.write(data)


def _mode_of(target: Path) -> int | None:
    """Return the permissions of an existing regular file, or None."""
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot("write", target, error) from None
    if not stat.S_ISREG(mode):
        raise DataError(f"can't write {target}: it is {_kind(mode)}; name a regular file")
    return mode & 0o777


_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


def _kind(mode: int) -> str:
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")


def cannot(verb: str, path: Any, error: OSError) -> DataError:
    """Return the error for a file that can't be read or written, with the reason."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return DataError(f"can't {verb} {path}: {reason}")
