"""The jobs of a daemon, a thread each: one that fails brings the others to a clean end."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from streamclust.errors import StreamclustError
from streamclust.worker.model import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

AnyJob = TypeVar("AnyJob", bound=Job)
Result = TypeVar("Result")

_LOOK = 0.2
"""Seconds between looks for a signal."""

_NEW_OBJECTS = 50_000
"""Containers made, less those gone, until the interpreter looks for cycles among them."""

_HEAP = {-3: 1 << 25, -1: 1 << 26, -8: 1}
"""Of glibc: M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in bytes, M_ARENA_MAX."""


def run_together(
    jobs: Sequence[AnyJob], work: Callable[[AnyJob], Result], failed: str
) -> list[Result]:
    """Work on each job in a thread of its own until all have ended.

    Parameters
    ----------
    jobs : sequence of Job
        An error that ends one sets the `stop` of its job, which they should have in common.
    work : callable
    failed : str
        The log's event for a job that ended with a `StreamclustError`.

    Returns
    -------
    list
        What `work` returned, in the order in which the jobs ended.

    Raises
    ------
    Exception
        The first that ended a job, after all have ended.
    """
    _spare_the_collector()
    _keep_memory_flat()
    results: list[Result] = []
    failures: list[Exception] = []

    def guarded(job: AnyJob) -> None:
        try:
            results.append(work(job))
        except Exception as error:
            if isinstance(error, StreamclustError):
                job.log.error(failed, error=str(error))
            else:
                job.log.exception("unexpected error")
            failures.append(error)
            job.stop.set()

    threads = [threading.Thread(target=guarded, args=(job,), name=job.name) for job in jobs]
    for thread in threads:
        thread.start()
    wait_for(threads)
    if failures:
        raise failures[0]
    return results


def _spare_the_collector() -> None:
    """Look for cyclic garbage seldom, and never among what was imported.

    A read brings thousands of lists, none of them in a cycle: to look at them again and again took
    longer than to make them, and to look at everything held a batch up for tens of milliseconds.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def _keep_memory_flat() -> None:
    """Let all threads share one heap, in which the memory of arrays is used again and again.

    Points are read in one thread, learned in another and remembered in a third: with a heap for
    each, what was freed in one was of no use in the others, and they grew for millions of points.
    To map and unmap each array instead takes less memory, and a third more time. Who sets one of
    the MALLOC_ variables knows better.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(OSError, AttributeError):  # only glibc has this
        for option, value in _HEAP.items():
            ctypes.CDLL(None).mallopt(option, value)


def wait_for(threads: Iterable[threading.Thread]) -> None:
    """Return when all threads have ended; signals are heard meanwhile."""
    for thread in threads:
        while thread.is_alive():  # a signal that another thread was given wakes nobody
            thread.join(_LOOK)
