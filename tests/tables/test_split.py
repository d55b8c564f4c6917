"""Tables that are split: all spans together have the rows of the table, in its order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from streamclust.errors import DataError
from streamclust.tables import ModelColumns, TableOptions, read_table
from streamclust.tables import split as splitting
from streamclust.tables.split import Split, read_span, split_table

MODEL = ModelColumns("the test", ("a", "b"), 2)
X = np.random.default_rng(0).normal(size=(5000, 2)).round(4)


@pytest.fixture(autouse=True)
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split texts into spans of 16 KiB."""
    monkeypatch.setattr(splitting, "TEXT_BYTES", 1 << 14)


def spans_of(path: Path, **options: Any) -> Split:
    return split_table(path, TableOptions(**options), rows=lambda _: 1000, model=MODEL)


def rows_of(path: Path, split: Split) -> Any:
    chunks = [
        chunk.X
        for span in split.spans
        for chunk in read_span(path, split.options, span, "the table", model=MODEL)
    ]
    return np.concatenate(chunks)


def text(rows: Any, separator: str = ",") -> str:
    return "".join(f"{a!r}{separator}{b!r}\n" for a, b in rows.tolist())


def test_text_with_a_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\nb,a\n" + text(X))
    split = spans_of(path)
    assert len(split.spans) > 3
    assert split.names == ("a", "b")
    assert_array_equal(rows_of(path, split), X[:, ::-1])


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_text_without_a_header(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + text(X, "\t").replace("\n", ending).rstrip().encode())
    split = spans_of(path)
    assert len(split.spans) > 3
    assert_array_equal(rows_of(path, split), X)


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(f'{{"b": {b!r}, "c": "é", "a": {a!r}}}\n' for a, b in X.tolist()))
    split = spans_of(path)
    assert len(split.spans) > 3
    assert_array_equal(rows_of(path, split), X)


def test_rows_of_arrays(tmp_path: Path) -> None:
    for order in ("C", "F"):
        np.save(tmp_path / "t.npy", np.asarray(X, order=order))
        split = spans_of(tmp_path / "t.npy")
        assert [str(span) for span in split.spans[:2]] == ["rows 0 to 999", "rows 1,000 to 1,999"]
        assert len(split.spans) == 5
        assert_array_equal(rows_of(tmp_path / "t.npy", split), X)


def test_rows_are_read_in_any_order_of_the_array_and_once_more(tmp_path: Path) -> None:
    for order in ("C", "F"):
        path = tmp_path / f"{order}.npy"
        np.save(path, np.asarray(X, order=order))
        for _ in range(2):
            assert_array_equal(rows_of(path, spans_of(path)), X)


def test_a_bad_row_is_found_in_each_pass(tmp_path: Path) -> None:
    bad = X.copy()
    bad[2500, 1] = np.inf
    np.save(tmp_path / "t.npy", bad)
    split = spans_of(tmp_path / "t.npy")
    for _ in range(2):
        with pytest.raises(DataError, match="row 2501, column 'x1': inf is not finite"):
            rows_of(tmp_path / "t.npy", split)


def test_an_array_that_is_cut_off_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, X)
    (span, *_) = spans_of(path).spans
    chunks = read_span(path, TableOptions(), span, "the table", chunk=100, model=MODEL)
    assert_array_equal(next(chunks).X, X[:100])
    os.truncate(path, 4000)
    with pytest.raises(DataError, match="the table was cut off while it was read"):
        list(chunks)


def test_row_groups_are_joined_up_to_the_wanted_size(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    for group, spans in ((300, 5), (1000, 5), (2500, 2), (5000, 1)):
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=group)
        split = spans_of(tmp_path / "t.parquet")
        assert len(split.spans) == spans
        assert_array_equal(rows_of(tmp_path / "t.parquet", split), X)


def test_what_cannot_be_split_is_one_span(tmp_path: Path) -> None:
    import gzip

    whole = "a,b\n" + text(X)
    quoted = tmp_path / "quoted.csv"
    quoted.write_text(whole + '"1","2"\n')
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(whole.encode()))
    other = tmp_path / "utf16.csv"
    other.write_text(whole, encoding="utf-16")
    np.savez(tmp_path / "t.npz", X)
    for path in (quoted, packed, other, tmp_path / "t.npz"):
        split = spans_of(path)
        assert [span.unit for span in split.spans] == ["table"]
        assert_array_equal(rows_of(path, split)[: len(X)], X)


def test_a_message_has_the_line_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = text(X).splitlines()
    lines[4000] = "1,oops"
    path.write_text("\n".join(["a,b", *lines]))
    split = spans_of(path)
    with pytest.raises(DataError, match=r"the table line 4002, column 'b': 'oops'"):
        rows_of(path, split)
    skipping = spans_of(path, on_bad="skip")
    bad = [
        row
        for span in skipping.spans
        for chunk in read_span(path, skipping.options, span, "the table", model=MODEL)
        for row in chunk.bad
    ]
    assert [row.line for row in bad] == [4002]
    assert len(rows_of(path, skipping)) == len(X) - 1
    path.write_text("\n".join(f'{{"a": 1, "b": {n}}}' for n in [*range(4000), '"x"']) + "\n")
    split = spans_of(path, kind="jsonl")
    with pytest.raises(DataError, match=r"the table line 4001"):
        rows_of(path, split)


def test_a_table_without_rows_has_no_spans(tmp_path: Path) -> None:
    warnings: list[str] = []
    for name, content in (("empty.csv", ""), ("header.csv", "a,b\n")):
        (tmp_path / name).write_text(content)
        split = split_table(tmp_path / name, rows=lambda _: 1000, model=MODEL, warn=warnings.append)
        assert split.spans == ()
    assert [line.rpartition("/")[2] for line in warnings] == [
        "empty.csv has no rows",
        "header.csv has no rows",
    ]


def test_the_rows_are_those_of_the_whole_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("index,a,b,c\n" + "".join(f"{n},{n}.5,{-n},7\n" for n in range(9000)))
    options = TableOptions(columns=("c", "a"))
    whole = np.concatenate([chunk.X for chunk in read_table(path, options)])
    split = split_table(path, options, rows=lambda _: 1000)
    assert len(split.spans) > 3
    found = [
        chunk.X
        for span in split.spans
        for chunk in read_span(path, split.options, span, "the table")
    ]
    assert_array_equal(np.concatenate(found), whole)


def _some_text(rng: np.random.Generator, kind: str) -> str:
    """Return a text with a header or not, with blank lines and with bad rows."""
    lines = ["a,b,c"] if kind == "csv" and rng.random() < 0.5 else []
    for _ in range(int(rng.integers(0, 40))):
        row: list[Any] = rng.normal(size=3).round(2).tolist()
        chance = rng.random()
        if chance < 0.04:
            row[int(rng.integers(3))] = "x"
        elif chance < 0.08:
            row = row[:2] if chance < 0.06 else [*row, 1.0]
        if kind == "csv":
            lines.append(",".join(map(str, row)))
        else:
            keyed = dict(zip("abcd", row, strict=False))
            lines.append(json.dumps(keyed if kind == "objects" else row))
        if rng.random() < 0.05:
            lines.append("")
    mark, ending = ("", "\ufeff")[rng.integers(2)], ("\n", "\r\n")[rng.integers(2)]
    return mark + ending.join(lines)


@pytest.mark.parametrize("kind", ["csv", "objects", "arrays"])
def test_spans_have_the_rows_and_the_bad_rows_of_the_whole_text(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splitting, "TEXT_BYTES", 64)
    options = TableOptions(on_bad="skip")
    path = tmp_path / ("t.csv" if kind == "csv" else "t.jsonl")
    several = 0
    for seed in range(75):
        path.write_bytes(_some_text(np.random.default_rng(seed), kind).encode())
        try:
            expected = found_in(read_table(path, options, chunk=7))
        except DataError as error:
            expected = str(error)
        try:
            split = split_table(path, options, rows=lambda _: 5)
            several += len(split.spans) > 1
            spans = (
                chunk
                for span in split.spans
                for chunk in read_span(path, split.options, span, str(path), chunk=7)
            )
            found = found_in(spans)
        except DataError as error:
            found = str(error)
        assert found == expected
    assert several > 37


def found_in(chunks: Any) -> Any:
    """Return the rows of chunks, and the lines and the reasons of bad rows."""
    known = list(chunks)
    rows = [row for chunk in known for row in chunk.X.tolist()]
    return rows, [(bad.line, bad.reason) for chunk in known for bad in chunk.bad]
