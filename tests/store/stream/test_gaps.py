"""Entries that are gone before they are read: counted as exactly as the server allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from streamclust.formats.lost import Gap, Lost
from streamclust.formats.points import encode
from streamclust.store.reply.raw_entries import Entry, as_raw
from streamclust.store.server.connect import Server
from streamclust.store.stream.batches import Batch, Batcher, batches
from streamclust.store.stream.gaps import OnReset, StreamWatch
from streamclust.store.stream.info import entries_read, look
from streamclust.store.stream.reader import StreamReader
from tests.support.exhaustive import examples
from tests.support.feeds import ANY, LAYOUTS, grid

pytestmark = pytest.mark.every_server


class Reading:
    """One stream, and a reader that goes on where its last batch ended."""

    def __init__(self, server: Server, client: redis.Redis, stream: str) -> None:
        self.server, self.client, self.stream = server, client, stream
        self.added = 0
        self.position = {stream: "0-0"}
        self.read: dict[str, int | None] = dict(entries_read(client, self.position))
        self.learned: list[int] = []
        self.lost = Lost()
        self.gaps: list[Gap] = []

    @property
    def counts(self) -> bool:
        """Whether the server counts the entries that were added."""
        info: Any = self.client.info("server")
        return int(info["redis_version"].partition(".")[0]) >= 7

    def add(self, n: int, first: int | None = None) -> None:
        """Add entries 1-0, 2-0, ..., one point each."""
        with self.client.pipeline(transaction=False) as pipe:
            for number in range(n):
                entry_id = f"{(self.added if first is None else first - 1) + number + 1}-0"
                [flat] = encode(grid(1, self.added + number), LAYOUTS["float64"])
                pipe.execute_command("XADD", self.stream, entry_id, *flat)  # type: ignore[no-untyped-call]
            pipe.execute()
        self.added += n

    def trim(self, keep: int) -> None:
        self.client.xtrim(self.stream, maxlen=keep, approximate=False)

    def batches(self, size: int, on_reset: OnReset) -> Sequence[Batch]:
        client = self.server.raw_client(1 << 30)
        reader = StreamReader(client, self.position, self.read, on_reset)
        batcher = Batcher(ANY, None, self.position, size, self.read)
        return list(batches(reader, batcher, linger=0.0, until_idle=True))

    def drain(
        self, size: int = 1000, *, at_most: int | None = None, on_reset: OnReset = "wait"
    ) -> Sequence[Gap]:
        """Learn what is there, or the first batches only; return the gaps among them."""
        found = self.batches(size, on_reset)[:at_most]
        for batch in found:
            self.position, self.read = batch.position, batch.entries_added
            self.learned += batch.X.reshape(-1, 2)[:, 0].astype(int).tolist()
            for gap in batch.gaps:
                self.lost = self.lost.plus(gap)
        gaps = [gap for batch in found for gap in batch.gaps]
        self.gaps += gaps
        return gaps


@pytest.fixture
def reading(server: Server, client: redis.Redis, namespace: str) -> Reading:
    return Reading(server, client, namespace)


def a_gap(reading: Reading, entries: int) -> Lost:
    """What is lost, as far as this server tells."""
    return Lost(entries=entries) if reading.counts else Lost(unknown=1)


def test_trimmed_entries_are_counted(reading: Reading) -> None:
    # Given a reader that has 10 of 100 entries
    reading.add(100)
    reading.drain(size=10, at_most=1)
    # When only the newest 30 are kept
    reading.trim(30)
    # Then 60 are said to be missing, after the tenth
    [gap] = reading.drain()
    assert (gap.stream, gap.after, gap.kind) == (reading.stream, "10-0", "trimmed")
    assert reading.lost == a_gap(reading, 60)
    assert reading.learned == [*range(10), *range(70, 100)]
    # and that once
    assert reading.drain() == []


def test_nothing_is_missing_when_all_that_was_trimmed_had_been_read(reading: Reading) -> None:
    for _ in range(3):
        reading.add(20)
        assert reading.drain(7) == []
        reading.trim(5)
        assert reading.drain() == []
    assert reading.learned == list(range(60))


def test_a_stream_trimmed_to_nothing_is_a_gap_without_waiting_for_more(reading: Reading) -> None:
    reading.add(50)
    reading.drain(size=20, at_most=1)
    reading.trim(0)
    [gap] = reading.drain()
    assert gap.position == "50-0"
    assert reading.lost == a_gap(reading, 30)
    # and then it is at the end, with nothing else missing
    assert reading.drain() == []
    reading.add(5)
    assert reading.drain() == ([] if reading.counts else reading.gaps[1:])
    assert reading.learned == [*range(20), *range(50, 55)]


def test_what_is_trimmed_at_the_end_of_the_stream_is_no_gap(reading: Reading) -> None:
    reading.add(10)
    reading.drain()
    reading.trim(0)
    reading.add(3)
    found = reading.drain()
    assert found == [] or not reading.counts
    assert reading.lost.entries == 0
    assert reading.learned == list(range(13))


def test_a_stream_that_is_trimmed_before_a_new_model_begins_is_no_gap(
    server: Server, client: redis.Redis, namespace: str
) -> None:
    before = Reading(server, client, namespace)
    before.add(50)
    before.trim(20)
    reading = Reading(server, client, namespace)
    assert reading.drain() == []
    assert reading.learned == list(range(30, 50))


def test_a_stream_that_comes_and_is_trimmed_before_the_first_read(reading: Reading) -> None:
    reading.add(50)
    reading.trim(20)
    reading.drain()
    # a server that doesn't count can't tell this from a stream that was read from its start
    assert reading.lost == (Lost(entries=30) if reading.counts else Lost())


def test_deleted_entries_are_no_gap(reading: Reading) -> None:
    reading.add(50)
    reading.drain(size=20, at_most=1)
    reading.client.xdel(reading.stream, "20-0", "25-0", "26-0")
    assert reading.drain() == []
    assert len(reading.learned) == 48
    # also when the last one that was read is deleted
    reading.client.xdel(reading.stream, "50-0")
    reading.add(5)
    assert reading.drain() == []


def test_a_start_in_the_middle_loses_nothing_at_first_and_is_counted_later(
    reading: Reading,
) -> None:
    reading.add(50)
    reading.position = {reading.stream: "20-0"}
    reading.read = dict(entries_read(reading.client, reading.position))
    assert reading.read == {}
    reading.trim(25)  # the entries 26 to 50
    reading.drain()
    assert reading.lost == Lost()
    reading.add(50)
    reading.trim(20)
    reading.drain()
    assert reading.lost == a_gap(reading, 30)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_count_survives_restarts(reading: Reading, size: int) -> None:
    reading.add(40)
    for _ in range(5):
        reading.drain(size, at_most=3)  # the next one has only what was committed
    if reading.counts:
        at = int(reading.position[reading.stream].partition("-")[0])
        assert reading.read == {reading.stream: at}


@examples(45, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 30)),
            st.tuples(st.just("trim"), st.integers(0, 40)),
            st.tuples(st.just("read"), st.integers(1, 4)),
        ),
        max_size=14,
    )
)
def test_learned_and_lost_are_all_that_was_added(
    server: Server, client: redis.Redis, steps: list[tuple[str, int]]
) -> None:
    client.delete("all-or-lost")
    reading = Reading(server, client, "all-or-lost")
    for what, number in steps:
        if what == "add":
            reading.add(number)
        elif what == "trim":
            reading.trim(number)
        else:
            reading.drain(size=5, at_most=number)
    reading.drain()
    assert len(set(reading.learned)) == len(reading.learned)
    missing = reading.added - len(reading.learned)
    if reading.counts:
        assert reading.lost == Lost(entries=missing)
    elif missing and reading.learned and reading.learned[0] == 0:
        assert reading.lost.unknown > 0


def test_what_is_trimmed_between_a_read_and_the_look_after_it_is_counted_once(
    reading: Reading,
) -> None:
    # Given entries that come, and go with all others, right after a read
    watch = StreamWatch(reading.client, reading.stream, "0-0", 0, started=True, on_reset="wait")
    reading.add(3)
    found = as_raw(cast("list[Entry]", reading.client.xrange(reading.stream)))
    reading.add(2)
    reading.trim(0)
    # When the read is taken in Then they may be counted as missing already, and so not again
    gaps = [watch.advance(found), watch.find_gap_at_end(), watch.find_gap_at_end()]
    lost = sum((Lost().plus(gap) for gap in gaps if gap), Lost())
    assert lost.entries == (2 if reading.counts else 0)
    assert lost.unknown == (0 if reading.counts else 1)
    assert watch.position == "5-0"
    # and nothing is missing where only the stream's last ID was moved
    reading.client.execute_command("XSETID", reading.stream, "9-0")  # type: ignore[no-untyped-call]
    assert (watch.find_gap_at_end() is None) == reading.counts
    assert watch.position == "9-0"


# ---- a stream that was deleted


def test_a_stream_begun_again_with_smaller_ids_is_said_and_not_read(reading: Reading) -> None:
    reading.add(50)
    reading.drain()
    # When it is deleted and begun again
    reading.client.delete(reading.stream)
    reading.add(10, first=1)
    # Then that is said, and nothing is learned
    [gap] = reading.drain()
    assert gap.kind == "waiting"
    assert len(reading.learned) == 50
    assert reading.position == {reading.stream: "50-0"}
    # until the IDs are larger
    reading.add(3, first=51)
    reading.drain()
    assert len(reading.learned) == 53


def test_a_stream_begun_again_is_read_from_its_start_if_that_is_asked_for(
    reading: Reading,
) -> None:
    reading.add(50)
    reading.drain()
    reading.client.delete(reading.stream)
    reading.add(10, first=1)
    [gap] = reading.drain(on_reset="restart")
    assert (gap.kind, gap.after) == ("restarted", "50-0")
    assert len(reading.learned) == 60
    assert reading.position == {reading.stream: "10-0"}
    assert reading.lost == Lost(restarts=1, unknown=1)
    # and from then on it is a stream like any other
    reading.add(20, first=11)
    reading.drain(size=5, at_most=1)
    reading.trim(5)
    reading.drain(on_reset="restart")
    assert reading.lost == Lost(restarts=1, unknown=1) + a_gap(reading, 10)


def test_a_stream_begun_again_with_larger_ids_is_a_gap(reading: Reading) -> None:
    reading.add(50)
    reading.drain(size=20, at_most=1)
    reading.client.delete(reading.stream)
    reading.add(10, first=101)
    [gap] = reading.drain()
    assert (gap.kind, gap.entries) == ("trimmed", None)
    assert len(reading.learned) == 30


def test_a_stream_that_is_gone_is_said_once(reading: Reading) -> None:
    reading.add(5)
    reading.drain()
    reading.client.delete(reading.stream)
    client = reading.server.raw_client()
    reader = StreamReader(client, reading.position, reading.read)
    assert not any(reader.read(10, None) for _ in range(3))
    assert [gap.kind for gap in reader.take_gaps()] == ["gone"]
    assert not reader.read(10, None)
    assert reader.take_gaps() == []


def test_a_stream_that_has_not_come_yet_is_not_gone(reading: Reading) -> None:
    assert reading.drain() == []


# ---- what a server tells


def test_a_large_entry_is_not_sent_to_look_at_a_stream(client: redis.Redis, namespace: str) -> None:
    client.xadd(namespace, {"x": np.zeros(1 << 20, np.uint8).tobytes()}, id="7-1")
    before: Any = client.info("stats")
    info = look(client, namespace)
    after: Any = client.info("stats")
    assert info is not None
    assert (info.length, info.first, info.last) == (1, "7-1", "7-1")
    assert after["total_net_output_bytes"] - before["total_net_output_bytes"] < 1 << 16
