"""A run that was interrupted is continued: each point is in the stream once, in its order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from streamclust.client.ingest import ingest
from streamclust.client.progress import Mark, Progress, last_id
from streamclust.errors import DataError, ServerError
from streamclust.store.stream.keys import dead_key, progress_key
from streamclust.tables import Chunk, TableOptions, read_table
from tests.support.forked import ForkedCommand
from tests.support.waiting import LIMIT, wait_until
from tests.support.workspace import environment


@pytest.fixture
def client(server_url: str) -> Iterable[redis.Redis]:
    with redis.Redis.from_url(server_url) as client:
        yield client


Send = Callable[..., int]


@pytest.fixture
def send(client: redis.Redis, namespace: str, tmp_path: Path) -> Send:
    """Send a file as a run of the command does, and return the points that this run added."""

    def send(path: Path, *, restart: bool = False, bad: bool = False, **more: Any) -> int:
        progress = Progress(client, namespace, restart=restart)
        options = TableOptions(on_bad="skip" if bad else "stop", **more.pop("options", {}))
        chunks = progress.unsent_chunks(str(path), path.name, read_table(path, options, chunk=400))
        report = ingest(client, namespace, chunks, progress=progress, keep_dead=bad, **more)
        progress.finish()
        return report.points

    return send


def _write(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("x\n" + "".join(f"{row}\n" for row in rows))
    return path


def _sent(client: redis.Redis, stream: str) -> list[float]:
    entries: Any = client.xrange(stream)
    return [float(fields[b"x"]) for _, fields in entries]


def _has(client: redis.Redis, stream: str, entries: int) -> bool:
    return int(client.xlen(stream)) >= entries


def _stopped(send: Send, path: Path, **options: Any) -> None:
    with pytest.raises(DataError):
        send(path, **options)


def test_a_bad_line_is_corrected_and_nothing_is_doubled(
    client: redis.Redis, namespace: str, send: Send, tmp_path: Path
) -> None:
    rows: list[object] = list(range(2000))
    rows[1500] = "bad"
    path = _write(tmp_path / "t.csv", rows)
    _stopped(send, path)
    assert len(_sent(client, namespace)) == 1200  # whole chunks
    rows[1500] = 1500
    assert send(_write(path, rows)) == 800
    assert _sent(client, namespace) == rows
    assert not client.exists(progress_key(namespace))


def test_a_complete_run_is_repeated_as_a_whole(
    client: redis.Redis, namespace: str, send: Send, tmp_path: Path
) -> None:
    path = _write(tmp_path / "t.csv", range(3))
    assert [send(path), send(path)] == [3, 3]
    assert _sent(client, namespace) == [0, 1, 2, 0, 1, 2]


def test_restart_sends_all(client: redis.Redis, namespace: str, send: Send, tmp_path: Path) -> None:
    _stopped(send, _write(tmp_path / "t.csv", [*range(900), "bad"]))
    assert send(_write(tmp_path / "t.csv", range(900)), restart=True) == 900
    assert len(_sent(client, namespace)) == 800 + 900


@pytest.mark.parametrize("change", ["value", "length"])
def test_a_file_that_begins_otherwise_is_refused(
    client: redis.Redis, namespace: str, send: Send, tmp_path: Path, change: str
) -> None:
    _stopped(send, _write(tmp_path / "t.csv", [*range(900), "bad"]))
    rows = [7, *range(1, 900)] if change == "value" else list(range(700))
    with pytest.raises(DataError, match=r"differ from those that an earlier run sent.*--restart"):
        send(_write(tmp_path / "t.csv", rows))
    assert len(_sent(client, namespace)) == 800


@pytest.mark.parametrize("refilled", [False, True])
def test_a_stream_that_was_deleted_gets_all_points(
    client: redis.Redis, namespace: str, send: Send, tmp_path: Path, refilled: bool
) -> None:
    _stopped(send, _write(tmp_path / "t.csv", [*range(900), "bad"]))
    client.delete(namespace)
    if refilled:
        version: Any = client.info("server")["redis_version"]
        if int(version.split(".")[0]) < 7:
            pytest.skip("this server doesn't tell a new stream from a trimmed one")
        client.xadd(namespace, {"x": 0})
    assert send(_write(tmp_path / "t.csv", range(900))) == 900


def test_a_trimmed_stream_is_continued(
    client: redis.Redis, namespace: str, send: Send, tmp_path: Path
) -> None:
    _stopped(send, _write(tmp_path / "t.csv", [*range(900), "bad"]))
    client.xtrim(namespace, 0, approximate=False)
    assert send(_write(tmp_path / "t.csv", range(900))) == 100
    assert _sent(client, namespace) == [*range(800, 900)]


def test_bad_rows_are_stored_once(
    client: redis.Redis, namespace: str, send: Send, tmp_path: Path
) -> None:
    rows = [*range(300), "bad", *range(300, 900), "worse", *range(900, 1000)]
    path = _write(tmp_path / "t.csv", rows)

    def stop(points: int) -> None:
        if points >= 700:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send(path, bad=True, on_progress=stop)
    send(path, bad=True)
    assert _sent(client, namespace) == [*range(1000)]
    dead: Any = client.xrange(dead_key(namespace))
    assert [(row[b"file"], row[b"line"], row[b"data"]) for _, row in dead] == [
        (str(path).encode(), b"302", b"bad"),
        (str(path).encode(), b"903", b"worse"),
    ]
    assert b"'bad' is not a number" in dead[0][1][b"reason"]


def test_blocks_and_another_format_continue_too(
    client: redis.Redis, namespace: str, send: Send, tmp_path: Path
) -> None:
    _stopped(send, _write(tmp_path / "t.csv", [*range(900), "bad"]), format="float64", block=100)
    more = {"format": "float64", "block": 64}
    assert send(_write(tmp_path / "t.csv", range(900)), **more) == 100
    entries: Any = client.xrange(namespace)
    X = np.concatenate([np.frombuffer(fields[b"f8"]) for _, fields in entries])
    assert X.tolist() == [*range(900)]


def test_points_of_another_source_are_not_counted_for_the_file(
    client: redis.Redis, namespace: str, tmp_path: Path
) -> None:
    path = str(_write(tmp_path / "t.csv", range(900)))

    def run(enough: int) -> None:
        progress = Progress(client, namespace)
        file = progress.unsent_chunks(path, "t.csv", read_table(path, chunk=400))
        stdin = [Chunk(("x",), np.full((5, 1), -1.0), None, 1)] * 2
        ingest(client, namespace, islice(chain(file, stdin), enough), progress=progress)

    run(4)  # the file, and a chunk of the other source
    run(9)
    assert _sent(client, namespace) == [*range(900), *[-1.0] * 15]


def test_a_file_can_be_named_twice(client: redis.Redis, namespace: str, tmp_path: Path) -> None:
    path = str(_write(tmp_path / "t.csv", range(900)))

    def run(enough: int) -> None:
        progress = Progress(client, namespace)
        chunks = (
            chunk
            for _ in range(2)
            for chunk in progress.unsent_chunks(path, "t.csv", read_table(path, chunk=400))
        )
        ingest(client, namespace, islice(chunks, enough), progress=progress)

    run(4)  # the first time, and a chunk of the second time
    run(9)
    assert _sent(client, namespace) == [*range(900), *range(900)]


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_each_point_is_in_the_stream_once_after_any_end(
    client: redis.Redis, server_url: str, namespace: str, tmp_path: Path, kill: signal.Signals
) -> None:
    # Given two files
    _write(tmp_path / "a.csv", range(1500))
    _write(tmp_path / "b.csv", range(1500, 10_000))
    words = ["ingest", "a.csv", "b.csv", "--stream", namespace, "--redis-url", server_url]
    log = tmp_path / "log"

    def start(*more: str) -> ForkedCommand:
        return ForkedCommand([*words, *more], tmp_path, environment(), log, log)

    # When the command is ended in each of them, and started again
    for enough in (500, 2500):
        process = start("--rate", "5000")
        wait_until(partial(_has, client, namespace, enough))
        process.send_signal(kill)
        assert process.wait(LIMIT) != 0
    assert start().wait(LIMIT) == 0, log.read_text()
    # Then each point went in once, in its order
    assert _sent(client, namespace) == [*range(10_000)]
    assert not client.exists(progress_key(namespace))


def test_a_server_out_of_memory_gets_each_point_once(
    client: redis.Redis, namespace: str, send: Send, tmp_path: Path
) -> None:
    faults: list[str] = []

    def fill(points: int) -> None:
        if points == 400:
            client.config_set("maxmemory", 1)

    def grow(fault: redis.RedisError) -> None:
        faults.append(str(fault))
        client.config_set("maxmemory", 0)

    try:
        send(_write(tmp_path / "t.csv", range(900)), on_progress=fill, on_refusal=grow)
    finally:
        client.config_set("maxmemory", 0)
    assert _sent(client, namespace) == [*range(900)]
    assert len(faults) == 1


def test_points_that_were_refused_are_sent_by_the_next_run(
    client: redis.Redis, namespace: str, send: Send, tmp_path: Path
) -> None:
    path = _write(tmp_path / "t.csv", range(900))

    def spoil(points: int) -> None:
        if points == 400:
            client.rename(namespace, f"{namespace}-old")
            client.set(namespace, "text")

    with pytest.raises(ServerError, match="WRONGTYPE"):
        send(path, on_progress=spoil)
    client.rename(f"{namespace}-old", namespace)
    assert send(path) == 500
    assert _sent(client, namespace) == [*range(900)]


def test_a_user_without_the_right_is_warned(
    client: redis.Redis, server_url: str, namespace: str
) -> None:
    warnings: list[str] = []
    rules = ("reset", "on", ">pw", f"~{namespace}", "+xadd", "+ping", "+client|setname")
    command: Any = client.execute_command
    command("ACL", "SETUSER", namespace, *rules)
    try:
        with redis.Redis.from_url(server_url, username=namespace, password="pw") as poor:
            progress = Progress(poor, namespace, warn=warnings.append)
            chunk = Chunk(("x",), np.ones((3, 1)), None, 1)
            chunks = progress.unsent_chunks("a", "a", [chunk])
            assert ingest(poor, namespace, chunks, progress=progress).points == 3
            progress.finish()
    finally:
        command("ACL", "DELUSER", namespace)
    (warning,) = warnings
    assert warning.startswith(f"the progress can't be stored in {progress_key(namespace)} (")


def test_the_keys_are_in_the_slot_of_the_stream() -> None:
    from redis.crc import key_slot

    for stream in ("points", "{shop}:points", "a{b}c", "a{b"):
        for key in (progress_key(stream), dead_key(stream)):
            assert key_slot(key.encode()) == key_slot(stream.encode()), stream


def test_foreign_progress_is_ignored(client: redis.Redis, namespace: str) -> None:
    client.hset(progress_key(namespace), mapping={"a": "spam", "b": '{"points": -1}', "c": "[]"})
    assert Mark.from_json(b"spam") is None
    chunks = Progress(client, namespace).unsent_chunks(
        "a", "a", [Chunk(("x",), np.ones((3, 1)), None, 1)]
    )
    assert [len(chunk.X) for chunk in chunks] == [3]


def test_the_last_id_of_a_stream(client: redis.Redis, namespace: str) -> None:
    assert last_id(client, namespace) == "0-0"
    client.xadd(namespace, {"x": 1}, id="5-3")
    client.xtrim(namespace, 0, approximate=False)
    assert last_id(client, namespace) == "5-3"
