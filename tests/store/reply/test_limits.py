"""Reading with a bound on replies: what is too large is refused unread, and all else is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from streamclust import kernels
from streamclust.store.reply import native as wire
from streamclust.store.reply.limits import ReplyTooLargeError
from streamclust.store.server.connect import Server
from streamclust.store.stream.batches import Batch, Batcher, batches
from streamclust.store.stream.reader import StreamReader
from tests.support.feeds import ANY, Feed, a_feed, bits, grid

LARGEST = 1 << 17


@pytest.fixture
def feed(server: Server, client: redis.Redis) -> Feed:
    """Small entries, large ones, one that is too large, and small ones again."""
    feed = a_feed(server, client, 2)
    feed.add_points(grid(100))
    feed.add_points(grid(1100, 100), block=2500)  # 18 kB
    for start in range(10_000, 35_000, 2500):
        feed.add_points(grid(2500, start), block=2500)  # 40 kB each
    feed.add_points(grid(12_500), block=12_500)  # 200 kB
    feed.add_points(grid(100, 300_000), stream=1)
    feed.add_points(grid(100, 400_000))
    return feed


@pytest.fixture(params=["lists", "packed"], autouse=True)
def road(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways to take a reply, where native code is there."""
    if request.param == "packed":
        if not wire.available():
            pytest.skip("there are no native kernels")
        yield
    else:
        with kernels.using("numpy"):
            yield


def bounded(feed: Feed, position: dict[str, str], size: int = 1000) -> list[Batch]:
    client = feed.server.raw_client(LARGEST)
    reader = StreamReader(client, position, largest=LARGEST)
    batcher = Batcher(ANY, None, position, size)
    return list(batches(reader, batcher, linger=0.0, until_idle=True))


def test_only_the_entry_that_is_too_large_is_refused(feed: Feed) -> None:
    found = bounded(feed, feed.start)
    numbers = np.concatenate([batch.X[:, 0] for batch in found]).astype(int)
    expected = [*range(1200), *range(10_000, 35_000), *range(300_000, 300_100)]
    assert sorted(numbers) == [*expected, *range(400_000, 400_100)]
    [letter] = [letter for batch in found for letter in batch.dead]
    assert (letter.stream, letter.index, letter.data) == (feed.streams[0], -1, b"")
    assert letter.reason.endswith("at most 131072 are read (batch.max_entry_bytes)")
    assert 200_000 < int(letter.reason.partition(" ")[0]) < 200_200
    # and the position is past it
    assert found[-1].position[feed.streams[0]] == feed.added[-1][1]


@pytest.mark.parametrize("size", [150, 1000])
def test_a_restart_at_any_batch_cuts_the_same_batches(feed: Feed, size: int) -> None:
    feed.streams = feed.streams[:1]
    whole = bounded(feed, feed.start, size)
    for number in range(0, len(whole) - 1, 7):
        rest = bounded(feed, whole[number].position, size)
        assert [bits(batch)[0] for batch in rest] == [bits(each)[0] for each in whole[number + 1 :]]
        assert [batch.dead for batch in rest] == [batch.dead for batch in whole[number + 1 :]]


def test_an_entry_that_is_gone_meanwhile_is_not_refused(feed: Feed) -> None:
    position = {feed.streams[0]: feed.added[110][1]}
    client = feed.server.raw_client(LARGEST)
    reader = StreamReader(client, position, largest=LARGEST)
    assert feed.client.xdel(feed.streams[0], feed.added[111][1])
    reader._refuse(feed.streams[0])
    assert reader.take_gaps() == []
    assert len(reader.read(10, None)) > 0


def test_a_reply_that_is_too_large_does_no_harm_to_the_client(feed: Feed) -> None:
    client: Any = feed.server.raw_client(LARGEST)
    for _ in range(3):
        with pytest.raises(ReplyTooLargeError):
            client.xrange(feed.streams[0])
        assert client.ping()
        assert len(client.xrange(feed.streams[0], count=100)) == 100
