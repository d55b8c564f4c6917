"""The points' streams as time passes: when a batch is given out unfilled, and when reading ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis

from streamclust.store.server.connect import Server
from streamclust.store.stream import batches
from streamclust.store.stream.batcher import Batcher
from streamclust.store.stream.reader import StreamReader
from tests.support.feeds import Feed, a_feed, grid, numbers, read_sizes
from tests.support.waiting import wait_until


@pytest.fixture
def feed(server: Server, client: redis.Redis) -> Feed:
    return a_feed(server, client)


# ---- lingering


class Clock:
    """Seconds that pass by hand, or a little with each look."""

    def __init__(self, each_look: float = 0.0) -> None:
        self.now = 100.0
        self.each_look = each_look

    def __call__(self) -> float:
        self.now += self.each_look
        return self.now


def test_a_partial_batch_comes_after_its_linger_and_not_before(feed: Feed) -> None:
    clock = Clock(each_look=0.01)
    feed.add_points(grid(3))
    began = clock.now
    found = feed.batches(10, linger=0.05, clock=clock)
    assert numbers([next(found)]) == [[0, 1, 2]]
    assert clock.now - began > 0.05


def test_what_comes_while_it_lingers_is_in_the_batch(feed: Feed) -> None:
    clock = Clock()
    feed.add_points(grid(3))
    looks = iter(range(1000))

    def stopping() -> bool:
        look = next(looks)
        clock.now += 0.02
        if look in (2, 3):
            feed.add_points(grid(1, 1 + look))
        return False

    found = feed.batches(10, linger=0.09, clock=clock, stopping=stopping)
    assert numbers([next(found)]) == [[0, 1, 2, 3, 4]]
    assert next(looks) == 6


def test_a_full_batch_does_not_wait(feed: Feed) -> None:
    feed.add_points(grid(8))
    found = feed.batches(4, linger=3600.0, clock=Clock())
    assert numbers([next(found), next(found)]) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_the_linger_of_the_rest_begins_when_the_batch_before_is_taken(feed: Feed) -> None:
    clock = Clock()
    feed.add_points(grid(6))

    def stopping() -> bool:
        clock.now += 0.03
        return False

    found = feed.batches(4, linger=0.1, clock=clock, stopping=stopping)
    assert numbers([next(found)]) == [[0, 1, 2, 3]]
    clock.now += 20.0  # the consumer took its time
    resumed = clock.now
    assert numbers([next(found)]) == [[4, 5]]
    assert clock.now - resumed == pytest.approx(0.12)


def test_the_linger_begins_when_the_first_entry_comes(feed: Feed) -> None:
    # Given a reader that waits
    clock, looks = Clock(), iter(range(1000))

    def first_entry() -> None:
        wait_until(lambda: int(feed.client.info("clients")["blocked_clients"]) > 0)
        clock.now += 60.0
        feed.add_points(grid(1))

    def stopping() -> bool:
        if next(looks) > 0 and feed.added and len(feed.added) < 4:
            feed.add_points(grid(1, len(feed.added)))
            clock.now += 0.4
        return False

    writer = threading.Thread(target=first_entry)
    # When the first entry comes after a long silence, and others right after it
    found = feed.batches(10, linger=1.0, clock=clock, stopping=stopping)
    writer.start()
    [batch] = numbers([next(found)])
    writer.join()
    # Then they are one batch
    assert batch == [0, 1, 2, 3]


def test_a_slow_server_or_reader_cuts_no_batch_of_a_backlog(feed: Feed) -> None:
    # Given a backlog, and reads that take longer than a batch may linger
    clock = Clock()
    feed.add_points(grid(20))

    def stopping() -> bool:
        clock.now += 1.0
        return False

    with read_sizes(3, first=3):
        found = feed.batches(8, linger=0.05, clock=clock, stopping=stopping)
        # Then only the end of the backlog ends a batch that isn't full
        assert numbers([next(found) for _ in range(3)]) == [
            list(range(8)),
            list(range(8, 16)),
            list(range(16, 20)),
        ]


def test_a_feed_that_never_pauses_fills_no_batch_for_longer_than_its_linger(feed: Feed) -> None:
    # Given a feed that has a point for each read, but no more than that
    clock = Clock()

    def stopping() -> bool:
        feed.add_points(grid(1, len(feed.added)))
        clock.now += 0.4
        return False

    found = feed.batches(100, linger=1.0, clock=clock, stopping=stopping)
    assert numbers([next(found), next(found)]) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_read_blocks_at_most_until_the_batch_is_due(feed: Feed) -> None:
    clock = Clock()
    reader = StreamReader(feed.server.raw_client(1 << 30), feed.start)
    batcher = Batcher(feed.spec, None, feed.start, 10)
    waits = batches.Feed(reader, batcher, linger=5.0, clock=clock)
    assert (waits.due, waits.block_ms, waits.last_read) == (None, 250, 100.0)
    feed.add_points(grid(3))
    clock.now = 200.0
    assert list(waits.step()) == []
    assert (waits.due, waits.last_read) == (205.0, 200.0)
    for now, block_ms in ((200.0, 250), (204.875, 125), (204.9996, None), (205.0, None)):
        clock.now = now  # a wait of 0 would be one without end
        assert waits.block_ms == block_ms
    assert numbers(list(waits.step())) == [[0, 1, 2]]
    assert (waits.due, waits.last_read) == (None, 200.0)
    eager = batches.Feed(reader, batcher, linger=5.0, until_idle=True, clock=clock)
    assert (eager.due, eager.block_ms) == (None, None)
    feed.add_points(grid(3))
    assert [list(eager.step()), eager.due, eager.caught_up] == [[], None, False]
    assert numbers(list(eager.step())) == [[0, 1, 2]]
    assert eager.caught_up


def test_no_linger_gives_what_is_there(feed: Feed) -> None:
    feed.add_points(grid(3))
    found = feed.batches(10, linger=0.0, clock=Clock())
    assert numbers([next(found)]) == [[0, 1, 2]]
    feed.add_points(grid(2, 3))
    assert numbers([next(found)]) == [[3, 4]]


# ---- the end


def test_stopping_gives_no_partial_batch(feed: Feed) -> None:
    feed.add_points(grid(6))
    looks = iter([False, False, True])
    found = list(feed.batches(4, linger=3600.0, clock=Clock(), stopping=lambda: next(looks)))
    assert numbers(found) == [[0, 1, 2, 3]]


def test_stopping_gives_no_partial_batch_also_until_idle(feed: Feed) -> None:
    feed.add_points(grid(40))
    looks = iter([False, True, True])
    with read_sizes(10, first=10):
        found = list(feed.batches(100, until_idle=True, stopping=lambda: next(looks)))
    assert found == []


def test_stopping_at_once_reads_nothing(feed: Feed) -> None:
    feed.add_points(grid(6))
    assert list(feed.batches(4, stopping=lambda: True)) == []


def test_until_idle_never_waits_for_more(feed: Feed) -> None:
    feed.add_points(grid(6))
    clock = Clock()  # a linger would never end
    assert numbers(list(feed.batches(4, linger=5.0, clock=clock, until_idle=True))) == [
        [0, 1, 2, 3],
        [4, 5],
    ]


def test_an_idle_reader_waits_at_the_server_and_does_not_ask_again_and_again(feed: Feed) -> None:
    looks = iter(range(5))
    before = reads(feed.client)
    assert list(feed.batches(4, stopping=lambda: next(looks) == 4)) == []
    assert reads(feed.client) - before == 4
    # and each of the four waited
    looks = iter(range(2))
    found = feed.batches(4, stopping=lambda: next(looks) == 1)
    reader = threading.Thread(target=list, args=(found,))
    reader.start()
    wait_until(lambda: int(feed.client.info("clients")["blocked_clients"]) > 0)
    reader.join()


def reads(client: redis.Redis) -> int:
    """Return how many XREADs the server has served."""
    stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_xread", {"calls": 0})["calls"])
