"""Members of a consumer group: their turns, and what the dead and the sleeping leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import redis

from streamclust.store.server.connect import Server
from streamclust.store.stream.group import GroupMember
from streamclust.store.stream.read_size import ReadSize


@dataclass
class Feed:
    """A stream of one test, and members of its group."""

    server: Server
    client: redis.Redis
    stream: str

    def member(self, count: int = 2) -> GroupMember:
        member = GroupMember(self.server.raw_client(), self.stream, "g", ReadSize(most=count))
        member.join("0")
        return member

    def add(self, *entry_ids: int) -> None:
        for entry_id in entry_ids:
            self.client.xadd(self.stream, {"x": str(entry_id)}, id=f"{entry_id}-0")

    def pending(self) -> int:
        summary: Any = self.client.xpending(self.stream, "g")
        return int(summary["pending"])


@pytest.fixture
def feed(server: Server, client: redis.Redis, namespace: str) -> Feed:
    return Feed(server, client, namespace)


def got(member: GroupMember, own: bool = False) -> list[bytes]:
    return (member.read_own() if own else member.read_new(None)).ids


def test_members_share_the_entries(feed: Feed) -> None:
    feed.add(1, 2, 3, 4, 5)
    one, two = feed.member(), feed.member()
    assert [got(one), got(two), got(one), got(two)] == [
        [b"1-0", b"2-0"],
        [b"3-0", b"4-0"],
        [b"5-0"],
        [],
    ]
    assert got(one, own=True) == [b"1-0", b"2-0"]
    one.acknowledge([b"1-0", b"2-0"])
    assert got(one, own=True) == [b"5-0"]


def test_a_turn_comes_when_all_before_is_done_or_written(feed: Feed) -> None:
    feed.add(1, 2, 3, 4)
    one, two = feed.member(), feed.member()
    got(one), got(two)
    assert not one.has_pending_between(b"1-0", "0-0")
    assert two.has_pending_between(b"3-0", "0-0")
    assert two.has_pending_between(b"3-0", "1-0")
    assert not two.has_pending_between(b"3-0", "2-0")  # written, if not yet acknowledged
    one.acknowledge([b"1-0"])
    assert two.has_pending_between(b"3-0", "0-0")
    one.acknowledge([b"2-0"])
    assert not two.has_pending_between(b"3-0", "0-0")


def test_what_a_dead_member_left_is_taken_over(feed: Feed) -> None:
    # Given more entries than one look at the pending ones covers
    feed.add(*range(1, 1001))
    dead, live = feed.member(600), feed.member(600)
    while len(got(dead)):
        pass
    assert feed.pending() == 1000
    # When there was a sign of life within the hour Then they stay; else they go over
    assert live.take_over(3_600_000) == (0, 0)
    assert live.take_over(0) == (1000, 0)
    assert got(live, own=True)[0] == b"1-0"
    assert got(dead, own=True) == []


def test_entries_that_are_gone_are_told_once(feed: Feed) -> None:
    feed.add(1, 2, 3, 4)
    dead, live = feed.member(4), feed.member(4)
    got(dead)
    feed.client.xdel(feed.stream, "1-0", "3-0")
    # Redis 7 drops them while they are taken over, 6.2 hands them over without fields
    taken, gone = live.take_over(0)
    found = live.read_own()
    assert [entry_id for entry_id, _ in found.entries] == [b"2-0", b"4-0"]
    assert gone + len(found.gone) == 2
    assert taken + gone == 4
    live.acknowledge(found.ids)
    assert feed.pending() == 0
    assert live.idle


def test_own_entries_that_are_gone_are_told(feed: Feed) -> None:
    feed.add(1, 2)
    member = feed.member()
    got(member)
    feed.client.xtrim(feed.stream, 0, approximate=False)
    found = member.read_own()
    assert (len(found.entries), found.gone) == (0, (b"1-0", b"2-0"))
    assert found


@pytest.mark.every_server
def test_what_was_trimmed_before_it_was_given_is_told_once(feed: Feed) -> None:
    # Given two members, of whom one has had the first two entries of six
    feed.add(1, 2, 3, 4, 5, 6)
    one, two = feed.member(), feed.member()
    assert one.find_gap() is None  # nothing was given, so nothing can be missing
    one.acknowledge(got(one))
    assert one.find_gap() is None
    # When two more are trimmed Then one member is told of it, and how many they are if that's known
    feed.client.xtrim(feed.stream, 2, approximate=False)
    counts = "entries-added" in feed.client.xinfo_stream(feed.stream)
    gap = two.find_gap()
    assert gap is not None
    assert (gap.after, gap.entries) == ("2-0", 2 if counts else None)
    if counts:
        assert one.find_gap() is None
    assert got(one) == [b"5-0", b"6-0"]
    assert one.find_gap() is two.find_gap() is None
    # also when nothing is left of the stream
    feed.add(7, 8, 9)
    feed.client.xtrim(feed.stream, 0, approximate=False)
    gap = one.find_gap()
    assert gap is not None
    assert (gap.after, gap.entries) == ("6-0", 3 if counts else None)
    assert one.find_gap() is two.find_gap() is None
    feed.add(10)
    assert got(two) == [b"10-0"]


def test_a_stream_or_a_group_that_is_not_there_has_no_gap(feed: Feed) -> None:
    member = feed.member()
    feed.add(1)
    feed.client.xgroup_destroy(feed.stream, "g")
    assert member.find_gap() is None
    feed.client.delete(feed.stream)
    assert member.find_gap() is None


def test_a_share_ends_where_another_member_s_begins(feed: Feed) -> None:
    feed.add(1, 2, 3, 4, 5, 6)
    dead, other, live = feed.member(), feed.member(), feed.member()
    got(dead), got(other), got(live)
    feed.client.xclaim(feed.stream, "g", live.name, 0, ["1-0", "2-0"])
    live._size.most = 10
    assert live.read_own().ids == [b"1-0", b"2-0", b"5-0", b"6-0"]
    assert live.before_others(live.read_own()).ids == [b"1-0", b"2-0"]
    other.acknowledge([b"3-0", b"4-0"])
    assert live.before_others(live.read_own()).ids == [b"1-0", b"2-0", b"5-0", b"6-0"]


def test_signs_of_life_keep_entries(feed: Feed) -> None:
    feed.add(1, 2)
    busy, other = feed.member(), feed.member()
    got(busy)
    feed.client.xclaim(feed.stream, "g", busy.name, 0, ["1-0", "2-0"], idle=10_000)
    busy.reset_idle_time()
    assert other.take_over(9_000) == (0, 0)
    busy.acknowledge([b"1-0", b"2-0"])
    busy.reset_idle_time()  # what is done isn't taken up again
    assert feed.pending() == 0


def test_who_leaves_hands_back_at_once(feed: Feed) -> None:
    feed.add(1, 2)
    leaving, other = feed.member(), feed.member()
    got(leaving)
    leaving.leave()
    assert feed.pending() == 2
    assert other.take_over(3_600_000) == (2, 0)
    other.acknowledge([b"1-0", b"2-0"])
    other.leave()
    found: Any = feed.client.xinfo_consumers(feed.stream, "g")
    assert [each["name"].decode() for each in found] in ([leaving.name], [])


def test_a_group_is_made_once_and_goes_on(feed: Feed) -> None:
    feed.add(1)
    assert got(feed.member()) == [b"1-0"]
    late = GroupMember(feed.server.raw_client(), feed.stream, "g", ReadSize(most=10))
    late.join("$")
    feed.add(2)
    assert got(late) == [b"2-0"]


def consumers(feed: Feed) -> set[str]:
    found: Any = feed.client.xinfo_consumers(feed.stream, "g")
    return {each["name"].decode() for each in found}


def test_dead_members_are_removed_once_nothing_of_theirs_is_left(feed: Feed) -> None:
    # Given two members that died, one of them with entries that it had not finished
    feed.add(1, 2, 3, 4, 5, 6)
    finished, unfinished, living = feed.member(), feed.member(), feed.member()
    finished.acknowledge(got(finished))
    left = got(unfinished)
    living.acknowledge(got(living))
    # When the group is looked after Then nothing goes that has entries, or was seen a moment ago
    assert living.remove_dead(3_600_000) == 0
    assert living.remove_dead(0) == 1
    assert consumers(feed) == {unfinished.name, living.name}
    assert feed.pending() == len(left) == 2
    # and the other one goes when its entries were taken over
    assert living.take_over(0) == (2, 0)
    assert living.remove_dead(0) == 1
    assert consumers(feed) == {living.name}
    # and one that only slept reads on
    feed.add(7)
    assert got(finished) == [b"7-0"]
    assert consumers(feed) == {living.name, finished.name}


def test_who_leaves_keeps_what_a_broken_read_brought_it(feed: Feed) -> None:
    # Given entries that come to a member between its last look and its end
    feed.add(1)
    member = feed.member()
    feed.member()
    release = member.release

    def released_too_early() -> int:
        number = release()
        got(member)
        return number

    member.release = released_too_early  # type: ignore[method-assign]
    member.leave()
    assert feed.pending() == 1
    assert consumers(feed) == {member.name}


@pytest.mark.parametrize(("start", "missing"), [("$", 5), ("0", 8), ("3-0", 5), ("2-0", None)])
def test_a_gap_has_a_size_wherever_the_server_knows_where_the_group_began(
    feed: Feed, start: str, missing: int | None
) -> None:
    info: Any = feed.client.info("server")
    counts = int(info["redis_version"].partition(".")[0]) >= 7
    feed.add(1, 2, 3)
    member = GroupMember(feed.server.raw_client(), feed.stream, "g", ReadSize(most=10))
    member.join(start)
    feed.add(4, 5, 6, 7, 8)
    feed.client.xtrim(feed.stream, maxlen=0, approximate=False)
    gap = member.find_gap()
    if start == "0":  # nothing was promised before the first read
        assert gap is None
    else:
        assert gap is not None
        assert gap.entries == (missing if counts else None)
