"""An encoder's rounds with the server: codes out, entries and versions in."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from streamclust.errors import ServerError
from streamclust.store.model.code_writer import Written
from streamclust.store.model.keys import Keys
from streamclust.store.server.connect import Server
from tests.support.code_writer_fixture import CodeWriterFixture, RoundTrip, batch_of


@pytest.fixture
def works(server: Server, client: redis.Redis, keys: Keys, namespace: str) -> CodeWriterFixture:
    return CodeWriterFixture(server, client, keys, f"{namespace}-points")


@pytest.mark.every_server
def test_a_round_writes_and_acknowledges_and_brings_what_comes_next(
    works: CodeWriterFixture, token: int
) -> None:
    works.add(1, 2, 3, 4, 5)
    works.publish(token, 1)
    one = works.encoder()
    assert one.takes() == RoundTrip(None, None, [b"1-0", b"2-0"], 1)
    assert one.takes(b"1-0", b"2-0") == RoundTrip(Written(2, "0-0"), None, [b"3-0", b"4-0"], 1)
    assert works.codes == ["1-0", "2-0"]
    assert works.pending == 2
    # a version that is known is not sent again, a newer one is
    third = one.takes(b"3-0", b"4-0", version=1)
    assert third == RoundTrip(Written(2, "2-0"), None, [b"5-0"], None)
    works.publish(token, 2)
    last = one.takes(b"5-0", version=1, block_ms=1)
    assert last == RoundTrip(Written(1, "4-0"), None, [], 2)
    assert (works.codes, works.pending) == (["1-0", "2-0", "3-0", "4-0", "5-0"], 0)


@pytest.mark.every_server
def test_nothing_is_written_before_its_turn(works: CodeWriterFixture) -> None:
    # Given two encoders, of whom the second is ready first
    works.add(1, 2, 3, 4, 5, 6)
    one, two = works.encoder(), works.encoder()
    assert (one.takes().ids, two.takes().ids) == ([b"1-0", b"2-0"], [b"3-0", b"4-0"])
    early = two.takes(b"3-0", b"4-0")
    # Then it has written nothing, but has what comes next already
    assert (early.written, early.ids) == ((None, "0-0"), [b"5-0", b"6-0"])
    assert (works.codes, works.pending) == ([], 6)
    assert two.writes(b"3-0", b"4-0") is None
    # When the first has written Then it is the second's turn
    assert one.writes(b"1-0", b"2-0") == 2
    assert two.writes(b"3-0", b"4-0") == 2
    assert two.writes(b"5-0", b"6-0") == 2
    assert works.codes == [f"{number}-0" for number in range(1, 7)]
    assert works.pending == 0


def test_who_waits_for_entries_can_write_meanwhile(works: CodeWriterFixture) -> None:
    # Given an encoder whose turn hasn't come, and which waits for entries with the same breath
    works.add(1, 2, 3)
    one, two = works.encoder(), works.encoder()
    one.takes(), two.takes()
    last: list[str] = []

    def on_written(written: Written) -> bool:
        assert written.entries is None
        # When its turn comes, nothing new being there Then it writes at once
        assert one.writes(b"1-0", b"2-0") == 2
        assert two.writes(b"3-0") == 1
        last.extend(works.codes)
        works.add(4)
        return True

    answer = two.writer.write_and_read(batch_of([b"3-0"]), on_written, 0, 9000)
    assert last == ["1-0", "2-0", "3-0"]
    assert answer.delivery is not None
    assert answer.delivery.ids == [b"4-0"]


def test_an_encoder_that_waits_keeps_its_connection_while_it_gets_entries(
    works: CodeWriterFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    works.add(1, 2, 3, 4)
    one = works.encoder()
    pool, taken = one.member.client.connection_pool, []
    take = pool.get_connection

    def noted() -> Any:
        taken.append(take())
        return taken[-1]

    monkeypatch.setattr(pool, "get_connection", noted)
    # When it gets entries twice, then none
    found = [one.takes(block_ms=1).ids for _ in range(3)]
    assert found == [[b"1-0", b"2-0"], [b"3-0", b"4-0"], []]
    assert len(taken) == 1
    # Then the connection is back in the pool, for other commands
    assert take() is taken[0]


def test_an_error_while_it_waits_leaves_no_reply_behind(works: CodeWriterFixture) -> None:
    works.add(1, 2, 3, 4)
    one = works.encoder()
    one.takes()

    def on_written(_: Written) -> bool:
        raise ServerError("full")

    with pytest.raises(ServerError, match="full"):
        one.writer.write_and_read(batch_of([b"1-0"]), on_written, 0, 9000)
    # Then what it was given by then is its own, and the next round has replies of its own
    assert one.member.read_own().ids == [b"2-0", b"3-0"]
    assert one.takes(b"2-0").written == Written(1, "1-0")


def test_codes_are_enough_for_a_turn_to_come(works: CodeWriterFixture) -> None:
    # Given an encoder that died between its codes and their acknowledgement, step by step
    works.add(1, 2, 3)
    one, two = works.encoder(), works.encoder()
    one.takes(), two.takes()
    works.client.xadd(works.keys.codes(), {"code": "1"}, id="2-0")
    assert two.writes(b"3-0") == 1
    assert works.codes == ["2-0", "3-0"]


@pytest.mark.every_server
def test_a_turn_that_was_lost_since_the_read_writes_nothing_twice(works: CodeWriterFixture) -> None:
    # Given an encoder that slept after its read, and whose entries another has taken over
    works.add(1, 2, 3, 4)
    slept, other = works.encoder(), works.encoder()
    assert slept.takes().ids == [b"1-0", b"2-0"]
    assert other.member.take_over(0) == (2, 0)
    # When it wakes before the other has written Then its codes land, and the other's don't
    assert slept.writes(b"1-0") == 1
    assert other.writes(b"1-0", b"2-0") == 1
    # and when it wakes after that Then its own don't
    late = slept.takes(b"1-0", b"2-0")
    assert (late.written, late.ids) == ((0, "2-0"), [b"3-0", b"4-0"])
    assert works.codes == ["1-0", "2-0"]
    assert works.pending == 2


def test_an_entry_that_is_gone_is_acknowledged_without_codes(works: CodeWriterFixture) -> None:
    works.add(1, 2, 3)
    one = works.encoder()
    one.takes(), one.takes()
    assert one.writer.write([(b"1-0", []), *batch_of([b"2-0"]), (b"3-0", [])]).entries == 1
    assert (works.codes, works.pending) == (["2-0"], 0)


def test_what_was_trimmed_unseen_comes_with_the_round_that_passes_it_once(
    works: CodeWriterFixture,
) -> None:
    works.add(1, 2, 3, 4, 5, 6)
    one, two = works.encoder(), works.encoder()
    assert one.takes().gap is None
    works.client.xtrim(works.stream, 2, approximate=False)  # also what it has in hand
    counts = "entries-added" in works.client.xinfo_stream(works.stream)
    passed = one.takes(b"1-0", b"2-0")
    assert passed.gap is not None
    assert (passed.gap.after, passed.gap.entries) == ("2-0", 2 if counts else None)
    assert (passed.written, passed.ids) == (Written(2, "0-0"), [b"5-0", b"6-0"])
    assert one.takes(b"5-0", b"6-0").gap is two.takes().gap is None


def test_a_batch_is_written_though_the_next_entries_are_too_large(works: CodeWriterFixture) -> None:
    works.add(1, 2)
    works.add(3, 4, x="7" * 300_000)
    one = works.encoder(max_reply=400_000)
    one.takes()
    answer = one.takes(b"1-0", b"2-0")
    assert (answer.written, answer.ids) == (Written(2, "0-0"), None)
    # and these are its own, to be read one by one
    assert one.member.read_own().ids == [b"3-0"]
    assert works.codes == ["1-0", "2-0"]


def test_a_version_may_be_larger_than_an_entry(works: CodeWriterFixture, token: int) -> None:
    works.add(1, 2, 3)
    works.publish(token, 1, K=20_000)
    one = works.encoder(max_reply=300_000)
    assert one.takes() == RoundTrip(None, None, [b"1-0", b"2-0"], 1)
    assert one.takes(b"1-0", b"2-0", version=1).ids == [b"3-0"]
    assert works.codes == ["1-0", "2-0"]


@pytest.mark.every_server
def test_a_group_that_is_gone_is_told(works: CodeWriterFixture) -> None:
    works.add(1)
    one = works.encoder()
    one.takes()
    works.client.xgroup_destroy(works.stream, works.keys.encoders)
    for codes in ([b"1-0"], []):
        with pytest.raises(redis.ResponseError, match=r"^NOGROUP"):
            one.takes(*codes)
    works.client.delete(works.stream)
    with pytest.raises(redis.ResponseError, match=r"^NOGROUP"):
        one.takes(b"1-0")
    assert works.codes == []


def test_a_key_of_another_type_is_said(works: CodeWriterFixture) -> None:
    works.client.set(works.keys.codes(), "x")
    works.add(1)
    one = works.encoder()
    one.takes()
    with pytest.raises(ServerError, match=r"codes holds a string, expected a stream; move it"):
        one.takes(b"1-0")
    assert works.pending == 1
