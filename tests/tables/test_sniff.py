"""The format of a file and the meaning of its columns, found from its first rows."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from streamclust.errors import DataError
from streamclust.tables import Sniffed, TableOptions, sniff
from tests.support.tables import read

TELEMETRY = "time,host,load,temperature,workspace,id\n" + "".join(
    f"2026-05-01T12:00:{s:02d}Z,web{s % 3},{s / 7:.3f},{40 + s % 5},eu,r{s}\n" for s in range(60)
)


def _sniffed(path: Path, content: str | bytes, **known: Any) -> Sniffed:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return sniff(path, TableOptions(**known))


def test_a_telemetry_file(tmp_path: Path) -> None:
    found = _sniffed(tmp_path / "t.csv", TELEMETRY)
    roles = {column.name: column.role for column in found.columns}
    assert roles == {
        "time": "time",
        "host": "label",
        "load": "feature",
        "temperature": "feature",
        "workspace": "label",
        "id": "ignored",
    }
    assert (found.features, found.rows, found.sorted_by_time) == (("load", "temperature"), 60, True)
    assert found.notes == ("column 'id' has 60 distinct texts in 60 rows; not used",)
    table = read(tmp_path / "t.csv", **vars(found.options))
    assert table.names == ("load", "temperature")
    assert (len(table.X), len(table.times), len(table.labels["host"])) == (60, 60, 60)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("header", [True, False])
def test_delimiters_and_decimal_points(
    delimiter: str, decimal: str, header: bool, tmp_path: Path
) -> None:
    if delimiter == decimal:
        return
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 3)).round(3)
    rows = [["a", "b", "c"]] * header + [[str(x).replace(".", decimal) for x in row] for row in X]
    text = "\n".join(map(delimiter.join, rows))
    found = _sniffed(tmp_path / "t.data", text).options
    assert (found.kind, found.delimiter, found.decimal, found.header) == (
        "csv",
        delimiter,
        decimal,
        header,
    )
    assert X.tolist() == read(tmp_path / "t.data", **vars(found)).X


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("utf-8", None), ("utf-8-sig", None), ("utf-16", None), ("cp1252", "cp1252")],
)
def test_encodings(encoding: str, found: str | None, tmp_path: Path) -> None:
    sniffed = _sniffed(tmp_path / "t.csv", "température,œ\n1,2\n3,5\n".encode(encoding))
    assert sniffed.options.encoding == found
    assert sniffed.features == ("température", "œ")
    assert read(tmp_path / "t.csv", **vars(sniffed.options)).X == [[1, 2], [3, 5]]


@pytest.mark.parametrize("name", ["t", "t.csv", "t.jsonl", "t.jsonl.gz", "t.npy", "t.parquet"])
def test_the_kind_is_found_from_the_content(name: str, tmp_path: Path) -> None:
    path, frame = tmp_path / name, pd.DataFrame({"x0": [1.5, 2.5], "x1": [3.0, 4.0]})
    if name == "t.npy":
        np.save(path, frame.to_numpy())
    elif name == "t.parquet":
        frame.to_parquet(path)
    elif "jsonl" in name or name == "t":
        text = frame.to_json(orient="records", lines=True).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    else:
        frame.to_csv(path)
    found = sniff(path)
    kinds = {"t": "jsonl", "t.csv": "csv", "t.npy": "npy", "t.parquet": "parquet"}
    assert found.options.kind == kinds.get(name, "jsonl")
    assert found.features == ("x0", "x1")
    assert frame.to_numpy().tolist() == read(path, **vars(found.options)).X


def test_an_index_a_constant_and_missing_values_are_noted(tmp_path: Path) -> None:
    found = _sniffed(tmp_path / "t.csv", ",x,y,z\n0,1.5,7,1\n1,,7,2\n2,3.5,7,3\n")
    assert {column.name: column.role for column in found.columns} == {
        "": "index",
        "x": "feature",
        "y": "constant",
        "z": "feature",
    }
    assert found.notes == (
        "column '' numbers the rows; it isn't a feature",
        "column 'x' has 1 missing values in 3 rows",
        "column 'y' is always 7; it isn't a feature",
    )


@pytest.mark.parametrize(
    ("name", "values", "role"),
    [
        ("ts", ["1700000000", "1700000001"], "time"),
        ("event_time", ["1700000000000", "1700000001000"], "time"),
        ("price", ["1700000000", "1700000001"], "feature"),
        ("time", ["0.5", "1.5"], "feature"),
        ("day", ["2026-05-01", "2026-05-02"], "time"),
    ],
)
def test_numbers_are_times_by_name_and_size(
    name: str, values: list[str], role: str, tmp_path: Path
) -> None:
    text = f"{name},x\n" + "".join(f"{value},{place}\n" for place, value in enumerate(values))
    assert _sniffed(tmp_path / "t.csv", text).columns[0].role == role


def test_of_several_times_the_sorted_one_is_taken(tmp_path: Path) -> None:
    text = "a,b,x\n2026-05-02,2026-05-01,1\n2026-05-01,2026-05-03,2\n"
    found = _sniffed(tmp_path / "t.csv", text)
    assert (found.options.time_column, found.sorted_by_time) == ("b", True)


def test_decimal_commas_are_found_in_a_table_of_any_width(tmp_path: Path) -> None:
    for width in (2, 3):
        names = ";".join("xyz"[:width])
        rows = "".join(
            ";".join(f"{row}{place},5" for place in range(width)) + "\n" for row in range(9)
        )
        found = _sniffed(tmp_path / "t.csv", f"{names}\n{rows}")
        assert (found.options.decimal, len(found.features)) == (",", width)


def test_a_huge_whole_number_is_a_number(tmp_path: Path) -> None:
    text = '{"x": 1}\n{"x": 1' + "0" * 400 + "}\n"
    [column] = _sniffed(tmp_path / "t.jsonl", text).columns
    assert (column.kind, column.role) == ("integer", "feature")


def test_known_options_are_kept(tmp_path: Path) -> None:
    known = {"columns": ("temperature",), "label_columns": ("id",), "time_column": "time"}
    found = _sniffed(tmp_path / "t.csv", TELEMETRY, **known)
    assert {name: getattr(found.options, name) for name in known} == known


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "t.csv has no rows"),
        ("x,y\n", "t.csv has no rows"),
        ("0,1,2\n3,4,5.5\n", "give --header if it has the names"),
        (b"BZh91AY&", "t.csv is compressed with bzip2"),
        (
            "Report of May\n\nx,y\n1,2\n3,4\n5,6\n",
            "t.csv line 1 has 1 cell, most lines have 2; if it is",
        ),
        (
            "# by a program\nx,y\n1,2\n3,4\n5,6\n",
            "line 1 has 1 cell, most lines have 2; if it is a title",
        ),
        (
            "sep=;\nx;y\n1;2\n3;4\n",
            "t.csv line 1: the first row is 'sep=', Excel's note of the separator",
        ),
        ('[{"x": 1}, {"x": 2}]', "t.json is one JSON document; one line is one point; `jq -c"),
        ('{"data": [[1, 2], [3, 4]]}\n', "t.json is one JSON document; one line is one point"),
        ("[\n  [1, 2],\n  [3, 4]\n]\n", "t.json row 1 is not JSON; one line is one point; `jq -c"),
    ],
)
def test_what_cannot_be_found(content: str | bytes, message: str, tmp_path: Path) -> None:
    name = "t.json" if str(content).startswith(("[", "{")) else "t.csv"
    with pytest.raises(DataError) as caught:
        _sniffed(tmp_path / name, content)
    assert message in str(caught.value)
