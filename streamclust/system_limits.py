"""The system's limits for a process, and error texts that tell how to raise them."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from contextlib import suppress

_FILES = (errno.EMFILE, errno.ENFILE)


def open_files() -> int:
    """Return the largest number of open files and connections (RLIMIT_NOFILE)."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_open_files(wanted: int) -> int:
    """Raise the limit of open files to `wanted`, if the hard limit allows; return the new limit.

    The soft limit is never lowered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    soft = open_files()
    return wanted if soft == resource.RLIM_INFINITY else soft


def is_out_of_files(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is the limit of open files."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno in _FILES:
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


def is_out_of_threads(error: BaseException) -> bool:
    """Return whether an error is the system's limit of threads."""
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def explained(error: BaseException) -> str:
    """Return the reason of a system error; for a limit, also how to raise the limit."""
    if is_out_of_files(error):
        return (
            f"too many open files: this process may have {open_files()} files and connections "
            "open (RLIMIT_NOFILE); raise the limit with `ulimit -n` or systemd's LimitNOFILE=, or "
            "learn fewer models per worker"
        )
    if is_out_of_threads(error):
        return (
            "too many threads: the system allows no more for this process or user; raise the limit "
            "(`ulimit -u`, systemd's TasksMax=, a container's pids limit), or learn fewer models "
            "per worker"
        )
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


_HEAP = {-3: 1 << 25, -1: 1 << 26, -8: 1}
"""Of glibc: M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in bytes, M_ARENA_MAX."""


def keep_memory_flat() -> None:
    """Let all threads share one heap, which reuses the memory of arrays.

    One thread reads points, another learns them, a third solves the coreset. With one heap per
    thread, memory that one thread freed was not reused by the others, and the process grew over
    millions of points. To map and unmap each array instead takes less memory, but a third more
    time. If a MALLOC_ variable is set, the user's choice is kept.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(OSError, AttributeError):  # only glibc has this
        for option, value in _HEAP.items():
            ctypes.CDLL(None).mallopt(option, value)
