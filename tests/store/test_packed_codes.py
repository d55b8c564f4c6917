"""Codes as native code writes them, beside those that Python makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from streamclust.quantize import Codes
from streamclust.store.codes import decode_fields, encode_points, write_codes
from streamclust.store.packed_codes import as_rows, pack_points
from tests.store.replies import Entry, needs_native, packed

pytestmark = needs_native

DISTANCES = st.floats(0.0, allow_nan=False, allow_infinity=False)


def codes_of(distances: list[float]) -> Codes:
    index = np.arange(len(distances), dtype=np.int32) * 987_654_321 // 7
    return Codes(index, np.array(distances))


def entries_of(n: int) -> list[Entry]:
    """Return entries with a label of any bytes, between other fields."""
    return [
        (b"%d-%d" % (10**k % 2**64, k), [b"x", b"1", b"label", b"\r\n%d\x00" % k, b"y", b"2"])
        for k in range(n)
    ]


def by_python(entries: list[Entry], codes: Codes, version: int) -> list[Entry]:
    fields = encode_points(codes, version)
    return [
        (entry_id, [*own, *flat[flat.index(b"label") :][:2]])
        for (entry_id, flat), own in zip(entries, fields, strict=True)
    ]


def natively(entries: list[Entry], codes: Codes, version: int = 1) -> bytes | None:
    """Return what native code packs, with labels; None if it leaves that to Python."""
    found = pack_points(packed(entries), codes, version, frozenset([b"label"]), list)
    return as_rows(found) if found else None


@given(st.lists(DISTANCES, min_size=1, max_size=25), st.integers(1, 2**62))
def test_they_are_the_same(distances: list[float], version: int) -> None:
    entries, codes = entries_of(len(distances)), codes_of(distances)
    assert natively(entries, codes, version) == as_rows(by_python(entries, codes, version))


@pytest.mark.parametrize("digits", range(1, 18))
def test_numbers_are_written_as_by_python(digits: int) -> None:
    # Given numbers of each size and so many digits, and their neighbours
    given = [float(f"{'9' * digits}e{exponent}") for exponent in range(-320, 290)]
    distances = [number for each in given for number in (each, np.nextafter(each, 0.0))]
    flat = [b"label", b"long" * 64]
    entries, codes = [(b"1-0", flat)] * len(distances), codes_of(distances)
    assert natively(entries, codes) == as_rows(by_python(entries, codes, 1))


@pytest.mark.parametrize("other", [[b"x", b"1"], [b"label", b"0", b"x", b"1", b"y", b"2"]])
def test_entries_of_other_fields_are_left_to_python(other: list[bytes]) -> None:
    assert natively([*entries_of(2), (b"9999-0", other)], codes_of([1.0] * 3)) is None


def test_so_is_a_distance_that_is_no_number() -> None:
    assert natively(entries_of(1), codes_of([np.inf])) is None


def test_a_model_id_is_written_with_each_entry(client: redis.Redis, namespace: str) -> None:
    entries, codes = entries_of(5), codes_of([1.0] * 5)
    found = pack_points(packed(entries), codes, 7, frozenset([b"label"]), list, model_id=2**31 - 1)
    assert write_codes(client, namespace, found, 100) == 5
    plain = [
        (each, [*fields, b"model_id", b"2147483647"])
        for each, fields in by_python(entries, codes, 7)
    ]
    assert write_codes(client, f"{namespace}-plain", plain, 100) == 5
    written: Any = client.xrange(namespace)
    assert written == client.xrange(f"{namespace}-plain")
    assert decode_fields("1-0", {**written[0][1]}, namespace).model_id == 2**31 - 1
