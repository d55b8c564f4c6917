"""The newest points of a stream, read again and again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from streamclust.formats.layout import Layout
from streamclust.store.reply.limits import ReplyTooLargeError
from streamclust.store.server.connect import Address, open_server
from streamclust.store.stream.recent import LARGEST_REPLY, RecentReader
from tests.support.points import add_blocks, add_points, blobs

FIELDS = Layout("fields", None, None, ("x0", "x1"), 2, strict=True)
BLOCKS = Layout("float64", "f8", None, (), 2, strict=False)


@pytest.fixture
def client(address: Address) -> Iterator[redis.Redis]:
    with open_server(address) as server:
        yield server.raw_client(LARGEST_REPLY)


def test_the_newest_points_come_first_and_then_the_new_ones(
    client: redis.Redis, namespace: str
) -> None:
    reader, X = RecentReader(client, namespace), blobs(500)
    assert len(reader.read(FIELDS, 100).ids) == 0
    add_points(client, namespace, X)
    first = reader.read(FIELDS, 100)
    np.testing.assert_array_equal(first.X, X[-100:])
    assert first.skipped
    assert len(reader.read(FIELDS, 100).X) == 0
    add_points(client, namespace, X[:30])
    later = reader.read(FIELDS, 100)
    np.testing.assert_array_equal(later.X, X[:30])
    assert not later.skipped
    newest: Any = client.xrevrange(namespace, count=1)
    assert later.ids[-1] == newest[0][0].decode()


def test_of_large_blocks_every_nth_point_is_returned(client: redis.Redis, namespace: str) -> None:
    X = blobs(3_000)
    add_blocks(client, namespace, X, block=1_000)
    found = RecentReader(client, namespace).read(BLOCKS, 50)
    assert found.X.shape == (50, 2)
    assert {tuple(row) for row in found.X.tolist()} <= {tuple(row) for row in X.tolist()}
    assert len(set(found.ids)) == 3


def test_points_that_can_not_be_read_are_left_out(client: redis.Redis, namespace: str) -> None:
    add_points(client, namespace, blobs(10))
    client.xadd(namespace, {"x0": "odd", "x1": "1"})
    client.xadd(namespace, {"y": "1"})
    assert len(RecentReader(client, namespace).read(FIELDS, 100).ids) == 10


def test_a_stream_that_was_created_again_is_read_from_its_start(
    client: redis.Redis, namespace: str
) -> None:
    reader = RecentReader(client, namespace)
    add_points(client, namespace, blobs(10), first_id=2_000_000_000_000)
    assert len(reader.read(FIELDS, 100).ids) == 10
    client.delete(namespace)
    add_points(client, namespace, blobs(5), first_id=1_000_000_000_000)
    found = [len(reader.read(FIELDS, 100).ids) for _ in range(20)]
    assert sum(found) == 5


def test_entries_that_are_too_large_together_are_read_in_part(
    client: redis.Redis, namespace: str
) -> None:
    X = blobs(240_000)
    add_blocks(client, namespace, X, block=60_000)  # 960 kB each
    found = RecentReader(client, namespace).read(BLOCKS, 10)
    assert len(found.X) == 10


def test_one_entry_that_is_too_large_is_an_error(client: redis.Redis, namespace: str) -> None:
    client.xadd(namespace, {"f8": b"x" * (LARGEST_REPLY + 1)})
    with pytest.raises(ReplyTooLargeError):
        RecentReader(client, namespace).read(BLOCKS, 10)
