"""Replies taken off a connection natively are those that hiredis would have made."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.store.reply.limits import ReplyTooLargeError
from streamclust.store.reply.packed import Packed
from tests.support.exhaustive import examples
from tests.support.replies import (
    HiredisConnection,
    NativeConnection,
    needs_native,
    outcome,
    to_lists,
    to_resp,
)

pytestmark = needs_native

LAW = examples(150)

texts = st.one_of(st.binary(max_size=12), st.sampled_from([b"$3\r\nabc\r\n", b"*1\r\n", b"\r\n"]))
parts = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 9, 10, 2**64 - 1]))
ids = st.builds(lambda a, b: b"%d-%d" % (a, b), parts, parts)
flats = st.lists(st.tuples(texts, texts), max_size=4).map(
    lambda pairs: [t for p in pairs for t in p]
)
entries = st.lists(st.tuples(ids, st.one_of(flats, st.none())).map(list), max_size=6)
streams = st.lists(st.tuples(texts, entries).map(list), min_size=1, max_size=3)
nested = st.recursive(
    st.one_of(texts, st.integers(-5, 5), st.none()), lambda inner: st.lists(inner, max_size=3)
)
replies = st.one_of(streams, nested)


@LAW
@given(st.lists(replies, min_size=1, max_size=4), st.lists(st.integers(1, 40), min_size=1))
def test_replies_are_those_of_hiredis_wherever_they_are_cut(
    values: list[Any], sizes: list[int]
) -> None:
    data, line, found, at = b"".join(map(to_resp, values)), NativeConnection(), [], 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        line.receive(data[at : at + size])
        at += size
        found += line.replies()
    assert to_lists(found) == to_lists(values)
    assert not line.parser.has_data()


def test_a_reply_may_be_cut_at_any_byte() -> None:
    value = [[b"s", [[b"1-0", [b"x", b"1.5", b"", b"\r\n"]], [b"12-3", None]]], [b"t", []]]
    data = to_resp(value)
    for cut in range(1, len(data)):
        line = NativeConnection()
        line.receive(data[:cut])
        assert line.replies() == []
        assert line.parser.has_data()
        line.receive(data[cut:])
        [reply] = line.replies()
        assert to_lists(reply) == value
        assert all(isinstance(each, Packed) for _, each in reply)


def test_a_reply_behind_another_kind_is_taken_as_it_is() -> None:
    value = [[b"s", [[b"1-0", [b"x", b"1.5"]]]]]
    line = NativeConnection()
    line.receive(to_resp([1, [b"a", None], b"b"]) + b"+OK\r\n" + to_resp(value) + b":7\r\n$-1\r\n")
    other, ok, reply, *rest = line.replies()
    assert (other, ok, rest) == ([1, [b"a", None], b"b"], b"OK", [7, None])
    assert isinstance(reply[0][1], Packed)
    assert to_lists(reply) == value


@LAW
@given(streams, st.data())
def test_a_damaged_reply_is_what_hiredis_makes_of_it(value: Any, data: st.DataObject) -> None:
    raw = bytearray(to_resp(value))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from(b"*$:-0129\r\nx"))
    assert outcome(NativeConnection(), bytes(raw)) == outcome(HiredisConnection(), bytes(raw))


@pytest.mark.parametrize("value", [[[b"s", [[b"1-0", [b"x", b"1" * 3000]]]]], b"1" * 3000])
def test_a_reply_that_is_too_large_is_given_up_as_it_comes(value: Any) -> None:
    line = NativeConnection(limit=2000)
    for _ in range(3):  # each is counted for itself
        line.receive(to_resp([[b"s", [[b"1-0", [b"x", b"1" * 1500]]]]]) + to_resp(b"2" * 100))
        assert len(line.replies()) == 2
    data = to_resp(value)
    line.receive(data[:1900])
    assert line.replies() == []
    with pytest.raises(ReplyTooLargeError, match="more than 2000 bytes"):
        line.receive(data[1900:2100])


def test_entries_keep_the_bytes_that_they_lie_in() -> None:
    line, kept = NativeConnection(), []
    for number in range(50):
        body = [b"x", b"%d" % number * 20_000]
        line.receive(to_resp([[b"s", [[b"%d-0" % number, body]] * 3]]))
        [[(_, found)]] = line.replies()
        if number % 10 == 0:
            kept.append(found[1:])
    gc.collect()
    for number, found in enumerate(kept):
        assert (
            to_lists(found)
            == [[b"%d-0" % (10 * number), [b"x", b"%d" % (10 * number) * 20_000]]] * 2
        )


def test_an_announced_size_takes_no_memory() -> None:
    tracemalloc.start()
    line = NativeConnection()
    line.receive(
        b"*1\r\n*2\r\n$1\r\ns\r\n*900000000000000000\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$99999999\r\nx"
    )
    assert line.replies() == []
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
