"""Bad rows are reported with their place and reason, and all other rows are read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from streamclust.errors import DataError
from streamclust.tables import SkippedRows, TableOptions, read_table
from tests.support.tables import read


@pytest.mark.parametrize("chunk", [1, 2, 3, 8192])
def test_csv_is_read_on_after_each_kind_of_bad_row(chunk: int, tmp_path: Path) -> None:
    lines = {
        1: b"x,y",
        2: b"1,2",
        3: b"3,abc",
        4: b"4",
        5: b"5,nan",
        6: b"6,7,8",
        7: b"\xff,8",
        8: b'"9,10',  # the quote isn't closed
        9: b"11,12",
        10: b"13,",
        11: b'"14","15"',
        12: b'16,"17',
        13: b'18"',
        14: b"1" * 200_000 + b",1",
        15: b"19,20",
        16: b'"21,22',
    }
    table = read(tmp_path / "t.csv", b"\n".join(lines.values()), on_bad="skip", chunk=chunk)
    assert table.X == [[1, 2], [11, 12], [14, 15], [19, 20]]
    assert [row.line for row in table.bad] == [3, 4, 5, 6, 7, 8, 10, 13, 14, 16]
    reasons = {row.line: row.reason for row in table.bad}
    assert "column 'y': 'abc' is not a number" in reasons[3]
    assert "line 8: a quote isn't closed" in reasons[8]
    assert "field larger than field limit" in reasons[14]
    assert all(len(row.data) <= 1100 and row.data.isprintable() for row in table.bad)
    assert table.bad[0].data == "3,abc"


def test_a_text_of_several_lines_is_one_row(tmp_path: Path) -> None:
    text = 'x,note,y\n1,"a\nb\n\nc",2\n3,"d ""e"" f",4\nbad,"g\nh",5\n6,"7, 8",9\n'
    table = read(tmp_path / "t.csv", text, on_bad="skip", columns=["x", "y"])
    assert table.X == [[1, 2], [3, 4], [6, 9]]
    assert [row.line for row in table.bad] == [8]  # the last line of the row


@pytest.mark.parametrize("chunk", [1, 3, 8192])
def test_json_is_read_on_after_each_kind_of_bad_row(chunk: int, tmp_path: Path) -> None:
    lines = [
        "nope",
        '{"x": 1, "y": 2}',
        '{"x": 3}',
        '{"x": 4, "y": "5"}',
        "[6, 7]",
        '{"x": 8, "y": 9, "z": 0}',
        '{"x": 10, "y": 11, "x": 12}',
        '{"x": 13, "y": NaN}',
        '{"x": 14, "y": 15}',
        "[" * 100_000,
    ]
    table = read(tmp_path / "t.jsonl", "\n".join(lines), on_bad="skip", chunk=chunk)
    assert table.X == [[1, 2], [14, 15]]
    assert [row.line for row in table.bad] == [1, 3, 4, 5, 6, 7, 8, 10]


def test_places_of_bad_rows_among_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, np.array([[np.nan], [1], [2], [np.inf], [np.nan], [3]]))
    table = read(path, on_bad="skip")
    assert table.X == [[1], [2], [3]]
    assert [(row.place, row.line) for row in table.bad] == [(0, 1), (2, 4), (2, 5)]


def test_a_live_feed_continues_after_a_bad_line(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as stdin, os.fdopen(write_end, "wb", buffering=0) as feed:
        monkeypatch.setattr(sys, "stdin", stdin)
        chunks = read_table("-", TableOptions(on_bad="skip"))
        feed.write(b"x,y\n1,2\nbroken\n")
        first = next(chunks)
        assert (first.X.tolist(), len(first.bad)) == ([[1, 2]], 1)
        feed.write(b"?,?\n")
        assert [row.line for row in next(chunks).bad] == [4]
        feed.write(b'3,"4\n5,6\n')  # an open quote holds nothing back
        assert [row.line for row in next(chunks).bad] == [5]
        assert next(chunks).X.tolist() == [[5, 6]]


def test_few_bad_rows_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    path, warnings = tmp_path / "t.csv", list[str]()
    path.write_text("x\n1\n" + "bad\n" * 9)
    count = SkippedRows(warnings.append)
    for chunk in read_table(path, TableOptions(on_bad="skip")):
        count.add(chunk)
    count.report()
    assert len(warnings) == 6
    assert warnings[0].startswith(f"row skipped: {path} line 3, column 'x': 'bad' is not a number")
    assert warnings[-1] == "9 rows skipped; the first 5 are shown above"


def test_a_table_of_bad_rows_alone_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x\nbad\nworse\n")
    count = SkippedRows(lambda _: None)
    for chunk in read_table(path, TableOptions(on_bad="skip")):
        count.add(chunk)
    with pytest.raises(DataError, match="all 2 rows are bad"):
        count.report()
