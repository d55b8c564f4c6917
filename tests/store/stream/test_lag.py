"""How much is still to be learned, on servers that don't say so or say it wrongly."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from streamclust.store.stream import lag as module
from streamclust.store.stream.info import entries_read
from streamclust.store.stream.lag import lag
from streamclust.store.stream.position import mirror

pytestmark = pytest.mark.every_server


@pytest.fixture
def stream(client: redis.Redis, namespace: str) -> str:
    """A stream of the entries 1-0 to 30-0."""
    add(client, namespace, range(1, 31))
    return namespace


def add(client: redis.Redis, stream: str, numbers: range) -> None:
    for number in numbers:
        client.xadd(stream, {"x": 1}, id=f"{number}-0")


def behind(client: redis.Redis, stream: str, at: int, read: int | None = None) -> int | None:
    counts = {} if read is None else {stream: read}
    return lag(client, [stream], {stream: f"{at}-0"}, counts)


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("at", [0, 1, 10, 29, 30])
def test_it_is_what_comes_after_the_position(
    client: redis.Redis, stream: str, at: int, read: bool
) -> None:
    assert behind(client, stream, at, at if read else None) == 30 - at


def test_without_a_position_all_is_to_come(client: redis.Redis, stream: str) -> None:
    assert lag(client, [stream], {}, {}) == 30


def test_a_stream_that_is_missing_or_empty_has_nothing(client: redis.Redis, stream: str) -> None:
    assert behind(client, stream + "-missing", 7, 7) == 0
    client.xtrim(stream, maxlen=0, approximate=False)
    assert behind(client, stream, 7, 7) == 0


def test_trimmed_entries_are_not_counted(client: redis.Redis, stream: str) -> None:
    # where XINFO GROUPS of some versions counts them, being past the group
    client.xtrim(stream, maxlen=12, approximate=False)
    for read in (5, None):
        assert behind(client, stream, 5, read) == 12


def test_deleted_entries_are_not_counted(client: redis.Redis, stream: str) -> None:
    # where XINFO GROUPS has no lag to tell
    mirror(client, "group", {stream: "5-0"}, {stream: 5})
    client.xdel(stream, "7-0", "20-0")
    [group] = client.xinfo_groups(stream)
    assert group.get("lag") is None
    for read in (5, None):
        assert behind(client, stream, 5, read) == 23


def test_a_stream_that_was_begun_again_has_no_lag_to_tell(client: redis.Redis, stream: str) -> None:
    assert behind(client, stream, 1000, 1000) is None
    assert lag(client, ["missing", stream], {stream: "1000-0"}, {}) is None


def test_several_streams_are_summed(client: redis.Redis, stream: str) -> None:
    other = stream + "-other"
    add(client, other, range(1, 6))
    assert lag(client, [stream, other], {stream: "10-0", other: "3-0"}, {stream: 10}) == 22


def test_pages_are_counted_and_too_many_are_not_known(
    client: redis.Redis, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 4)
    assert behind(client, stream, 11) == 19
    assert behind(client, stream, 10) == 20
    monkeypatch.setattr(module, "_COUNTED", 8)
    assert behind(client, stream, 10) is None
    assert behind(client, stream, 25) == 5


# ---- what other tools see


def test_the_group_has_the_lag_that_is_true(client: redis.Redis, stream: str) -> None:
    position = {stream: "12-0"}
    assert entries_read(client, position) == {}  # in the middle nobody knows
    mirror(client, "group", position, {stream: 12})
    mirror(client, "group", position, {stream: 12})
    [group] = client.xinfo_groups(stream)
    info: Any = client.info("server")
    expected = 18 if int(info["redis_version"].partition(".")[0]) >= 7 else None
    assert group.get("lag") == expected
    assert group["pending"] == 0
