"""Codes as native code writes them, beside those that Python makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from streamclust.formats.codes import decode_fields, encode_points
from streamclust.models.quantize import Codes
from streamclust.store.model.code_stream import write_codes
from streamclust.store.reply import native as wire
from streamclust.store.reply.packed_codes import as_rows, pack_points
from tests.support.exhaustive import examples
from tests.support.replies import Entry, needs_native, packed

pytestmark = needs_native

LAW = examples(100)

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


@LAW
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


ANY = st.floats(allow_nan=False, allow_infinity=False)


@LAW
@given(st.lists(st.tuples(DISTANCES, ANY, ANY), min_size=1, max_size=25), st.booleans())
def test_scores_are_the_same(numbers: list[tuple[float, ...]], has_cosine: bool) -> None:
    distances, one, two = (list(each) for each in zip(*numbers, strict=True))
    codes = replace(
        codes_of(distances),
        scores={"log_density": np.array(one), "quantile": np.array(two)},
        similarity=np.array(two) if has_cosine else None,
    )
    entries = entries_of(len(distances))
    assert natively(entries, codes) == as_rows(by_python(entries, codes, 1))
    with_nan = replace(codes, scores={"quantile": np.full(len(distances), np.nan)})
    assert natively(entries, with_nan) is None


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


@pytest.mark.parametrize("distance", [-np.inf, np.nan])
def test_so_is_one_that_no_distance_is(distance: float) -> None:
    assert natively(entries_of(3), codes_of([1.0, 2.0, distance])) is None


@pytest.mark.parametrize("version", [0, -1, 2**64 - 1, 10**40, 10**2000])
def test_a_version_may_have_any_length(version: int) -> None:
    codes = codes_of([1.7976931348623157e308, 5e-324, 0.1] * 70)
    entries = [(b"%d-%d" % (2**64 - 1, 2**64 - 1), [b"label", b"l" * size]) for size in range(210)]
    assert natively(entries, codes, version) == as_rows(by_python(entries, codes, version))


def test_nothing_is_written_beyond_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a caller who gives less room than is needed
    monkeypatch.setattr(wire, "_CODE_BYTES", 1)
    monkeypatch.setattr(wire, "_NUMBER_BYTES", 0)
    with pytest.raises(AssertionError, match="bytes may be too few for the codes of 50 entries"):
        natively([(b"1-0", [b"x", b"1"])] * 50, codes_of([0.1] * 50), 10**30)


def test_codes_and_entries_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="2 codes for 3 entries"):
        natively(entries_of(3), codes_of([1.0, 2.0]))
