"""`Client.add`: arrays and data frames in, entries of the stream out, and clear refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import redis

from streamclust.client.async_client import AsyncClient
from streamclust.client.client import Client
from streamclust.errors import DataError, ServerError
from tests.support.waiting import LIMIT
from tests.support.workspace import environment, run_program

X = np.arange(12.0).reshape(6, 2)
COLUMNS = {"x": [1.5, 2.5, 3.5], "host": ["a", "a", "b"], "n": [1, 2, 3]}
FRAMES: dict[str, Callable[..., Any]] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
}


@pytest.fixture
def client(valkey_url: str) -> Iterator[Client]:
    with Client(valkey_url) as found:
        yield found


@pytest.fixture
def sent(valkey_url: str, namespace: str) -> Iterator[Callable[[], list[dict[bytes, bytes]]]]:
    with redis.Redis.from_url(valkey_url, protocol=2) as server:

        def entries() -> list[dict[bytes, bytes]]:
            found: Any = server.xrange(namespace)
            return [fields for _, fields in found]

        yield entries


Sent = Callable[[], list[dict[bytes, bytes]]]


@pytest.mark.parametrize(
    ("dtype", "field"), [(np.float32, b"f4"), (np.float64, b"f8"), (int, b"f8")]
)
def test_an_array_becomes_raw_blocks(
    client: Client, sent: Sent, namespace: str, dtype: Any, field: bytes
) -> None:
    points = np.arange(5000).reshape(2500, 2).astype(dtype)
    report = client.add(namespace, points)
    assert (report.points, report.entries) == (2500, 3)
    blocks = [np.frombuffer(entry[field], f"<{field.decode()}") for entry in sent()]
    assert np.array_equal(np.concatenate(blocks).reshape(-1, 2), points)
    assert [entry[b"d"] for entry in sent()] == [b"2"] * 3


def test_a_block_of_wide_points_has_at_most_one_mebibyte(
    client: Client, sent: Sent, namespace: str
) -> None:
    client.add(namespace, np.ones((300, 1000)))
    assert [len(entry[b"f8"]) // 8000 for entry in sent()] == [131, 131, 38]


@pytest.mark.parametrize("library", FRAMES)
def test_columns_of_a_frame_become_named_features(
    client: Client, sent: Sent, namespace: str, library: str
) -> None:
    frame = FRAMES[library](COLUMNS)
    assert client.add(namespace, frame, features=["x", "n"]).points == 3
    assert sent()[0] == {b"x": b"1.5", b"n": b"1.0"}
    assert client.add(namespace, frame, features=["n"], weights="x").entries == 3
    assert sent()[-1] == {b"n": b"3.0", b"w": b"3.5"}


def test_a_frame_becomes_raw_blocks_if_asked(client: Client, sent: Sent, namespace: str) -> None:
    frame = pd.DataFrame({"x": [1, 2], "y": [3, 4]}, dtype=np.float32)
    client.add(namespace, frame, format="float32")
    [entry] = sent()
    assert np.frombuffer(entry[b"f4"], "<f4").tolist() == [1, 3, 2, 4]


def test_names_given_for_an_array_are_sent(client: Client, sent: Sent, namespace: str) -> None:
    client.add(namespace, X[:1], features=("a", "b"), weights=[2])
    assert sent() == [{b"a": b"0.0", b"b": b"1.0", b"w": b"2.0"}]


@pytest.mark.parametrize("library", FRAMES)
def test_labels_and_times_of_a_frame_become_fields_and_entry_ids(
    client: Client, valkey_url: str, namespace: str, library: str
) -> None:
    when = [datetime(2026, 5, 1, 12, 0, second) for second in (1, 1, 2)]
    frame = FRAMES[library]({**COLUMNS, "when": when})
    client.add(namespace, frame, labels=["host"], times="when")
    first = int(datetime(2026, 5, 1, 12, 0, 1, tzinfo=UTC).timestamp() * 1000)
    with redis.Redis.from_url(valkey_url, protocol=2) as server:
        entries: Any = server.xrange(namespace)
    assert [entry_id.decode() for entry_id, _ in entries] == [
        f"{first}-0",
        f"{first}-1",
        f"{first + 1000}-0",
    ]
    assert entries[2][1] == {b"x": b"3.5", b"n": b"3.0", b"host": b"b"}


@pytest.mark.parametrize(
    "times",
    [
        [5, 6, 7],
        np.array([5, 6, 7], "datetime64[ms]"),
        [datetime.fromtimestamp(ms / 1e3, UTC) for ms in (5, 6, 7)],
    ],
)
def test_times_of_an_array_are_of_several_types(
    client: Client, valkey_url: str, namespace: str, times: Any
) -> None:
    client.add(namespace, np.ones((3, 2)), times=times, labels={"host": "a", "n": [1, None, b"c"]})
    with redis.Redis.from_url(valkey_url, protocol=2) as server:
        entries: Any = server.xrange(namespace)
    assert [(entry_id, fields[b"n"]) for entry_id, fields in entries] == [
        (b"5-0", b"1"),
        (b"6-0", b""),
        (b"7-0", b"c"),
    ]
    assert {fields[b"host"] for _, fields in entries} == {b"a"}
    labels = {"host": np.array("a"), "n": b"caf\xe9"}  # bytes that aren't UTF-8 stay the same
    client.add(namespace, np.ones((1, 2)), labels=labels)
    with redis.Redis.from_url(valkey_url, protocol=2) as server:
        [(_, fields)] = server.xrevrange(namespace, count=1)
    assert (fields[b"host"], fields[b"n"]) == (b"a", b"caf\xe9")
    with pytest.raises(DataError, match="last entry of the stream"):
        client.add(namespace, np.ones((1, 2)), times=[6])


def test_the_stream_is_trimmed_if_asked(client: Client, sent: Sent, namespace: str) -> None:
    client.add(namespace, np.ones((5000, 1)), block=1, maxlen=100)
    assert 100 <= len(sent()) < 1000


def test_the_asynchronous_client_adds_too(valkey_url: str, sent: Sent, namespace: str) -> None:
    async def add() -> int:
        async with AsyncClient(valkey_url) as client:
            return (await client.add(namespace, X, block=4)).entries

    assert asyncio.run(add()) == 2
    assert len(sent()) == 2


NAN = np.array([[1.0, np.nan]])
BAD: list[tuple[Any, dict[str, Any], str]] = [
    ([1.0, 2.0], {}, r"X has shape \(2,\); expected \(N, D\)"),
    (NAN, {}, "X holds NaN"),
    ([["a"]], {}, "isn't a table of numbers"),
    (np.array([["NaT"]], "datetime64[s]"), {}, r"X has dtype datetime64\[s\]"),
    (X.astype(complex), {}, "X has dtype complex128"),
    (X, {"weights": [1.0]}, r"sample weights have shape \(1,\); expected \(6,\)"),
    (X, {"weights": "w"}, "weights is 'w', but X is an array"),
    (X, {"features": ["a"]}, "features has 1 names for 2 columns"),
    (X, {"features": ["a", "a"]}, "feature 'a' is given twice"),
    (X, {"features": ["a", "b\n"]}, "isn't a name"),
    (X, {"labels": {"host": "a"}, "block": 2}, "an entry has the labels of one point"),
    (X, {"labels": ["host"]}, "labels isn't a mapping"),
    (X, {"labels": {"host": ["a"]}}, "label 'host' has 1 values for 6 points"),
    (X, {"labels": {"host": "\ud800"}}, "label 'host' holds a lone surrogate; give valid text"),
    (pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]), {}, "X has two columns of one name"),
    (X, {"times": [3, 2, 1, 0, 0, 0]}, "times go back at row 1"),
    (X, {"times": np.zeros(6)}, "times hold float64; give datetimes"),
    (X, {"times": [1]}, r"times have shape \(1,\)"),
    (X[:1], {"times": np.array(["NaT"], "datetime64[s]")}, "NaT at row 0"),
    (X[:1], {"times": [-1]}, "before 1970"),
    (X, {"block": 0}, "block is 0; expected at least 1"),
    (X, {"block": 1.5}, "block is 1.5; expected an integer"),
    (X, {"block": "x"}, "block is 'x'; expected an integer"),
    (X, {"maxlen": 0}, "maxlen is 0"),
    (X, {"maxlen": "a"}, "maxlen is 'a'; expected an integer"),
    (X, {"maxlen": 1 << 63}, "maxlen is 9223372036854775808; expected at most"),
    (X, {"format": "f4"}, "format is 'f4'; expected fields, json, float32"),
    (X, {"format": 4}, "format is 4; expected fields, json, float32"),
    (X, {"features": ["a", "b"], "format": "float32"}, "format float32 hold no names; leave out"),
    (X, {"features": ["a", "b"], "format": "json"}, "format json hold no names; leave out"),
    (X, {"features": "ab"}, "features is 'ab'; expected a list of names"),
    (X, {"features": 2}, "features is 2; expected a list of names"),
    (X, {"times": 5}, "times is 5; expected one time per point"),
    (X[:1], {"times": [pd.NaT]}, "times can't be read"),
    (X[:2], {"times": [[1], [1, 2]]}, "times can't be read"),
    (NAN, {"missing": "drop"}, "missing is 'drop'; expected reject, learn$"),
    (NAN, {"missing": None}, "missing is None; expected reject, learn$"),
    (pd.DataFrame({"x": [1.0, None]}), {"missing": "drop"}, "missing is 'drop'; expected reject"),
    (pd.DataFrame(COLUMNS), {"labels": 5}, "labels is 5; expected names of columns"),
    (pd.DataFrame(COLUMNS), {"features": []}, "X has no column of features"),
    (pd.DataFrame(COLUMNS), {"features": "x"}, "features is 'x'; expected a list of names"),
    (X, {"format": "fields", "block": 2}, "an entry of named fields holds one point"),
    (pd.DataFrame(COLUMNS), {}, "column 'host' holds String, not numbers"),
    (pd.DataFrame(COLUMNS), {"features": ["z"]}, "no column 'z'; it has x, host, n"),
    (pd.DataFrame(COLUMNS), {"labels": "hosts"}, "no column 'hosts'"),
    (pd.DataFrame({"x": [1.0, None]}), {}, "column 'x' has 1 empty cells"),
    (pd.DataFrame({"x": [1.0, np.inf]}), {}, "column 'x' holds NaN, infinity"),
    (pd.DataFrame({"x": ["a"]}), {"labels": ["x"]}, "X has no column of features"),
    (pd.DataFrame({0: [1.0]}), {}, "has a column 0; rename it"),
]


@pytest.mark.parametrize(("points", "options", "message"), BAD)
def test_a_value_that_cannot_be_used_is_named_before_anything_is_sent(
    client: Client, sent: Sent, namespace: str, points: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        client.add(namespace, points, **options)
    assert sent() == []


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ("", "empty"),
        (5, "stream is 5; expected text"),
        (b"s", "stream is b's'; expected text"),
        ("a\n", "control character"),
        ("{streamclust:m}:state", "that streamclust writes"),
    ],
)
def test_a_key_that_is_no_stream_is_refused(client: Client, stream: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        client.add(stream, X)


def test_a_refusal_of_the_server_names_the_key(
    client: Client, valkey_url: str, namespace: str
) -> None:
    with redis.Redis.from_url(valkey_url) as server:
        server.set(namespace, "text")
    with pytest.raises(ServerError, match=f"key {namespace} holds a string, expected a stream"):
        client.add(namespace, X)


def test_neither_pandas_nor_polars_is_imported(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, numpy as np; from streamclust.client.add import as_points; "
        "as_points(np.ones((2, 2)), None, None, None, None); "
        "print({'pandas', 'polars', 'pyarrow', 'narwhals'} & set(sys.modules))"
    )
    done = run_program(tmp_path, program, environment(), LIMIT)
    assert done.stdout == "set()\n", done.stderr


GAPPED: dict[str, list[Any]] = {"x": [1.5, None, 3.5], "n": [1, 2, None]}


@pytest.mark.parametrize("library", FRAMES)
def test_missing_values_are_sent_if_that_is_asked_for(
    client: Client, sent: Callable[[], list[dict[bytes, bytes]]], namespace: str, library: str
) -> None:
    frame = FRAMES[library](GAPPED)
    with pytest.raises(DataError, match="column 'x' has 1 empty cells"):
        client.add(namespace, frame)
    assert client.add(namespace, frame, missing="learn").points == 3
    assert sent() == [
        {b"x": b"1.5", b"n": b"1.0"},
        {b"x": b"nan", b"n": b"2.0"},
        {b"x": b"3.5", b"n": b"nan"},
    ]


def test_missing_values_of_arrays(
    client: Client, sent: Callable[[], list[dict[bytes, bytes]]], namespace: str
) -> None:
    gaps = [[1.0, np.nan], [3.0, 4.0]]
    with pytest.raises(DataError, match="X holds NaN"):
        client.add(namespace, gaps)
    client.add(namespace, gaps, missing="learn", format="json", block=2)
    client.add(namespace, gaps, missing="learn")
    block, raw = sent()
    assert block == {b"json": b"[[1.0,null],[3.0,4.0]]"}
    np.testing.assert_array_equal(np.frombuffer(raw[b"f8"]), np.ravel(gaps))
    for bad in ([[np.nan, np.nan]], [[np.inf, 1.0]]):
        with pytest.raises(DataError, match=r"missing; drop|infinity"):
            client.add(namespace, bad, missing="learn")
