"""Columns by name: those of a model, labels, weights, lists of numbers, and what is left out."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamclust.tables import ModelColumns
from tests.support.tables import read, refusal

MODEL = ModelColumns("model 'm'", ("x", "y"), 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "x,y\n1,2\n"),
        ("t.csv", "y,x\n2,1\n"),
        ("t.csv", "y,host,x\n2,a,1\n"),
        ("t.csv", ",y,x\n0,2,1\n"),
        ("t.csv", "z,y,x,z\n0,2,1,0\n"),
        ("t.tsv", "y\tx\n2\t1\n"),
        ("t.jsonl", '{"y": 2, "x": 1}'),
        ("t.jsonl", '{"y": 2, "z": [7], "x": 1}\n'),
        ("t.jsonl", "[1, 2]"),
    ],
)
def test_a_model_s_features_are_found_by_name(name: str, text: str, tmp_path: Path) -> None:
    table = read(tmp_path / name, text, model=MODEL)
    assert (table.X, table.warnings) == ([[1, 2]], [])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "x,z\n1,2\n", "t.csv has no column 'y', a feature of model 'm'; it has x, z; re"),
        ("t.csv", "a,b\n1,2\n", "t.csv has no column 'x', a feature of model 'm'; it has a, b; re"),
        ("t.csv", "X, Y\n1,2\n", "differ only in case or spaces: give --columns 'X,Y'"),
        ("t.csv", "x,x,y\n1,2,3\n", "t.csv has 2 columns 'x'; rename them"),
        ("t.csv", "1,2,3\n", "t.csv has 3 columns without names, but model 'm' has 2 features (x"),
        ("t.csv", "1\n", "t.csv has 1 column without names, but model 'm' has 2 features (x, y)"),
        ("t.csv", "x;y\n1;2\n", "is ';' the separator? Give --delimiter ';'"),
        (
            "t.jsonl",
            '{"a": 1, "x": 2}',
            "t.jsonl has no column 'y', a feature of model 'm'; it has",
        ),
        ("t.jsonl", '{"x": 1, "y": 2}\n{"x": 1}', "t.jsonl line 2, column 'y': missing"),
        ("t.jsonl", "[1]", "t.jsonl has 1 column without names, but model 'm' has 2 features"),
    ],
)
def test_what_does_not_match_a_model_is_refused_by_name(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path / name, text, model=MODEL)


def test_arrays_have_positions_and_the_right_number_of_them(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, np.array([[1, 2], [3, 4]]))
    assert read(path, model=MODEL).X == [[1, 2], [3, 4]]
    np.save(path, np.ones((2, 3)))
    assert "has 3 columns without names, but model 'm' has 2" in refusal(path, model=MODEL)
    assert read(path, model=MODEL, columns=["x2", "x0"]).X == [[1, 1], [1, 1]]
    assert "model 'm' has 3 features; choose" in refusal(
        tmp_path / "t.csv", "1,2\n", model=ModelColumns("model 'm'", (), 3)
    )


def test_columns_without_names_are_taken_in_order_with_a_warning(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", "1,2\n", model=MODEL)
    assert table.X == [[1, 2]]
    (warning,) = table.warnings
    assert (
        "has no names of columns; the columns are used as x, y, the features of model 'm'"
        in warning
    )
    assert read(tmp_path / "t.csv", model=MODEL, header=False).warnings == []


@pytest.mark.parametrize(
    ("columns", "X"), [(["y", "x"], [[1, 2]]), (["x", "y"], [[1, 2]]), (["b", "a"], [[4, 3]])]
)
def test_chosen_columns_have_the_place_of_the_features(
    columns: list[str], X: list[list[float]], tmp_path: Path
) -> None:
    # The names of the features, in any order, are the features
    assert read(tmp_path / "t.csv", "x,y,a,b\n1,2,3,4\n", model=MODEL, columns=columns).X == X


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["y", "a"], "--columns: 'y' is a feature of model 'm', but is in the place of 'x'"),
        (["a"], "--columns names 1 column, but model 'm' has 2 features (x, y)"),
        (["a", "b", "x"], "--columns names 3 columns, but model 'm' has 2 features (x, y)"),
    ],
)
def test_chosen_columns_that_cannot_be_meant(
    columns: list[str], message: str, tmp_path: Path
) -> None:
    text = "x,y,a,b\n1,2,3,4\n"
    assert message in refusal(tmp_path / "t.csv", text, model=MODEL, columns=columns)


def test_labels_weights_and_excluded_columns_are_no_features(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "label_columns": ["host", "user"],
        "weight_column": "n",
        "exclude": ["note"],
    }
    text = 'note,user,x,n,host\n"a\nb",u1,1.5,2,"h, 1"\n?,u2,2.5,3, h2 \n'
    table = read(tmp_path / "t.csv", text, **options)
    assert (table.names, table.X) == (("x",), [[1.5], [2.5]])
    assert table.labels == {"host": ["h, 1", "h2"], "user": ["u1", "u2"]}
    doc = '{"x": 1.5, "host": "h1", "user": 7, "n": 2, "note": null}\n'
    table = read(tmp_path / "t.jsonl", doc, **options)
    assert (table.X, table.labels) == ([[1.5]], {"host": ["h1"], "user": ["7"]})


@pytest.mark.parametrize("option", ["exclude", "label_columns", "time_column"])
def test_a_column_that_is_not_there(option: str, tmp_path: Path) -> None:
    value: Any = "z" if option == "time_column" else ["z"]
    message = refusal(tmp_path / "t.csv", "x,y\n1,2\n", **{option: value})
    assert message == "t.csv has no column 'z'; it has x, y"


def test_a_name_in_another_case_is_suggested(tmp_path: Path) -> None:
    message = refusal(tmp_path / "t.csv", "Load,y\n1,2\n", columns=["load"])
    assert message == "t.csv has no column 'load'; it has Load, y; did you mean 'Load'?"


def test_duplicate_keys_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path / "t.jsonl", '{"x": 1}\n{"x": 1, "y": 2, "x": 3}\n', columns=["x"])
    assert message.startswith("t.jsonl line 2: duplicate key 'x'; clean the file, or skip")


# Lists of numbers -----------------------------------------------------------------------------


def _embeddings(path: Path, kind: pa.DataType, rows: list[Any]) -> Path:
    ids = [f"p{number}" for number in range(len(rows))]
    pq.write_table(pa.table({"id": ids, "e": pa.array(rows, kind)}), path)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float32(), 3),
        pa.large_list(pa.float64()),
        pa.list_(pa.int8()),
    ],
)
def test_a_list_in_parquet_is_a_column_per_number(kind: pa.DataType, tmp_path: Path) -> None:
    path = _embeddings(tmp_path / "t.parquet", kind, [[1, 2, 3], [4, 5, 6]])
    table = read(path, label_columns=["id"])
    assert (table.names, table.X) == (("e_0", "e_1", "e_2"), [[1, 2, 3], [4, 5, 6]])
    assert table.labels == {"id": ["p0", "p1"]}
    is_single = kind.value_type == pa.float32()
    assert table.chunks[0].X.dtype == (np.float32 if is_single else np.float64)
    assert read(path, columns=["e"]).X == table.X
    assert read(path, columns=["e_2", "e_0"]).X == [[3, 1], [6, 4]]
    assert read(path, columns=["e_2", "e_1", "e_0"]).X == [[3, 2, 1], [6, 5, 4]]
    assert read(path, exclude=["id", "e_1"]).names == ("e_0", "e_2")
    assert "has no feature column" in refusal(path, exclude=["id", "e"])
    model = ModelColumns("model 'm'", ("e_2", "e_0"), 2)
    assert read(path, model=model).X == [[3, 1], [6, 4]]


def test_lists_of_other_lengths_are_bad_rows(tmp_path: Path) -> None:
    kind = pa.list_(pa.float32())
    path = _embeddings(tmp_path / "t.parquet", kind, [[1, 2], [3], None, [4, None], [5, 6]])
    assert "row 3, column 'e': null is not a number" in refusal(path, columns=["e"])
    table = read(path, columns=["e"], on_bad="skip")
    assert table.X == [[1, 2], [5, 6]]
    assert [row.line for row in table.bad] == [2, 3, 4]
    assert "row 2, column 'e': the list has 1 values; expected 2" in table.bad[0].reason


def test_a_list_in_json_is_a_column_per_number(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    text = '{"id": "a", "e": [1, 2], "y": 3}\n{"id": "b", "e": [4, 5], "y": 6}\n'
    table = read(path, text, exclude=["id"])
    assert (table.names, table.X) == (("e_0", "e_1", "y"), [[1, 2, 3], [4, 5, 6]])
    assert read(path, columns=["e"]).X == [[1, 2], [4, 5]]
    message = refusal(path, text + '{"id": "c", "e": [7], "y": 8}\n', columns=["e"])
    assert "line 3, column 'e': the list has 1 values; expected 2" in message


def test_decimals_in_parquet_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    numbers = [decimal.Decimal("1.25"), decimal.Decimal("-0.5")]
    pq.write_table(pa.table({"x": numbers, "day": [datetime.date(2026, 1, 1)] * 2}), path)
    assert read(path, columns=["x"]).X == [[1.25], [-0.5]]
    assert "column 'day' holds date32[day], not numbers" in refusal(path)


def test_only_the_columns_that_are_needed_are_parsed(tmp_path: Path) -> None:
    csv = tmp_path / "t.csv"
    assert read(csv, 'x,y,note\n1,abc,"a""b"\n2,,\n', columns=["x"]).X == [[1], [2]]
    parquet = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": [1.5], "y": [None], "z": ["a"]}), parquet)
    assert read(parquet, columns=["x"]).X == [[1.5]]
    array = tmp_path / "t.npy"
    np.save(array, np.array([[1.5, np.nan]]))
    assert read(array, columns=["x0"]).X == [[1.5]]


# A second table -------------------------------------------------------------------------------

FIRST = ModelColumns("the first file, a.csv,", ("x", "y"), 2, exact=True)


def test_a_second_table_may_have_another_order_of_the_same_columns(tmp_path: Path) -> None:
    assert read(tmp_path / "b.csv", "y,x\n2,1\n", model=FIRST).X == [[1, 2]]
    assert read(tmp_path / "b.csv", "y,x,n\n2,1,3\n", model=FIRST, exclude=["n"]).X == [[1, 2]]
    assert refusal(tmp_path / "b.csv", "y,x,z\n2,1,0\n", model=FIRST) == (
        "b.csv has a column 'z', but the first file, a.csv, doesn't; choose the same columns with "
        "--columns, or send each file with its own command"
    )
    assert "has no column 'y'" in refusal(tmp_path / "b.csv", "x\n1\n", model=FIRST)
