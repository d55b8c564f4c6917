"""The points' streams: every entry once, in order, in batches that a restart cuts alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from streamclust.formats.layout import Layout
from streamclust.formats.points import encode
from streamclust.store.reply.entries import from_reply
from streamclust.store.server.connect import Server
from streamclust.store.stream import read_size
from streamclust.store.stream.batches import Batcher
from streamclust.store.stream.prefetch import Prefetch
from tests.support.exhaustive import examples
from tests.support.feeds import ANY, LAYOUTS, SPECS, Feed, a_feed, bits, grid, numbers, read_sizes

AGAINST_A_SERVER = examples(
    30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def feed(server: Server, client: redis.Redis) -> Feed:
    """One stream."""
    return a_feed(server, client)


@pytest.fixture
def feeds(server: Server, client: redis.Redis) -> Feed:
    """Three streams."""
    return a_feed(server, client, 3)


def place(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


# ---- one stream


@pytest.mark.every_server
@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_format_comes_out_as_it_went_in(
    server: Server, client: redis.Redis, kind: str
) -> None:
    feed = a_feed(server, client, spec=SPECS.get(kind, ANY))
    feed.add_points(grid(50), kind, block=1 if kind == "fields" else 7)
    found = feed.drain(10)
    assert np.concatenate([batch.X for batch in found]).tolist() == grid(50).tolist()
    assert found[-1].position == {feed.streams[0]: feed.added[-1][1]}
    for batch in found:
        assert batch.layout is not None
        assert batch.layout.format == LAYOUTS[kind].format
        assert (batch.w is not None) == (kind == "weighted")
        assert batch.w is None or batch.w.tolist() == [0.5] * len(batch.X)
        assert batch.dead == ()


def test_batches_are_full_and_the_last_one_short(feed: Feed) -> None:
    feed.add_points(grid(10))
    assert numbers(feed.drain(4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert numbers(feed.drain(5)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert numbers(feed.drain(1)) == [[number] for number in range(10)]
    assert numbers(feed.drain(1000)) == [list(range(10))]


def test_a_batch_is_made_of_whole_entries(feed: Feed) -> None:
    for start, n in ((0, 3), (3, 9), (12, 1), (13, 2), (15, 30), (45, 1)):
        feed.add_points(grid(n, start), block=n)
    found = feed.drain(5)
    assert [len(batch.X) for batch in found] == [12, 33, 1]
    ids = [entry_id for _, entry_id in feed.added]
    assert [batch.position[feed.streams[0]] for batch in found] == [ids[1], ids[4], ids[5]]


def test_batches_grow_with_what_was_learned_and_a_restart_cuts_them_alike(
    server: Server, client: redis.Redis
) -> None:
    # Given points of which some can't be learned, and some weigh nothing
    feed = a_feed(server, client, spec=SPECS["weighted"])
    w, X = np.arange(1800) % 5 / 4, grid(1800)
    X[::7] = np.nan
    for flat in encode(X, LAYOUTS["weighted"], w, block=3):
        feed.add(0, flat)
    # When they are read in batches that may grow to 30
    found = feed.drain(4, None, None, (30, 0))
    # Then each is full at a 32nd of what was learned before, within bounds
    learned = [0]
    for batch in found:
        assert batch.w is not None
        taken, full = len(batch.X) + len(batch.dead), max(4, min(learned[-1] // 32, 30))
        assert full <= taken < full + 3 or batch is found[-1]
        learned.append(learned[-1] + int(np.count_nonzero(batch.w)))
    assert learned[-1] == np.count_nonzero(w[~np.isnan(X[:, 0])])
    assert max(len(batch.X) + len(batch.dead) for batch in found) == 30
    # and wherever reading begins anew, the batches are the same
    for n in range(1, len(found), 43):
        at = found[n - 1]
        again = feed.drain(4, at.position, at.layout, (30, learned[n]))
        assert list(map(bits, again)) == list(map(bits, found[n:]))


def test_batches_do_not_grow_beyond_what_memory_they_may_take(feed: Feed) -> None:
    wide = Layout("float64", "f8", None, (), 1 << 18, strict=False)
    for flat in encode(np.zeros((6, 1 << 18)), wide):
        feed.add(0, flat)
    found = feed.drain(1, None, wide, (1000, 10**9))
    assert [len(batch.X) for batch in found] == [4, 2]


def test_the_time_is_that_of_the_newest_entry(feed: Feed) -> None:
    for entry_id in ("1526919030474-0", "1526919030474-7", "1526919030999-0"):
        feed.add(0, [b"x", b"1", b"y", b"2"], entry_id)
    assert [batch.time_ms for batch in feed.drain(2)] == [1526919030474.0, 1526919030999.0]


@pytest.mark.every_server
@pytest.mark.parametrize("emptied", [True, False])
def test_nothing_comes_of_an_empty_or_missing_stream(feed: Feed, emptied: bool) -> None:
    if emptied:
        feed.client.xdel(feed.streams[0], feed.add(0, [b"x", b"1"]))
    assert feed.drain(5) == []
    assert feed.client.exists(feed.streams[0]) == int(emptied)


@pytest.mark.every_server
def test_a_key_that_is_no_stream_is_not_passed_over(feed: Feed) -> None:
    feed.client.set(feed.streams[0], "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        feed.drain(5)


@pytest.mark.every_server
def test_entries_that_someone_deleted_are_passed(feed: Feed) -> None:
    feed.add_points(grid(10))
    feed.client.xdel(feed.streams[0], feed.added[3][1], feed.added[9][1])
    assert numbers(feed.drain(4)) == [[0, 1, 2, 4], [5, 6, 7, 8]]


# ---- what can't be learned


BAD = [b"x", b"nan", b"y", b"1"]


def test_bad_points_are_named_and_the_rest_comes_through(feed: Feed) -> None:
    feed.add_points(grid(3), "fields")
    bad = feed.add(0, BAD)
    feed.add_points(grid(2, 3), "fields")
    [batch] = feed.drain(100)
    assert numbers([batch]) == [[0, 1, 2, 3, 4]]
    [letter] = batch.dead
    assert (letter.stream, letter.entry_id, letter.index) == (feed.streams[0], bad, 0)
    assert "not finite" in letter.reason
    assert b"nan" in letter.data


def test_bad_points_in_a_block_cost_only_themselves(feed: Feed) -> None:
    X = grid(6)
    X[2, 1], X[5, 0] = np.inf, np.nan
    feed.add_points(X, block=6)
    [batch] = feed.drain(100)
    assert numbers([batch]) == [[0, 1, 3, 4]]
    assert [(letter.index, letter.entry_id) for letter in batch.dead] == [
        (2, feed.added[0][1]),
        (5, feed.added[0][1]),
    ]


def test_a_batch_of_bad_entries_moves_the_position(feed: Feed) -> None:
    feed.add_points(grid(1), "fields")
    for _ in range(7):
        last = feed.add(0, BAD)
    found = feed.drain(3)
    assert [(len(batch.X), len(batch.dead)) for batch in found] == [(1, 2), (0, 3), (0, 2)]
    assert found[1].X.shape == (0, 2)
    assert found[-1].position == {feed.streams[0]: last}
    assert feed.drain(3, found[-1].position, found[-1].layout) == []


def test_bad_entries_before_any_good_one_move_the_position_too(feed: Feed) -> None:
    for _ in range(40):
        last = feed.add(0, BAD)
    found = feed.drain(15)
    assert [(batch.X.shape, len(batch.dead)) for batch in found] == [
        ((0, 0), 15),
        ((0, 0), 15),
        ((0, 0), 10),
    ]
    assert {batch.layout for batch in found} == {None}
    assert found[-1].position == {feed.streams[0]: last}
    feed.add_points(grid(4), "fields")
    [batch] = feed.drain(15, found[-1].position)
    assert numbers([batch]) == [[0, 1, 2, 3]]
    assert batch.layout is not None


def test_an_endless_row_of_bad_entries_needs_no_memory(feed: Feed) -> None:
    for _ in range(500):
        feed.add(0, BAD)
    assert {len(batch.dead) for batch in feed.drain(20)} == {20}


def test_all_bad_points_are_counted_and_the_newest_become_letters() -> None:
    # Given blocks with good and bad points, at most five letters per batch
    X = grid(40)
    X[::2] = np.nan
    flats = list(encode(X, LAYOUTS["float64"], block=8))
    items = from_reply("s", [(b"%d-0" % n, flat) for n, flat in enumerate(flats, 1)], None, None)
    batcher = Batcher(ANY, LAYOUTS["float64"], {"s": "0-0"}, 16, keep_dead=5)
    # When they are read
    *full, last = [*batcher.feed(items), batcher.flush()]
    # Then the numbers are exact, and the letters are the last ones
    assert [(len(batch.X), batch.refused, len(batch.dead)) for batch in full] == [(8, 8, 5)] * 2
    assert (len(last.X), last.refused) == (4, 4)
    assert [(letter.entry_id, letter.index) for letter in full[0].dead] == [
        ("1-0", 6),
        ("2-0", 0),
        ("2-0", 2),
        ("2-0", 4),
        ("2-0", 6),
    ]


def test_the_layout_of_before_a_restart_holds(feed: Feed) -> None:
    feed.add_points(grid(2), "json")
    feed.add(0, [b"x", b"1", b"y", b"2"])
    feed.add_points(grid(2, 2), "json")
    [batch] = feed.drain(100, None, LAYOUTS["json"])
    assert numbers([batch]) == [[0, 1, 2, 3]]
    assert len(batch.dead) == 1


# ---- several streams


@pytest.mark.every_server
def test_several_streams_are_one_feed_in_the_order_of_ids(feeds: Feed) -> None:
    rng = np.random.default_rng(0)
    for number in range(300):
        feeds.add_points(grid(1, number), stream=int(rng.choice(3, p=[0.7, 0.25, 0.05])))
    found = feeds.drain(7)
    assert [number for batch in numbers(found) for number in batch] == list(range(300))
    assert {len(batch.X) for batch in found[:-1]} == {7}


def test_equal_ids_go_by_the_name_of_the_stream(feeds: Feed) -> None:
    for stream in (2, 0, 1):
        feeds.add(stream, [b"f8", grid(1, stream).tobytes()], "5-0")
        feeds.add(stream, [b"f8", grid(1, 10 + stream).tobytes()], "6-0")
    assert numbers(feeds.drain(100)) == [[0, 1, 2, 10, 11, 12]]


def test_the_position_covers_streams_that_gave_nothing(feeds: Feed) -> None:
    feeds.add_points(grid(3), stream=1)
    found = feeds.drain(2)
    last = feeds.added[-1][1]
    assert [batch.position for batch in found] == [
        {feeds.streams[0]: "0-0", feeds.streams[1]: feeds.added[1][1], feeds.streams[2]: "0-0"},
        {feeds.streams[0]: "0-0", feeds.streams[1]: last, feeds.streams[2]: "0-0"},
    ]


@pytest.mark.every_server
def test_a_stream_that_appears_later_is_read(feeds: Feed) -> None:
    feeds.add_points(grid(3), stream=0)
    looks = iter(range(100))

    def stopping() -> bool:
        look = next(looks)
        if look == 2:
            feeds.add_points(grid(2, 3), stream=2)
        return look > 4

    found = list(feeds.batches(10, stopping=stopping))
    assert numbers(found) == [[0, 1, 2], [3, 4]]


def sprinkle(feed: Feed, rng: np.random.Generator, kinds: Sequence[str], count: int) -> int:
    """Add entries of one format with blocks of any size, and bad ones; return the points."""
    kind, points = str(rng.choice(kinds)), 0
    for _ in range(count):
        stream, dice = int(rng.integers(len(feed.streams))), rng.random()
        if dice < 0.15:
            feed.add(stream, [b"broken", b"entry"])
            points += 1
            continue
        block = 1 if kind == "fields" else int(rng.choice([1, 1, 2, 5, 40]))
        X = grid(block, points)
        if dice < 0.3:
            X[rng.integers(block), 0] = np.nan
        feed.add_points(X, kind, block=block, stream=stream)
        points += block
    return points


@AGAINST_A_SERVER
@given(seed=st.integers(0, 10**6), streams=st.integers(1, 3), size=st.sampled_from([1, 3, 8, 50]))
def test_batches_depend_on_nothing_but_the_backlog(
    server: Server, client: redis.Redis, seed: int, streams: int, size: int
) -> None:
    # Given streams of any mix
    rng = np.random.default_rng(seed)
    feed = a_feed(server, client, streams)
    points = sprinkle(feed, rng, ["fields", "json", "float32", "float64"], int(rng.integers(45)))
    # When they are read in pieces of any size
    with read_sizes(1000, first=1000):
        found = feed.drain(size)
    for entries in (1, 3, 7):
        with read_sizes(entries):
            again = feed.drain(size)
        # Then the batches are the same to the last bit
        assert [bits(batch) for batch in again] == [bits(batch) for batch in found]
    # and hold every point once
    assert sum(len(batch.X) + len(batch.dead) for batch in found) == points
    # and are in the order of the IDs
    ends = [max(map(place, batch.position.values())) for batch in found]
    assert all(before < after for before, after in pairwise(ends))
    assert all(len(batch.X) + len(batch.dead) >= size for batch in found[:-1])


@AGAINST_A_SERVER
@given(seed=st.integers(0, 10**6), streams=st.integers(1, 3), size=st.sampled_from([1, 3, 8, 50]))
def test_a_restart_from_any_batch_cuts_alike(
    server: Server, client: redis.Redis, seed: int, streams: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    feed = a_feed(server, client, streams)
    sprinkle(feed, rng, ["fields", "json", "float32", "float64"], int(rng.integers(28)))
    found = feed.drain(size)
    for number, batch in enumerate(found, 1):
        with read_sizes(int(rng.choice([1, 5, 1000]))):
            rest = feed.drain(size, batch.position, batch.layout)
        assert [bits(each) for each in rest] == [bits(each) for each in found[number:]]


@AGAINST_A_SERVER
@given(seed=st.integers(0, 10**6))
def test_weights_stay_with_their_points(server: Server, client: redis.Redis, seed: int) -> None:
    rng = np.random.default_rng(seed)
    feed = a_feed(server, client, 2, spec=SPECS["weighted"])
    for number in range(int(rng.integers(1, 20))):
        X = grid(int(rng.integers(1, 6)), 10 * number)
        w = X[:, 0] + 1.0
        w[rng.random(len(w)) < 0.2] = np.nan
        for flat in encode(X, LAYOUTS["weighted"], w, len(X)):
            feed.add(int(rng.integers(2)), flat)
    for batch in feed.drain(4):
        if len(batch.X):
            assert batch.w is not None
            assert batch.w.tolist() == (batch.X[:, 0] + 1.0).tolist()


# ---- how much is asked for


def asked(feed: Feed, read: Callable[[], object]) -> list[int]:
    """Return the COUNT of each XREAD that a call sends."""
    counts: list[int] = []
    original, early = redis.Redis.xread, Prefetch.send

    def spy(self: redis.Redis, streams: Any, count: int, block: int | None) -> Any:
        counts.append(count)
        return original(self, streams, count=count, block=block)

    def spy_early(self: Prefetch, wanted: Any, count: int) -> None:
        counts.append(count)
        early(self, wanted, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis.Redis, "xread", spy)
        patch.setattr(Prefetch, "send", spy_early)
        read()
    return counts


def test_small_entries_are_read_many_at_a_time(feed: Feed) -> None:
    feed.add_points(grid(3000))
    counts = asked(feed, lambda: feed.drain(100))
    assert counts[0] == 16
    assert max(counts) == read_size.READ_ENTRIES
    assert len(counts) < 20


@pytest.mark.parametrize("good", [True, False])
def test_large_entries_are_read_few_at_a_time(feed: Feed, good: bool) -> None:
    # Also bad ones: what counts is the memory that a reply takes.
    for _ in range(40):
        feed.add(0, [b"f8", bytes(500_000), b"d", b"2" if good else b"3"])
    counts = asked(feed, lambda: feed.drain(100_000, None, LAYOUTS["float64"]))
    assert counts[0] == 16
    assert set(counts[1:]) == {(8 << 20) // 500_004}
