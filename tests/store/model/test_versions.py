"""Reading what was published: the newest version, an older one, and those to come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from streamclust.errors import FormatError, UnknownModelError
from streamclust.store.model.commit import Commit, commit
from streamclust.store.model.dead_letters import newest_letter
from streamclust.store.model.health import Health, encode_health, read_health
from streamclust.store.model.keys import Keys
from streamclust.store.model.lease import Lease
from streamclust.store.model.versions import (
    follow,
    model_names,
    read_model,
    read_model_id,
    read_newer,
)
from streamclust.store.server.connect import Server
from tests.support.commits import letters, of_version
from tests.support.waiting import wait_until

pytestmark = pytest.mark.every_server


@pytest.fixture
def published(client: redis.Redis, keys: Keys, token: int) -> Keys:
    """A model with the versions 3, 4 and 5 of five."""
    for version in range(1, 6):
        commit(client, keys, of_version(token, version), keep=3)
    return keys


def versions(client: redis.Redis, keys: Keys, after: int) -> list[int]:
    return [model.version for model in follow(client, keys, after)]


# ---- one version


def test_the_newest_version_is_read(client: redis.Redis, published: Keys) -> None:
    model = read_model(client, published)
    assert (model.name, model.version, model.points) == ("m", 5, 500)
    assert model.means.tolist() == [[5.0, 6.0], [7.0, 8.0]]


@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_kept_version_is_read_again(client: redis.Redis, published: Keys, version: int) -> None:
    assert read_model(client, published, version).version == version


@pytest.mark.parametrize("version", [0, 2, 6])
def test_a_version_that_is_not_kept_is_refused(
    client: redis.Redis, published: Keys, version: int
) -> None:
    with pytest.raises(UnknownModelError) as failure:
        read_model(client, published, version)
    text = f"version {version} of 'm' isn't stored; the oldest stored version is 3"
    assert str(failure.value) == text


def test_an_unknown_model_is_refused_with_those_that_exist(
    client: redis.Redis, published: Keys
) -> None:
    other = Keys(published.namespace, "other")
    for version in (None, 3):
        with pytest.raises(UnknownModelError) as failure:
            read_model(client, other, version)
        assert str(failure.value) == (
            f"model 'other' has not been published in namespace {published.namespace!r}; "
            "models there: m"
        )


def test_where_there_is_no_model_none_is_named(client: redis.Redis, keys: Keys) -> None:
    with pytest.raises(UnknownModelError, match=r"models there: none$"):
        read_model(client, keys)


def test_a_model_whose_versions_were_all_deleted_is_unknown(
    client: redis.Redis, published: Keys
) -> None:
    client.xtrim(published.models, maxlen=0, approximate=False)
    with pytest.raises(UnknownModelError):
        read_model(client, published)
    with pytest.raises(UnknownModelError, match="the oldest stored version is none"):
        read_model(client, published, 4)


@pytest.mark.parametrize(
    "fields", [{"payload": b"no"}, {"payload": b""}, {"x": b"1"}, {"Payload": b""}], ids=str
)
def test_an_entry_of_another_program_is_named(
    client: redis.Redis, published: Keys, fields: dict[Any, Any]
) -> None:
    client.xadd(published.models, fields, id="9-0")
    with pytest.raises(FormatError) as failure:
        read_model(client, published)
    assert str(failure.value).startswith(f"{published.models} entry 9-0 does not hold")
    with pytest.raises(FormatError):
        list(follow(client, published, 5))


def test_a_version_is_what_the_id_of_its_entry_says(client: redis.Redis, published: Keys) -> None:
    # Given an entry whose payload is that of another version
    payload = of_version(1, 4).payload
    client.xadd(published.models, {"payload": payload}, id="9-0")
    # Then no reader takes it, and the reason says how to remove it
    readers: list[Callable[[], Any]] = [
        lambda: read_model(client, published),
        lambda: read_model(client, published, 9),
        lambda: read_newer(client, published, 5),
        lambda: list(follow(client, published, 5)),
    ]
    for reader in readers:
        with pytest.raises(FormatError, match=r"entry 9-0 holds version 4.*XDEL .* 9-0\)$"):
            reader()
    assert read_model(client, published, 4).version == 4


@pytest.mark.parametrize("model_id", [b"", b"x", b"-1", b"2147483648", b"9" * 5000])
def test_a_model_id_that_is_none_is_refused(
    client: redis.Redis, published: Keys, model_id: bytes
) -> None:
    fields: Any = {"payload": of_version(1, 9).payload, "model_id": model_id}
    client.xadd(published.models, fields, id="9-0")
    with pytest.raises(FormatError, match=r"entry 9-0 holds the model ID b'.*expected a number"):
        read_model(client, published)
    client.set(published.id, model_id)
    with pytest.raises(FormatError, match=r"key .*:id holds the model ID b'.*expected a number"):
        read_model_id(client, published)


# ---- those to come


@pytest.mark.parametrize(
    ("after", "found"), [(0, [3, 4, 5]), (3, [4, 5]), (4, [5]), (5, []), (99, [])]
)
def test_all_kept_versions_after_one_are_given(
    client: redis.Redis, published: Keys, after: int, found: list[int]
) -> None:
    assert versions(client, published, after) == found


def test_of_many_versions_all_are_given(client: redis.Redis, keys: Keys, token: int) -> None:
    for version in range(1, 41):
        commit(client, keys, of_version(token, version))
    found: list[int] = []
    while more := versions(client, keys, found[-1] if found else 0):
        found += more
    assert found == list(range(1, 41))


def test_a_follower_waits_for_the_next_version(
    server: Server, client: redis.Redis, keys: Keys, token: int
) -> None:
    found: list[int] = []

    def wait_for_one() -> None:
        models = follow(server.client(), keys, 0, block_ms=9000)
        found.extend(model.version for model in models)

    follower = threading.Thread(target=wait_for_one)
    follower.start()
    wait_until(lambda: int(client.info("clients")["blocked_clients"]) > 0)
    commit(client, keys, of_version(token, 1))
    follower.join()
    assert found == [1]


def test_a_follower_that_waits_in_vain_gets_nothing(client: redis.Redis, published: Keys) -> None:
    assert list(follow(client, published, 5, block_ms=1)) == []


# ---- names


def test_names_are_those_of_the_namespace(client: redis.Redis, namespace: str) -> None:
    for model in ("palette", "a.b-c_1"):
        assert Lease(client, Keys(namespace, model), 3600.0).take()
    client.set(Keys(namespace, "begun").state, "x")
    client.set(Keys(namespace + "2", "elsewhere").state, "x")
    client.set(Keys("x" + namespace, "elsewhere").state, "x")
    client.set(f"{namespace}:unrelated", "x")
    assert model_names(client, namespace) == ["a.b-c_1", "begun", "palette"]
    assert model_names(client, namespace + "-none") == []


def test_names_are_found_among_many_keys(client: redis.Redis, namespace: str) -> None:
    expected = [f"m{number:04}" for number in range(1500)]
    pipeline = client.pipeline(transaction=False)
    for name in expected:
        pipeline.set(Keys(namespace, name).state, "x")
        pipeline.set(Keys(namespace, name).token, "1")
    pipeline.execute()
    assert model_names(client, namespace) == expected


# ---- dead letters


def test_dead_letters_are_counted_by_their_numbers(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    assert newest_letter(client, keys) == (0, "0-0")
    commit(client, keys, Commit(token, b"state", dead=letters(12)), keep_dead=5)
    assert newest_letter(client, keys) == (5, "12-0")


# ---- health


HEALTH = Health(4711, "host", "learning", 10**12, 1.5, 42, 7, 90, 1, None, 1526919030.5)


def test_the_health_comes_back(client: redis.Redis, keys: Keys) -> None:
    assert read_health(client, keys) is None
    client.set(keys.health, encode_health(HEALTH))
    assert read_health(client, keys) == HEALTH


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("{}", Health()),
        ('{"pid": 1, "mood": "good", "phase": "dreaming"}', Health(pid=1, phase="dreaming")),
        (
            '{"pid": "x", "host": null, "points": 1e99, "rate": NaN, "loss": 1e400, "dead": true, '
            '"version": -1, "lost": [], "points": 3, "reason": {"a": 1}}',
            Health(points=3),
        ),
        ('{"points": 1' + "0" * 400 + "}", Health()),
    ],
)
def test_the_health_of_another_version_can_be_read(
    client: redis.Redis, keys: Keys, words: str, found: Health
) -> None:
    client.set(keys.health, words)
    assert read_health(client, keys) == found


@pytest.mark.parametrize("words", ["", "no", "[]", "5", b"\xff", "[" * 100_000])
def test_what_is_no_health_is_refused(client: redis.Redis, keys: Keys, words: str | bytes) -> None:
    client.set(keys.health, words)
    with pytest.raises(FormatError) as failure:
        read_health(client, keys)
    assert str(failure.value).startswith(f"key {keys.health} ")
