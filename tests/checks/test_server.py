"""What the check says about a server, from its own figures."""

from __future__ import annotations

from typing import Any

import pytest

from streamclust.checks.check import State
from streamclust.checks.server import check_server, size_text

SOUND = {"redis_version": "7.2.4", "role": "master", "aof_enabled": 1, "used_memory": 2_000_000}


def test_a_sound_server_has_no_warning() -> None:
    found = list(check_server("redis://h:1/0", SOUND))
    assert {each.state for each in found} == {"ok"}
    assert found[0].text == "redis://h:1/0, Redis 7.2.4"


@pytest.mark.parametrize(
    ("fact", "state", "words"),
    [
        ({"redis_version": "6.0.16"}, "fail", "install 6.2 or newer"),
        ({"role": "slave"}, "fail", "name the primary in redis.url"),
        ({"loading": 1}, "warn", "still loading"),
        ({"maxmemory": 10**9, "maxmemory_policy": "allkeys-lru"}, "fail", "noeviction"),
        ({"maxmemory": 10**9, "maxmemory_policy": "volatile-ttl"}, "warn", "noeviction"),
        ({"maxmemory": 2_100_000, "maxmemory_policy": "noeviction"}, "warn", "raise maxmemory"),
        ({"aof_enabled": 0}, "warn", "set appendonly yes"),
        ({"aof_enabled": 0, "rdb_last_bgsave_status": "err"}, "fail", "the last snapshot failed"),
        ({"aof_last_write_status": "err"}, "fail", "can't be written"),
    ],
)
def test_each_fault_is_one_line_with_its_remedy(
    fact: dict[str, Any], state: State, words: str
) -> None:
    [found] = [each for each in check_server("s", SOUND | fact) if each.state != "ok"]
    assert found.state == state
    assert words in found.text


def test_sizes_are_for_people() -> None:
    assert [size_text(size) for size in (12, 2_100, 1_500_000, 2.5e9)] == [
        "12 bytes",
        "2.1 KB",
        "1.5 MB",
        "2.5 GB",
    ]
