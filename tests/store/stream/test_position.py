"""Where a new model begins, and the consumer group that shows how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from streamclust.errors import ServerError
from streamclust.store.server.connect import Address, open_server
from streamclust.store.stream.position import begin, check_type, mirror

pytestmark = pytest.mark.every_server


@pytest.fixture
def client(address: Address) -> Iterator[redis.Redis]:
    with open_server(address) as server:
        yield server.client()


@pytest.fixture
def stream(client: redis.Redis, namespace: str) -> str:
    """A stream with the entries 1-0, 2-0 and 2-1."""
    for entry_id in ("1-0", "2-0", "2-1"):
        client.xadd(namespace, {"x": 1}, id=entry_id)
    return namespace


def after(client: redis.Redis, stream: str, position: str) -> list[str]:
    """Return the IDs that are read from a position on."""
    reply: Any = client.xread({stream: position})
    return [entry_id.decode() for _, entries in reply for entry_id, _ in entries]


# ---- begin


def test_earliest_is_before_every_entry(client: redis.Redis, stream: str) -> None:
    assert begin(client, [stream, "other"], "earliest") == {stream: "0-0", "other": "0-0"}
    assert after(client, stream, "0-0") == ["1-0", "2-0", "2-1"]


def test_latest_is_the_newest_entry_of_now(client: redis.Redis, stream: str) -> None:
    position = begin(client, [stream], "latest")
    assert position == {stream: "2-1"}
    client.xadd(stream, {"x": 1}, id="3-0")
    assert after(client, stream, position[stream]) == ["3-0"]


def test_latest_counts_entries_that_are_gone(client: redis.Redis, stream: str) -> None:
    client.xdel(stream, "2-1")
    client.xtrim(stream, maxlen=0, approximate=False)
    assert begin(client, [stream], "latest") == {stream: "2-1"}


def test_latest_of_a_stream_that_is_yet_to_come_is_its_first_entry(
    client: redis.Redis, namespace: str
) -> None:
    assert begin(client, [namespace], "latest") == {namespace: "0-0"}
    assert client.exists(namespace) == 0


@pytest.mark.parametrize(("start", "ids"), [("2-0", ["2-1"]), ("2", ["2-1"]), ("3-0", [])])
def test_an_id_is_the_last_entry_that_is_not_read(
    client: redis.Redis, stream: str, start: str, ids: list[str]
) -> None:
    assert begin(client, [stream], start) == {stream: start}
    assert after(client, stream, start) == ids


def test_no_streams_have_no_position(client: redis.Redis) -> None:
    for start in ("earliest", "latest", "5-0"):
        assert begin(client, [], start) == {}


# ---- the types of keys


def test_a_key_of_another_type_is_refused(client: redis.Redis, stream: str) -> None:
    check_type(client, stream, "stream", "models.m.streams")
    check_type(client, stream + "-missing", "stream", "models.m.streams")
    client.rpush(stream + "-list", "x")
    with pytest.raises(ServerError) as failure:
        check_type(client, stream + "-list", "stream", "models.m.streams")
    assert str(failure.value) == (
        f"key {stream}-list holds a list, expected a stream; move it, or change models.m.streams"
    )


# ---- the mirror


def shown(client: redis.Redis, stream: str) -> dict[str, str]:
    """Return the groups of a stream and where they stand, as XINFO GROUPS shows them."""
    groups: Any = client.xinfo_groups(stream)
    return {group["name"].decode(): group["last-delivered-id"].decode() for group in groups}


def test_the_group_is_made_and_moved(client: redis.Redis, stream: str) -> None:
    for position in ("0-0", "2-0", "2-1", "1-0"):
        mirror(client, "ns:m", {stream: position})
        assert shown(client, stream) == {"ns:m": position}


def test_the_group_has_no_pending_entries_and_no_consumers(
    client: redis.Redis, stream: str
) -> None:
    mirror(client, "ns:m", {stream: "2-0"})
    [group] = client.xinfo_groups(stream)
    assert (group["pending"], group["consumers"]) == (0, 0)


def test_the_server_knows_the_lag_at_the_end(client: redis.Redis, stream: str) -> None:
    mirror(client, "ns:m", {stream: "2-1"})
    [group] = client.xinfo_groups(stream)
    assert group.get("lag", 0) == 0  # Redis 6.2 doesn't tell it


def test_groups_of_others_stay_where_they_are(client: redis.Redis, stream: str) -> None:
    client.xgroup_create(stream, "others", "1-0")
    mirror(client, "ns:m", {stream: "2-0"})
    mirror(client, "ns:m2", {stream: "2-1"})
    assert shown(client, stream) == {"others": "1-0", "ns:m": "2-0", "ns:m2": "2-1"}


def test_a_group_that_someone_made_is_taken_over(client: redis.Redis, stream: str) -> None:
    client.xgroup_create(stream, "ns:m", "$")
    mirror(client, "ns:m", {stream: "1-0"})
    assert shown(client, stream) == {"ns:m": "1-0"}


def test_a_worker_that_slept_after_its_commit_does_not_move_the_group_back(
    client: redis.Redis, stream: str
) -> None:
    # Given a group that a second worker has moved on
    mirror(client, "ns:m", {stream: "1-0"})
    mirror(client, "ns:m", {stream: "2-1"}, shown={})
    # When the first one wakes up Then it is left
    mirror(client, "ns:m", {stream: "2-0"}, shown={stream: "1-0"})
    assert shown(client, stream) == {"ns:m": "2-1"}
    # but who has put it there may move it back
    mirror(client, "ns:m", {stream: "1-0"}, shown={stream: "2-1"})
    assert shown(client, stream) == {"ns:m": "1-0"}


def test_a_group_that_someone_deleted_is_made_again(client: redis.Redis, stream: str) -> None:
    mirror(client, "ns:m", {stream: "1-0"})
    client.xgroup_destroy(stream, "ns:m")
    mirror(client, "ns:m", {stream: "2-0"})
    assert shown(client, stream) == {"ns:m": "2-0"}


def test_a_stream_that_is_missing_is_not_made(client: redis.Redis, stream: str) -> None:
    missing = stream + "-missing"
    mirror(client, "ns:m", {missing: "0-0", stream: "2-0"})
    assert client.exists(missing) == 0
    assert shown(client, stream) == {"ns:m": "2-0"}


def test_only_a_missing_group_is_mended(client: redis.Redis, stream: str) -> None:
    with pytest.raises(redis.ResponseError, match="Invalid stream ID"):
        mirror(client, "ns:m", {stream: "not an ID"})
    assert shown(client, stream) == {}


def test_a_key_that_is_no_stream_is_not_passed_over(client: redis.Redis, namespace: str) -> None:
    client.set(namespace, "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        mirror(client, "ns:m", {namespace: "0-0"})
