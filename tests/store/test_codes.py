"""Entries of codes: what is written is read back, each is there once, and in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import redis

from streamclust.errors import FormatError, ServerError
from streamclust.models.quantize import Codes
from streamclust.store.code_stream import last_code, write_codes
from streamclust.store.codes import decode_fields, encode_fields
from streamclust.store.keys import Keys
from tests.store.committing import ids


def as_dict(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def codes(n: int, m: int = 1) -> Codes:
    rng = np.random.default_rng(n)
    index = rng.integers(0, 100_000, n).astype(np.int32)
    distance = rng.random(n).astype(np.float32).astype(np.float64)
    if m == 1:
        return Codes(index, distance)
    values = rng.random((n, m)).astype(np.float32).astype(np.float64)
    return Codes(index, distance, rng.integers(0, 9, (n, m)).astype(np.int32), values)


@pytest.mark.parametrize("n", [0, 1, 2, 33])
@pytest.mark.parametrize("m", [1, 2, 5])
@pytest.mark.parametrize("values", ["top_distance", "top_responsibility"])
def test_what_is_written_is_read_back(n: int, m: int, values: str) -> None:
    given = codes(n, m)
    fields = as_dict(encode_fields(given, 42, values, None)) | {b"key": b"\x00k"}
    found = decode_fields("7-0", fields, "codes")
    assert (found.entry_id, found.version, found.reason) == ("7-0", 42, None)
    assert found.labels == {b"key": b"\x00k"}
    np.testing.assert_array_equal(found.code, given.index)
    np.testing.assert_array_equal(found.distance, given.distance)
    if m > 1:
        np.testing.assert_array_equal(found.top, given.top)
        np.testing.assert_array_equal(found.top_values, given.top_values)
    else:
        assert found.top is None
        assert found.top_values is None


def test_one_point_is_plain_text_and_a_block_is_arrays() -> None:
    one = Codes(np.array([3], np.int32), np.array([1.25]))
    assert encode_fields(one, 42, "", None) == [
        *(b"code", b"3", b"distance", b"1.25", b"version", b"42"),
    ]
    two = Codes(np.array([3, -1], np.int32), np.array([1.25, np.nan]))
    fields = as_dict(encode_fields(two, 42, "", "1 is bad"))
    assert fields[b"n"] == b"2"
    assert fields[b"code"] == b"\x03\0\0\0\xff\xff\xff\xff"
    assert np.frombuffer(fields[b"distance"], "<f4")[0] == 1.25
    assert fields[b"reason"] == b"1 is bad"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"code": b"x", b"distance": b"1", b"version": b"1"},
        {b"n": b"2", b"code": b"1234567", b"distance": b"12345678", b"version": b"1"},
        {b"code": b"1 2", b"distance": b"1", b"version": b"1"},
    ],
)
def test_something_else_is_refused(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(FormatError, match="codes-key entry 7-0 holds no codes"):
        decode_fields("7-0", fields, "codes-key")


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
