"""The commit: state, version and dead letters land together."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import redis

from streamclust.errors import LeaseLostError, ServerError
from streamclust.formats.model import decode_model, encode_model
from streamclust.formats.state_points import Change
from streamclust.store.model.code_stream import codes_call
from streamclust.store.model.commit import Commit, PointsChangedError, commit
from streamclust.store.model.keys import Keys
from streamclust.store.model.versions import read_model
from tests.support.commits import a_model, ids, letters, of_version, take
from tests.support.exhaustive import some
from tests.support.waiting import wait_until

# ---- what lands


@pytest.mark.every_server
def test_state_version_and_dead_letters_land_together(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    commit(client, keys, of_version(token, 42, dead=letters(2), first_dead=7))
    assert client.get(keys.state) == b"state 42"
    entries: Any = client.xrange(keys.models)
    [(entry_id, fields)] = entries
    assert entry_id == b"42-0"
    assert decode_model(fields[b"payload"], "m").summary() == a_model(42).summary()
    assert set(fields) == {b"payload", b"time"}
    assert int(fields[b"time"]) > 1_600_000_000_000
    assert not client.exists(keys.id)  # the commit has no model ID
    dead: Any = client.xrange(keys.dead)
    assert dead == [
        (
            b"%d-0" % (6 + number),
            {
                b"stream": b"points",
                b"id": b"%d-0" % number,
                b"index": b"%d" % (number % 3 - 1),
                b"reason": b"why %d" % number,
                b"data": b"\x00\xff data",
            },
        )
        for number in (1, 2)
    ]


@pytest.mark.every_server
def test_a_state_can_land_alone(client: redis.Redis, keys: Keys, token: int) -> None:
    commit(client, keys, Commit(token, b"\x00\xffone"))
    assert client.get(keys.state) == b"\x00\xffone"
    commit(client, keys, Commit(token, b""))
    assert client.get(keys.state) == b""
    assert client.exists(keys.models, keys.dead) == 0


@pytest.mark.every_server
def test_points_are_set_appended_and_kept_with_the_state(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    for number, (change, value) in enumerate(
        [
            (Change("keep", b"", 0), None),
            (Change("set", b"base"), b"base"),
            (Change("append", b"\x00\xff", 4), b"base\x00\xff"),
            (Change("keep", b"", 6), b"base\x00\xff"),
            (Change("set", b""), None),
            (Change("append", b"rows", 0), b"rows"),
        ]
    ):
        commit(client, keys, Commit(token, b"%d" % number, points=change))
        assert client.get(keys.coreset) == value
        assert client.get(keys.state) == b"%d" % number


@pytest.mark.every_server
@pytest.mark.parametrize("change", [Change("append", b"x", 3), Change("keep", b"", 0)], ids=str)
def test_points_that_another_program_changed_stop_the_commit(
    client: redis.Redis, keys: Keys, token: int, change: Change
) -> None:
    commit(client, keys, Commit(token, b"before", points=Change("set", b"base")))
    with pytest.raises(PointsChangedError):
        commit(client, keys, of_version(token, 1, points=change, dead=letters(1)))
    assert client.mget(keys.state, keys.coreset) == [b"before", b"base"]
    assert client.exists(keys.models, keys.dead) == 0


@pytest.mark.every_server
def test_a_version_is_announced_as_json(client: redis.Redis, keys: Keys, token: int) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as listener:  # type: ignore[no-untyped-call]
        listener.subscribe(keys.models)
        wait_until(lambda: client.pubsub_numsub(keys.models)[0][1] == 1)
        commit(client, keys, Commit(token, b"state"))
        commit(client, keys, of_version(token, 1))
        commit(client, keys, of_version(token, 2))
        said = [heard(listener), heard(listener)]
    assert [each["channel"] for each in said] == [keys.models.encode()] * 2
    assert [json.loads(each["data"]) for each in said] == [
        a_model(1).summary(),
        a_model(2).summary(),
    ]
    assert all(b"\n" not in each["data"] for each in said)


def heard(listener: Any) -> Any:
    """Return the next message."""
    for _ in range(100):
        message = listener.get_message(timeout=0.1)
        if message is not None:
            return message
    raise AssertionError("no message came")


def test_versions_and_dead_letters_are_trimmed_exactly(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    for version in range(1, 81):
        dead = letters(2, start=2 * version - 1)
        what = of_version(token, version, dead=dead, first_dead=2 * version - 1)
        commit(client, keys, what, keep=7, keep_dead=50)
        assert client.xlen(keys.models) == min(version, 7)
        assert client.xlen(keys.dead) == min(2 * version, 50)
    assert ids(client, keys.models) == [f"{version}-0" for version in range(74, 81)]
    assert ids(client, keys.dead) == [f"{number}-0" for number in range(111, 161)]


def test_thousands_of_dead_letters_land_in_one_commit(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    # Lua can't unpack so many values at once.
    commit(client, keys, Commit(token, b"state", dead=letters(3000)), keep_dead=5000)
    assert ids(client, keys.dead) == [f"{number}-0" for number in range(1, 3001)]
    newest: Any = client.xrevrange(keys.dead, count=1)
    assert newest[0][1][b"id"] == b"3000-0"


@pytest.mark.parametrize("server_name", some(["valkey9", "redis6.2"], "redis6.2"))
def test_more_dead_letters_than_are_kept_keep_their_numbers(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    # A server refuses a command of more than about a million arguments.
    few = letters(3)
    many = Commit(token, b"state", dead=few * 100_000, first_dead=5)
    commit(client, keys, many, keep_dead=4)
    assert ids(client, keys.dead) == [f"{number}-0" for number in range(300_001, 300_005)]
    commit(client, keys, replace(many, dead=few * 100_000, first_dead=300_005), keep_dead=10**9)
    assert ids(client, keys.dead)[-1] == "600004-0"
    assert client.xlen(keys.dead) == 100_004


@pytest.mark.every_server
def test_payloads_of_many_megabytes_land(client: redis.Redis, keys: Keys, token: int) -> None:
    model = a_model(1, K=200_000)
    payload, state = encode_model(model), bytes(range(256)) * 40_000
    assert len(payload) > 4_000_000
    commit(client, keys, Commit(token, state, model, payload))
    entries: Any = client.xrange(keys.models)
    assert entries[0][1][b"payload"] == payload
    assert client.get(keys.state) == state


@pytest.mark.every_server
def test_numbers_are_exact_beyond_what_fits_32_bits(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    large = 2**52 + 1
    commit(client, keys, of_version(token, large, dead=letters(2), first_dead=large))
    assert ids(client, keys.models) == [f"{large}-0"]
    assert ids(client, keys.dead) == [f"{large}-0", f"{large + 1}-0"]


@pytest.mark.every_server
def test_the_model_id_lands_with_a_version(client: redis.Redis, keys: Keys, token: int) -> None:
    commit(client, keys, Commit(token, b"state", model_id=12))
    assert not client.exists(keys.id)
    with client.pubsub(ignore_subscribe_messages=True) as listener:  # type: ignore[no-untyped-call]
        listener.subscribe(keys.models)
        wait_until(lambda: client.pubsub_numsub(keys.models)[0][1] == 1)
        commit(client, keys, of_version(token, 1, model_id=12, dead=letters(2)))
        assert json.loads(heard(listener)["data"])["model_id"] == 12
    assert client.get(keys.id) == b"12"
    entries: Any = client.xrange(keys.models)
    assert entries[0][1][b"model_id"] == b"12"
    assert read_model(client, keys).model_id == 12
    assert decode_model(entries[0][1][b"payload"], "m").model_id == 0


def test_a_commit_removes_the_proposal_of_its_refit_and_no_other(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    client.hset(keys.proposal, mapping={"id": "later", "state": b"x"})
    commit(client, keys, of_version(token, 1, refit="earlier"))
    commit(client, keys, of_version(token, 2))
    assert client.hget(keys.proposal, "id") == b"later"
    commit(client, keys, of_version(token, 3, refit="later"))
    assert not client.exists(keys.proposal)


@pytest.mark.every_server
def test_codes_land_with_the_commit_or_not_at_all(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    # Given codes of entries of two streams, the second of which has one entry
    streams = keys.codes("a"), keys.codes("b")
    calls = (
        codes_call(streams[0], [(b"1-0", [b"code", b"3"]), (b"2-0", [b"code", b"4"])], 10),
        codes_call(streams[1], [(b"1-5", [b"code", b"5"])], 10),
    )
    # When they are committed with a version Then all of it is there
    commit(client, keys, of_version(token, 1, codes=calls))
    found: list[Any] = [client.xrange(stream) for stream in streams]
    assert found[0] == [(b"1-0", {b"code": b"3"}), (b"2-0", {b"code": b"4"})]
    assert found[1] == [(b"1-5", {b"code": b"5"})]
    assert ids(client, keys.models) == ["1-0"]
    assert client.get(keys.state) == b"state 1"
    # and a commit that is refused, or whose codes have no place, writes none of it
    before = written(client, keys)
    client.delete(keys.lease)
    newer = take(client, keys)
    later = codes_call(streams[0], [(b"3-0", [b"code", b"3"])], 10)
    with pytest.raises(LeaseLostError):
        commit(client, keys, of_version(token, 2, codes=(later,)))
    client.set(keys.codes("c"), "text")
    no_place = codes_call(keys.codes("c"), [(b"3-0", [b"code", b"3"])], 10)
    with pytest.raises(ServerError, match="holds a string"):
        commit(client, keys, of_version(newer, 2, codes=(later, no_place)))
    assert written(client, keys) == before


def written(client: redis.Redis, keys: Keys) -> list[Any]:
    """Return what commits have written."""
    streams = (keys.models, keys.codes("a"), keys.codes("b"))
    return [client.get(keys.state), *(client.xrange(stream) for stream in streams)]
