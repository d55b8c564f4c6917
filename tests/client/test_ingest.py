"""Points into a stream on real servers: all of them, at the rate asked for, until told to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import redis
from numpy.typing import NDArray

from streamclust.client import sending as module
from streamclust.client.ingest import IngestReport, ingest
from streamclust.errors import DataError, ServerError, ServerUnreachableError
from streamclust.formats.points import Entry, PointsFormat, decode, detect
from streamclust.tables import Chunk
from tests.support.servers import free_port


@pytest.fixture
def client(server_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server_url) as client:
        yield client


class Clock:
    """Time that passes only while somebody sleeps, or by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def _chunk(n: int, *, weighted: bool = False, names: tuple[str, ...] = ("x", "y")) -> Chunk:
    X = np.random.default_rng(n).normal(size=(n, len(names))).astype(np.float32)
    return Chunk(names, X, np.arange(float(n)) if weighted else None, 1)


def _entries(client: redis.Redis, stream: str) -> list[Entry]:
    entries: Any = client.xrange(stream)
    return [
        (entry_id, [part for pair in fields.items() for part in pair])
        for entry_id, fields in entries
    ]


def _ids(client: redis.Redis, stream: str) -> list[bytes]:
    return [entry_id for entry_id, _ in _entries(client, stream)]


def _rows(*chunks: Chunk) -> NDArray[Any]:
    return np.concatenate([chunk.X for chunk in chunks])


# What goes in ---------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("format", "block", "entries"),
    [("fields", 1, 11), ("json", 1, 11), ("json", 4, 4), ("float32", 4, 4), ("float64", 1, 11)],
)
def test_a_worker_reads_what_was_sent(
    client: redis.Redis, namespace: str, format: Any, block: int, entries: int, weighted: bool
) -> None:
    chunks = [_chunk(6, weighted=weighted), _chunk(5, weighted=weighted)]
    report = ingest(client, namespace, chunks, format=format, block=block, weight_field="n")
    found = _entries(client, namespace)
    layout = detect(found[0][1], PointsFormat(weight_field="n" if weighted else None))
    decoded = decode(found, layout)
    assert layout.format == format
    assert decoded.X.tolist() == _rows(*chunks).tolist()
    assert (decoded.w is not None) == weighted
    assert decoded.w is None or decoded.w.tolist() == [*range(6), *range(5)]
    assert (report.points, report.entries) == (11, entries)
    assert report.last_id == found[-1][0].decode()


def test_nothing_to_send(client: redis.Redis, namespace: str) -> None:
    report = ingest(client, namespace, [], clock=Clock())
    assert report == IngestReport(0, 0, 0.0, None)
    assert not client.exists(namespace)


def test_a_stream_can_be_kept_short(client: redis.Redis, namespace: str) -> None:
    report = ingest(client, namespace, [_chunk(2000)], maxlen=100)
    assert report.entries == 2000
    assert 100 <= client.xlen(namespace) <= 300  # the server trims by whole nodes


def test_columns_may_not_change(client: redis.Redis, namespace: str) -> None:
    chunks = [_chunk(4), _chunk(4, names=("x", "z"))]
    with pytest.raises(DataError) as caught:
        ingest(client, namespace, chunks)
    assert str(caught.value) == (
        "the columns change from x, y to x, z; choose the same columns with --columns, "
        "or send each file with its own command (4 points were sent before)"
    )


# Labels and event times -----------------------------------------------------------------------


@pytest.mark.parametrize("format", ["fields", "json", "float32"])
def test_labels_are_fields_of_each_entry(client: redis.Redis, namespace: str, format: Any) -> None:
    chunk = replace(_chunk(2), labels={"host": ["a", "é"], "user": ["", "u"]})
    ingest(client, namespace, [chunk], format=format)
    entries: Any = client.xrange(namespace)
    assert [(fields[b"host"].decode(), fields[b"user"]) for _, fields in entries] == [
        ("a", b""),
        ("é", b"u"),
    ]
    layout = detect(_entries(client, namespace)[0][1], PointsFormat(features=("x", "y")))
    assert decode(_entries(client, namespace), layout).X.tolist() == chunk.X.tolist()


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("x", {}, "label 'x' is the name of another field of the entry"),
        ("json", {"format": "json"}, "label 'json' is the name of another field of the entry"),
        ("d", {"format": "float32"}, "label 'd' is the name of another field of the entry"),
        ("a", {"format": "json", "block": 2}, "an entry of 2 points can't have the label of each"),
    ],
)
def test_labels_that_cannot_be(
    client: redis.Redis, namespace: str, label: str, options: Any, message: str
) -> None:
    chunk = replace(_chunk(2), labels={label: ["a", "b"]})
    with pytest.raises(DataError, match=message):
        ingest(client, namespace, [chunk], **options)
    assert not client.exists(namespace)


def test_event_times_are_ids(client: redis.Redis, namespace: str) -> None:
    first = replace(_chunk(4), times=np.array([0, 5, 5, 7]))
    second = replace(_chunk(2), times=np.array([7, 9]))
    report = ingest(client, namespace, [first, second])
    assert _ids(client, namespace) == [b"0-1", b"5-0", b"5-1", b"7-0", b"7-1", b"9-0"]
    assert report.last_id == "9-0"
    # and a later run continues from there
    ingest(client, namespace, [replace(_chunk(1), times=np.array([9]))])
    assert _ids(client, namespace)[-1] == b"9-1"


def test_a_block_has_the_time_of_its_last_point(client: redis.Redis, namespace: str) -> None:
    chunk = replace(_chunk(5), times=np.array([1, 2, 3, 4, 5]))
    ingest(client, namespace, [chunk], format="float64", block=2)
    assert _ids(client, namespace) == [b"2-0", b"4-0", b"5-0"]


def test_times_before_those_of_the_stream_are_refused(client: redis.Redis, namespace: str) -> None:
    client.xadd(namespace, {"x": 1, "y": 1}, id="100-5")
    chunk = replace(_chunk(2), times=np.array([99, 100]))
    with pytest.raises(DataError, match=r"time 1970-01-01T00:00:00.099Z, but .*100-5, is of"):
        ingest(client, namespace, [chunk])
    assert client.xlen(namespace) == 1


# Pipelines ------------------------------------------------------------------------------------


def test_pipelines_hold_so_many_entries(client: redis.Redis, namespace: str) -> None:
    progress: list[int] = []
    ingest(client, namespace, [_chunk(1200), _chunk(100)], on_progress=progress.append)
    assert progress == [500, 1000, 1200, 1300]


def test_pipelines_hold_so_many_bytes(
    client: redis.Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIPELINE_BYTES", 100)
    progress: list[int] = []
    ingest(client, namespace, [_chunk(30)], format="float32", block=10, on_progress=progress.append)
    assert progress == [20, 30]


def test_a_live_feed_is_sent_on_before_more_is_awaited(client: redis.Redis, namespace: str) -> None:
    there: list[int] = []

    def feed() -> Iterator[Chunk]:
        for _ in range(3):
            there.append(client.xlen(namespace))
            yield _chunk(1)

    ingest(client, namespace, feed())
    assert there == [0, 1, 2]


# Rate -----------------------------------------------------------------------------------------


def test_the_rate_is_kept(client: redis.Redis, namespace: str) -> None:
    clock = Clock()
    report = ingest(client, namespace, [_chunk(103)], rate=50, clock=clock, sleep=clock.sleep)
    assert clock.slept == pytest.approx([0.1] * 20)  # batches of 5 points, and one of 3
    assert report.points == 103
    assert report.seconds == pytest.approx(2.0)


def test_a_rate_below_one_point_a_batch(client: redis.Redis, namespace: str) -> None:
    clock = Clock()
    ingest(client, namespace, [_chunk(3)], rate=0.5, clock=clock, sleep=clock.sleep)
    assert clock.slept == pytest.approx([2.0, 2.0])


def test_blocks_keep_the_rate_too(client: redis.Redis, namespace: str) -> None:
    clock = Clock()
    chunks = [_chunk(30)]
    ingest(
        client, namespace, chunks, format="json", block=10, rate=5, clock=clock, sleep=clock.sleep
    )
    assert clock.slept == pytest.approx([2.0, 2.0])


def test_a_slow_source_is_not_made_up_for_by_a_flood(client: redis.Redis, namespace: str) -> None:
    clock = Clock()

    def feed() -> Iterator[Chunk]:
        yield _chunk(10)
        clock.now += 3600
        yield _chunk(50)

    ingest(client, namespace, feed(), rate=10, clock=clock, sleep=clock.sleep)
    assert sum(clock.slept) == pytest.approx(0.9 + 3.8, abs=0.11)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none(client: redis.Redis, namespace: str, rate: float) -> None:
    with pytest.raises(DataError, match="expected more than 0 points per second"):
        ingest(client, namespace, [_chunk(1)], rate=rate)


# Stopping -------------------------------------------------------------------------------------


def test_a_stop_finishes_the_pipeline_under_way(client: redis.Redis, namespace: str) -> None:
    stop = threading.Event()
    report = ingest(
        client, namespace, [_chunk(1200)], stop=stop, on_progress=lambda _points: stop.set()
    )
    assert (report.points, report.entries) == (500, 500)
    assert len(_ids(client, namespace)) == 500


def test_a_stop_ends_the_wait_of_a_slow_rate(client: redis.Redis, namespace: str) -> None:
    stop = threading.Event()
    progress = lambda _points: threading.Timer(0.05, stop.set).start()  # noqa: E731
    report = ingest(client, namespace, [_chunk(2)], rate=1e-6, stop=stop, on_progress=progress)
    assert report.points == 1


# Faults ---------------------------------------------------------------------------------------


def test_a_key_of_another_type(client: redis.Redis, namespace: str) -> None:
    client.set(namespace, "text")
    with pytest.raises(ServerError, match=f"key {namespace} holds a string, expected a stream"):
        ingest(client, namespace, [_chunk(1)])


def test_a_refusal_midway_says_how_much_went_in(client: redis.Redis, namespace: str) -> None:
    def spoil(_points: int) -> None:
        client.set(namespace, "text")

    with pytest.raises(ServerError, match=r"WRONGTYPE.* \(500 points were sent before\)$"):
        ingest(client, namespace, [_chunk(600)], on_progress=spoil)


@pytest.mark.every_server
def test_points_that_are_refused_for_a_while_are_sent_again(
    client: redis.Redis, namespace: str
) -> None:
    # Given a server that is out of memory, after the first pipeline
    faults: list[str] = []

    def fill(points: int) -> None:
        if points == 500:
            client.config_set("maxmemory", 1)

    def grow(fault: redis.RedisError) -> None:
        faults.append(str(fault))
        if len(faults) == 2:
            client.config_set("maxmemory", 0)

    try:
        # When it has memory again, at the second try, Then each point has gone in once, in order
        report = ingest(client, namespace, [_chunk(1200)], on_progress=fill, on_refusal=grow)
    finally:
        client.config_set("maxmemory", 0)
    assert (report.points, report.entries) == (1200, 1200)
    assert len(_ids(client, namespace)) == 1200
    assert len(faults) == 2
    assert "maxmemory" in faults[0]


def test_a_stop_ends_the_wait_for_a_server_that_refuses(
    client: redis.Redis, namespace: str
) -> None:
    stop = threading.Event()
    client.config_set("maxmemory", 1)
    try:
        report = ingest(
            client, namespace, [_chunk(9)], stop=stop, on_refusal=lambda _fault: stop.set()
        )
    finally:
        client.config_set("maxmemory", 0)
    assert report.points == 0
    assert client.xlen(namespace) == 0


def test_bad_data_midway_says_how_much_went_in(client: redis.Redis, namespace: str) -> None:
    def feed() -> Iterator[Chunk]:
        yield _chunk(1500)
        raise DataError("data.csv line 1502: spam")

    with pytest.raises(DataError) as caught:
        ingest(client, namespace, feed())
    assert str(caught.value) == "data.csv line 1502: spam (1,500 points were sent before)"
    assert client.xlen(namespace) == 1500


def test_named_fields_hold_no_blocks(client: redis.Redis, namespace: str) -> None:
    with pytest.raises(DataError, match="block is 2, but an entry of named fields holds one"):
        ingest(client, namespace, [_chunk(2)], block=2)


def test_a_server_that_is_not_there() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with (
        redis.Redis.from_url(url) as client,
        pytest.raises(ServerUnreachableError, match="can't reach the box"),
    ):
        ingest(client, "points", [_chunk(1)], label="the box")
