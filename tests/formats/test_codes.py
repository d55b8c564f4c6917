"""Entries of codes: what is written is read back, each is there once, and in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamclust.errors import FormatError
from streamclust.formats.codes import decode_fields, encode_fields, encode_points, with_bad_points
from streamclust.models.quantize import Codes


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
    assert found.model_id == 0
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


@pytest.mark.parametrize("m", [1, 3])
def test_points_without_a_code_have_minus_one_and_nan(m: int) -> None:
    good = np.array([True, False, True])
    similarity = np.array([1.0, 0.5]) if m > 1 else None
    scores = {"quantile": np.array([0.5, 0.75])}
    given = replace(codes(2, m), similarity=similarity, scores=scores)
    found = with_bad_points(given, good)
    assert found.index.tolist() == [given.index[0], -1, given.index[1]]
    for before, after in (
        (given.distance, found.distance),
        (given.scores["quantile"], found.scores["quantile"]),
        (given.similarity, found.similarity),
        (given.top_values, found.top_values),
    ):
        assert (before is None) == (after is None)
        if after is not None:
            np.testing.assert_array_equal(after[good], before)
            assert np.isnan(after[~good]).all()
    assert (found.top is None) == (m == 1)
    if found.top is not None:
        np.testing.assert_array_equal(found.top[good], given.top)
        assert found.top[1].tolist() == [-1] * m


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


@pytest.mark.parametrize("n", [0, 1, 33])
@pytest.mark.parametrize("m", [1, 3])
def test_cosines_are_an_optional_field(n: int, m: int) -> None:
    given = replace(codes(n, m), similarity=codes(n + 1).distance[:n])
    fields = as_dict(encode_fields(given, 42, "top_distance", None))
    found = decode_fields("7-0", fields, "codes")
    np.testing.assert_array_equal(found.similarity, given.similarity)
    assert found.labels == {}
    if n == m == 1:
        assert encode_points(given, 42) == [encode_fields(given, 42, "", None)]
    assert (
        decode_fields("7-0", as_dict(encode_fields(codes(n), 1, "", None)), "").similarity is None
    )


def test_a_label_of_that_name_by_an_earlier_release_is_still_a_label() -> None:
    fields = {b"code": b"3", b"distance": b"1.5", b"version": b"7", b"similarity": b"high"}
    found = decode_fields("7-0", fields, "codes")
    assert found.similarity is None
    assert found.labels == {b"similarity": b"high"}


@pytest.mark.parametrize("n", [0, 1, 33])
@pytest.mark.parametrize("m", [1, 3])
def test_scores_are_optional_fields(n: int, m: int) -> None:
    quantile = 1.0 - 1e-12 * codes(n + 1).distance[:n]
    given = replace(codes(n, m), scores={"log_density": -codes(n).distance, "quantile": quantile})
    fields = as_dict(encode_fields(given, 42, "top_distance", None))
    found = decode_fields("7-0", fields | {b"mahalanobis": b"high"}, "codes")
    assert list(found.scores) == ["log_density", "quantile"]
    for name, scores in given.scores.items():
        np.testing.assert_array_equal(found.scores[name], scores)
    assert found.labels == {b"mahalanobis": b"high"}
    if n == m == 1:
        assert encode_points(given, 42) == [encode_fields(given, 42, "", None)]
    if m == 1:
        each = [encode_fields(given[k : k + 1], 42, "", None) for k in range(n)]
        assert encode_points(given, 42) == each


def test_the_bytes_of_scores_are_stable() -> None:
    scores = {"mahalanobis": np.array([2.5, np.nan]), "quantile": np.array([0.75, np.nan])}
    given = Codes(np.array([3, -1], np.int32), np.array([1.25, np.nan]), scores=scores)
    assert encode_fields(given[:1], 42, "", None) == [
        *(b"code", b"3", b"distance", b"1.25", b"mahalanobis", b"2.5", b"quantile", b"0.75"),
        *(b"version", b"42"),
    ]
    fields = as_dict(encode_fields(given, 42, "", None))
    assert fields[b"mahalanobis"] == np.array([2.5, np.nan], "<f4").tobytes()
    assert fields[b"quantile"] == np.array([0.75, np.nan], "<f8").tobytes()
    assert list(fields)[:4] == [b"n", b"code", b"distance", b"mahalanobis"]
