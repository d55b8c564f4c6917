"""Points in entries: what is written is read back, and bad input costs only itself."""

from __future__ import annotations

import json
import struct
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from streamclust.arrays import MAX_MAGNITUDE
from streamclust.errors import DataError, FormatError
from streamclust.formats import points
from streamclust.formats.codecs import json_array, json_text, raw
from streamclust.formats.layout import RAW_DTYPE
from streamclust.formats.points import Decoded, Layout, decode, encode
from tests.support.exhaustive import examples
from tests.support.replies import decoded, needs_native, packed, to_resp

Array = NDArray[np.float64]
Entries = list[tuple[bytes, list[bytes]]]

XY = ("x", "y")
HINT = "; points.missing: learn accepts missing values"
FIELDS = Layout("fields", None, None, XY, 2, strict=True)
JSON = Layout("json", "json", None, XY, 2, strict=False)
F4 = Layout("float32", "f4", None, (), 2, strict=False)
F8 = Layout("float64", "f8", None, (), 2, strict=False)
LAYOUTS = {layout.format: layout for layout in (FIELDS, JSON, F4, F8)}
EVERY_LAYOUT = [
    replace(layout, weight_field=weight) for layout in LAYOUTS.values() for weight in (None, "w")
]

LAW = examples(300)

finite = st.floats(-MAX_MAGNITUDE, MAX_MAGNITUDE)
single = st.floats(allow_nan=False, allow_infinity=False, width=32)


def _id(index: int) -> bytes:
    return b"%d-0" % (index + 1)


def _numbered(flats: list[list[bytes]]) -> Entries:
    return [(_id(index), flat) for index, flat in enumerate(flats)]


def _reasons(entries: Entries, layout: Layout) -> list[tuple[int, str]]:
    return [(point.index, point.reason) for point in decode(entries, layout).dead]


def _one(flat: list[bytes], layout: Layout) -> Decoded:
    return decode([(b"1-0", flat)], layout)


def _bits(values: NDArray[Any] | None) -> tuple[tuple[int, ...], bytes] | None:
    return None if values is None else (values.shape, np.asarray(values, np.float64).tobytes())


def _same(a: Decoded, b: Decoded) -> bool:
    arrays = zip((a.X, a.w, a.counts), (b.X, b.w, b.counts), strict=True)
    return all(_bits(one) == _bits(two) for one, two in arrays) and a.dead == b.dead


# Good input -----------------------------------------------------------------------------------


@st.composite
def written(draw: st.DrawFn) -> tuple[Layout, int, Array, Array | None]:
    """A layout, a block, points and weights that any format can hold exactly."""
    layout = draw(st.sampled_from(EVERY_LAYOUT))
    block = 1 if layout.format == "fields" else draw(st.integers(1, 5))
    D = draw(st.integers(1, 4))
    n = draw(st.integers(0, 12))
    values = single if layout.format == "float32" else finite
    X = draw(hnp.arrays(np.float64, (n, D), elements=values))
    least, most = 2.0**-100, 2.0**100
    weights = st.floats(least, most, width=32 if layout.format == "float32" else 64)
    positive = st.just(0.0) | weights
    weighted = layout.weight_field is not None
    w = draw(hnp.arrays(np.float64, n, elements=positive)) if weighted else None
    features = tuple(f"x{i}" for i in range(D)) if layout.features else ()
    return replace(layout, features=features, n_features=D), block, X, w


@LAW
@given(written())
def test_what_is_written_is_read_back_bit_for_bit(
    case: tuple[Layout, int, Array, Array | None],
) -> None:
    layout, block, X, w = case
    entries = _numbered(list(encode(X, layout, w, block)))
    decoded = decode(entries, layout)
    assert _bits(decoded.X) == _bits(X)
    assert _bits(decoded.w) == _bits(w)
    assert decoded.dead == ()
    assert len(entries) == -(-len(X) // block)
    assert decoded.counts.tolist() == [
        len(X[start : start + block]) for start in range(0, len(X), block)
    ]


@LAW
@given(written())
def test_perfect_entries_are_read_at_once(case: tuple[Layout, int, Array, Array | None]) -> None:
    layout, block, X, w = case
    flats = list(encode(X, layout, w, block))
    if flats:
        assert points._decode_at_once(flats, layout) is not None


@pytest.mark.parametrize("layout", EVERY_LAYOUT, ids=str)
def test_arrays_have_the_promised_form(layout: Layout) -> None:
    w = None if layout.weight_field is None else np.ones(3)
    flats = list(encode(np.arange(6.0).reshape(3, 2), layout, w))
    for entries in (_numbered(flats), []):
        decoded = decode(entries, layout)
        assert decoded.X.dtype == np.float64
        assert decoded.X.flags.c_contiguous
        assert decoded.X.flags.writeable
        assert decoded.X.shape == (len(entries), 2)
        assert decoded.counts.dtype == np.int64
        assert (decoded.w is None) == (layout.weight_field is None)
        assert decoded.w is None or decoded.w.shape == (len(entries),)


def test_float32_values_are_exact() -> None:
    X = np.array([[0.1, 1e-40], [3.4e38, -0.0]], np.float32)
    decoded = decode(_numbered(list(encode(X, F4, block=2))), F4)
    assert _bits(decoded.X) == _bits(X.astype(np.float64))


def test_raw_bytes_are_little_endian_in_c_order() -> None:
    flat = [b"f4", struct.pack("<4f", 1, 2, 3, 4)]
    assert _one(flat, F4).X.tolist() == [[1, 2], [3, 4]]
    assert list(encode(np.array([[1.0, 2.0], [3.0, 4.0]]), F4, block=2)) == [[*flat, b"d", b"2"]]
    assert list(encode(np.array([[1.0, 2.0]]), F4)) == [[b"f4", flat[1][:8]]]


def test_text_of_one_point() -> None:
    X, w = np.array([[1.5, 2.0]]), np.array([3.0])
    assert list(encode(X, replace(FIELDS, weight_field="w"), w)) == [
        [b"x", b"1.5", b"y", b"2.0", b"w", b"3.0"]
    ]
    assert list(encode(X, JSON)) == [[b"json", b"[1.5,2.0]"]]
    assert list(encode(X, replace(JSON, weight_field="w"), w, block=2)) == [
        [b"json", b"[[1.5,2.0]]", b"w", b"[3.0]"]
    ]


@pytest.mark.parametrize(
    "text", [b"1.5", b" 1.5 ", b"+1.5", b"15e-1", b"1.5000", b".15e1", b"0000001.5"]
)
def test_usual_spellings_of_a_number(text: bytes) -> None:
    assert _one([b"x", text, b"y", b"0"], FIELDS).X.tolist() == [[1.5, 0]]


def test_fields_may_come_in_any_order() -> None:
    flats = [[b"x", b"1", b"y", b"2"], [b"y", b"4", b"x", b"3"]]
    assert decode(_numbered(flats), FIELDS).X.tolist() == [[1, 2], [3, 4]]
    assert decode(_numbered(flats[1:] * 2), FIELDS).X.tolist() == [[3, 4], [3, 4]]


def test_chosen_features_let_other_fields_be() -> None:
    chosen = replace(FIELDS, features=("y", "x"), strict=False)
    flats = [[b"label", b"spam", b"x", b"1", b"y", b"2"], [b"x", b"3", b"y", b"4"]]
    assert decode(_numbered(flats), chosen).X.tolist() == [[2, 1], [4, 3]]


def test_json_objects_by_name() -> None:
    flats = [
        [b"json", b'{"y": 2, "x": 1, "label": "spam"}'],
        [b"json", b'[{"x": 3, "y": 4}, [5, 6]]'],
    ]
    decoded = decode(_numbered(flats), JSON)
    assert decoded.X.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert decoded.counts.tolist() == [1, 2]


def test_json_and_raw_entries_may_hold_other_fields() -> None:
    assert _one([b"key", b"7", b"json", b"[1, 2]"], JSON).X.tolist() == [[1, 2]]
    assert _one([b"key", b"7", b"f4", struct.pack("<2f", 1, 2)], F4).X.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("layout", "flat", "expected"),
    [
        (FIELDS, [b"x", b"1", b"y", b"2", b"w", b"0.5"], [0.5]),
        (FIELDS, [b"w", b"0", b"x", b"1", b"y", b"2"], [0]),
        (JSON, [b"json", b"[1,2]", b"w", b"3"], [3]),
        (JSON, [b"json", b"[1,2]", b"w", b"[3]"], [3]),
        (JSON, [b"json", b"[[1,2],[3,4]]", b"w", b"3"], [3, 3]),
        (JSON, [b"json", b"[[1,2],[3,4]]", b"w", b"[3,4]"], [3, 4]),
        (F4, [b"f4", bytes(16), b"w", struct.pack("<f", 3)], [3, 3]),
        (F4, [b"f4", bytes(8), b"w", struct.pack("<f", 3), b"key", b"d"], [3]),
        (F4, [b"f4", bytes(16), b"w", struct.pack("<2f", 3, 4)], [3, 4]),
        (F8, [b"f8", bytes(32), b"w", struct.pack("<2d", 3, 4)], [3, 4]),
    ],
)
def test_weights(layout: Layout, flat: list[bytes], expected: list[float]) -> None:
    weighted = replace(layout, weight_field="w")
    good = [flat, flat]
    bad = [*good, [b"oops", b""]]
    for flats in (good, bad):
        w = decode(_numbered(flats), weighted).w
        assert w is not None
        assert w.tolist() == expected * 2


# Bad input ------------------------------------------------------------------------------------

DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("flat", "index", "reason"),
    [
        ([b"x", b"1", b"y", b"abc"], 0, "y='abc' is not a number"),
        ([b"x", b"1", b"y", b""], 0, f"y='' is not a number{HINT}"),
        ([b"x", b"1_000", b"y", b"2"], 0, "x='1_000' is not a number"),
        ([b"x", b"0x10", b"y", b"2"], 0, "x='0x10' is not a number"),
        ([b"x", "١".encode(), b"y", b"2"], 0, "x='١' is not a number"),
        ([b"x", b"\xff\x00", b"y", b"2"], 0, r"x='\\xff\x00' is not a number"),
        ([b"x", b"z" * 99, b"y", b"2"], 0, f"x='{'z' * 40}'... is not a number"),
        ([b"x", b"1", b"y", b"nan"], 0, f"not finite: nan at feature 'y'{HINT}"),
        ([b"x", b"-inf", b"y", b"2"], 0, "not finite: -inf at feature 'x'"),
        ([b"x", b"1e999", b"y", b"2"], 0, "not finite: inf at feature 'x'"),
        ([b"x", b"9" * 5000, b"y", b"2"], 0, "not finite: inf at feature 'x'"),
        ([b"x", b"1"], -1, f"missing field 'y'{HINT}"),
        ([b"x", b"1", b"y", b"2", b"z", b"3"], -1, "unexpected field 'z'"),
        ([b"x", b"1", b"y", b"2", b"y", b"3"], -1, "field 'y' appears twice"),
        ([], -1, "empty entry"),
    ],
)
def test_bad_fields(flat: list[bytes], index: int, reason: str) -> None:
    assert _reasons([(b"1-0", flat)], FIELDS) == [(index, reason)]


@pytest.mark.parametrize(
    ("text", "index", "reason"),
    [
        (b"[1,", -1, "bad JSON: Expecting value at character 3"),
        (b"", -1, "bad JSON: Expecting value at character 0"),
        (b"[1,2],[3,4]", -1, "bad JSON: Extra data at character 5"),
        (
            b"(1,2)",
            -1,
            "bad JSON: Expecting value at character 0; it is a Python tuple: send json.dumps(x)",
        ),
        (b"[1,1_000]", -1, "bad JSON: Expecting ',' delimiter at character 4"),
        (b"\xff", -1, "JSON is not UTF-8 at byte 0"),
        (DEEP, -1, "JSON is nested too deeply"),
        (b"5", -1, "not a vector: 5.0"),
        (b"null", -1, "not a vector: null"),
        (b'"[1,2]"', -1, 'not a vector: "[1,2]"'),
        (b'"%b"' % (b"a" * 38), -1, f'not a vector: "{"a" * 38}"'),
        (b'"%b"' % (b"a" * 39), -1, f'not a vector: "{"a" * 39}...'),
        (b"[]", -1, "empty vector"),
        (b"[1]", 0, "wrong length: 1, expected 2"),
        (b"[1,2,3]", 0, "wrong length: 3, expected 2"),
        (b"[1,true]", 0, "true at feature 'y' is not a number"),
        (b"[null,1]", 0, f"null at feature 'x' is not a number{HINT}"),
        (b'[1,"2"]', 0, "\"2\" at feature 'y' is not a number"),
        (b"[[1,[2]]]", 0, "[2.0] at feature 'y' is not a number"),
        (b"[1,NaN]", 0, f"not finite: nan at feature 'y'{HINT}"),
        (b"[-Infinity,1]", 0, "not finite: -inf at feature 'x'"),
        (b"[1e999,1]", 0, "not finite: inf at feature 'x'"),
        (b"[1," + b"9" * 5000 + b"]", 0, "not finite: inf at feature 'y'"),
        (b'{"x":1}', 0, f"missing field 'y'{HINT}"),
        (b'{"x":1,"y":2,"y":3}', 0, "field 'y' appears twice"),
        (b'{"x":1,"y":{}}', 0, "{} at feature 'y' is not a number"),
    ],
)
def test_bad_json(text: bytes, index: int, reason: str) -> None:
    assert _reasons([(b"1-0", [b"json", text])], JSON) == [(index, reason)]


def test_an_object_needs_feature_names() -> None:
    (dead,) = _one([b"json", b'{"x":1,"y":2}'], replace(JSON, features=())).dead
    assert dead.reason == "an object, but the features have no names; set points.features"
    assert json.loads(dead.data) == {"x": 1, "y": 2}


def test_a_missing_field_is_named() -> None:
    assert _reasons([(b"1-0", [b"x", b"1"])], JSON) == [(-1, "missing field 'json'")]
    assert _reasons([(b"1-0", [b"x", b"1"])], F4) == [(-1, "missing field 'f4'")]


@pytest.mark.parametrize(
    ("flat", "reason"),
    [
        ([b"f4", b""], "empty block"),
        ([b"f4", bytes(16), b"d", b"4"], "wrong length: d='4', expected 2"),
        ([b"f4", bytes(8), b"f4", bytes(8)], "field 'f4' appears twice"),
    ],
)
def test_bad_raw_entries(flat: list[bytes], reason: str) -> None:
    assert _reasons([(b"1-0", flat)], F4) == [(-1, reason)]


def test_a_truncated_block_loses_only_its_tail() -> None:
    block = struct.pack("<6f", 1, 2, 3, 4, 5, 6)
    decoded = _one([b"f4", block[:-1]], F4)
    assert decoded.X.tolist() == [[1, 2], [3, 4]]
    assert decoded.counts.tolist() == [2]
    (tail,) = decoded.dead
    assert (tail.index, tail.data) == (2, block[16:-1])
    assert tail.reason == "truncated: the last point has 7 of 8 bytes"


def test_the_weight_of_a_truncated_point_goes_with_it() -> None:
    flat = [b"f4", bytes(15), b"w", struct.pack("<2f", 3, 4)]
    decoded = _one(flat, replace(F4, weight_field="w"))
    assert decoded.w is not None
    assert decoded.w.tolist() == [3]


@pytest.mark.parametrize(
    ("layout", "flat"),
    [
        (JSON, [b"json", b'[[1,2],[3],[5,null],"no",[7,NaN],[9,10]]']),
        (
            F4,
            [b"f4", struct.pack("<12f", 1, 2, np.nan, 0, 0, np.inf, -np.inf, 0, 0, np.nan, 9, 10)],
        ),
    ],
)
def test_in_a_block_only_the_bad_points_are_dead(layout: Layout, flat: list[bytes]) -> None:
    decoded = _one(flat, layout)
    assert decoded.X.tolist() == [[1, 2], [9, 10]]
    assert [point.index for point in decoded.dead] == [1, 2, 3, 4]
    assert decoded.counts.tolist() == [2]


def test_a_signalling_nan_is_dead_like_any_other() -> None:
    (dead,) = _one([b"f4", b"\x00\x00\xa0\x7f" * 2], F4).dead
    assert dead.reason == f"not finite: nan at feature 0{HINT}"


@pytest.mark.parametrize(
    ("layout", "flat", "index", "reason"),
    [
        (FIELDS, [b"x", b"1", b"y", b"2"], -1, "missing field 'w'"),
        (FIELDS, [b"x", b"1", b"y", b"2", b"w", b"-1"], 0, "weight is negative: -1"),
        (FIELDS, [b"x", b"1", b"y", b"2", b"w", b"nan"], 0, "weight is not finite: nan"),
        (FIELDS, [b"x", b"1", b"y", b"2", b"w", b"much"], 0, "weight 'much' is not a number"),
        (FIELDS, [b"x", b"1", b"y", b"2", b"w", b"1_0"], 0, "weight '1_0' is not a number"),
        (JSON, [b"json", b"[1,2]", b"w", b"-1"], -1, "weight is negative: -1"),
        (JSON, [b"json", b"[1,2]", b"w", b'"1"'], -1, 'weight "1" is not a number'),
        (JSON, [b"json", b"[1,2]", b"w", b"[null]"], 0, "weight null is not a number"),
        (JSON, [b"json", b"[1,2]", b"w", b"[true]"], 0, "weight true is not a number"),
        (JSON, [b"json", b"[1,2]", b"w", b"[1,2]"], -1, "wrong number of weights: 2, expected 1"),
        (JSON, [b"json", b"[1,2]", b"w", b"1e999"], -1, "weight is not finite: inf"),
        (
            JSON,
            [b"json", b"[1,2]", b"w", b"1e-300"],
            -1,
            "weight is too small: 1e-300; send 0 or at least 1e-100",
        ),
        (F4, [b"f4", bytes(8), b"w", struct.pack("<f", -1)], 0, "weight is negative: -1"),
        (F4, [b"f4", bytes(16), b"w", struct.pack("<f", -1)], -1, "weight is negative: -1"),
        (
            F4,
            [b"f4", bytes(24), b"w", bytes(8)],
            -1,
            "weights have 8 bytes, expected 4 (one for all) or 12",
        ),
    ],
)
def test_bad_weights(layout: Layout, flat: list[bytes], index: int, reason: str) -> None:
    weighted = replace(layout, weight_field="w")
    decoded = _one(flat, weighted)
    assert [(point.index, point.reason) for point in decoded.dead] == [(index, reason)]
    assert decoded.X.shape == (0, 2)


def test_a_bad_weight_costs_its_point_alone() -> None:
    weighted = replace(JSON, weight_field="w")
    decoded = _one([b"json", b"[[1,2],[3,4],[5,6]]", b"w", b"[1,-1,2]"], weighted)
    assert decoded.X.tolist() == [[1, 2], [5, 6]]
    assert [point.index for point in decoded.dead] == [1]


def test_a_dead_point_can_be_found_again() -> None:
    flats = [[b"x", b"1", b"y", b"2"], [b"x", b"1", b"y", b"?" * 5000], [b"z", b"3"]]
    decoded = decode(_numbered(flats), FIELDS)
    assert [point.entry_id for point in decoded.dead] == [b"2-0", b"3-0"]
    assert decoded.dead[0].data == b"x=1 y=" + b"?" * 1018
    assert decoded.dead[1].data == b"z=3"


# Laws -----------------------------------------------------------------------------------------

texts = st.sampled_from(
    [b"1", b"2.5", b"-3e2", b"0", b"nan", b"inf", b"", b"abc", b"1_0", b"1e999", b" 4 ", b"[1]"]
)
json_values = st.recursive(
    st.none() | st.booleans() | finite | st.sampled_from([1, 2, 10**400, "a", float("nan")]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner),
    max_leaves=6,
)
vectors = st.lists(finite, min_size=2, max_size=2)
json_texts = st.one_of(
    vectors.map(json.dumps),
    st.lists(vectors, min_size=1, max_size=3).map(json.dumps),
    json_values.map(json.dumps),
    # Texts that make sense only together with their neighbours.
    st.text('[],1 "{}:x', max_size=8),
    st.sampled_from(["[1,2],[3", "4]", "[1,2],[3,4]", "[1,2", "1,2", "[[1,2]", "[1,2]]", '["]']),
).map(str.encode)
raw_values = st.one_of(
    st.lists(st.sampled_from([0.0, 1.0, -2.5, np.nan, np.inf]), max_size=6).map(
        lambda values: np.array(values, "<f4").tobytes()
    ),
    st.binary(max_size=20),
)


def _entry(name: bytes, value: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    weights = st.sampled_from(
        [b"1", b"0", b"-1", b"[1,2]", b"[1]", b"", b"1,1", bytes(4), bytes(8)]
    )
    extra = st.sampled_from([[], [b"d", b"2"], [b"d", b"3"], [b"w"], [name, b"1"]])
    return st.builds(
        lambda text, weight, more: [name, text, b"w", weight, *(more if len(more) > 1 else [])],
        value,
        weights,
        extra,
    )


field_entries = st.one_of(
    st.builds(lambda x, y: [b"x", x, b"y", y], texts, texts),
    st.builds(lambda x, y, w: [b"x", x, b"y", y, b"w", w], texts, texts, texts),
    st.builds(lambda x, y: [b"y", y, b"x", x], texts, texts),
    st.lists(st.tuples(st.sampled_from([b"x", b"y", b"w", b"z"]), texts), max_size=4).map(
        lambda pairs: [part for pair in pairs for part in pair]
    ),
)
ENTRIES = {
    "fields": field_entries,
    "json": _entry(b"json", json_texts),
    "float32": _entry(b"f4", raw_values),
    "float64": _entry(b"f8", raw_values),
}


@st.composite
def dirty(draw: st.DrawFn) -> tuple[Layout, Entries]:
    """A chunk of entries of which any may be bad."""
    layout = draw(st.sampled_from(EVERY_LAYOUT))
    layout = replace(layout, missing=draw(st.sampled_from(["reject", "learn"])))
    if layout.format == "fields":
        layout = replace(layout, strict=draw(st.booleans()))
    flats = draw(st.lists(ENTRIES[layout.format], min_size=1, max_size=6))
    return layout, _numbered(flats * draw(st.sampled_from([1, 1, 7])))


@LAW
@given(dirty())
def test_the_fast_and_the_careful_way_agree(case: tuple[Layout, Entries]) -> None:
    layout, entries = case
    careful = points._decode_carefully(entries, layout)
    at_once = points._decode_at_once([flat for _, flat in entries], layout)
    assert at_once is None or _same(at_once, careful)
    assert _same(decode(entries, layout), careful)


@needs_native
@LAW
@given(dirty())
def test_entries_in_a_reply_give_the_same_as_lists(case: tuple[Layout, Entries]) -> None:
    layout, entries = case
    flats = [flat for _, flat in entries]
    assert _same(packed(entries).decode(layout), points.decode_flats(flats, layout))


@needs_native
@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("block", [1, 3])
def test_perfect_entries_are_read_natively(layout: Layout, block: int) -> None:
    if layout.format == "fields":
        block = 1
    rng = np.random.default_rng(0)
    w = None if layout.weight_field is None else rng.random(31)
    written = _numbered(list(encode(rng.normal(size=(31, 2)), layout, w, block)))
    found = decoded(written, layout)
    assert found is not None
    assert _same(Decoded(found.X, found.w, found.counts), decode(written, layout))
    # and again, with a bad one in between
    written[1:1] = [(b"1-5", [b"x", b"?"])]
    flats = [flat for _, flat in written]
    assert _same(packed(written).decode(layout), points.decode_flats(flats, layout))


@needs_native
def test_a_feature_may_have_the_name_of_a_companion_field() -> None:
    layout = Layout("fields", None, None, ("d", "x"), 2, strict=True)
    for flat in ([b"x", b"1"], [b"x", b"1", b"y", b"2"]):
        found = packed([(b"1-0", flat)]).decode(layout)
        assert [point.reason for point in found.dead] == [f"missing field 'd'{HINT}"]


def test_fields_do_not_run_into_the_next_entry() -> None:
    flats = [[b"x", b"1", b"y", b"2"], [b"x", b"3", b"y", b"4", b"x", b"5"], [b"y", b"6"]]
    decoded = decode(_numbered(flats), FIELDS)
    assert decoded.X.tolist() == [[1, 2]]
    assert [point.reason for point in decoded.dead] == [
        "field 'x' appears twice",
        f"missing field 'x'{HINT}",
    ]


@pytest.mark.parametrize(
    "texts",
    [
        [b"[1,2],[3", b"4]"],
        [b"[1,2],[3,4]", b"[[5", b"6]]"],
        [b"[1,2],[3,4]", b"[[5,6]", b"[7,8]]"],
        [b"[1,2],[3,4]", b""],
        [b"[1", b"2]"],
        [b'["]', b'["]'],
        [b" [1,2],[3,4]", b" [5", b" 6]"],
        [b"[1]", b"[2,3,4]"],
        [b"[[1],[2,3,4]]"],
    ],
)
def test_json_texts_do_not_run_into_each_other(texts: list[bytes]) -> None:
    decoded = decode(_numbered([[b"json", text] for text in texts]), JSON)
    assert len(decoded.X) == 0
    assert len({point.entry_id for point in decoded.dead}) == len(texts)


@LAW
@given(dirty())
def test_a_chunk_is_the_sum_of_its_entries(case: tuple[Layout, Entries]) -> None:
    layout, entries = case
    assert _same(
        decode(entries, layout), points.join([decode([entry], layout) for entry in entries])
    )


@LAW
@given(dirty())
def test_learned_and_dead_are_all_that_was_read(case: tuple[Layout, Entries]) -> None:
    layout, entries = case
    decoded = decode(entries, layout)
    assert decoded.counts.sum() == len(decoded.X)
    for (entry_id, _), count in zip(entries, decoded.counts.tolist(), strict=True):
        indexes = [point.index for point in decoded.dead if point.entry_id == entry_id]
        if -1 in indexes:
            assert (indexes, count) == ([-1], 0)
        else:
            assert count + len(indexes) > 0
            assert all(a < b for a, b in pairwise(indexes))
            assert not indexes or indexes[-1] < count + len(indexes)


@LAW
@given(st.lists(st.lists(single, min_size=2, max_size=2), min_size=1), st.data())
def test_corrupted_points_of_a_block_are_counted_one_by_one(
    rows: list[list[float]], data: st.DataObject
) -> None:
    X = np.array(rows)
    bad = np.array(data.draw(st.lists(st.booleans(), min_size=len(X), max_size=len(X))))
    dirty_X = np.where(bad[:, None], np.nan, X)
    for layout in (JSON, F4, F8):
        decoded = decode(_numbered(list(encode(dirty_X, layout, block=4))), layout)
        assert _bits(decoded.X) == _bits(X[~bad])
        assert len(decoded.X) + len(decoded.dead) == len(X)


@pytest.mark.parametrize("weight", [None, "one", "each"])
def test_flaws_of_a_large_block_cost_little_and_no_more_than_themselves(weight: Any) -> None:
    # Given a block of 4 MB with two bad points, a truncated tail and, perhaps, a bad weight
    rng = np.random.default_rng(0)
    X = rng.normal(size=(250_000, 2))
    X[[7, 200_000], 1] = np.nan, np.inf
    w = rng.uniform(size=len(X)) if weight == "each" else np.full(1, 2.5)
    if weight == "each":
        w[-2] = -1.0
    layout = Layout("float64", "f8", None if weight is None else "w", (), 2, strict=False)
    flat = [b"f8", X.tobytes()[:-3], *([b"w", w.tobytes()] if weight else [])]
    # When it is read
    tracemalloc.start()
    found = decode([(b"5-0", flat)], layout)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Then all else is learned, and memory is a small multiple of the block's
    dead = [7, 200_000, *([249_998] if weight == "each" else []), 249_999]
    assert [point.index for point in found.dead] == dead
    assert {point.entry_id for point in found.dead} == {b"5-0"}
    assert found.dead[-1].reason == "truncated: the last point has 13 of 16 bytes"
    assert found.X.tobytes() == np.delete(X, dead, axis=0).tobytes()
    assert found.counts.tolist() == [250_000 - len(dead)]
    if weight is not None:
        assert found.w is not None
        assert found.w.tobytes() == np.delete(np.broadcast_to(w, len(X)), dead).tobytes()
    assert peak < 6 * len(flat[1])


def _raw(values: Any, layout: Layout) -> list[bytes]:
    return [layout.field_key, np.asarray(values).astype(RAW_DTYPE[layout.format]).tobytes()]


SIZE = 9 << 13
"""More than a text of which all values are read at once, in the test that has such texts."""


def _json(part: bytes, size: int = SIZE) -> list[bytes]:
    """Return an entry of a list that repeats its values up to a size."""
    return [b"json", b"[" + b",".join([part] * (size // (len(part) + 1))) + b"]"]


N_BAD = 1 << 14
ONE = replace(F4, n_features=1)
BAD_BLOCKS = {
    "nan": (_raw(np.full(N_BAD, np.nan), ONE), ONE, 0),
    "inf": (_raw(np.full(N_BAD, -np.inf), F8), F8, 0),
    "too large": (_raw(np.full(N_BAD, 1e101), F8), F8, 0),
    "alternating": (_raw(np.where(np.arange(N_BAD) % 2, np.nan, 1.0), ONE), ONE, N_BAD // 2),
    "bad weights": (
        [*_raw(np.ones(N_BAD), ONE), b"w", np.full(N_BAD, -1, "<f4").tobytes()],
        replace(ONE, weight_field="w"),
        0,
    ),
    "empty vectors": (_json(b"[]"), JSON, 0),
    "empty objects": (_json(b"{}"), JSON, 0),
    "other names": (_json(b'{"ab":1}'), JSON, 0),
    "nulls": (_json(b"null"), JSON, 0),
    "vectors of nulls": (_json(b"[null,null]"), JSON, 0),
    "one long vector": (_json(b"1"), JSON, 0),
    "wrong lengths": (_json(b"[1,2,3]"), JSON, 0),
    "one long vector in a list": ([b"json", b"[" + _json(b"1", 1 << 21)[1] + b"]"], JSON, 0),
    "empty ones in one vector": ([b"json", b"[" + _json(b"[]", 1 << 21)[1] + b"]"], JSON, 0),
    "vectors and numbers": (_json(b"[1,2],3"), JSON, SIZE // 8),
    "deep": ([b"json", b"[" * SIZE], JSON, 0),
    "one object": (
        [b"json", b"{" + b",".join(b'"%d":1' % n for n in range(1 << 17)) + b"}"],
        JSON,
        0,
    ),
    "many fields": ([b for n in range(1 << 13) for b in (b"%d" % n, b"x")], FIELDS, 0),
}


@pytest.mark.parametrize("kind", BAD_BLOCKS)
def test_memory_is_a_small_multiple_of_an_entry_whatever_is_wrong_with_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for texts of megabytes, of which a quarter is made here
    monkeypatch.setattr(json_text, "_AT_ONCE", 1 << 16)
    for codec in (json_array, raw):
        monkeypatch.setattr(codec, "_PIECE", codec._PIECE // 4)
    flat, layout, good = BAD_BLOCKS[kind]
    tracemalloc.start()
    found = _one(flat, layout)
    last = found.dead.newest(10)
    reasons = [point.reason for point in last]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.X) == found.counts.sum() == good
    assert found.dead
    assert all(len(reason) < 300 for reason in reasons)
    assert peak < 16 * len(to_resp(flat))


def _agree(flat: list[bytes], layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Decoded:
    """Read an entry in pieces of a few characters, and see that it is as if read whole."""
    careful = points._decode_carefully([(b"1-0", flat)], layout)
    for size in (1, 2, 5, 12, 40):
        with monkeypatch.context() as patch:
            for codec in (json_array, raw):
                patch.setattr(codec, "_PIECE", size)
            patch.setattr(json_text, "_AT_ONCE", 0)
            found = _one(flat, layout)
        assert _same(found, careful), size
    return careful


@pytest.mark.parametrize(
    ("text", "good", "dead"),
    [
        (b"[[1,2],[3,4],[5,6]]", 3, []),
        (b" [ [1,2] , [3,4] ] ", 2, []),
        (b'[[1,2],{"x":3,"y":4},[5],6,null,"],[",[7,8]]', 3, [2, 3, 4, 5]),
        (b'["a,b","],","},",[1,2]]', 1, [0, 1, 2]),
        (b"[[1,[2,3]],[[1,2],[3,4]],[5,6]]", 1, [0, 1]),
        (b"[[1,2],3,4,[5,6]]", 2, [1, 2]),
        (b"[1,2]", 1, []),
        (b"[1000,2000]", 1, []),
        (b"[1,2,3]", 0, [0]),
        (b"[1,null]", 0, [0]),
        (b"[]", 0, [-1]),
        (b"[ ]", 0, [-1]),
        (b"[[1,2],]", 0, [-1]),
        (b"[[1,2],,[3,4]]", 0, [-1]),
        (b"[,[1,2]]", 0, [-1]),
        (b"[[1,2] [3,4]]", 0, [-1]),
        (b"[[1,2],[3,4]", 0, [-1]),
        (b"[[1,2],[3,4]]]", 0, [-1]),
        (b"[[1,2],[3,4]],5", 0, [-1]),
        (b"[[1,2],[3,4", 0, [-1]),
        (b'[[1,2],"x', 0, [-1]),
        (b"[[1,2],nul]", 0, [-1]),
        (b"[[1,2],\xff]", 0, [-1]),
        (b'[[1,2],{"x":1,"x":2,"y":3}]', 1, [1]),
    ],
)
def test_json_in_pieces_is_json(
    text: bytes, good: int, dead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _agree([b"json", text], JSON, monkeypatch)
    assert (len(found.X), [point.index for point in found.dead]) == (good, dead)


def test_values_that_no_comma_separates_are_found_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_array, "_LARGEST", 30)
    monkeypatch.setattr(json_array, "_A_FEATURE", 0)
    monkeypatch.setattr(json_array, "_PIECE", 8)
    text = b'[[1,2],["],","},"] , ["],","},"],["],","},"],["],","},"],[3,4]]'
    for each, dead in ((text, [1, 2, 3, 4]), (text[:-1] + b"x]", [-1])):
        found = _one([b"json", each], JSON)
        assert [point.index for point in found.dead] == dead
        assert len(found.X) == (2 if dead[0] > 0 else 0)


def test_of_a_long_vector_only_the_first_values_are_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_array, "_PIECE", 10)
    monkeypatch.setattr(json_text, "_EXCERPT_VALUES", 7)
    judge = json_text.CODEC.judge
    assert judge is not None
    [(vector, _)] = judge([b"json", b"[" + b"1," * 99 + b"1]"], JSON).at(np.zeros(1, np.int64))
    assert (len(vector), list(iter(vector))) == (100, [1.0] * 7)


@pytest.mark.parametrize(
    ("weights", "good", "dead"),
    [
        (b"[1,2,3]", 2, [1]),
        (b"2", 2, [1]),
        (b"[1,2]", 0, [-1]),
        (b"[1,2,3,4]", 0, [-1]),
        (b"[]", 0, [-1]),
        (b"-1", 0, [-1]),
        (b"[-1,1,null]", 0, [0, 1, 2]),
        (b"[1e101,1,[1]]", 0, [0, 1, 2]),
        (b"[1,1,1,]", 0, [-1]),
        (b"null", 0, [-1]),
    ],
)
def test_so_are_weights(
    weights: bytes, good: int, dead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = replace(JSON, weight_field="w")
    flat = [b"json", b"[[1,2],[3],[5,6]]", b"w", weights]
    found = _agree(flat, layout, monkeypatch)
    assert (len(found.X), [point.index for point in found.dead]) == (good, dead)


@pytest.mark.parametrize("weights", [None, [2.0], [2.0, -1.0, 3.0, 4.0]])
def test_so_are_raw_blocks(weights: list[float] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    block = struct.pack("<8f", 1, 2, 3, 4, np.nan, 5, 6, 7)[:-1]
    flat = [b"f4", block] if weights is None else [b"f4", block, b"w", _raw(weights, F4)[1]]
    found = _agree(flat, F4 if weights is None else replace(F4, weight_field="w"), monkeypatch)
    flawed = weights is not None and len(weights) > 1
    assert [point.index for point in found.dead] == ([1, 2, 3] if flawed else [2, 3])
    assert found.X.tolist() == ([[1, 2]] if flawed else [[1, 2], [3, 4]])
    if weights is not None:
        assert found.w is not None
        assert found.w.tolist() == ([2.0] if flawed else [2.0, 2.0])


def test_a_point_of_json_that_is_too_large_costs_its_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_array, "_LARGEST", 1000)
    monkeypatch.setattr(json_array, "_PIECE", 100)
    long = b"[" + b"1," * 1000 + b"1]"
    for text in (b"[[1,2]," + long + b"]", b"[" + long + b",[1,2]]"):
        [point] = _one([b"json", text], JSON).dead
        assert point.index == -1
        assert "a point of more than 1512 characters" in point.reason


def test_one_bad_entry_among_many() -> None:
    X = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    for layout in LAYOUTS.values():
        flats = list(encode(X, layout))
        flats[500] = [b"oops", b"1"]
        decoded = decode(_numbered(flats), layout)
        assert _bits(decoded.X) == _bits(np.delete(X, 500, 0))
        assert [point.entry_id for point in decoded.dead] == [_id(500)]
        assert decoded.counts.tolist() == [1] * 500 + [0] + [1] * 499


# Encoding and layout --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((3, 3)), JSON), r"X has shape \(3, 3\), expected \(n, 2\)"),
        ((np.ones(3), JSON), r"X has shape \(3,\), expected"),
        ((np.ones((3, 2)), JSON, np.ones(3)), "only one of w and layout.weight_field is given"),
        ((np.ones((3, 2)), replace(JSON, weight_field="w")), "give both or neither"),
        ((np.ones((3, 2)), replace(JSON, weight_field="w"), np.ones(2)), r"w has shape \(2,\)"),
        ((np.ones((3, 2)), JSON, None, 0), "block is 0, expected 1 or more"),
        ((np.ones((3, 2)), FIELDS, None, 2), "an entry of named fields holds one point"),
        ((np.array([[1e300, 2e300]]), F4), r"1e\+300 is too large for float32; use format float64"),
    ],
)
def test_what_encode_refuses(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(encode(*arguments))


@pytest.mark.parametrize("layout", EVERY_LAYOUT, ids=str)
def test_a_layout_survives_json(layout: Layout) -> None:
    assert Layout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout


@pytest.mark.parametrize("stored", [{}, {"features": None}, {"features": [], "colour": "red"}])
def test_a_stored_layout_that_is_none(stored: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="stored layout of points can't be read"):
        Layout.from_dict(stored)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_features": 0}, "n_features is 0"),
        ({"n_features": 3}, "2 feature names for 3 features"),
        ({"weight_field": "x"}, "weight field 'x' is already used"),
    ],
)
def test_a_layout_makes_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(FIELDS, **changes)


@pytest.mark.parametrize("field", ["f4", "d"])
def test_weights_need_a_field_of_their_own(field: str) -> None:
    with pytest.raises(DataError, match="already used in the entry"):
        replace(F4, weight_field=field)


@pytest.mark.parametrize("text", [b"1e101", b"-1e300"])
def test_a_number_too_large_to_be_squared_is_refused_alone(
    text: bytes,
) -> None:
    layout = Layout("fields", None, None, ("x", "y"), 2, strict=True)
    entries = [(n, [b"x", value, b"y", b"1"]) for n, value in enumerate([b"1", text, b"2"])]
    decoded = decode(entries, layout)
    assert decoded.X[:, 0].tolist() == [1.0, 2.0]
    assert [point.entry_id for point in decoded.dead] == [1]
    assert decoded.dead[0].reason.startswith("too large")
