"""Tables in chunks: every kind gives the same rows, and a bad cell is named."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamclust.errors import DataError, MissingExtraError
from streamclust.tables import KINDS, Chunk, TableOptions, count_rows, read_table
from streamclust.tables.chunk import Request as TableRequest
from streamclust.tables.columns import select
from streamclust.tables.lines import Lines

X = np.array([[1.5, 2.0, 1.0], [3.0, 4.25, 0.0], [5.0, 6.0, 2.5], [-7.0, 1e-300, 1.0]])
NAMES = ("x0", "x1", "x2")


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_delimited(path: Path, delimiter: str) -> None:
    rows = [delimiter.join(map(repr, row)) for row in X.tolist()]
    _text(path, "\n".join([delimiter.join(NAMES), *rows]) + "\n")


def _write_json(path: Path) -> None:
    rows = [dict(zip(NAMES, row, strict=True)) for row in X.tolist()]
    _text(path, "\n".join(map(json.dumps, rows)))


WRITERS: dict[str, Callable[[Path], object]] = {
    "csv": lambda path: _write_delimited(path, ","),
    "tsv": lambda path: _write_delimited(path, "\t"),
    "jsonl": _write_json,
    "ndjson": _write_json,
    "npy": lambda path: np.save(path, X),
    "npz": lambda path: np.savez(path, X=X),
    "parquet": lambda path: pq.write_table(
        pa.table(dict(zip(NAMES, X.T, strict=True))), path, row_group_size=3
    ),
}


@pytest.fixture(params=KINDS)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same table as each kind of file."""
    path = tmp_path / f"table.{request.param}"
    WRITERS[request.param](path)
    return path


def _read(path: Path | str, *, chunk: int = 8192, **options: Any) -> Iterator[Chunk]:
    for name in {"columns", "exclude", "label_columns"} & options.keys():
        options[name] = tuple(options[name])
    return read_table(path, TableOptions(**options), chunk=chunk)


def _whole(path: Path | str, **options: Any) -> tuple[NDArray[Any], NDArray[Any] | None]:
    chunks = list(_read(path, **options))
    weights = [chunk.w for chunk in chunks if chunk.w is not None]
    return (
        np.concatenate([chunk.X for chunk in chunks]),
        np.concatenate(weights) if weights else None,
    )


def _refusal(path: Path | str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(_read(path, **options))
    return str(caught.value).replace(f"{Path(path).parent}{os.sep}", "")


# Every kind -----------------------------------------------------------------------------------


def test_every_kind_gives_the_same_rows(table: Path) -> None:
    found, w = _whole(table)
    assert found.tolist() == X.tolist()
    assert found.dtype == np.float64
    assert w is None


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_chunks_are_full_but_for_the_last(table: Path, size: int) -> None:
    chunks = list(read_table(table, chunk=size))
    assert np.concatenate([chunk.X for chunk in chunks]).tolist() == X.tolist()
    assert max(len(chunk.X) for chunk in chunks) <= size
    if table.suffix != ".parquet":  # its row groups may cut a chunk short
        assert {len(chunk.X) for chunk in chunks[:-1]} <= {size}
    header = table.suffix in (".csv", ".tsv")
    starts = np.cumsum([1 + header, *(len(chunk.X) for chunk in chunks[:-1])])
    assert [chunk.first_line for chunk in chunks] == starts.tolist()


def test_columns_in_the_order_asked_for_and_weights(table: Path) -> None:
    chunks = list(_read(table, columns=["x1", "x0"], weight_column="x2"))
    assert {chunk.names for chunk in chunks} == {("x1", "x0")}
    found, w = _whole(table, columns=["x1", "x0"], weight_column="x2")
    assert found.tolist() == X[:, [1, 0]].tolist()
    assert found.flags.c_contiguous
    assert w is not None
    assert w.tolist() == X[:, 2].tolist()


def test_all_columns_but_the_weights_are_features(table: Path) -> None:
    assert next(_read(table, weight_column="x1")).names == ("x0", "x2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["x0", "z"]}, "table.KIND has no column 'z'; it has x0, x1, x2"),
        ({"weight_column": "z"}, "table.KIND has no column 'z'; it has x0, x1, x2"),
        ({"columns": ["x0", "x0"]}, "column 'x0' is requested twice; name each column once"),
        (
            {"columns": ["x0"], "weight_column": "x0"},
            "column 'x0' is requested twice; name each column once",
        ),
        ({"columns": []}, "table.KIND has no feature column"),
        ({"chunk": 0}, "chunk is 0; expected at least 1"),
    ],
)
def test_bad_choices(table: Path, options: dict[str, Any], message: str) -> None:
    assert _refusal(table, **options) == message.replace("KIND", table.suffix[1:])


def test_negative_weights_are_refused(table: Path) -> None:
    message = _refusal(table, weight_column="x0")
    line = "line 5" if table.suffix in (".csv", ".tsv") else "row 4"
    line = "line 4" if "json" in table.suffix else line
    assert message == (
        f"table{table.suffix} {line}, column 'x0': the weight -7 is negative{ADVICE}"
    )


def test_a_table_without_its_suffix(table: Path) -> None:
    plain = table.rename(table.with_suffix(""))
    assert _refusal(plain) == (
        "can't tell the format of table; name it with --kind: " + ", ".join(KINDS)
    )
    kind: Any = table.suffix[1:]
    assert _whole(plain, kind=kind)[0].tolist() == X.tolist()
    assert count_rows(plain, kind=kind) in (None, 4)


def test_the_number_of_rows_where_it_is_cheap(table: Path) -> None:
    assert count_rows(table) == (4 if table.suffix in (".npy", ".parquet") else None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_there(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"missing.{kind}"
    assert _refusal(path) == f"can't read missing.{kind}: No such file or directory"
    if kind in ("npy", "parquet"):
        with pytest.raises(DataError, match=r"can't read .*: No such file or directory"):
            count_rows(path)


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_a_file_that_is_something_else(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"other.{kind}"
    for content in ("hello, world", ""):
        _text(path, content)
        assert "other" in _refusal(path)
        assert "can't be read as" in _refusal(path)


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_binary_kinds_need_a_file(kind: Any) -> None:
    message = f"{kind} can't be read from stdin; name a file"
    assert _refusal("-", kind=kind) == message
    if kind != "npz":
        with pytest.raises(DataError, match=message):
            count_rows("-", kind=kind)


def test_a_key_is_for_npz_alone(tmp_path: Path) -> None:
    message = _refusal(tmp_path / "data.csv", key="X")
    assert message == "key 'X' is only for .npz files, but data.csv is csv"


# CSV ------------------------------------------------------------------------------------------


def test_csv_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    _text(path, "1,2\n3,4\n")
    (chunk,) = read_table(path)
    assert (chunk.names, chunk.X.tolist(), chunk.first_line) == (("x0", "x1"), [[1, 2], [3, 4]], 1)


@pytest.mark.parametrize(
    "text",
    [
        "x,y\r\n1,2\r\n3,4\r\n",
        "\n\nx,y\n\n1,2\n   \n3,4\n\n",
        '"x","y"\n"1","2"\n 3 , 4 ',
        "\ufeffx, y\n1,2\n3,4",
    ],
)
def test_csv_as_people_write_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode())
    (chunk,) = read_table(path)
    assert (chunk.names, chunk.X.tolist()) == (("x", "y"), [[1, 2], [3, 4]])


@pytest.mark.parametrize("text", ["", "\n\n", "x,y\n", "x,y"])
def test_csv_without_rows(text: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    _text(path, text)
    assert list(read_table(path)) == []


@settings(deadline=None)
@given(
    rows=st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
        min_size=1,
    ),
    size=st.integers(1, 5),
)
def test_csv_numbers_are_read_bit_for_bit(rows: list[list[float]], size: int) -> None:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.getvalue().encode())))
        found = np.concatenate([chunk.X for chunk in read_table("-", chunk=size)])
    assert found.tobytes() == np.array(rows).tobytes()


CLEAN = "clean the file, or skip bad rows with --on-bad skip"
ADVICE = f"; choose columns with --columns, {CLEAN}"
MISSING = f"; points.missing: learn accepts missing values{ADVICE}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n\n1,abc\n", f"data.csv line 4, column 'y': 'abc' is not a number{ADVICE}"),
        ("x,y\n1,\n", f"data.csv line 2, column 'y': '' is not a number{MISSING}"),
        ("x,y\n1_0,2\n", f"data.csv line 2, column 'x': '1_0' is not a number{ADVICE}"),
        ("x,y\n١,2\n", f"data.csv line 2, column 'x': '١' is not a number{ADVICE}"),
        ("x,y\n1,nan\n", f"data.csv line 2, column 'y': nan is not finite{MISSING}"),
        ("1,2\n1,1e999\n", f"data.csv line 2, column 'x1': inf is not finite{ADVICE}"),
        ("x,y\n1\n", f"data.csv line 2 has 1 cells; expected 2; {CLEAN}"),
        ("x,x\n1,2\n", "data.csv has 2 columns 'x'; rename them"),
        (
            f"x\n{'z' * 99}\n",
            f"data.csv line 2, column 'x': '{'z' * 40}'... is not a number{ADVICE}",
        ),
        (
            f"x\n{'1' * 200_000}\n",
            f"data.csv line 2: field larger than field limit (131072); {CLEAN}",
        ),
    ],
)
def test_bad_cells_are_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    _text(path, text)
    assert _refusal(path) == message


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"x\n1\n\xff\n")
    assert _refusal(path) == (
        "data.csv line 3, column 'x': '\\udcff' is not UTF-8; give --encoding, such as latin-1 or "
        "cp1252"
    )


def test_a_line_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamclust.tables.lines.LINE_BYTES", 100_000)
    path = tmp_path / "data.csv"
    path.write_bytes(b"x\n" + bytes(200_000))
    assert _refusal(path) == "data.csv line 2 is too long; is it text?"


# JSON lines -----------------------------------------------------------------------------------


def test_json_arrays(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    _text(path, "\n[1, 2]\n\n [3.5, -4e1] \n")
    (chunk,) = read_table(path)
    assert (chunk.names, chunk.X.tolist(), chunk.first_line) == (
        ("x0", "x1"),
        [[1, 2], [3.5, -40]],
        2,
    )


def test_json_objects_with_other_keys(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    _text(path, '{"label": "a", "x": 1, "y": 2}\n{"y": 4, "x": 3, "key": null}\n')
    assert _whole(path, columns=["x", "y"])[0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["[1, 2]", "[1,"], f"line 2: bad JSON: Expecting value at character 3; {CLEAN}"),
        (["[1]", "[" * 100_000], f"line 2: JSON is nested too deeply; {CLEAN}"),
        (["5"], "line 1 is neither an array nor an object of numbers"),
        (["[1]", '{"x": 1}'], "differs from the first line; write only arrays, or only objects"),
        (["[1, 2]", "[1]"], f"line 2 has 1 values; expected 2; {CLEAN}"),
        (['{"x": 1}', '{"x": 1, "y": 2}'], "line 2 has the key 'y', which the first line"),
        (['{"x": 1, "y": 2}', '{"x": 1}'], f"line 2, column 'y': missing{MISSING}"),
        (["[1, 2]", "[1, true]"], f"line 2, column 'x1': true is not a number{ADVICE}"),
        (["[1, 2]", '["3", 1]'], f"line 2, column 'x0': \"3\" is not a number{ADVICE}"),
        (["[1]", "[NaN]"], f"line 2, column 'x0': nan is not finite{MISSING}"),
        (["[1]", f"[{'9' * 5000}]"], f"line 2, column 'x0': inf is not finite{ADVICE}"),
    ],
)
def test_bad_json_lines(lines: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    _text(path, "\n".join(lines))
    assert _refusal(path).startswith("data.jsonl line ")
    assert message in _refusal(path)


# Standard input -------------------------------------------------------------------------------


def test_lines_on_stdin_are_handed_on_as_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as stdin, os.fdopen(write_end, "wb", buffering=0) as feed:
        monkeypatch.setattr(sys, "stdin", stdin)
        chunks = read_table("-", chunk=2)
        feed.write(b"x,y\n1,2\n3,")
        assert next(chunks).X.tolist() == [[1, 2]]
        feed.write(b"4\n5,6\n7,8\n")
        assert next(chunks).X.tolist() == [[3, 4], [5, 6]]
        assert next(chunks).X.tolist() == [[7, 8]]
        feed.write(b"9,10")
        feed.close()
        assert next(chunks).X.tolist() == [[9, 10]]
        assert list(chunks) == []


def test_stdin_errors_name_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[1]\n[null]\n")))
    assert (
        _refusal("-", kind="jsonl") == f"stdin line 2, column 'x0': null is not a number{MISSING}"
    )


def test_lines_know_their_number() -> None:
    lines = Lines(io.BytesIO(b"a\n\nb"), "data", live=False)
    assert list(lines.batches(9)) == [[(1, "a\n"), (3, "b")]]


# Arrays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_float32_stays_float32(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"data.{kind}"
    single = np.array([[0.1, 2], [3, 4]], np.float32)
    writers: dict[str, Callable[[], object]] = {
        "npy": lambda: np.save(path, single),
        "npz": lambda: np.savez_compressed(path, only=single),
        "parquet": lambda: pq.write_table(pa.table({"x0": single[:, 0], "x1": single[:, 1]}), path),
    }
    writers[kind]()
    found, _ = _whole(path)
    assert found.dtype == np.float32
    assert found.tolist() == single.tolist()
    (chunk,) = _read(path, weight_column="x1")
    assert chunk.w is not None
    assert chunk.X.dtype == np.float32
    assert chunk.w.dtype == np.float64


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(3, 2),
        np.arange(6, dtype=">f8").reshape(3, 2),
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        np.arange(6, dtype=np.float16).reshape(3, 2),
        np.arange(6, dtype=np.uint8).reshape(3, 2),
    ],
    ids=["int", "big-endian", "fortran", "half", "byte"],
)
def test_arrays_of_any_number(array: NDArray[Any], tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, array)
    found, _ = _whole(path, chunk=2)
    assert found.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert found.dtype == np.float64


def test_a_flat_array_is_one_column(tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, np.arange(3.0))
    (chunk,) = read_table(path)
    assert (chunk.names, chunk.X.tolist()) == (("x0",), [[0], [1], [2]])


def test_an_array_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, np.zeros((0, 2)))
    assert list(read_table(path)) == []
    assert count_rows(path) == 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((2, 3, 4)),
            "data.npy has shape (2, 3, 4), expected (points, features); "
            "reshape the array to two dimensions",
        ),
        (np.array(5.0), "data.npy has shape (), expected (points, features)"),
        (np.zeros((2, 2), complex), "data.npy holds complex128; save it as float32 or float64"),
        (np.zeros((2, 2), bool), "data.npy holds bool; save it as float32 or float64"),
        (np.zeros((2, 2), object), "data.npy can't be read as numbers; save it by NumPy"),
        (
            np.array([[1, 2], [3, np.nan]]),
            f"data.npy row 2, column 'x1': nan is not finite{MISSING}",
        ),
    ],
)
def test_bad_arrays(array: NDArray[Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, array)
    assert _refusal(path, chunk=1).startswith(message)


def test_an_archive_of_several_arrays(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, a=X, b=X[:1])
    assert _refusal(path) == "data.npz: the file has several arrays; choose one with --key: a, b"
    assert _refusal(path, key="c") == "data.npz: no array 'c'; choose one with --key: a, b"
    assert _whole(path, key="b")[0].tolist() == X[:1].tolist()


def test_an_array_of_objects_in_an_archive_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, a=np.zeros(2, object))
    assert _refusal(path).startswith("data.npz, array 'a', can't be read as numbers")


# Missing values -------------------------------------------------------------------------------

GAPS = np.array([[1.5, np.nan, 3.0], [np.nan, 5.0, np.nan], [7.0, 8.0, 9.0]])
GAPPED: dict[str, Callable[[Path], object]] = {
    "csv": lambda path: _text(path, "x0,x1,x2\n1.5,,3\nNA,5, nan \n7,8,9\n"),
    "tsv": lambda path: _text(path, "x0\tx1\tx2\n1.5\t?\t3\n\t5\tnull\n7\t8\t9\n"),
    "jsonl": lambda path: _text(
        path, '{"x0": 1.5, "x1": null, "x2": 3}\n{"x1": 5, "x2": "NaN"}\n{"x0":7,"x1":8,"x2":9}\n'
    ),
    "ndjson": lambda path: _text(path, '[1.5, NaN, 3]\n[null, 5, ""]\n[7, 8, 9]\n'),
    "npy": lambda path: np.save(path, GAPS),
    "npz": lambda path: np.savez(path, X=GAPS.astype(np.float32)),
    "parquet": lambda path: pq.write_table(
        pa.table({"x0": [1.5, None, 7.0], "x1": [None, 5, 8], "x2": [3.0, float("nan"), 9.0]}), path
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_missing_values_are_nan_if_they_are_learned(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"data.{kind}"
    GAPPED[kind](path)
    found = np.concatenate([chunk.X for chunk in read_table(path, TableOptions(missing="learn"))])
    np.testing.assert_array_equal(found, GAPS)
    assert "points.missing: learn accepts missing values" in _refusal(path)
    # Without them, the rows are bad, and the others are read.
    [chunk] = read_table(path, TableOptions(on_bad="skip"))
    assert (chunk.X.tolist(), len(chunk.bad)) == ([[7.0, 8.0, 9.0]], 2)


def test_lists_with_missing_values(tmp_path: Path) -> None:
    fixed = pa.array([[1.0, 2.0], None, [None, 6.0]], pa.list_(pa.float32(), 2))
    path = _write_parquet(tmp_path, e=[[1.0, 2.0], None, [None, 6.0]], f=fixed, x=[1, None, 3])
    lists = [[1.0, 2.0], [np.nan, np.nan], [np.nan, 6.0]]
    expected = np.hstack([lists, lists, [[1.0], [np.nan], [3.0]]])
    [chunk] = read_table(path, TableOptions(missing="learn", on_bad="skip"))
    np.testing.assert_array_equal(chunk.X, np.delete(expected, 1, axis=0))
    [chunk] = read_table(path, TableOptions(missing="learn", columns=("f", "x"), on_bad="skip"))
    np.testing.assert_array_equal(chunk.X, np.delete(expected[:, 2:], 1, axis=0))
    lines = tmp_path / "data.jsonl"
    _text(lines, '{"e": [1, 2], "x": 1}\n{"e": null, "x": 2}\n{"x": 3}\n{"e": [null, 6]}\n')
    found = _whole(lines, missing="learn")[0]
    np.testing.assert_array_equal(
        found, [[1, 2, 1], [np.nan, np.nan, 2], [np.nan, np.nan, 3], [np.nan, 6, np.nan]]
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x,y,w\n1,2,1\n,,1\n", "line 3: all values are missing"),
        ("x,y,w\n1,2,1\n1,,\n", "line 3, column 'w': '' is not a number"),
        ("x,y,w\n1,2,1\n1,,nan\n", "line 3, column 'w': nan is not finite"),
        ("x,y,w\n1,2,1\n,inf,1\n", "line 3, column 'y': inf is not finite"),
        ("x,y,w\n1,2,1\n,abc,1\n", "line 3, column 'y': 'abc' is not a number"),
        ("x,y,w\n1,2,1\n,1\n", "line 3 has 2 cells; expected 3"),
    ],
)
def test_missing_weights_and_other_faults_stay_bad(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    _text(path, text)
    message = _refusal(path, missing="learn", weight_column="w")
    assert message.startswith(f"data.csv {reason};")
    assert "points.missing" not in message


# Parquet --------------------------------------------------------------------------------------


def _write_parquet(tmp_path: Path, **columns: list[Any]) -> Path:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_of_mixed_numbers(tmp_path: Path) -> None:
    path = _write_parquet(tmp_path, x=[1, 2], label=["a", "b"], y=[0.5, 1.5])
    assert _refusal(path) == (
        "data.parquet, column 'label' holds string, not numbers; choose columns with --columns, or "
        "leave it out with --exclude"
    )
    assert _whole(path, columns=["x", "y"])[0].tolist() == [[1, 0.5], [2, 1.5]]


def test_parquet_with_a_null(tmp_path: Path) -> None:
    path = _write_parquet(tmp_path, x=[1, 2, None], y=[1, 2, 3])
    message = f"data.parquet row 3, column 'x': null is not a number{MISSING}"
    assert _refusal(path, chunk=2) == message


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write_parquet(tmp_path, x=[1])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install pyarrow$"):
        list(read_table(path))


# What a hostile file claims --------------------------------------------------------------------


def _npy(shape: object, descr: str = "'<f8'", version: int = 1, data: bytes = b"") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(head).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes((version, 0)) + size + head + data


def _npz(path: Path, *parts: bytes) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w", force_zip64=True) as member,
    ):
        for part in parts:
            member.write(part)


HUGE_HEADER = b"\x93NUMPY\x02\x00" + (0xFFFFFFF0).to_bytes(4, "little")
UNREADABLE = "can't be read as numbers"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", UNREADABLE),
        (b"\x93NUMPY", UNREADABLE),
        (b"\x80\x04cos\nsystem\n.", UNREADABLE),
        (HUGE_HEADER, UNREADABLE),
        (_npy((2, 2), version=3), UNREADABLE),
        (_npy("(" * 4000 + ")" * 4000), UNREADABLE),
        (_npy("[" * 9000), UNREADABLE),
        (_npy((2,), "'|O'", data=bytes(64)), UNREADABLE),
        (_npy((2,), "('<f8', (3,))", data=bytes(64)), "save it as float32 or float64"),
        (_npy((0, 10**9)), "has 1,000,000,000 columns; expected at most 1,048,576"),
        (_npy((10**9, 3)), "24,000,000,000 bytes, but holds 0; it is damaged or cut off"),
        (_npy((10**30, 3)), "but holds 0; it is damaged or cut off"),
        (_npy((5, 5), data=bytes(10)), "200 bytes, but holds 10; it is damaged or cut off"),
        (_npy((-1, 3)), "has shape (-1, 3), expected (points, features)"),
        (_npy((-5, -5)), "has shape (-5, -5), expected (points, features)"),
        (_npy((True, 2), data=bytes(64)), "has shape (True, 2), expected (points, features)"),
        (_npy((10**18, 0)), "has no feature column"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_that_claim_what_they_do_not_hold(
    data: bytes, message: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"data.{suffix}"
    if suffix == "npy":
        path.write_bytes(data)
    else:
        _npz(path, data)
    if "damaged or cut off" in message and suffix == "npz":
        message = UNREADABLE
    refusal = _refusal(path)
    assert refusal.startswith(f"data.{suffix}")
    assert message in refusal
    assert len(refusal) < 300


def test_an_array_is_unpacked_chunk_by_chunk_in_either_order(tmp_path: Path) -> None:
    table = np.arange(60.0).reshape(20, 3)
    for order in ("C", "F"):
        np.savez_compressed(tmp_path / "data.npz", a=np.asarray(table, order=order))
        found = list(read_table(tmp_path / "data.npz", chunk=7))
        assert [len(chunk.X) for chunk in found] == [7, 7, 6]
        assert np.concatenate([chunk.X for chunk in found]).tolist() == table.tolist()


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet"])
def test_files_that_are_cut_off_or_overwritten_are_one_line(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data.{suffix}"
    rng = np.random.default_rng(0)
    table = rng.normal(size=(300, 2))
    WRITERS_OF_NOISE[suffix](path, table)
    data = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(data[: rng.integers(1, len(data) + 1)])
        start = rng.integers(len(damaged))
        damaged[start : start + 8] = rng.bytes(len(damaged[start : start + 8]))
        path.write_bytes(damaged)
        try:
            rows = sum(len(chunk.X) for chunk in read_table(path))
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert rows <= 300


WRITERS_OF_NOISE: dict[str, Callable[[Path, NDArray[Any]], object]] = {
    "npy": np.save,
    "npz": lambda path, table: np.savez_compressed(path, a=table),
    "parquet": lambda path, table: pq.write_table(pa.table({"a": table[:, 0]}), path),
}

BOUNDED = """
import resource, sys
import numpy, pyarrow.parquet
from streamclust.errors import DataError
from streamclust.tables import count_rows, read_table
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)
for path in sys.argv[1:]:
    try:
        print(path, sum(len(chunk.X) for chunk in read_table(path)))
    except DataError as error:
        print(error)
    try:
        count_rows(path)
    except DataError:
        pass
"""


def test_bombs_are_refused_within_half_a_gigabyte(tmp_path: Path) -> None:
    _npz(tmp_path / "header.npz", HUGE_HEADER, *([b" " * (1 << 22)] * 128))
    for name, head in {
        "a.npy": HUGE_HEADER,
        "a.csv": b"",
        "a.jsonl": b"",
        "a.parquet": b"",
    }.items():
        (tmp_path / name).write_bytes(head)
        os.truncate(tmp_path / name, 5 << 30)
    (tmp_path / "deep.jsonl").write_bytes(b"[" * 1_000_000)
    (tmp_path / "cell.csv").write_bytes(b'a\n"' + b"1" * 1_000_000 + b'"\n')
    (tmp_path / "wide.jsonl").write_bytes(b"[" + b",".join([b"1"] * 2_000_000) + b"]")
    names = sorted(path.name for path in tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, *names],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(zip(names, done.stdout.splitlines(), strict=True))
    assert "field larger than field limit" in lines.pop("cell.csv")
    assert "nested too deeply" in lines.pop("deep.jsonl")
    assert "2,000,000 columns; expected at most" in lines.pop("wide.jsonl")
    for name in ("a.csv", "a.jsonl"):
        assert lines.pop(name) == f"{name} line 1 is too long; is it text?"
    assert all("can't be read as" in line for line in lines.values())


def test_rows_out_of_proportion_to_the_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamclust.files.SMALL_BYTES", 1 << 20)
    table = np.zeros((1 << 19, 2))
    np.savez_compressed(tmp_path / "rows.npz", a=table)
    pq.write_table(pa.table({"a": table[:, 0]}), tmp_path / "rows.parquet")
    assert "array 'a', would unpack to 8,388,608 bytes from" in _refusal(tmp_path / "rows.npz")
    assert "rows.parquet would unpack to 4,194,304 bytes" in _refusal(tmp_path / "rows.parquet")
    np.savez_compressed(tmp_path / "rows.npz", a=table[: 1 << 16])
    assert len(_whole(tmp_path / "rows.npz")[0]) == 1 << 16


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_many_columns_take_time_in_proportion(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counted(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__eq__(self, other)

    names = [Counted(f"c{index}") for index in range(2000)]
    select(names, TableRequest("t"))
    assert Counted.compared < 20 * len(names)
    # and a chunk of a wide table has fewer rows
    monkeypatch.setattr("streamclust.tables.chunk.MAX_CELLS", 1 << 14)
    row = "[" + ",".join(["1"] * 64) + "]\n"
    path = tmp_path / f"wide.{suffix}"
    path.write_text((row if suffix == "jsonl" else row.strip("[]\n") + "\n") * 300)
    assert [len(chunk.X) for chunk in read_table(path, chunk=1000)] == [250, 50]


def test_a_row_of_any_number_of_lines_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamclust.tables.lines.LINE_BYTES", 1 << 18)
    path = tmp_path / "t.csv"
    path.write_text("x,note\n1," + '"a\n",' * 200_000)
    assert _refusal(path, columns=["x"]).endswith("is in a row that is too long; close the quotes")
    path.write_text("x,note\n" + '1,"a\nb"\n' * 100_000)
    assert len(_whole(path, columns=["x"])[0]) == 100_000


def test_long_lines_make_short_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamclust.tables.lines.BATCH_BYTES", 1 << 18)
    path = tmp_path / "notes.csv"
    path.write_text("x,note\n" + ("1," + "n" * 10_000 + "\n") * 100)
    sizes = [len(chunk.X) for chunk in _read(path, columns=["x"])]
    assert sum(sizes) == 100
    assert max(sizes) < 40


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "a\x1b[31m,b\n1,2\n", "t.csv: the column name 'a\\x1b[31m' has a control char"),
        ("t.tsv", "a\x00\tb\n1\t2\n", "t.tsv: the column name 'a\\x00' has a control character"),
        ("t.csv", "a\u202eb\n1\n", "t.csv: the column name 'a\\u202eb' has a control character"),
        ("t.jsonl", '{"a\\nb": 1}', "t.jsonl: the column name 'a\\nb' has a line end"),
        ("t.csv", '"a\nb",c\n1,2\n', "t.csv: the column name 'a\\nb' has a line end"),
        ("t.csv", '\n\n"a\nb",c\n1,2\n', "t.csv: the column name 'a\\nb' has a line end"),
    ],
)
def test_control_characters_in_column_names(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    _text(tmp_path / name, text)
    assert _refusal(tmp_path / name).startswith(message)


def test_names_in_messages_are_short_and_printable(tmp_path: Path) -> None:
    _text(tmp_path / "t.csv", "\x1b" * 5000 + ",b\n1,x\n")
    refusal = _refusal(tmp_path / "t.csv", columns=["c"])
    assert refusal.isprintable()
    assert len(refusal) < 300


def test_only_regular_files_are_mapped(tmp_path: Path) -> None:
    for suffix in ("npy", "npz", "parquet"):
        path = tmp_path / f"fifo.{suffix}"
        os.mkfifo(path)
        assert _refusal(path) == f"can't read fifo.{suffix}: it is a FIFO; name a regular file"
        with pytest.raises(DataError):
            count_rows(tmp_path, kind="npy")
    assert _refusal("/dev/zero", kind="csv") == "zero line 1 is too long; is it text?"
