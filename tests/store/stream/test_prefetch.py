"""A read that is sent early changes nothing of what is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import redis

from streamclust.store.server.connect import Server
from streamclust.store.stream.batches import Batch, Batcher, batches
from streamclust.store.stream.prefetch import Prefetch
from streamclust.store.stream.ranges import RangeReader
from streamclust.store.stream.reader import StreamReader
from tests.support.feeds import ANY, Feed, a_feed, grid, numbers, read_sizes


@pytest.fixture
def feed(server: Server, client: redis.Redis) -> Feed:
    return a_feed(server, client)


def under_way(reader: StreamReader) -> Any:
    return reader._prefetch._connection


def start(feed: Feed) -> tuple[StreamReader, Batcher]:
    client = feed.server.raw_client(1 << 30)
    return StreamReader(client, feed.start), Batcher(ANY, None, feed.start, 10)


def rest(reader: StreamReader, batcher: Batcher) -> list[Batch]:
    return list(batches(reader, batcher, linger=0.0, until_idle=True))


def test_a_read_is_sent_early_where_there_is_more(feed: Feed) -> None:
    feed.add_points(grid(40))
    with read_sizes(10, first=10):
        reader, batcher = start(feed)
        found = batches(reader, batcher, linger=0.0, until_idle=True)
        assert numbers([next(found)]) == [list(range(10))]
        assert under_way(reader)
        assert numbers(list(found)) == [list(range(at, at + 10)) for at in (10, 20, 30)]
        assert not under_way(reader)


def test_what_came_after_an_early_read_found_nothing_is_read(feed: Feed) -> None:
    feed.add_points(grid(10))
    with read_sizes(10, first=10):
        reader, batcher = start(feed)
        found = batches(reader, batcher, linger=0.0, until_idle=True)
        first = next(found)
        assert under_way(reader)._parser.can_read(5.0)  # it is answered
        feed.add_points(grid(5, 10))
        assert numbers([first, *found]) == [list(range(10)), list(range(10, 15))]


def test_a_connection_lost_meanwhile_costs_nothing(feed: Feed) -> None:
    feed.add_points(grid(40))
    with read_sizes(10, first=10):
        reader, batcher = start(feed)
        found = batches(reader, batcher, linger=0.0, until_idle=True)
        first = next(found)
        under_way(reader)._sock.close()
        assert np.concatenate(numbers([first, *found])).tolist() == list(range(40))


def test_a_reply_to_another_position_is_not_taken(feed: Feed) -> None:
    feed.add_points(grid(5))
    [stream] = feed.streams
    early = Prefetch(feed.server.client())
    early.send({stream: "0-0"}, 10)
    assert early.receive({stream: feed.added[2][1]}) == (None, {})
    assert early.receive({stream: "0-0"}) == (None, {})  # it was thrown away
    early.send({stream: "0-0"}, 10)
    [(_, entries)], _ = early.receive({stream: "0-0"})
    assert len(entries) == 5


def test_several_streams_are_read_early_where_there_is_more(
    server: Server, client: redis.Redis
) -> None:
    feed = a_feed(server, client, 3)
    for number in range(60):
        feed.add_points(grid(1, number), stream=number % 2)
    with read_sizes(30, first=30):
        reader, batcher = start(feed)
        found = batches(reader, batcher, linger=0.0, until_idle=True)
        read, early = list[int](), set[int]()
        for batch in found:
            read += batch.X[:, 0].astype(int).tolist()
            early.add(len(reader._prefetch.positions))
        assert read == list(range(60))
        assert max(early) == 2
        assert not under_way(reader)


def test_an_entry_that_came_after_an_early_read_keeps_its_place(
    server: Server, client: redis.Redis
) -> None:
    feed, point = a_feed(server, client, 2), [b"f8", grid(1).tobytes()]
    for time in range(1001, 1013):
        feed.add(0, point, f"{time}-0")
    for time in range(1001, 1006):
        feed.add(1, point, f"{time}-1")
    with read_sizes(10, first=10):
        reader, _ = start(feed)
        first = reader.read(10, None)
        assert set(reader._prefetch.positions) == {feed.streams[0]}
        assert not reader._waiting[feed.streams[1]]  # and its early read has found nothing
        feed.add(1, point, "1007-1")
        rest = reader.read(10, None)
    assert [entries.id_of(len(entries) - 1) for entries in (first, rest)] == ["1005-1", "1012-0"]
    assert [rest.id_of(place) for place in range(3)] == ["1006-0", "1007-0", "1007-1"]


@pytest.mark.parametrize("apart", [False, True])
def test_the_entries_that_wait_and_their_replies_are_few(
    server: Server, client: redis.Redis, apart: bool
) -> None:
    feed = a_feed(server, client, 3)
    for number in range(600):
        feed.add_points(grid(1, number), stream=number // 200 if apart else number % 3)
    until = dict(feed.added)
    with read_sizes(30, first=30):
        raw = feed.server.raw_client(1 << 30)
        for reader in (StreamReader(raw, feed.start), RangeReader(raw, feed.start, until)):
            read = 0
            while items := reader.read(30, None):
                read += len(items)
                waiting = reader._waiting.values()
                assert all(len(entries) <= 30 for entries in waiting)
                assert all(len(getattr(e.bodies, "_buffers", ())) <= 3 for e in waiting)
            assert read == 600


def test_what_is_trimmed_between_early_reads_is_missing_once(feed: Feed) -> None:
    feed.add_points(grid(40))
    [stream] = feed.streams
    with read_sizes(10, first=10):
        reader, batcher = start(feed)
        found = batches(reader, batcher, linger=0.0, until_idle=True)
        told = [next(found)]
        assert under_way(reader)._parser.can_read(5.0)  # the next ten are on their way
        feed.client.xtrim(stream, maxlen=5, approximate=False)
        told += found
    assert np.concatenate(numbers(told)).tolist() == [*range(20), *range(35, 40)]
    [gap] = [gap for batch in told for gap in batch.gaps]
    assert (gap.kind, gap.after) == ("trimmed", feed.added[19][1])
    assert gap.entries in (15, None)  # servers before Redis 7 don't count


def test_a_refused_early_read_leaves_no_reply_behind(feed: Feed) -> None:
    feed.client.set("no stream", b"")
    early = Prefetch(feed.server.client())
    early.send({"no stream": "0-0"}, 10)
    assert early.receive({"no stream": "0-0"}) == (None, {})
    assert early.receive({"no stream": "0-0"}) == (None, {})
    feed.add_points(grid(5))
    [stream] = feed.streams
    early.send({stream: "0-0"}, 10)
    [(_, entries)], _ = early.receive({stream: "0-0"})
    assert len(entries) == 5
