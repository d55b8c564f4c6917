"""Event times: numbers and texts of several formats, sorted."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.tables import read, refusal

NOON = 1_777_636_800_000
"""2026-05-01T12:00:00Z in milliseconds."""


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [
        ("1777636800", "1777636800.5", {}),
        ("1777636800000", "1777636800500", {}),
        ("1777636800000000", "1777636800500000", {}),
        ("1777636800000000000", "1777636800500000000", {}),
        ("2026-05-01T12:00:00Z", "2026-05-01T12:00:00.5Z", {}),
        ("2026-05-01 14:00:00+02:00", "2026-05-01 12:00:00.500+00:00", {}),
        ("1777636800", "1777636800.5", {"time_format": "s"}),
        (
            "01/05/2026 12:00:00.0 +0000",
            "01/05/2026 12:00:00.5 +0000",
            {"time_format": "%d/%m/%Y %H:%M:%S.%f %z"},
        ),
    ],
)
def test_formats_of_times(first: str, second: str, options: dict[str, Any], tmp_path: Path) -> None:
    text = f"x,t\n1,{first}\n2,{second}\n"
    table = read(tmp_path / "t.csv", text, time_column="t", **options)
    assert (table.names, table.times) == (("x",), [NOON, NOON + 500])


def test_a_time_without_a_zone_is_in_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        for text in ("2026-05-01T12:00", "2026-05-01 12:00:00.000"):
            table = read(tmp_path / "t.csv", f"x,t\n1,{text}\n", time_column="t")
            assert table.times == [NOON]
        path, when = tmp_path / "t.parquet", datetime.datetime(2026, 5, 1, 12)
        pq.write_table(pa.table({"x": [1.0], "t": [when]}), path)
        assert read(path, time_column="t").times == [NOON]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_times_in_json_and_parquet(tmp_path: Path) -> None:
    doc = '{"t": "2026-05-01T12:00:00Z", "x": 1}\n'
    assert read(tmp_path / "t.jsonl", doc, time_column="t").times == [NOON]
    doc = '{"t": 1777636800, "x": 1}\n'
    assert read(tmp_path / "t.jsonl", doc, time_column="t").times == [NOON]
    path = tmp_path / "t.parquet"
    when = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("ns", "Europe/Paris")):
        pq.write_table(pa.table({"x": [1.0], "t": pa.array([when], kind)}), path)
        assert read(path, time_column="t").times == [NOON]
    pq.write_table(pa.table({"x": [1.0], "t": [NOON]}), path)
    assert read(path, time_column="t").times == [NOON]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            ["5", "4"],
            "line 3, column 't': '4' is earlier than the time of the row before; sort the rows",
        ),
        (["yesterday"], "line 2, column 't': 'yesterday': not a time; expected seconds since 1970"),
        (["5", "2026-05-01T12:00Z"], "line 3, column 't': '2026-05-01T12:00Z': not a time"),
        (["2026-05-01T12:00Z", "5"], "line 3, column 't': '5': not a time"),
        (["-5"], "line 2, column 't': '-5': the time is before 1970 or too large"),
        (["nan"], "line 2, column 't': 'nan': not a time"),
        (["1e300"], "line 2, column 't': '1e300': the time is before 1970 or too large"),
        ([""], "line 2, column 't': '': not a time"),
    ],
)
def test_times_that_cannot_be(times: list[str], message: str, tmp_path: Path) -> None:
    text = "t,x\n" + "".join(f"{time},1\n" for time in times)
    assert message in refusal(tmp_path / "t.csv", text, time_column="t")


@pytest.mark.parametrize("chunk", [1, 2, 8192])
def test_late_rows_are_bad_rows(chunk: int, tmp_path: Path) -> None:
    text = "t,x\n5,1\n7,2\n6,3\n?,4\n7,5\n8,6\n"
    table = read(tmp_path / "t.csv", text, time_column="t", on_bad="skip", chunk=chunk)
    assert table.times == [5000, 7000, 7000, 8000]
    assert [row.line for row in table.bad] == [4, 5]


def test_an_unknown_format(tmp_path: Path) -> None:
    message = refusal(tmp_path / "t.csv", "t,x\n5,1\n", time_column="t", time_format="hours")
    assert message.startswith("time format is 'hours'; expected s, ms, us, ns, iso, or a format")
