"""News of streams: a change wakes once, and nothing is missed when a connection is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from streamclust.store.server.connect import Address, Server, open_server
from streamclust.store.stream.news import StreamNews
from tests.support.waiting import LIMIT, wait_until


class Bell:
    """Counts how often it was rung."""

    def __init__(self) -> None:
        self.rung = 0

    def __call__(self) -> None:
        self.rung += 1


@pytest.fixture
def server(server_url: str) -> Iterator[Server]:
    with open_server(Address(server_url)) as server:
        yield server


@pytest.fixture
def client(server: Server) -> redis.Redis:
    return server.client()


@pytest.fixture
def news(server: Server) -> Iterator[StreamNews]:
    news = StreamNews(server.client())
    yield news
    news.close()
    wait_until(lambda: not listening())


def listening() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "news"]


def listen(news: StreamNews, stream: str) -> Bell:
    bell = Bell()
    assert news.watch([stream], bell)
    return bell


def heard(news: StreamNews, client: redis.Redis, namespace: str, bell: Bell) -> int:
    """Return how often a bell was rung, after all messages up to now have arrived."""
    last = listen(news, f"{namespace}-last")
    client.xadd(f"{namespace}-last", {"x": 1})
    wait_until(lambda: last.rung)
    return bell.rung


CHANGES: dict[str, Callable[[redis.Redis, str], Any]] = {
    "an entry": lambda client, stream: client.xadd(stream, {"x": 1}),
    "a trim": lambda client, stream: client.xtrim(stream, 0, approximate=False),
    "its end": lambda client, stream: client.delete(stream),
    "another name": lambda client, stream: client.rename(stream, f"{stream}-new"),
    "another type": lambda client, stream: client.set(stream, "x"),
}


@pytest.mark.every_server
@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_a_stream_wakes_once(
    news: StreamNews, client: redis.Redis, namespace: str, change: str
) -> None:
    stream = f"{namespace}-points"
    client.xadd(stream, {"x": 1})
    bell, other = listen(news, stream), listen(news, f"{stream}-other")
    assert heard(news, client, namespace, bell) == 0
    CHANGES[change](client, stream)
    wait_until(lambda: bell.rung)
    client.delete(stream)  # nobody watches it any more
    client.xadd(stream, {"x": 1})
    assert heard(news, client, namespace, bell) == 1
    assert other.rung == 0


def test_a_stream_that_does_not_exist_yet_is_watched(
    news: StreamNews, client: redis.Redis, namespace: str
) -> None:
    bell = listen(news, namespace)
    client.xadd(namespace, {"x": 1})
    wait_until(lambda: bell.rung)


def test_moving_a_consumer_group_is_no_news(
    news: StreamNews, client: redis.Redis, namespace: str
) -> None:
    client.xadd(namespace, {"x": 1})
    bell = listen(news, namespace)
    client.xgroup_create(namespace, "group", "0")
    client.xgroup_setid(namespace, "group", "$")
    assert heard(news, client, namespace, bell) == 0


def test_all_who_watch_a_stream_are_woken_except_who_is_forgotten(
    news: StreamNews, client: redis.Redis, namespace: str
) -> None:
    bells = [listen(news, namespace) for _ in range(3)]
    news.forget([namespace], bells[1])
    client.xadd(namespace, {"x": 1})
    wait_until(lambda: bells[0].rung and bells[2].rung)
    assert bells[1].rung == 0


@pytest.mark.parametrize("which", ["pubsub", "normal"])
def test_a_lost_connection_wakes_all_and_the_next_watch_connects_again(
    news: StreamNews, client: redis.Redis, namespace: str, which: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("streamclust.store.stream.news._PING", 0.05)
    bells = [listen(news, f"{namespace}-{number}") for number in range(3)]
    # When one of the two connections is lost
    found: Any = client.client_list(_type=which)
    for each in found:
        if which == "pubsub" or "t" in each["flags"]:  # it subscribes, or it tracks
            client.client_kill_filter(_id=each["id"])
    # Then all are woken, since nobody knows what changed
    wait_until(lambda: all(bell.rung for bell in bells))
    # and watching works again
    wait_until(lambda: not listening())
    bell = listen(news, namespace)
    client.xadd(namespace, {"x": 1})
    wait_until(lambda: bell.rung)


def test_a_close_while_the_thread_is_about_to_wait(
    news: StreamNews, client: redis.Redis, namespace: str
) -> None:
    # Given a thread that has seen no reason to end, and doesn't yet wait for a message
    bell = listen(news, namespace)
    [node] = news._nodes.values()
    waits, closed = threading.Event(), threading.Event()
    opened, can_read = list[bool](), node._listener.can_read

    def late(seconds: float) -> bool:
        waits.set()
        closed.wait()
        opened.append(node._listener._sock is not None)
        found: bool = can_read(seconds)
        return found

    node._listener.can_read = late
    client.xadd(namespace, {"x": 1})
    wait_until(lambda: bell.rung)
    assert waits.wait(LIMIT)
    # When another thread closes
    closer = threading.Thread(target=news.close)
    closer.start()
    wait_until(lambda: node.lost)
    closed.set()
    closer.join()
    # Then the connection is closed by the thread that uses it, and once
    wait_until(lambda: not listening())  # on a busy machine, `close` may return before the end
    assert opened == [True]
    assert node._listener._sock is None


def test_without_the_right_to_watch_it_says_so(
    server_url: str, client: redis.Redis, namespace: str
) -> None:
    # Given a user who may read the streams and no more
    client.execute_command(  # type: ignore[no-untyped-call]
        "ACL",
        "SETUSER",
        namespace,
        "on",
        ">secret",
        "~*",
        "+@read",
        "+@connection",
        "-client",
        "+client|setname",
    )
    with open_server(Address(server_url, username=namespace, password="secret")) as limited:
        news = StreamNews(limited.client())
        assert not news.watch([namespace], Bell())
        assert "permission" in news.refusal
    client.execute_command("ACL", "DELUSER", namespace)  # type: ignore[no-untyped-call]
