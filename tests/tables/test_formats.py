"""Separators, decimal points, encodings and compression; and messages that name the cause."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from streamclust.errors import DataError, MissingExtraError
from streamclust.tables import TableOptions
from tests.support.tables import read, refusal

POINTS = [[1.5, 2.5], [3.5, 4.5]]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("x;y\n1.5;2.5\n3.5;4.5\n", {"delimiter": ";"}),
        ("x;y\n1,5;2,5\n3,5;4,5\n", {"delimiter": ";", "decimal": ","}),
        ("x;y\n1,5;2,5\n3,5;4,5\n", {"decimal": ","}),  # then ; is the default
        ("x|y\n1.5|2.5\n3.5|4.5\n", {"delimiter": "|"}),
        ("x\ty\n1.5\t2.5\n3.5\t4.5\n", {"delimiter": "\t"}),
        ("x\ty\n1,5\t2,5\n3,5\t4,5\n", {"kind": "tsv", "decimal": ","}),
        ("x  y\n1.5   2.5\n3.5 4.5\n", {"delimiter": " "}),
    ],
)
def test_separators_and_decimal_points(text: str, options: dict[str, Any], tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", text, **options)
    assert (table.names, table.X) == (("x", "y"), POINTS)


@pytest.mark.parametrize(
    ("text", "options", "hint"),
    [
        ("a;b\n1,5;2,5\n", {}, "is ';' the separator? Give --delimiter ';' and --decimal ','"),
        ("a;b\n1;2\n", {}, "is ';' the separator? Give --delimiter ';'"),
        ("1;2\n3;4\n", {}, "is ';' the separator? Give --delimiter ';'"),
        ("1,5;2,5\n", {}, "is ';' the separator? Give --delimiter ';' and --decimal ','"),
        ("a\tb\n1\t2\n", {}, "is tab the separator? Give --delimiter tab"),
        ("a|b\n1|2\n", {}, "is '|' the separator? Give --delimiter '|'"),
        ("a b\n1 2\n", {}, "is a space the separator? Give --delimiter space"),
        ("1 2\n3 4\n", {}, "is a space the separator? Give --delimiter space"),
        ("a,b\n1,2\n", {"delimiter": ";"}, "is ',' the separator? Give --delimiter ','"),
        ("a;b\n1,5;2\n", {"delimiter": ";"}, "is ',' the decimal point? Give --decimal ','"),
        ("a;b\n1.5;2\n", {"decimal": ","}, "is '.' the decimal point? Leave --decimal out"),
        ("a;b\n1.234,5;2\n", {"decimal": ","}, "write it without the points between thousands"),
        ("a,b\n1,2\n\ufeff3,4\n", {}, "it begins with a byte-order mark in the middle"),
    ],
)
def test_messages_name_the_cause(
    text: str, options: dict[str, Any], hint: str, tmp_path: Path
) -> None:
    message = refusal(tmp_path / "t.csv", text, **options)
    assert hint in message
    assert "clean the file" not in message


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("t.csv", "x,y\r1,2\r3,4\r", "a line ends with CR alone; convert the line ends to LF"),
        (
            "t.jsonl",
            '[\n{"x": 1},\n{"x": 2}\n]\n',
            "the file may be one JSON document: write one point",
        ),
        (
            "t.jsonl",
            '{"x": 1},\n{"x": 2}\n',
            "the file may be one JSON document: write one point per",
        ),
        ("t.jsonl", "[[1, 2], [3, 4]]\n", "column 'x0': [1.0, 2.0] is not a number"),
        ("t.jsonl", '{"x": [], "y": 1}\n', "column 'x': [] is not a number"),
    ],
)
def test_other_texts_that_are_no_tables(name: str, text: str, hint: str, tmp_path: Path) -> None:
    assert hint in refusal(tmp_path / name, text)


def test_a_semicolon_in_a_text_is_no_cause(tmp_path: Path) -> None:
    message = refusal(tmp_path / "t.csv", "note,x\na;b,abc\n", columns=["x"])
    assert message == (
        "t.csv line 2, column 'x': 'abc' is not a number; choose columns with --columns, clean "
        "the file, or skip bad rows with --on-bad skip"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_tell_the_encoding(encoding: str, tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", "température,y\n1.5,2.5\n3.5,4.5\n".encode(encoding))
    assert (table.names, table.X) == (("température", "y"), POINTS)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "utf-16-be", "utf-8"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_other_encodings_are_an_option(encoding: str, kind: str, tmp_path: Path) -> None:
    text = "é\n1.5\n3.5\n" if kind == "csv" else '{"é": 1.5}\n{"é": 3.5}\n'
    table = read(tmp_path / f"t.{kind}", text.encode(encoding), encoding=encoding)
    assert (table.names, table.X) == (("é",), [[1.5], [3.5]])


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (
            "x,y\n1,2\n".encode("utf-16-le"),
            {},
            "t.csv is probably utf-16-le text; give --encoding utf-16",
        ),
        (
            "x,y\n1,2\n".encode("utf-16-be"),
            {},
            "t.csv is probably utf-16-be text; give --encoding utf-16",
        ),
        (b"t\xe9mp\n1\n", {}, "t.csv: the column name 't\\udce9mp' is not UTF-8; give --encoding"),
        (b"x,h\n1,\xe9\n", {"label_columns": ["h"]}, "'\\udce9' is not UTF-8; give --encoding"),
        (b"x\n\x81\n", {"encoding": "cp1252"}, "t.csv can't be read as cp1252: "),
        (b"PAR1....", {}, "t.csv is a Parquet file; give --kind parquet"),
        (b"\x93NUMPY..", {}, "t.csv is a NumPy array; give --kind npy"),
        (b"PK\x03\x04....", {}, "t.csv is a zip archive; give --kind npz, or save a workbook as"),
        (b"BZh91AY&", {}, "t.csv is compressed with bzip2; unpack it first"),
    ],
)
def test_what_is_no_utf_8_is_named(
    data: bytes, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path / "t.csv", data, **options)


def test_a_text_that_is_not_needed_may_have_any_bytes(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", b"x,note\n1.5,caf\xe9\n", columns=["x"])
    assert table.X == [[1.5]]


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstandard.compress}


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_compressed_texts(packed: str, name: str, tmp_path: Path) -> None:
    text = b"x,y\n1.5,2.5\n3.5,4.5\n" if name == "t.csv" else b"[1.5,2.5]\n[3.5,4.5]\n"
    pack = PACKERS[packed]
    parts = pack(text[:9]) + pack(text[9:])  # several members or frames
    assert read(tmp_path / f"{name}.{packed}", parts).X == POINTS
    assert read(tmp_path / name, pack(text)).X == POINTS  # by its content


@pytest.mark.parametrize("packed", PACKERS)
def test_a_compressed_text_that_is_cut_off(packed: str, tmp_path: Path) -> None:
    text = b"x\n" + "\n".join(map(repr, range(1000))).encode() + os.urandom(999).hex().encode()
    path = tmp_path / f"t.csv.{packed}"
    assert "is damaged or cut off: " in refusal(path, PACKERS[packed](text)[:-50])
    assert refusal(path, b"x\n1\n") == (
        f"t.csv.{packed} isn't compressed as its suffix .{packed} says; rename it"
    )


def test_an_unpacked_line_of_any_length_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamclust.tables.lines.LINE_BYTES", 1 << 18)
    for packed, pack in PACKERS.items():
        data = pack(bytes(1 << 22))
        assert len(data) < 1 << 17
        assert "is too long; is it text?" in refusal(tmp_path / f"t.csv.{packed}", data)


def test_zstandard_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"pip install zstandard,"):
        read(tmp_path / "t.csv.zst", zstandard.compress(b"x\n1\n"))


def test_compressed_arrays_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path / "t.npy.gz", gzip.compress(b"."))
    assert message == "t.npy.gz: a compressed npy file can't be read; unpack it first"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ";;"}, "delimiter is ';;'; expected one character"),
        ({"delimiter": '"'}, "delimiter is '\"'; expected one character"),
        ({"decimal": "·"}, "decimal is '·'; expected . or ,"),
        ({"decimal": ",", "delimiter": ","}, "delimiter and decimal are both ','"),
        ({"encoding": "klingon"}, "encoding 'klingon' is unknown"),
        ({"encoding": "base64"}, "encoding 'base64' is unknown"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        TableOptions(**options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "options", [{"delimiter": ";"}, {"decimal": ","}, {"header": True}, {"encoding": "latin-1"}]
)
def test_options_of_texts_are_refused_for_arrays(options: dict[str, Any], tmp_path: Path) -> None:
    message = refusal(tmp_path / "t.npy", **options)
    assert message.startswith(f"{next(iter(options))} is only for ")
