"""Points of a batch lie together from the first, whatever reads and flaws they came by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import redis

from streamclust.store.reply.point_buffer import PointBuffer
from streamclust.store.server.connect import Server
from tests.support.feeds import LAYOUTS, Feed, a_feed, grid, numbers, read_sizes


@pytest.fixture
def feed(server: Server, client: redis.Redis) -> Feed:
    return a_feed(server, client)


def fill(buffer: PointBuffer, n: int, largest: int = 1) -> np.ndarray[Any, Any]:
    rows = buffer.room(n, largest, 2, np.float64)[:n]
    rows[:] = grid(n, buffer.used)
    buffer.used += n
    buffer.batch_points -= n
    return rows


def test_what_comes_later_lies_behind() -> None:
    buffer = PointBuffer(10)
    parts = [fill(buffer, n) for n in (3, 4, 3)]
    X = buffer.points(10)
    assert X is not None
    assert X.tolist() == grid(10).tolist()
    assert all(np.shares_memory(X, part) for part in parts)


def test_points_that_lie_elsewhere_too_are_not_all() -> None:
    buffer = PointBuffer(10)
    fill(buffer, 3)
    assert buffer.points(4) is None
    fill(buffer, 20, largest=20)  # an entry that there is no room for
    assert buffer.points(23) is None


def test_a_short_batch_does_not_hold_the_room_of_a_long_one() -> None:
    buffer = PointBuffer(100)
    part = fill(buffer, 5)
    X = buffer.points(5)
    assert X is not None
    assert X.tolist() == part.tolist()
    assert not np.shares_memory(X, part)


@pytest.mark.parametrize("kind", ["float32", "float64", "json"])
@pytest.mark.parametrize("count", [1, 3, 64])
def test_batches_are_the_same_whatever_is_read_at_once(feed: Feed, kind: str, count: int) -> None:
    for start in range(0, 120, 8):
        feed.add_points(grid(8, start), kind, block=1 + start // 8 % 5)
        if start % 48 == 0:
            feed.add(0, [b"f4", b"odd"])
    whole = feed.drain(20)
    with read_sizes(count, first=count):
        parts = feed.drain(20)
    assert numbers(parts) == numbers(whole)
    assert np.concatenate(numbers(parts)).tolist() == list(range(120))
    assert [len(batch.dead) for batch in parts] == [len(batch.dead) for batch in whole]
    assert sum(len(batch.dead) for batch in parts) == 3


def test_a_larger_entry_than_was_foreseen_is_read_whole(feed: Feed) -> None:
    feed.add_points(grid(6), "float32")
    feed.add_points(grid(50, 6), "float32", block=50)
    feed.add_points(grid(4, 56), "float32")
    with read_sizes(2, first=2):
        found = feed.drain(10)
    assert numbers(found) == [list(range(56)), list(range(56, 60))]
    assert LAYOUTS["float32"].n_features == found[0].X.shape[1]
