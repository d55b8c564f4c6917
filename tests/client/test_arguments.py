"""Mistakes in the arguments of both clients: errors that name the argument, at the call."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from streamclust import AsyncClient, Client
from streamclust.client.arguments import name_arguments
from streamclust.client.client import SettingsClient
from streamclust.errors import (
    ClientClosedError,
    ConfigError,
    DataError,
    ServerError,
    ServerUnreachableError,
    UnknownModelError,
)
from tests.support.publisher import Publisher, Restarting
from tests.support.servers import free_port

NAMES = "expected text of letters, digits, _, . and -"


def asynchronously(url: str, namespace: str, use: Callable[[AsyncClient], Any]) -> None:
    """Open the client for asyncio, and use it; an iterator isn't read."""

    async def body() -> None:
        async with AsyncClient(url, namespace=namespace) as client:
            found = use(client)
            if inspect.isawaitable(found):
                await found

    asyncio.run(body())


CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "pause('')": (lambda c: c.pause(""), f"name is ''; {NAMES}"),
    "pause('a b')": (lambda c: c.pause("a b"), f"name is 'a b'; {NAMES}"),
    "pause('m\\n')": (lambda c: c.pause("m\n"), "name is 'm"),
    "pause(None)": (lambda c: c.pause(None), "name is None"),
    "pause(reason)": (lambda c: c.pause("m", reason=5), "reason is 5; expected text"),
    "pause(by)": (lambda c: c.pause("m", by=None), "by is None; expected text"),
    "pause(wait)": (lambda c: c.pause("m", wait="x"), "wait is 'x'; expected a number of seconds"),
    "pause(wait < 0)": (lambda c: c.pause("m", wait=-1), "wait is -1.0; expected a number"),
    "resume(None)": (lambda c: c.resume(None), "name is None"),
    "resume('')": (lambda c: c.resume(""), "name is ''"),
    "model(None)": (lambda c: c.model(None), "name is None; expected text"),
    "model(5)": (lambda c: c.model(5), "name is 5; expected text"),
    "model(version)": (lambda c: c.model("m", "x"), "version is 'x'; expected an integer"),
    "model(1.5)": (lambda c: c.model("m", version=1.5), "version is 1.5; expected an integer"),
    "model(-1)": (lambda c: c.model("m", version=-1), "version is -1; expected at least 1"),
    "updates('')": (lambda c: c.updates(""), "name is ''"),
    "updates(since)": (lambda c: c.updates("m", since="a"), "since is 'a'; expected an integer"),
    "updates(-1)": (lambda c: c.updates("m", since=-1), "since is -1; expected at least 0"),
    "updates(on_gap)": (lambda c: c.updates("m", on_gap=5), "on_gap is 5; expected a function"),
    "alerts(5)": (lambda c: c.alerts(5), "name is 5"),
    "alerts(since)": (lambda c: c.alerts("m", since="x"), "since is 'x'; expected an integer"),
    "add(5)": (lambda c: c.add(5, [[1.0]]), "stream is 5; expected text"),
    "add(missing)": (lambda c: c.add("s", [[np.nan]], missing="drop"), "missing is 'drop'"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_mistake_is_named_at_the_call_by_both_clients(
    client: Client, server_url: str, namespace: str, call: str
) -> None:
    use, message = CALLS[call]
    with pytest.raises(DataError, match=message) as failure:
        use(client)
    assert "\n" not in str(failure.value)
    with pytest.raises(DataError, match=message):
        asynchronously(server_url, namespace, use)
    assert client.names() == []


@pytest.mark.parametrize("timeout", ["a", -1, math.nan, True])
def test_a_timeout_that_is_no_number_of_seconds_is_refused_at_the_call(
    client: Client, timeout: Any
) -> None:
    for read in (client.updates, client.alerts):
        with pytest.raises(DataError, match=r"timeout is .*; expected a number of seconds"):
            read("m", timeout=timeout)


def test_large_numbers_are_accepted(client: Client, publisher: Publisher) -> None:
    publisher.publish(1, 2)
    assert next(client.updates("m", timeout=math.inf)).version == 2
    assert list(client.updates("m", since=1 << 70, timeout=0)) == []
    assert list(client.alerts("m", since=1 << 70, timeout=0)) == []
    assert client.model("m", np.int32(1)).version == 1  # type: ignore[arg-type]
    with pytest.raises(UnknownModelError):
        client.model("a b")


# ---- the address

BAD: list[tuple[dict[str, Any], str]] = [
    ({"url": None}, "url is None; expected text"),
    ({"url": 5}, "url is 5; expected text"),
    ({"namespace": "a b"}, f"namespace is 'a b'; {NAMES}"),
    ({"namespace": ""}, "namespace is ''"),
    ({"namespace": 5}, "namespace is 5"),
    ({"data_dir": 5}, "data_dir is 5; expected a path"),
    ({"data_dir": ""}, "data_dir is ''; expected a path"),
    ({"username": 5}, "username is of type int; expected text"),
    ({"password": b"s3cr3t"}, "password is of type bytes; expected text"),
]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(("options", "message"), BAD)
def test_a_wrong_argument_is_named_at_the_construction(
    kind: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as failure:
        kind(**options)
    assert "s3cr3t" not in str(failure.value)
    with pytest.raises(TypeError, match="foo"):
        kind(foo=2)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("embed", r"^url: got 'embed'; expected .*; did you mean embedded\?$"),
        ("redis://a:b/c@host", r"^url: got .* or set password instead$"),
        ("redis://host/?foo=1", "^url: 'foo' isn't an option"),
    ],
)
def test_an_error_of_the_url_names_the_argument(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Client(url)


def test_an_error_of_the_server_names_the_argument(
    restarting: Restarting, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ServerUnreachableError, match=r", and is url right\?$"):
        Client(f"redis://127.0.0.1:{free_port()}")
    restarting.publish(1)
    with Client(restarting.url) as client, SettingsClient(restarting.url) as command:
        restarting._server.kill()
        for use in (client.names, lambda: client.add("s", [[1.0]])):
            with pytest.raises(ServerUnreachableError, match=r", and is url right\?$"):
                use()
        with pytest.raises(ServerUnreachableError, match=r", and is url right\?$"):
            next(client.updates("m", timeout=0.1))
        assert "and is url right?; retrying" in caplog.text
        with pytest.raises(ServerUnreachableError, match=r"is redis\.url right\?$"):
            command.names()


def test_hosts_and_environments_are_no_arguments() -> None:
    error = ServerError(
        "redis://redis.url:6379/0 refused the login; check redis.username and redis.password "
        "(in the environment: STREAMCLUST_REDIS__USERNAME, STREAMCLUST_REDIS__PASSWORD)"
    )
    name_arguments(error)
    assert str(error) == "redis://redis.url:6379/0 refused the login; check username and password"


# ---- after the end

USES: dict[str, Callable[[Any], Any]] = {
    "names": lambda client: client.names(),
    "model": lambda client: client.model("m"),
    "pause": lambda client: client.pause("m"),
    "resume": lambda client: client.resume("m"),
    "add": lambda client: client.add("s", [[1.0]]),
    "updates": lambda client: client.updates("m"),
    "alerts": lambda client: client.alerts("m"),
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_client_refuses(server_url: str, namespace: str, use: str) -> None:
    client = Client(server_url, namespace=namespace)
    client.close()
    with pytest.raises(ClientClosedError, match=r"^the client is closed; open another one$"):
        USES[use](client)

    async def body() -> None:
        async with AsyncClient(server_url, namespace=namespace) as client:
            pass
        found = USES[use](client)
        if inspect.isawaitable(found):
            await found

    with pytest.raises(ClientClosedError, match="the client is closed"):
        asyncio.run(body())


def test_iterators_end_with_an_error_when_the_client_is_closed(
    publisher: Publisher, server_url: str
) -> None:
    publisher.publish(1, 2)
    with Client(server_url, namespace=publisher.keys.namespace) as client:
        updates, alerts = client.updates("m", since=0), client.alerts("m")
        assert next(updates).version == 1
    assert next(updates).version == 2  # both were read by then
    for each in (updates, alerts):
        with pytest.raises(ClientClosedError):
            next(each)

    async def body() -> None:
        async with AsyncClient(server_url, namespace=publisher.keys.namespace) as client:
            updates = client.updates("m", since=1)
            assert (await anext(updates)).version == 2
        await anext(updates)

    with pytest.raises(ClientClosedError):
        asyncio.run(body())


def test_a_client_for_asyncio_can_be_opened_again(server_url: str, namespace: str) -> None:
    async def body() -> list[list[str]]:
        client, found = AsyncClient(server_url, namespace=namespace), []
        for _ in range(2):
            async with client:
                found.append(await client.names())
        return found

    assert asyncio.run(body()) == [[], []]
