"""Reading ahead: every batch in order, bounded, and an end that comes soon."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from streamclust.formats.dead import DeadLetters
from streamclust.store.stream.batches import Batch
from streamclust.worker.readahead import _AHEAD, ReadAhead
from tests.support.waiting import wait_until

Stopping = Callable[[], bool]


def a_batch(number: int) -> Batch:
    X = np.full((1, 1), float(number))
    return Batch(X, None, {"points": f"{number}-0"}, None, DeadLetters(), float(number))


def number_of(batch: Batch | None) -> int | None:
    return None if batch is None else int(batch.time_ms)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.endswith(" reader")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert readers() == []
    yield
    assert readers() == []


class Source:
    """Makes batches without end, and notes how many."""

    def __init__(self, limit: int = 10**9) -> None:
        self.made = 0
        self.closed = threading.Event()
        self._limit = limit

    def __call__(self, stopping: Stopping) -> Iterator[Batch]:
        while not stopping() and self.made < self._limit:
            self.made += 1
            yield a_batch(self.made)
        self.closed.set()


def taken(feed: ReadAhead) -> Iterator[Batch]:
    """Yield the batches until the iterator has ended."""
    while not feed.ended:
        if (batch := feed.take()) is not None:
            yield batch
        else:
            wait_until(lambda: feed.has_news)


@contextmanager
def reading_ahead(
    make: Callable[[Stopping], Iterator[Batch]], arrived: Callable[[], object] = lambda: None
) -> Iterator[ReadAhead]:
    ahead = ReadAhead(make, arrived=arrived)
    ahead.start()
    try:
        yield ahead
    finally:
        ahead.close()


def test_all_batches_come_in_order() -> None:
    with reading_ahead(Source(limit=1000)) as feed:
        found = [number_of(batch) for batch in taken(feed)]
    assert found == list(range(1, 1001))


def test_no_batches_are_an_end_too() -> None:
    with reading_ahead(Source(limit=0)) as feed:
        assert list(taken(feed)) == []


def test_it_reads_ahead_and_no_further() -> None:
    source = Source()
    with reading_ahead(source) as feed:
        ahead = _AHEAD + 1  # the one that finds the queue full
        wait_until(lambda: source.made == ahead)
        for number in range(1, 20):
            assert number_of(feed.take()) == number
            wait_until(lambda number=number: source.made == number + ahead)  # type: ignore[misc]
        assert len(feed._batches) == _AHEAD


def test_it_says_when_something_has_come() -> None:
    go_on, come = threading.Semaphore(0), threading.Semaphore(0)

    def make(stopping: Stopping) -> Iterator[Batch]:
        for number in (1, 2):
            go_on.acquire(timeout=10.0)
            yield a_batch(number)
        go_on.acquire(timeout=10.0)

    with reading_ahead(make, arrived=come.release) as feed:
        for expected in (1, 2, None):
            assert feed.take() is None
            go_on.release()
            assert come.acquire(timeout=10.0)
            assert feed.has_news
            assert number_of(feed.take()) == expected
        assert feed.ended


def test_a_reader_that_retires_leaves_all_that_it_has_read() -> None:
    # Given a reader that has read more than may wait
    def make(stopping: Stopping) -> Iterator[Batch]:
        number = 0
        while not stopping():
            for _ in range(2 * _AHEAD):
                number += 1
                yield a_batch(number)

    with reading_ahead(make) as feed:
        wait_until(lambda: len(feed._batches) == _AHEAD)
        # When it retires Then everything of its read can be taken, and no more
        feed.retire()
        assert [number_of(batch) for batch in taken(feed)] == list(range(1, 2 * _AHEAD + 1))


@pytest.mark.parametrize("before", [0, 1, 3, 20])
def test_what_the_reader_raises_comes_after_the_batches_before_it(before: int) -> None:
    def make(stopping: Stopping) -> Iterator[Batch]:
        for number in range(before):
            yield a_batch(number)
        raise ZeroDivisionError("no such luck")

    found = []
    with pytest.raises(ZeroDivisionError, match="no such luck"), reading_ahead(make) as feed:
        for batch in taken(feed):
            found.append(number_of(batch))
    assert found == list(range(before))


def test_what_the_reader_raises_at_once_comes_too() -> None:
    def make(stopping: Stopping) -> Iterator[Batch]:
        raise LookupError("before the first batch")

    with pytest.raises(LookupError, match="before the first"), reading_ahead(make) as feed:
        list(taken(feed))


def test_closing_ends_a_reader_that_waits_for_room() -> None:
    source = Source()
    with reading_ahead(source):
        wait_until(lambda: source.made == _AHEAD + 1)
    assert source.closed.is_set()
    assert source.made <= _AHEAD + 2


def test_closing_ends_a_reader_that_waits_for_entries() -> None:
    waiting = threading.Event()

    def make(stopping: Stopping) -> Iterator[Batch]:
        while not stopping():
            waiting.set()
            wait_until(stopping)
        yield from ()

    with reading_ahead(make):
        assert waiting.wait(10.0)


def test_an_error_in_the_block_closes_it_and_is_not_lost() -> None:
    source = Source()
    with pytest.raises(ZeroDivisionError), reading_ahead(source) as feed:
        next(taken(feed))
        raise ZeroDivisionError
    assert source.closed.is_set()


def test_an_error_of_the_reader_after_the_close_is_no_error() -> None:
    def make(stopping: Stopping) -> Iterator[Batch]:
        yield from ()
        wait_until(stopping)
        raise ConnectionError("the server went away while we left")

    with reading_ahead(make):
        pass
