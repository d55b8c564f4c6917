"""Runs the jobs of a daemon, one thread per job, until all have ended."""

from __future__ import annotations

import ctypes
import gc
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import structlog

from streamclust.errors import ModelsFailedError, StreamclustError, unexpected
from streamclust.runtime.job import Job
from streamclust.system_limits import explained, keep_memory_flat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

AnyJob = TypeVar("AnyJob", bound=Job)
Result = TypeVar("Result")

_LOOK = 0.2
"""Seconds between checks for a signal."""

_NEW_OBJECTS = 50_000
"""New containers after which the interpreter searches for cyclic garbage."""


def run_together(
    jobs: Sequence[AnyJob],
    work: Callable[[AnyJob], Result],
    event: str,
    *,
    stop_others: bool = True,
    look: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Work on each job in its own thread until all have ended.

    Parameters
    ----------
    jobs : sequence of Job
        They share one `stop`.
    work : callable
    event : str
        The log event of a job that ended with an error.
    stop_others : bool, default=True
        Whether an error that ends one job stops the others.
    look : callable, optional
        Called several times per second, in the main thread, while jobs run.

    Returns
    -------
    list
        The results of `work`, in the order in which the jobs ended.

    Raises
    ------
    Exception
        The first error that ended a job, after all jobs have ended.
    ModelsFailedError
        In place of this error, if `stop_others` is false.
    """
    results: list[Result] = []
    failures: dict[str, Exception] = {}

    def guarded(job: AnyJob) -> None:
        try:
            results.append(work(job))
        except Exception as error:
            if isinstance(error, StreamclustError):
                job.log.error(event, error=str(error), retrying=False)
            else:
                job.log.exception(event, error=unexpected(error), retrying=False)
            failures.setdefault(job.name, error)
            if stop_others:
                job.stop.set()

    threads = [threading.Thread(target=guarded, args=(job,), name=job.name) for job in jobs]
    with prepared_for_threads():
        started = _started(threads, jobs, failures)
        wait_for(started, look)
    if failures and stop_others:
        raise next(iter(failures.values()))
    if failures:
        raise ModelsFailedError(failures)
    return results


def _started(
    threads: Sequence[threading.Thread], jobs: Sequence[Job], failures: dict[str, Exception]
) -> list[threading.Thread]:
    """Start all threads; if the system refuses a thread, stop all jobs."""
    for number, thread in enumerate(threads):
        try:
            thread.start()
        except RuntimeError as error:
            failures[jobs[number].name] = StreamclustError(explained(error))
            for job in jobs:
                job.stop.set()
            return list(threads[:number])
    return list(threads)


@contextmanager
def prepared_for_threads() -> Iterator[None]:
    """Set the process up for threads that work on arrays; log the error that ends any of them."""
    # Search for cyclic garbage less often, and never among the imported objects. A read returns
    # thousands of lists without cycles. To search them repeatedly took longer than to create them,
    # and a search of all objects delayed a batch by tens of milliseconds.
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
    keep_memory_flat()

    def log(ended: threading.ExceptHookArgs) -> None:
        error = ended.exc_value
        if error is not None and not isinstance(error, SystemExit):
            name = None if ended.thread is None else ended.thread.name
            structlog.get_logger().error("thread_failed", thread=name, exc_info=error)

    before, threading.excepthook = threading.excepthook, log
    try:
        yield
    finally:
        threading.excepthook = before


def release_memory() -> None:
    """Return all free memory of the heap to the system, also between memory that is in use."""
    with suppress(OSError, AttributeError):  # only glibc has this
        ctypes.CDLL(None).malloc_trim(0)


def wait_for(threads: Iterable[threading.Thread], look: Callable[[], None] = lambda: None) -> None:
    """Return when all threads have ended; handle signals meanwhile."""
    for thread in threads:
        while thread.is_alive():  # a signal to another thread doesn't end a join
            look()
            thread.join(_LOOK)
