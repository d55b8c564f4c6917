"""The layout of a stream from its first good entry."""

from __future__ import annotations

import struct

import pytest

from streamclust.errors import DataError
from streamclust.formats.points import Layout, PointsFormat, detect

HINT = "; points.missing: learn accepts missing values"
AUTO = PointsFormat()
TWO = struct.pack("<2f", 1.5, 2.5)
FOUR = struct.pack("<4d", 1.5, 2.5, 3.5, 4.5)


def _fields(*features: str, weight: str | None = None, strict: bool = True) -> Layout:
    return Layout("fields", None, weight, features, len(features), strict)


@pytest.mark.parametrize(
    ("flat", "spec", "expected"),
    [
        ([b"y", b"1", b"x", b"2"], AUTO, _fields("y", "x")),
        ([b"x", b"1"], AUTO, _fields("x")),
        ([b"x", b"1", b"w", b"2"], PointsFormat(weight_field="w"), _fields("x", weight="w")),
        ([b"f3", b"1.5", b"f4", b"12.5"], AUTO, _fields("f3", "f4")),
        ([b"c", b"1", b"d", b"2"], AUTO, _fields("c", "d")),
        (
            [b"x", b"1", b"y", b"2", b"label", b"spam"],
            PointsFormat(features=("y", "x")),
            _fields("y", "x", strict=False),
        ),
        ([b"json", b"[1,2,3]"], AUTO, Layout("json", "json", None, (), 3, False)),
        ([b"json", b"[[1,2],[3,4]]"], AUTO, Layout("json", "json", None, (), 2, False)),
        ([b"json", b'["a",[1],[1,null],[3,4]]'], AUTO, Layout("json", "json", None, (), 1, False)),
        ([b"json", b"[[1,null,0],[3,4]]"], AUTO, Layout("json", "json", None, (), 2, False)),
        ([b"v", b" [1,2]"], AUTO, Layout("json", "v", None, (), 2, False)),
        (
            [b"v", b'{"x":1,"y":2}'],
            PointsFormat(features=("x", "y")),
            Layout("json", "v", None, ("x", "y"), 2, False),
        ),
        (
            [b"v", b"[1,2]", b"w", b"1"],
            PointsFormat(weight_field="w"),
            Layout("json", "v", "w", (), 2, False),
        ),
        (
            [b"key", b"a", b"v", b"[1,2]"],
            PointsFormat(field="v"),
            Layout("json", "v", None, (), 2, False),
        ),
        ([b"f4", TWO], AUTO, Layout("float32", "f4", None, (), 2, False)),
        ([b"f8", FOUR], AUTO, Layout("float64", "f8", None, (), 4, False)),
        ([b"f8", FOUR, b"d", b"2"], AUTO, Layout("float64", "f8", None, (), 2, False)),
        ([b"f8", FOUR], PointsFormat(n_features=1), Layout("float64", "f8", None, (), 1, False)),
        ([b"key", b"a", b"f4", TWO], AUTO, Layout("float32", "f4", None, (), 2, False)),
        (
            [b"v", TWO],
            PointsFormat(format="float32", field="v"),
            Layout("float32", "v", None, (), 2, False),
        ),
        (
            [b"f4", b"12.5"],
            PointsFormat(format="float32"),
            Layout("float32", "f4", None, (), 1, False),
        ),
    ],
)
def test_the_first_entry_tells(flat: list[bytes], spec: PointsFormat, expected: Layout) -> None:
    assert detect(flat, spec) == expected


@pytest.mark.parametrize(
    ("flat", "spec", "reason"),
    [
        ([], AUTO, "empty entry"),
        ([b"w", b"1"], PointsFormat(weight_field="w"), "the entry has no field except the weight"),
        (
            [b"x", b"1", b"label", b"spam"],
            AUTO,
            "cannot tell the format: 'label' holds 'spam', not a number; "
            "set points.format, or points.features to choose fields",
        ),
        (
            [b"label", b"spam"],
            AUTO,
            "cannot tell the format of field 'label' from 'spam'; set points.format",
        ),
        (
            [b"v", b"\x00\x01", b"x", b"1"],
            PointsFormat(field="v"),
            r"cannot tell the format of field 'v' from '\x00\x01'; set points.format",
        ),
        ([b"f4", b"12.5"], AUTO, "'12.5' could be text or float32; set points.format"),
        ([b"\xff", b"1"], AUTO, r"field name '\\xff' is not UTF-8; rename it"),
        ([b"x", b"nan"], AUTO, f"not finite: nan at feature 'x'{HINT}"),
        ([b"x", b"1", b"x", b"2"], AUTO, "field 'x' appears twice"),
        ([b"x", b"a"], PointsFormat(format="fields"), "x='a' is not a number"),
        ([b"x", b"a"], PointsFormat(features=("x",)), "x='a' is not a number"),
        ([b"x", b"1"], PointsFormat(weight_field="w"), "missing field 'w'"),
        ([b"x", b"1"], PointsFormat(n_features=2), "1 feature fields, expected 2"),
        ([b"x", b"1"], PointsFormat(format="json"), "missing field 'json'"),
        ([b"json", b"["], AUTO, "bad JSON: Expecting value at character 1"),
        ([b"json", b"[1,null]"], AUTO, f"null at feature 1 is not a number{HINT}"),
        ([b"json", b"[[]]"], AUTO, "wrong length: 0, expected 1"),
        ([b"json", b"[[],[]]"], AUTO, "wrong length: 0, expected 1"),
        ([b"json", b'[["a",1],["b",2,3]]'], AUTO, '"a" at feature 0 is not a number'),
        (
            [b"json", b'{"x":1}'],
            AUTO,
            "an object, but the features have no names; set points.features",
        ),
        ([b"json", b"[1,2]"], PointsFormat(n_features=3), "wrong length: 2, expected 3"),
        ([b"f4", b""], PointsFormat(format="float32"), "empty block"),
        ([b"f4", TWO[:-1]], AUTO, "truncated: the last point has 7 of 8 bytes"),
        ([b"f4", TWO, b"d", b"two"], AUTO, "d='two' is not a number of features"),
        ([b"f4", TWO, b"d", b"0"], AUTO, "d='0' is not a number of features"),
        (
            [b"f4", TWO, b"d", b"9" * 10],
            AUTO,
            "wrong length: d='9999999999', expected 999999999",
        ),
    ],
)
def test_an_entry_that_cannot_tell_says_why(
    flat: list[bytes], spec: PointsFormat, reason: str
) -> None:
    with pytest.raises(DataError) as caught:
        detect(flat, spec)
    assert str(caught.value) == reason
