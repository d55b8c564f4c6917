"""The system's limits for a process, and error texts that explain how to raise them."""

from __future__ import annotations

import ctypes
import errno
import math
import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILES = (errno.EMFILE, errno.ENFILE)

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def cores_of_process() -> int:
    """Return the number of cores that this process may use.

    The affinity of the process and the quota of its container limit this number. A quota of 1.5
    cores counts as 2.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *_quotas()])))


def _quotas() -> Iterator[float]:
    """Yield the quotas of cores of this process's control group, and of the groups around it."""
    with suppress(OSError):  # no Linux
        lines = _OWN_CGROUP.read_text(encoding="utf-8").splitlines()
        own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
        group = _CGROUPS / own
        for folder in (group, *group.parents):
            if folder.is_relative_to(_CGROUPS):
                yield from _quota(folder / "cpu.max")
        first = _CGROUPS / "cpu"  # version 1 of control groups
        yield from _quota(first / "cpu.cfs_quota_us", first / "cpu.cfs_period_us")


def _quota(*files: Path) -> Iterator[float]:
    with suppress(OSError, ValueError):  # a group without a quota, or of the other version
        quota, period = " ".join(file.read_text(encoding="utf-8") for file in files).split()
        if int(quota) > 0:
            yield int(quota) / int(period)


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
    """Return whether the limit of open files caused an error."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno in _FILES:
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


def is_out_of_threads(error: BaseException) -> bool:
    """Return whether the system's limit of threads caused an error."""
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
"""Options of glibc's mallopt: M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in bytes, M_ARENA_MAX."""


def keep_memory_flat() -> None:
    """Let all threads share one heap, so that the process doesn't grow over millions of points.

    One thread reads points, another learns them, a third fits the coreset. With one heap per
    thread, a thread can't reuse the memory that another thread has freed. To map and unmap the
    memory of each array takes a third more time. If a MALLOC_ variable is set, nothing is changed.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(OSError, AttributeError):  # only glibc has this
        for option, value in _HEAP.items():
            ctypes.CDLL(None).mallopt(option, value)
