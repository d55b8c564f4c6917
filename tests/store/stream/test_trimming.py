"""Trimming: what a group of the stream still needs stays, whatever the policy says."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamclust.store.ids import order
from streamclust.store.stream import trimming
from streamclust.store.stream.position import mirror
from streamclust.store.stream.trimming import remove_up_to, trim

_ADD = """
for id in string.gmatch(ARGV[1], '%d+') do redis.call('XADD', KEYS[1], id .. '-0', 'x', '1') end
"""

NODE = 100
"""Entries in one node of a stream; only whole nodes are removed."""

pytestmark = pytest.mark.every_server


def ids(client: redis.Redis, stream: str) -> list[int]:
    """Return the first parts of the IDs that the stream has."""
    found: Any = client.xrange(stream)
    return [order(entry_id)[0] for entry_id, _ in found]


def add(client: redis.Redis, stream: str, numbers: range) -> None:
    client.eval(_ADD, 1, stream, " ".join(map(str, numbers)))


@pytest.fixture
def stream(client: redis.Redis, namespace: str) -> str:
    """A stream of the entries 1-0 to 1000-0."""
    add(client, namespace, range(1, 1001))
    return namespace


def test_learned_entries_go_and_the_last_one_stays(client: redis.Redis, stream: str) -> None:
    assert trim(client, stream, "777-0") == 700
    assert ids(client, stream) == list(range(701, 1001))
    assert trim(client, stream, "777-0") == 0
    assert trim(client, stream, "801-0") == 100
    assert ids(client, stream)[0] == 801


@pytest.mark.parametrize(("keep", "left"), [(1, 300), (350, 400), (1000, 1000), (5000, 1000)])
def test_at_least_so_many_entries_are_kept(
    client: redis.Redis, stream: str, keep: int, left: int
) -> None:
    trim(client, stream, "777-0", entries=keep)
    assert len(ids(client, stream)) == left


def test_young_entries_are_kept(client: redis.Redis, stream: str) -> None:
    now: Any = client.time()
    recent = now[0] * 1000
    add(client, stream, range(recent, recent + 2 * NODE))
    trim(client, stream, f"{recent + 2 * NODE}-0", age=3600.0)
    assert ids(client, stream) == list(range(recent, recent + 2 * NODE))
    # and those of a time to come
    assert trim(client, stream, f"{recent + 2 * NODE}-0", age=1e9) == 0


def test_an_age_is_in_seconds_of_the_servers_clock(client: redis.Redis, namespace: str) -> None:
    now: Any = client.time()
    limit = (now[0] - 1_000_000) * 1000
    add(client, namespace, range(limit - 500_000, limit - 500_000 + NODE))
    add(client, namespace, range(limit + 500_000, limit + 500_000 + NODE))
    assert trim(client, namespace, f"{now[0] * 1000}-0", age=1e6) == NODE
    assert ids(client, namespace) == list(range(limit + 500_000, limit + 500_000 + NODE))


def test_a_call_removes_a_limited_number(
    client: redis.Redis, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trimming, "_MOST", 2 * NODE)
    assert [trim(client, stream, "777-0") for _ in range(5)] == [200, 200, 200, 100, 0]
    assert trim(client, stream, "1000-0", entries=300) == 0


def test_entries_up_to_an_id_are_removed_exactly(client: redis.Redis, namespace: str) -> None:
    for entry_id in ("5-0", "5-1", "5-2", "6-0"):
        client.xadd(namespace, {"x": 1}, id=entry_id)
    assert [remove_up_to(client, namespace, last) for last in ("4-9", "5-1", "5-1")] == [0, 2, 0]
    left: Any = client.xrange(namespace)
    assert [entry_id for entry_id, _ in left] == [b"5-2", b"6-0"]


def test_what_another_group_has_not_read_stays(client: redis.Redis, stream: str) -> None:
    mirror(client, "ours", {stream: "900-0"})
    client.xgroup_create(stream, "others", "150-0")
    for policy in ({}, {"age": 0.001}, {"entries": 1}):
        trim(client, stream, "900-0", **policy)
        assert ids(client, stream)[0] == 101


def test_what_another_group_has_not_acknowledged_stays(client: redis.Redis, stream: str) -> None:
    client.xgroup_create(stream, "others", "0-0")
    client.xreadgroup("others", "someone", {stream: ">"})
    for number in range(1, 431):
        if number not in (250, 300):
            client.xack(stream, "others", f"{number}-0")
    trim(client, stream, "1000-0")
    assert ids(client, stream)[0] == 201
    client.xack(stream, "others", "250-0", "300-0")
    trim(client, stream, "1000-0")
    assert ids(client, stream)[0] == 401
    # and a single entry is enough
    client.xack(stream, "others", *(f"{number}-0" for number in range(431, 1001) if number != 555))
    trim(client, stream, "1000-0")
    assert ids(client, stream)[0] == 501


def test_nothing_is_trimmed_before_anything_is_learned(client: redis.Redis, stream: str) -> None:
    assert trim(client, stream, "0-0") == 0
    assert trim(client, stream + "-missing", "7-0") == 0
    assert client.exists(stream + "-missing") == 0


def test_large_ids_are_compared_to_the_last_digit(client: redis.Redis, namespace: str) -> None:
    # beyond 53 bits, where a double would round
    base = (1 << 63) + 1
    add(client, namespace, range(base, base + 2 * NODE))
    client.xgroup_create(namespace, "others", f"{base + NODE - 1}-0")
    assert trim(client, namespace, f"{base + 2 * NODE}-0") == 0
    client.xgroup_setid(namespace, "others", f"{base + NODE}-0")
    assert trim(client, namespace, f"{base + 2 * NODE}-0") == NODE


@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    position=st.integers(0, 600),
    delivered=st.lists(st.integers(0, 600), max_size=3),
    pending=st.sets(st.integers(1, 600), max_size=3),
    keep=st.none() | st.integers(1, 700),
)
def test_no_entry_goes_that_anyone_needs(
    client: redis.Redis,
    position: int,
    delivered: list[int],
    pending: set[int],
    keep: int | None,
) -> None:
    stream = "trimmed"
    client.delete(stream)
    add(client, stream, range(1, 601))
    for number, at in enumerate(delivered):
        client.xgroup_create(stream, f"group-{number}", f"{at}-0")
    if pending:
        client.xgroup_create(stream, "slow", "0-0")
        client.xreadgroup("slow", "someone", {stream: ">"})
        done = [f"{number}-0" for number in range(1, 601) if number not in pending]
        client.xack(stream, "slow", *done)
    trim(client, stream, f"{position}-0", entries=keep)
    left = ids(client, stream)
    floor = min([position, *delivered, *pending])
    assert left == list(range(left[0], 601))
    assert left[0] <= max(floor, 1)
    assert len(left) >= (keep or 0) or left[0] == 1
    if keep is None:
        assert left[0] > floor - NODE - 1
