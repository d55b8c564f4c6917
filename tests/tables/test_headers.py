"""The first row of CSV and the index of pandas: read whole, or refused with what settles it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from streamclust.tables import ModelColumns
from tests.support.tables import read, refusal

HEADER = "give --header"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("x,y\n1,2\n", ("x", "y")),
        ("Na,Mg\n1,2\n", ("Na", "Mg")),  # the name of one missing value isn't enough
        ("x1,2nd\n1,2\n", ("x1", "2nd")),
        ("1,2\n1,2\n", ("x0", "x1")),
        ("-1.5e3,.5\n1,2\n", ("x0", "x1")),
        ("0,1\n1,0\n", ("x0", "x1")),  # whole numbers in all rows
    ],
)
def test_a_first_row_without_a_number_is_a_header(
    text: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    table = read(tmp_path / "t.csv", text)
    assert table.names == names
    assert len(table.X) == (1 if "x0" not in names else 2)


@pytest.mark.parametrize(
    "text",
    [
        "1.5,,3\n4,5,6\n",
        "1.5,y,3\n4,5,6\n",
        "2024-01-01,2024-02-01\n1,2\n",
        "12:00,load\n1,2\n",
        "host,1.5\nother,2.5\n",
        "0,1,2\n1.5,2.5,3.5\n",  # the names that pandas gives
        "0,1\n1.5,2\n",
        ",0,1\n0,1.5,2\n",
        "NA,n/a\n1,2\n",
        ",\n1,2\n",
    ],
)
def test_a_row_that_can_be_both_is_refused_with_the_option(text: str, tmp_path: Path) -> None:
    message = refusal(tmp_path / "t.csv", text)
    assert message.startswith("t.csv line 1")
    assert HEADER in message


def test_the_options_settle_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert read(path, "0,1,2\n3,4,5\n", header=True).names == ("0", "1", "2")
    assert read(path, "0,1,2\n3,4,5\n", header=False).X == [[0, 1, 2], [3, 4, 5]]
    assert read(path, "2024,x\n1,2\n", header=True).names == ("2024", "x")
    message = refusal(path, "x,y\n1,2\n", header=False)
    assert message.startswith("t.csv line 1, column 'x0': 'x' is not a number")
    assert HEADER not in message


def test_a_name_that_is_requested_makes_a_header(tmp_path: Path) -> None:
    path, text = tmp_path / "t.csv", "x,2025,y,\n1,2,3,4\n"
    assert HEADER in refusal(path, text)
    assert read(path, text, columns=["x", "2025"]).X == [[1, 2]]
    assert read(path, text, model=ModelColumns("model 'm'", ("y", "x"), 2)).X == [[3, 1]]
    # but a number is no name
    assert "column 'x1': '' is not a number" in refusal(path, "1,,3\n", columns=["x1"])
    assert HEADER in refusal(path, "1,2,3\n", columns=["3", "1"])


@pytest.mark.parametrize("first", ["", "Unnamed: 0", '""'])
def test_an_index_in_csv_is_left_out_with_a_warning(first: str, tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", f"{first},x,y\n0,1.5,2.5\n1,3.5,4.5\n")
    assert (table.names, table.X) == (("x", "y"), [[1.5, 2.5], [3.5, 4.5]])
    (warning,) = table.warnings
    assert "is an index of the rows and is left out" in warning


@pytest.mark.parametrize(
    ("index", "name"), [([5, 7], "__index_level_0__"), (pd.Index([5, 7], name="id"), "id")]
)
def test_an_index_in_parquet_is_left_out_with_a_warning(
    index: Any, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"x": [1.5, 2.5], "y": [3.5, 4.5]}, index=index).to_parquet(path)
    table = read(path)
    assert (table.names, table.X) == (("x", "y"), [[1.5, 3.5], [2.5, 4.5]])
    assert f"column {name!r} is an index" in table.warnings[0]
    assert read(path, columns=[name]).X == [[5], [7]]


def test_pandas_csv_is_read_as_it_was_written(tmp_path: Path) -> None:
    path, frame = tmp_path / "t.csv", pd.DataFrame({"x": [1.5, 2.5], "y": [3.5, 4.5]})
    frame.to_csv(path)
    assert (read(path).names, read(path).X) == (("x", "y"), frame.to_numpy().tolist())
    frame.to_csv(path, index=False)
    assert (read(path).X, read(path).warnings) == (frame.to_numpy().tolist(), [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,\n1,2,\n", "t.csv: column 3 has no name; name it, or choose columns with --columns"),
        ('"a\nb",c\n1,2\n', "t.csv: the column name 'a\\nb' has a line end; close the quotes"),
        ('x,"y\n1,2\n', "t.csv: the column name 'y\\n1,2' has a line end; close the quotes"),
        ('x,y\n"1\n2",3\n', "t.csv line 3, column 'x': '1\\n2' is not a number"),
        ("x,y\nr1,1,2\n", "t.csv line 2 has 3 cells; expected 2; the header may lack a name"),
    ],
)
def test_names_pass_the_rules_of_cells(text: str, message: str, tmp_path: Path) -> None:
    assert refusal(tmp_path / "t.csv", text).startswith(message)


def test_columns_without_names_do_no_harm_if_others_are_chosen(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", "x,,y\n1,z,2\n", columns=["x", "y"])
    assert (table.X, table.warnings) == ([[1, 2]], [])


@pytest.mark.parametrize("text", ["", "\n\n", "x,y\n"])
def test_a_file_without_rows_is_a_warning(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert read(path, text).warnings == [f"{path} has no rows"]
