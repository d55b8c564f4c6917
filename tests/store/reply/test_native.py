"""Numbers read natively are Python's, bit for bit, or are left to Python."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.arrays import MAX_MAGNITUDE
from streamclust.formats.layout import Layout
from streamclust.store.reply import native as wire
from tests.support.exhaustive import examples
from tests.support.replies import decoded, needs_native, packed

pytestmark = needs_native

LAW = examples(300)
FIELDS = Layout("fields", None, None, ("x",), 1, strict=True)
JSON = Layout("json", "json", None, (), 1, strict=False)

digits = st.text("0123456789", min_size=1, max_size=20)
plain = st.builds(
    lambda sign, a, b, e: f"{sign}{a}{b}{e}",
    st.sampled_from(["", "-"]),
    digits,
    st.one_of(st.just(""), digits.map(lambda text: f".{text}")),
    st.one_of(st.just(""), st.integers(-60, 40).map(lambda q: f"e{q}")),
)
halfway = st.builds(
    lambda w, q: f"{2 * w + 1}e{q}", st.integers(2**52, 2**53 - 1), st.integers(-54, 2)
)
doubles = st.floats(allow_nan=False, allow_infinity=False).map(repr)
numbers = st.one_of(plain, halfway, doubles)


def natively(flat: list[bytes], layout: Layout) -> float | None:
    found = decoded([(b"1-0", flat)], layout)
    return None if found is None else float(found.X[0, 0])


def bits(value: float) -> bytes:
    return struct.pack("d", value)


@LAW
@given(st.lists(numbers, min_size=1, max_size=8))
def test_a_number_is_the_nearest_double(texts: list[str]) -> None:
    for text in texts:
        for flat, layout in (
            ([b"x", text.encode()], FIELDS),
            ([b"json", f"[{text}]".encode()], JSON),
        ):
            found = natively(flat, layout)
            assert found is None or bits(found) == bits(float(text))


@pytest.mark.parametrize(
    "text",
    ["0", "-0", "1", "1.5", "-2.25e3", "0.1", "1e22", "1e-35", "123456789.123456789", "1e38",
     "1.1754943508222875e-38", "3.4028234663852886e+38", "9007199254740993", "0.00000000000000001"],
)  # fmt: skip
def test_usual_numbers_are_read_natively(text: str) -> None:
    for flat, layout in (
        ([b"x", text.encode()], FIELDS),
        ([b"json", b"[%b]" % text.encode()], JSON),
    ):
        found = natively(flat, layout)
        assert found is not None
        assert bits(found) == bits(float(text))


def test_every_normal_float32_is_read_natively_and_exactly() -> None:
    patterns = np.random.default_rng(0).integers(2**23, 255 << 23, 10_000, dtype=np.uint32)
    values = patterns.view(np.float32).astype(float) * np.resize([1.0, -1.0], len(patterns))
    entries = [(b"1-0", [b"x", repr(value).encode()]) for value in values.tolist()]
    found = decoded(entries, FIELDS)
    assert found is not None
    assert found.X[:, 0].tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "text",
    [b"", b" 1", b"1 ", b"1_0", b"nan", b"inf", b"-", b"+", b".", b"e5", b"1e", b"1e+", b"0x1",
     b"1,2", b"1e101", b"-1e400", b"1\x00", b"\xd9\xa1"],
)  # fmt: skip
def test_anything_else_is_left_to_python(text: bytes) -> None:
    assert natively([b"x", text], FIELDS) is None
    assert natively([b"json", b"[%b]" % text], JSON) is None or json.loads(text)


@pytest.mark.parametrize("text", ["01", "-01.5", "1.", ".5", "+1", "1.e5"])
def test_json_has_its_own_grammar(text: str) -> None:
    assert natively([b"x", text.encode()], FIELDS) == float(text)
    assert natively([b"json", f"[{text}]".encode()], JSON) is None


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b"[1,2]", [[1, 2]]),
        (b" [ 1 ,\t2 ]\r\n", [[1, 2]]),
        (b"[[1,2]]", [[1, 2]]),
        (b"[ [1,2] , [3,4] ]", [[1, 2], [3, 4]]),
        *(
            (text, None)
            for text in (b"[1]", b"[1,2,3]", b"[[1,2],[3]]", b"[]", b"[[]]", b"[1,2", b"1")
        ),
        *(
            (text, None)
            for text in (b"[1,2]]", b"[[1,2],]", b"[[1,2],3]", b"[1 2]", b"[1,2],[3,4]")
        ),
        *(
            (text, None)
            for text in (b"[1,true]", b'["1",2]', b"\xef\xbb\xbf[1,2]", b"[1,\xa02]", b"")
        ),
    ],
)
def test_vectors_and_lists_of_vectors(text: bytes, rows: Any) -> None:
    layout = Layout("json", "json", None, (), 2, strict=False)
    found = decoded([(b"1-0", [b"json", text])], layout)
    assert (found and found.X.tolist()) == rows


def test_raw_points_may_stay_single() -> None:
    X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    layout = Layout("float32", "f4", None, (), 3, strict=False)
    entries = packed([(b"1-0", [b"f4", X.tobytes(), b"d", b"3"])])
    for single, dtype in ((False, np.float64), (True, np.float32)):
        found = wire.decode(entries.rows, layout, single=single)
        assert found is not None
        assert found.X.dtype == dtype
        assert found.X.tobytes() == X.astype(dtype).tobytes()


@pytest.mark.parametrize("largest", [MAX_MAGNITUDE, np.nextafter(MAX_MAGNITUDE, np.inf)])
def test_what_could_not_be_squared_is_left_to_python(largest: float) -> None:
    layout = Layout("float64", "f8", "w", (), 1, strict=False)
    for x, w in ((largest, 1.0), (-largest, 1.0), (0.0, largest)):
        flat = [b"f8", struct.pack("d", x), b"w", struct.pack("d", w)]
        found = decoded([(b"1-0", flat)], layout)
        assert (found is not None) == (largest == MAX_MAGNITUDE)
