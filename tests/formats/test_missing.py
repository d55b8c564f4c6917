"""Missing values in entries: what stands for one, in every format, natively and in Python."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from streamclust.errors import DataError, FormatError
from streamclust.formats import points
from streamclust.formats.layout import Layout, PointsFormat
from streamclust.formats.points import Decoded, decode, detect, detect_first, encode
from tests.support.replies import decoded, needs_native, packed

XY = ("x", "y")
FIELDS = Layout("fields", None, None, XY, 2, strict=False, missing="learn")
JSON = Layout("json", "json", None, XY, 2, strict=False, missing="learn")
F4 = Layout("float32", "f4", None, (), 2, strict=False, missing="learn")
F8 = Layout("float64", "f8", None, (), 2, strict=False, missing="learn")
LAYOUTS = [FIELDS, JSON, F4, F8]
LEARN = PointsFormat(missing="learn")
NAN = float("nan")


def both(flat: list[bytes], layout: Layout) -> Decoded:
    """Decode an entry in Python, and check that native code gives the same bits."""
    found = decode([(b"1-0", flat)], layout)
    other = packed([(b"1-0", flat)]).decode(layout)
    assert np.asarray(other.X, np.float64).tobytes() == found.X.tobytes()
    assert [point.reason for point in other.dead] == [point.reason for point in found.dead]
    return found


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b" ", b"nan", b"NaN", b"-nan", b"+NAN", b" nan\n"),
        *(b"null", b"NULL", b"None", b"none", b"NA", b"n/a", b"<NA>", b"<na> "),
    ],
)
def test_texts_that_stand_for_a_missing_value(text: bytes) -> None:
    for flat in ([b"x", b"1", b"y", text], [b"x", b"1"], [b"host", b"a", b"x", b"1"]):
        found = both(flat, FIELDS)
        assert found.X.view(np.uint64).tolist() == [[0x3FF0000000000000, 0x7FF8000000000000]]
    quoted = b'"%b"' % text.replace(b"\n", b"\\n")
    for document in (b"[1,%b]" % quoted, b'{"y":%b,"x":1}' % quoted):
        np.testing.assert_array_equal(both([b"json", document], JSON).X, [[1.0, NAN]])


@pytest.mark.parametrize(
    "document", [b"[1,null]", b"[1,NaN]", b'{"x":1,"y":null}', b'{"x":1}', b'{"z":2,"x":1}']
)
def test_missing_values_of_json(document: bytes) -> None:
    np.testing.assert_array_equal(both([b"json", document], JSON).X, [[1.0, NAN]])
    found = both([b"json", b"[[1,2],%b,[null,4]]" % document], JSON)
    np.testing.assert_array_equal(found.X, [[1.0, 2.0], [1.0, NAN], [NAN, 4.0]])
    # As before without the setting, but for the hint.
    [dead] = both([b"json", document], replace(JSON, missing="reject")).dead
    assert dead.reason.endswith("; points.missing: learn accepts missing values")


@pytest.mark.parametrize("layout", [F4, F8], ids=lambda layout: layout.format)
def test_each_nan_of_a_raw_block_gets_the_same_bits(layout: Layout) -> None:
    bits, one = ("<u4", 0x3F800000) if layout == F4 else ("<u8", 0x3FF0000000000000)
    quiet, signalling = (
        (0xFFC01234, 0x7F800001) if layout == F4 else (0xFFF8 << 48, 0x7FF0 << 48 | 1)
    )
    block = np.array([one, quiet, signalling, one, one, one], bits).tobytes()
    name = (layout.field or "").encode()
    found = both([name, block], layout)
    same = 0x7FF8000000000000
    assert (
        found.X.view(np.uint64) == [[0x3FF0 << 48, same], [same, 0x3FF0 << 48], [0x3FF0 << 48] * 2]
    ).all()
    single = packed([(b"1-0", [name, block])]).decode(layout).X
    assert set(single.view(bits).ravel().tolist()) == {one, 0x7FC00000 if layout == F4 else same}


@pytest.mark.parametrize(
    ("layout", "flat", "reason"),
    [
        (FIELDS, [b"x", b"nan", b"y", b""], "all features are missing"),
        (FIELDS, [b"host", b"a"], "all features are missing"),
        (FIELDS, [b"x", b"inf"], "not finite: inf at feature 'x'"),
        (FIELDS, [b"x", b"-"], "x='-' is not a number"),
        (FIELDS, [b"x", b"nan", b"y", b"nul"], "y='nul' is not a number"),
        (FIELDS, [b"x", b"1e101"], "too large: 1e+101 at feature 'x'"),
        (FIELDS, [b"x", b"1", b"x", b"2"], "field 'x' appears twice"),
        (replace(FIELDS, weight_field="w"), [b"x", b"1"], "missing field 'w'"),
        (replace(FIELDS, weight_field="w"), [b"x", b"1", b"w", b""], "weight '' is not a number"),
        (JSON, [b"json", b"[null,null]"], "all features are missing"),
        (JSON, [b"json", b"{}"], "all features are missing"),
        (JSON, [b"json", b'{"z":1}'], "all features are missing"),
        (JSON, [b"json", b"[1]"], "wrong length: 1, expected 2"),
        (JSON, [b"json", b"[1,Infinity]"], "not finite: inf at feature 'y'"),
        (JSON, [b"json", b'[1,"a"]'], "\"a\" at feature 'y' is not a number"),
        (JSON, [b"json", b"[1,false]"], "false at feature 'y' is not a number"),
        (JSON, [b"json", b"null"], "not a vector: null"),
        (F8, [b"f8", np.full(2, np.nan).tobytes()], "all features are missing"),
        (F8, [b"f8", np.array([np.nan, np.inf]).tobytes()], "not finite: inf at feature 1"),
        (F8, [b"f8", b""], "empty block"),
    ],
)
def test_other_faults_are_dead_letters(layout: Layout, flat: list[bytes], reason: str) -> None:
    assert [point.reason for point in both(flat, layout).dead] == [reason]


@st.composite
def gapped(draw: st.DrawFn) -> tuple[Layout, int, NDArray[np.float64]]:
    """A layout, a block, and points of which none lacks all values."""
    layout = draw(st.sampled_from(LAYOUTS))
    D = draw(st.integers(1, 4))
    numbers = st.floats(-100, 100, width=32)
    X = draw(hnp.arrays(np.float64, (draw(st.integers(0, 12)), D), elements=numbers))
    gaps = draw(hnp.arrays(np.bool_, X.shape))
    gaps[gaps.all(axis=1), 0] = False
    names = tuple(f"x{d}" for d in range(D)) if layout.features else ()
    block = 1 if layout.format == "fields" else draw(st.integers(1, 5))
    return replace(layout, features=names, n_features=D), block, np.where(gaps, np.nan, X)


@settings(deadline=None, max_examples=150)
@given(gapped(), st.booleans())
def test_what_is_written_is_read_back(
    case: tuple[Layout, int, NDArray[np.float64]], absent: bool
) -> None:
    layout, block, X = case
    flats = list(encode(X, layout, block=block))
    if layout.format == "fields" and absent:  # a missing value is an absent field
        pairs = [zip(flat[::2], flat[1::2], strict=True) for flat in flats]
        flats = [
            [b for name, text in each if text != b"nan" for b in (name, text)] for each in pairs
        ]
    entries = [(b"%d-0" % number, flat) for number, flat in enumerate(flats)]
    found = decode(entries, layout)
    assert not found.dead
    assert found.X.tobytes() == X.tobytes()
    if entries:
        assert np.asarray(packed(entries).decode(layout).X, float).tobytes() == X.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.format)
def test_gaps_are_read_at_once(layout: Layout) -> None:
    flats = list(encode(np.array([[1.0, NAN], [NAN, 2.0]]), layout))
    assert points._decode_at_once(flats, layout) is not None


@needs_native
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.format)
def test_gaps_are_read_natively(layout: Layout) -> None:
    X = np.arange(20.0).reshape(-1, 2)
    X[::3, 1] = X[1::3, 0] = np.nan
    block = 1 if layout.format == "fields" else 5
    entries = [(b"%d-0" % n, flat) for n, flat in enumerate(encode(X, layout, block=block))]
    found = decoded(entries, layout)
    assert found is not None
    assert np.asarray(found.X, float).tobytes() == X.tobytes()
    if layout.format == "fields":  # absent fields, also in the first entry
        entries = []
        for n, row in enumerate(X):
            present = [(b"xy"[d : d + 1], b"%d" % row[d]) for d in np.flatnonzero(~np.isnan(row))]
            flat = [b"host", b"a", *(part for pair in present for part in pair)]
            entries.append((b"%d-0" % n, flat))
        found = decoded(entries, layout)
        assert found is not None
        assert found.X.tobytes() == X.tobytes()


@pytest.mark.parametrize(
    ("flat", "spec", "format", "D"),
    [
        ([b"x", b"1", b"y", b""], LEARN, "fields", 2),
        ([b"x", b"null", b"y", b"2"], LEARN, "fields", 2),
        ([b"y", b"2"], replace(LEARN, features=XY), "fields", 2),
        ([b"json", b"[1,null,3]"], LEARN, "json", 3),
        ([b"json", b"[[1,null],[1,2,3]]"], LEARN, "json", 2),
        ([b"json", b'[[null,null],["a",1],[1,null,3]]'], LEARN, "json", 3),
        ([b"json", b'{"y":2}'], replace(LEARN, features=XY), "json", 2),
        ([b"f8", np.array([1.0, np.nan]).tobytes()], LEARN, "float64", 2),
    ],
)
def test_an_entry_with_gaps_determines_the_layout(
    flat: list[bytes], spec: PointsFormat, format: str, D: int
) -> None:
    layout = detect(flat, spec)
    assert (layout.format, layout.n_features, layout.missing) == (format, D, "learn")


def test_an_entry_without_a_value_determines_nothing() -> None:
    layout, dead = detect_first(
        [(1, [b"x", b"nan"]), (2, [b"x", b"", b"y", b"NA"]), (3, [b"x", b"1", b"y", b""])], LEARN
    )
    assert layout is not None
    assert layout.features == XY
    assert [point.reason for point in dead] == ["all features are missing"] * 2


def test_the_first_entry_names_the_features() -> None:
    layout = detect([b"x", b"1"], LEARN)
    found = decode([(1, [b"x", b"2"]), (2, [b"x", b"2", b"y", b"3"])], layout)
    assert found.X.tolist() == [[2.0]]
    [point] = found.dead
    assert point.reason == (
        "unexpected field 'y': the first entry named the features; set points.features to name all"
    )


def test_a_layout_follows_the_settings_and_is_stored_only_if_it_learns() -> None:
    plain = replace(FIELDS, missing="reject")
    assert "missing" not in plain.to_dict()
    assert Layout.from_dict(FIELDS.to_dict()) == FIELDS
    assert plain.under(replace(LEARN, features=XY), "state").missing == "learn"
    with pytest.raises(FormatError, match="features"):
        plain.under(replace(LEARN, features=("x", "z")), "state")
    with pytest.raises(DataError, match="all features are missing"):
        detect([b"x", b"nan", b"y", b"nan"], LEARN)
