"""Limits that the system sets to a process, in words that say how to raise them."""

from __future__ import annotations

import errno
import resource
from contextlib import suppress

_FILES = (errno.EMFILE, errno.ENFILE)


def open_files() -> int:
    """Return how many files and connections this process may have open (RLIMIT_NOFILE)."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_open_files(wanted: int) -> int:
    """Let this process have `wanted` files open, as far as it may; return the limit.

    The soft limit is raised up to the hard one, and never lowered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    soft = open_files()
    return wanted if soft == resource.RLIM_INFINITY else soft


def is_out_of_files(error: BaseException | None) -> bool:
    """Say whether an error, or one that it came from, is that no more files may be opened."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno in _FILES:
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


def is_out_of_threads(error: BaseException) -> bool:
    """Say whether an error is that the system lets this process start no more threads."""
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def explained(error: BaseException) -> str:
    """Return the reason of an error of the system; for a limit, with how to raise it."""
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
