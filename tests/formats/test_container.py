"""The wire format: what was packed comes back bit for bit, and damage is always found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors import safe_open

from streamclust.errors import FormatError
from streamclust.formats.container import pack, unpack, unpack_meta, whole
from tests.support.exhaustive import examples

FORM = "streamclust.test/1"

MANY = examples(300)

characters = st.characters(exclude_categories=["Cs"])
"""Those of `st.text()`, without the table of UTF-8, which takes more than a second to compute."""

names = st.text("abcdefghij._", min_size=1, max_size=8)
any_array = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
    elements=st.floats(allow_nan=True, allow_infinity=True),
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(characters, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(characters, max_size=5), inner)
    ),
    max_leaves=8,
)
keys = st.text(characters, max_size=8).filter(lambda key: key not in ("format", "crc32"))
arrays_of = st.dictionaries(names, any_array, min_size=1, max_size=4)
meta_of = st.dictionaries(keys, plain, max_size=4)

SAMPLE = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([np.pi]), "none": np.empty((0, 3))}
META = {"points": 12, "loss": 0.1 + 0.2, "name": "x", "list": [1, None, "é"], "time": None}
DATA = pack(FORM, SAMPLE, META)


def bits(arrays: Mapping[str, NDArray[Any]]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: (array.dtype.name, array.shape, array.tobytes()) for name, array in arrays.items()
    }


@MANY
@given(arrays_of, meta_of)
def test_what_was_packed_comes_back_bit_for_bit(
    arrays: dict[str, NDArray[np.float64]], meta: dict[str, Any]
) -> None:
    found, said = unpack(pack(FORM, arrays, meta), FORM, "key k")
    assert bits(found) == bits(arrays)
    assert said == meta
    assert json.dumps(said, sort_keys=True) == json.dumps(meta, sort_keys=True)  # 1 isn't 1.0


@MANY
@given(arrays_of, meta_of)
def test_order_of_the_contents_is_no_content(
    arrays: dict[str, NDArray[np.float64]], meta: dict[str, Any]
) -> None:
    backwards = dict(reversed(arrays.items())), dict(reversed(meta.items()))
    assert pack(FORM, *backwards) == pack(FORM, arrays, meta)


def test_memory_order_of_the_arrays_is_no_content() -> None:
    X = np.arange(12.0).reshape(3, 4)
    assert pack(FORM, {"x": np.asfortranarray(X)}, {}) == pack(FORM, {"x": X}, {})
    assert pack(FORM, {"x": X[:, ::2]}, {}) == pack(FORM, {"x": X[:, ::2].copy()}, {})


def test_equal_contents_are_equal_bytes_in_every_process() -> None:
    script = (
        "import sys, numpy as np\n"
        "from streamclust.formats.container import pack\n"
        "names = [f'n{i}' for i in range(20)]\n"
        "arrays = {name: np.full(3, float(i)) for i, name in enumerate(names)}\n"
        "meta = {name: {other: 1 for other in set(names)} for name in set(names)}\n"
        "sys.stdout.buffer.write(pack('f/1', arrays, meta))\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert unpack(found.pop(), "f/1", "key")[1]["n0"]["n19"] == 1


def test_plain_safetensors_reads_it(tmp_path: Any) -> None:
    assert bits(safetensors.numpy.load(DATA)) == bits(SAMPLE)
    path = tmp_path / "m.safetensors"
    path.write_bytes(DATA)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(SAMPLE)
    assert set(metadata) == {"streamclust"}
    said = json.loads(metadata["streamclust"])
    assert said.pop("format") == FORM
    assert isinstance(said.pop("crc32"), int)
    assert said == META


# ---- what isn't ours


def refusal(data: bytes) -> str:
    with pytest.raises(FormatError) as failure:
        unpack(data, FORM, "key {ns:m}:state")
    text = str(failure.value)
    assert text.startswith("key {ns:m}:state ")
    assert "\n" not in text
    return text


def test_every_truncation_is_refused() -> None:
    for length in range(len(DATA)):
        assert "move it away" in refusal(DATA[:length])


@examples(1500)
@given(
    st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(1, 255)), min_size=1, max_size=4)
)
def test_damage_is_found_or_harmless(flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(DATA)
    for at, mask in flips:
        damaged[at] ^= mask
    check_refused_or_equal(bytes(damaged))


def test_every_damaged_byte_is_found_or_harmless() -> None:
    for at, byte in enumerate(DATA):
        for other in {0, byte ^ 1, byte ^ 0x20, byte ^ 0x80, 0xFF, ord("9")} - {byte}:
            check_refused_or_equal(DATA[:at] + bytes([other]) + DATA[at + 1 :])


def check_refused_or_equal(damaged: bytes) -> None:
    try:
        arrays, meta = unpack(damaged, FORM, "key")
    except FormatError:
        return
    assert (bits(arrays), meta) == (bits(SAMPLE), META)


@MANY
@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    refusal(data)


@MANY
@given(st.binary(max_size=60), st.sampled_from(["{", "[", '{"__metadata__":', '{"a":', ""]))
def test_other_headers_are_refused(tail: bytes, head: str) -> None:
    header = head.encode() + tail
    refusal(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize(
    "header",
    [
        "[" * 200_000,
        '{"__metadata__":' + "[" * 200_000,
        json.dumps({"__metadata__": {"streamclust": "[" * 200_000}}),
        json.dumps({"__metadata__": {"streamclust": "[]"}}),
        json.dumps({"__metadata__": {"streamclust": "1"}}),
        json.dumps({"__metadata__": {"streamclust": "null"}}),
        json.dumps({"__metadata__": {"streamclust": "{}"}}),
        json.dumps({"__metadata__": {"streamclust": "9" * 5000}}),
        json.dumps({"__metadata__": {"other": "{}"}}),
        json.dumps({"__metadata__": []}),
        json.dumps({"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}),
        '"text"',
        "\ud800".encode("utf-16", errors="surrogatepass").decode("latin-1"),
    ],
)
def test_odd_headers_are_refused(header: str) -> None:
    data = header.encode("latin-1")
    refusal(len(data).to_bytes(8, "little") + data)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "X64"])
def test_a_kind_of_number_that_numpy_lacks_is_refused(dtype: str) -> None:
    entry = {"dtype": dtype, "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({"format": FORM, "crc32": 0})
    header = json.dumps({"__metadata__": {"streamclust": text}, "a": entry}).encode()
    refusal(len(header).to_bytes(8, "little") + header)


def test_a_plain_safetensors_file_is_refused() -> None:
    refusal(safetensors.numpy.save({"a": np.ones(3)}))
    refusal(safetensors.numpy.save({"a": np.ones(3)}, {"format": "pt"}))


def test_another_version_of_the_format_is_named() -> None:
    text = refusal(pack("streamclust.test/2", SAMPLE, META))
    assert "'streamclust.test/2'" in text
    assert "'streamclust.test/1'" in text
    assert "use the version that wrote it" in text


@pytest.mark.parametrize("length", [2**20, 2**32, 2**62, 2**63, 2**64 - 1])
def test_a_huge_length_of_the_header_costs_no_memory(length: int) -> None:
    data = length.to_bytes(8, "little") + DATA[8:]
    refusal(data)  # what is loaded and cached on the first call doesn't count
    tracemalloc.start()
    try:
        refusal(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200_000


# ---- parts


def test_the_head_alone_is_read_without_a_checksum_and_a_whole_payload_with_one() -> None:
    size, damaged = len(DATA), DATA[:-1] + b"\x7f"
    found, described = unpack_meta(damaged[:-1], size, (FORM,), "key")
    assert found == META
    assert {name: each["shape"] for name, each in described.items()} == {
        name: [*array.shape] for name, array in SAMPLE.items()
    }
    assert unpack_meta(DATA, size, (FORM,), "key")[0] == META
    for head, length in ((damaged, size), (DATA[:-1], size + 1), (DATA[:20], size), (b"", 9)):
        with pytest.raises(FormatError, match="move it away"):
            unpack_meta(head, length, (FORM,), "key")


@pytest.mark.parametrize("head", [DATA, DATA[:-1]])
def test_of_several_formats_the_first_is_named(head: bytes) -> None:
    for read in (lambda forms: unpack_meta(head, len(DATA), forms, "key"),
                 lambda forms: unpack(DATA, forms, "key")):  # fmt: skip
        assert read(("new/2", FORM))
        with pytest.raises(FormatError, match="reads 'new/2'"):
            read(("new/2", "old/1"))
    for damaged in (b"", head[:40]):
        with pytest.raises(FormatError, match="does not hold a new/2 payload"):
            unpack_meta(damaged, len(DATA), ("new/2", FORM), "key")
        with pytest.raises(FormatError, match="does not hold a new/2 payload"):
            unpack(damaged, ("new/2", FORM), "key")


@pytest.mark.parametrize("value", [0, 2**53 - 1])
def test_whole_numbers_are_those_that_a_double_represents(value: int) -> None:
    assert whole({"n": value}, "n") == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**53, "9007199254740992"),
        (-1, "-1"),
        (1.0, "1.0"),
        (True, "true"),
        ("a" * 38, f'"{"a" * 38}"'),
        ("a" * 39, f'"{"a" * 39}...'),
    ],
)
def test_other_numbers_are_refused_by_name(value: Any, shown: str) -> None:
    with pytest.raises(ValueError) as failure:
        whole({"n": value}, "n")
    assert str(failure.value) == f"n is {shown}, expected 0 to 9007199254740991"
    with pytest.raises(ValueError, match="n is 1, expected 2 to "):
        whole({"n": 1}, "n", least=2)
