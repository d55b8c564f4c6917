"""A map over several threads whose results come in the order of the items."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, TimeoutError, wait
from typing import TYPE_CHECKING, TypeVar

from streamclust.engine.base import check
from streamclust.errors import EngineError
from streamclust.system_limits import explained, is_out_of_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

T = TypeVar("T")
R = TypeVar("R")

_LOOK = 0.1
"""Seconds between checks for a request to stop."""

_WAITING = 2
"""Items per thread that are computed or wait for an earlier result."""


def ordered(
    pool: Executor,
    threads: int,
    call: Callable[[T], R],
    items: Iterable[T],
    stop: Callable[[], bool],
    abandon: Callable[[], None] = lambda: None,
) -> Iterator[R]:
    """Yield `call` of each item, in the order of the items.

    At most `2 * threads` items are taken before their results are used. So the results that wait
    for an earlier one are bounded, and items are made as they are needed. When the iteration ends
    early, `abandon` is called, and calls that have begun are finished first.

    Raises
    ------
    StoppedError
        If `stop` returned True.
    """
    running: deque[Future[R]] = deque()
    source = iter(items)
    try:
        while True:
            check(stop)
            while len(running) < _WAITING * threads:
                item = next(source, _END)
                if item is _END:
                    break
                running.append(_submitted(pool, call, item))  # type: ignore[arg-type]
            if not running:
                return
            yield _result(running[0], stop)
            running.popleft()
    except BaseException:
        abandon()
        raise
    finally:
        for future in running:
            future.cancel()
        wait(running)


_END = object()


def _submitted(pool: Executor, call: Callable[[T], R], item: T) -> Future[R]:
    try:
        return pool.submit(call, item)
    except RuntimeError as error:
        if is_out_of_threads(error):
            raise EngineError(explained(error)) from None
        raise


def _result(future: Future[R], stop: Callable[[], bool]) -> R:
    while True:
        try:
            return future.result(_LOOK)
        except TimeoutError:
            if future.done():
                raise  # the call itself has raised it
            check(stop)
