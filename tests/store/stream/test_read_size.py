"""A server that closes the connection in the middle of large replies is asked for less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from streamclust.formats.model import encode_model
from streamclust.store.model.keys import Keys
from streamclust.store.model.versions import follow, read_model
from streamclust.store.reply.limits import ReplyLostError, UnreadableError
from streamclust.store.reply.raw_entries import ListEntries
from streamclust.store.server.connect import Server, translated
from streamclust.store.stream.batches import Batch, Batcher, batches
from streamclust.store.stream.group import GroupMember
from streamclust.store.stream.ranges import RangeReader, before_last
from streamclust.store.stream.read_size import ReadSize, read_whole
from streamclust.store.stream.reader import StreamReader
from tests.support.encoder_fixture import model_of
from tests.support.feeds import ANY, LAYOUTS, Feed, a_feed, bits, grid
from tests.support.servers import limited_replies


@pytest.fixture
def feed(server: Server, client: redis.Redis) -> Feed:
    """Small entries and larger ones, of which few fit into a reply of 256 KiB, in two streams."""
    feed = a_feed(server, client, 2)
    feed.add_points(grid(100))
    feed.add_points(grid(60_000, 100), block=3000)  # 48 kB each
    feed.add_points(grid(9000, 70_000), stream=1, block=3000)
    feed.add_points(grid(100, 80_000))
    return feed


def add_large(feed: Feed) -> str:
    """Add an entry of 400 kB; return its ID."""
    feed.add_points(grid(25_000, 90_000), block=25_000)
    return feed.added[-1][1]


def read(feed: Feed, said: list[str]) -> Iterator[Batch]:
    client = feed.server.raw_client(1 << 24)
    reader = StreamReader(client, feed.start, largest=1 << 24, on_less=said.append)
    return batches(reader, Batcher(ANY, None, feed.start, 500), linger=0.0, until_idle=True)


def test_batches_are_the_same_however_little_a_reply_may_hold(feed: Feed) -> None:
    # Given what is read where replies have no limit
    said: list[str] = []
    expected = [bits(batch) for batch in read(feed, said)]
    assert said == []
    # When the server closes each connection with a large reply
    with limited_replies(feed.client):
        found = [bits(batch) for batch in read(feed, said)]
    # Then the same batches come, and what was asked is said
    assert found == expected
    assert 1 <= len(said) <= 6
    assert "to a read of 64 entries of " in said[0]
    assert "asking for 8." in said[0]


@pytest.mark.parametrize("runs_scripts", [True, False])
def test_an_entry_that_cannot_be_read_is_named_and_read_later(
    feed: Feed, runs_scripts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = add_large(feed)
    client = feed.server.raw_client(1 << 24)
    position = {feed.streams[0]: feed.added[-2][1]}
    reader = StreamReader(client, position, largest=1 << 24)
    if not runs_scripts:  # its size can't be found out
        error = redis.exceptions.NoPermissionError("this user has no permissions")
        monkeypatch.setattr("streamclust.store.stream.read_size.next_size", _raises(error))
    with limited_replies(feed.client), pytest.raises(UnreadableError) as failure:
        reader.read(16, None)
    line = str(translated(failure.value, "the server"))
    stream = feed.streams[0]
    if runs_scripts:
        assert line.startswith(f"can't read entry {large} of {stream} (400,0")
    else:
        assert line.startswith(f"can't read the entry of {stream} after {position[stream]} from")
    assert "client-output-buffer-limit" in line
    # and once the limit is raised it is read: nothing was passed by
    assert [reader.read(16, None).id_of(0)] == [large]


def _raises(error: Exception) -> Any:
    def raises(*_: object) -> None:
        raise error

    return raises


def test_a_range_is_read_in_smaller_parts(feed: Feed) -> None:
    client = feed.server.raw_client(1 << 24)
    until = dict.fromkeys(feed.streams, feed.added[-1][1])

    def ids() -> list[bytes]:
        reader, found = RangeReader(client, feed.start, until), list[bytes]()
        while entries := reader.read(reader.next_count, None):
            found += [entries.id_of(k).encode() for k in range(len(entries))]
        return found

    expected = ids()
    assert len(expected) == len(feed.added)
    after = before_last(client, until, 30_000, LAYOUTS["float64"])
    with limited_replies(feed.client):
        assert ids() == expected
        assert before_last(client, until, 30_000, LAYOUTS["float64"]) == after
        large = add_large(feed)
        until = {feed.streams[0]: large}
        for use in (ids, lambda: before_last(client, until, 9, LAYOUTS["float64"])):
            with pytest.raises(UnreadableError, match=f"entry {large} of .* bytes"):
                use()


def test_a_member_of_a_group_gets_what_it_was_given(feed: Feed) -> None:
    [stream, _] = feed.streams
    said: list[str] = []
    member = GroupMember(
        feed.server.raw_client(1 << 24),
        stream,
        "g",
        ReadSize(on_less=said.append),
    )
    member.join(feed.added[99][1])
    with limited_replies(feed.client):
        # Given entries that are this member's own, of which the reply was lost
        with pytest.raises(redis.ConnectionError):
            member.read_new(None)
        # Then it reads them in parts, and asks for no more at a time from then on
        found = []
        while own := member.read_own():
            found += own.ids
            member.acknowledge(own.ids)
        assert found == [entry_id.encode() for _, entry_id in feed.added[100:116]]
        assert len(said) >= 1
        new = member.read_new(None)
        assert len(new.ids) >= 1
        member.acknowledge(new.ids)
        # and one that can't be read is named
        large = add_large(feed)
        with pytest.raises((UnreadableError, redis.ConnectionError)):
            while new := member.read_new(None):
                member.acknowledge(new.ids)
        with pytest.raises(UnreadableError, match=f"entry {large} of {stream} .*400,0.. bytes"):
            while own := member.read_own():
                member.acknowledge(own.ids)
    assert member.read_own().ids[-1:] == [large.encode()]


def test_versions_are_read_in_smaller_parts(client: redis.Redis, keys: Keys) -> None:
    from tests.support.feeds import grid

    def publish(version: int, K: int) -> None:
        payload = encode_model(model_of(version, grid(K)))
        client.xadd(keys.models, {"payload": payload}, id=f"{version}-0")

    for version in range(1, 21):
        publish(version, 2500)  # 60 kB
    with limited_replies(client):
        size, found = ReadSize(most=16), list[int]()
        while more := list(follow(client, keys, found[-1] if found else 0, size=size)):
            found += [model.version for model in more]
        assert found == [*range(1, 21)]
        publish(21, 25_000)
        for use in (
            lambda: list(follow(client, keys, 20, size=size)),
            lambda: read_model(client, keys),
            lambda: read_model(client, keys, 21),
        ):
            with pytest.raises(UnreadableError, match=r"entry 21-0 of .*:models \([67]\d\d,... b"):
                use()
    assert read_model(client, keys).version == 21


def test_one_lost_connection_is_no_sign(client: redis.Redis, namespace: str) -> None:
    asked: list[int] = []

    def ask() -> bytes:
        asked.append(len(asked))
        if len(asked) == 1:
            client.connection_pool.disconnect()
            raise redis.ConnectionError("Connection closed by server.")
        return b"reply"

    assert read_whole(client, ask) == b"reply"
    assert asked == [0, 1]


def test_twice_as_much_is_asked_for_after_a_thousand_reads() -> None:
    size = ReadSize(1 << 20)
    entries = ListEntries([(b"1-0", [b"x" * 1000])])
    for _ in range(20):
        size.record(entries)
    before = size.next_count
    assert size.less(before, ReplyLostError("lost"), "s", "0-0") == before // 8
    less = size.next_count
    assert less <= before // 8
    for _ in range(999):
        size.record(entries)
    assert size.next_count == less
    size.record(entries)
    assert size.next_count == pytest.approx(2 * less, abs=1)
    assert entries.ids() == [b"1-0"]
