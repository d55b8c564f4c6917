"""Codes in their stream: each ID is written once, and in order."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from streamclust.errors import ServerError
from streamclust.formats.codes import decode_fields
from streamclust.store.model.code_stream import last_code, write_codes
from streamclust.store.model.keys import Keys
from tests.support.commits import ids


def entries(*entry_ids: str) -> list[tuple[bytes, list[bytes]]]:
    return [(entry_id.encode(), [b"code", b"1"]) for entry_id in entry_ids]


def test_each_id_is_written_once(client: redis.Redis, keys: Keys) -> None:
    key = keys.codes()
    assert last_code(client, key) == "0-0"
    assert write_codes(client, key, entries("5-1", "9-0", "10-0"), 100) == 3
    assert write_codes(client, key, entries("5-1", "9-7", "10-0", "10-1"), 100) == 1
    assert ids(client, key) == ["5-1", "9-0", "10-0", "10-1"]
    assert last_code(client, key) == "10-1"
    # also those whose entries are gone
    client.xtrim(key, 0, approximate=False)
    assert write_codes(client, key, entries("9-0", "10-1"), 100) == 0


def test_ids_beyond_the_numbers_of_lua(client: redis.Redis, keys: Keys) -> None:
    largest = 2**64 - 1
    for ms in (2**53, 2**63, largest):
        given = entries(*(f"{ms}-{seq}" for seq in (largest - 2, largest - 1)))
        assert write_codes(client, keys.codes(), given, 100) == 2
        assert write_codes(client, keys.codes(), given, 100) == 0


def test_the_stream_is_trimmed(client: redis.Redis, keys: Keys) -> None:
    for start in range(1, 5001, 1000):
        given = entries(*(f"{number}-0" for number in range(start, start + 1000)))
        assert write_codes(client, keys.codes(), given, 500) == 1000
    assert 500 <= int(client.xlen(keys.codes())) <= 700


def test_a_key_of_another_type_is_said(client: redis.Redis, keys: Keys) -> None:
    client.set(keys.codes(), "x")
    with pytest.raises(ServerError, match=r"codes holds a string, expected a stream; move it"):
        write_codes(client, keys.codes(), entries("1-0"), 100)


def test_one_entry_s_labels_keep_their_bytes(client: redis.Redis, keys: Keys) -> None:
    flat = [b"code", b"1", b"distance", b"0.5", b"version", b"3", b"key", b"\xff\x00"]
    write_codes(client, keys.codes(), [(b"1-0", flat)], 10)
    found: Any = client.xrange(keys.codes())
    entry = decode_fields(found[0][0].decode(), found[0][1], keys.codes())
    assert entry.labels == {b"key": b"\xff\x00"}
