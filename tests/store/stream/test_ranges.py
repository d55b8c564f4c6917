"""A range of streams: exactly what lies after one position and up to another."""

from __future__ import annotations

import numpy as np
import pytest
import redis
from numpy.testing import assert_array_equal

from streamclust.arrays import Array
from streamclust.formats.layout import Layout, PointsFormat
from streamclust.formats.points import encode
from streamclust.store.ids import id_before, order
from streamclust.store.server.connect import Server
from streamclust.store.stream.batches import Batcher, batches
from streamclust.store.stream.ranges import RangeReader, before_last, end_of

LAYOUT = Layout("float64", "f8", None, (), 1, strict=False)


@pytest.fixture
def client(server: Server) -> redis.Redis:
    return server.raw_client()


def fill(client: redis.Redis, stream: str, entries: dict[str, int]) -> None:
    """Add an entry for each ID, with so many points of the value of its time."""
    for entry_id, n in entries.items():
        [entry] = encode(np.full((n, 1), float(order(entry_id)[0])), LAYOUT, block=n)
        client.execute_command("XADD", stream, entry_id, *entry)  # type: ignore[no-untyped-call]


def read(client: redis.Redis, after: dict[str, str], until: dict[str, str], size: int) -> Array:
    reader = RangeReader(client, after, until)
    found = batches(
        reader, Batcher(PointsFormat(), LAYOUT, after, size), linger=0.0, until_idle=True
    )
    return np.concatenate([np.empty((0, 1)), *(batch.X for batch in found)]).ravel()


def test_the_ends_of_a_range(client: redis.Redis, namespace: str) -> None:
    fill(client, namespace, dict.fromkeys(("1-0", "2-0", "2-1", "3-0", "4-0"), 1))

    def between(after: str, until: str) -> list[float]:
        return list(read(client, {namespace: after}, {namespace: until}, 2))

    assert between("0-0", "9-9") == [1, 2, 2, 3, 4]
    assert between("1-0", "3-0") == [2, 2, 3]
    assert between("2-0", "2-1") == [2]
    assert between("2-1", end_of("3")) == [3]
    assert between(id_before("2-0"), end_of("2")) == [2, 2]
    assert between("3-0", "3-0") == between("4-0", "1-0") == between("4-0", "9-0") == []


def test_streams_are_merged_in_order_whatever_the_sizes(
    client: redis.Redis, namespace: str
) -> None:
    streams = [f"{namespace}-{n}" for n in range(3)]
    for n, stream in enumerate(streams):
        fill(client, stream, {f"{t}-{n}": 1 + t % 3 for t in range(1 + n, 60, 1 + n)})
    until = {streams[0]: "40-0", streams[1]: "50-1", streams[2]: "30-2"}
    after = {streams[0]: "0-0", streams[1]: "20-1", streams[2]: "9-2"}
    expected = sorted(
        float(t)
        for n, stream in enumerate(streams)
        for t in range(1 + n, 60, 1 + n)
        if order(after[stream]) < (t, n) <= order(until[stream])
        for _ in range(1 + t % 3)
    )
    for size in (1, 7, 1000):
        assert_array_equal(read(client, after, until, size), expected)


@pytest.mark.parametrize("n", [1, 3, 4, 10, 400, 10_000])
def test_the_last_points_are_counted_back(client: redis.Redis, namespace: str, n: int) -> None:
    streams = [f"{namespace}-{s}" for s in "ab"]
    for s, stream in enumerate(streams):
        fill(client, stream, {f"{t}-{s}": 3 for t in range(1, 101)})
        client.xadd(stream, {"f8": b"bad"}, id="200-0")
    until = dict.fromkeys(streams, "99-9")
    after = before_last(client, until, n, LAYOUT)
    found = len(read(client, after, until, 100))
    assert min(n, 2 * 99 * 3) <= found < n + 3


def test_what_is_too_large_for_a_reply_is_left_out(server: Server, namespace: str) -> None:
    client, sizes = server.client(), {1: 1, 2: 20_000, 3: 1, 4: 20_000, 5: 20_000, 6: 5, 7: 20_000}
    fill(client, namespace, {f"{t}-0": n for t, n in sizes.items()})
    bounded = server.raw_client(100_000)
    start, until = {namespace: "0-0"}, {namespace: "9-0"}
    small = [1.0, 3.0, *5 * [6.0]]
    assert list(read(bounded, start, until, 100)) == small
    for n in range(1, 9):
        after = before_last(bounded, until, n, LAYOUT)
        found = list(read(bounded, after, until, 100))
        assert found == small[-max(n, 5) :]


def test_ids_before_and_at_the_end() -> None:
    assert [id_before(each) for each in ("5-7", "5-0", "0-0")] == [
        "5-6",
        "4-18446744073709551615",
        "0-0",
    ]
    assert [end_of(each) for each in ("5", "5-7")] == ["5-18446744073709551615", "5-7"]
