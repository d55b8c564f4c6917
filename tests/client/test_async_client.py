"""The client for asyncio: it gives what the other one gives, and blocks nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import pytest

import streamclust
from streamclust.client.async_client import AsyncClient
from streamclust.errors import ServerError, ServerUnreachableError, UnknownModelError
from streamclust.store.server.connect import Address, open_server
from tests.support.publisher import Publisher, Restarting
from tests.support.servers import free_port

T = TypeVar("T")


def run(body: Callable[[], Awaitable[T]], seconds: float = 20.0) -> T:
    async def limited() -> T:
        return await asyncio.wait_for(body(), seconds)

    return asyncio.run(limited())


def test_it_is_the_package_s_own() -> None:
    assert streamclust.AsyncClient is AsyncClient


def test_one_version(publisher: Publisher, server_url: str) -> None:
    publisher.publish(1, 2)

    async def body() -> None:
        async with AsyncClient(server_url, namespace=publisher.keys.namespace) as client:
            assert await client.names() == ["m"]
            assert (await client.model("m")).version == 2
            assert (await client.model("m", 1)).version == 1
            with pytest.raises(UnknownModelError, match="version 7"):
                await client.model("m", 7)

    run(body)


def test_updates_come_while_others_work(publisher: Publisher, server_url: str) -> None:
    publisher.publish(1, 2)
    found: dict[str, list[int]] = {"a": [], "b": []}
    turns = 0

    async def subscribe(client: AsyncClient, name: str) -> None:
        async with aclosing(client.updates("m", since=1)) as updates:
            async for model in updates:
                found[name].append(model.version)
                if model.version == 4:
                    return

    async def body() -> None:
        nonlocal turns
        async with AsyncClient(server_url, namespace=publisher.keys.namespace) as client:
            tasks = [asyncio.create_task(subscribe(client, name)) for name in found]
            while not all(found.values()):
                turns += 1
                await asyncio.sleep(0.001)
            await asyncio.to_thread(publisher.publish, 3, 4)
            await asyncio.gather(*tasks)

    run(body)
    assert found == {"a": [2, 3, 4], "b": [2, 3, 4]}
    assert turns > 0


def test_updates_go_on_after_a_lost_connection(restarting: Restarting) -> None:
    restarting.publish(1, 2)
    gaps: list[tuple[int, int]] = []

    async def body() -> list[int]:
        found = []
        async with AsyncClient(restarting.url, namespace="ns") as client:
            updates = client.updates("m", since=0, on_gap=lambda *gap: gaps.append(gap))
            async for model in updates:
                found.append(model.version)
                if model.version == 2:
                    await asyncio.to_thread(restarting.restart, 3, 4, 5, keep=2)
                if model.version == 5:
                    break
        return found

    assert run(body) == [1, 2, 4, 5]
    assert gaps == [(3, 3)]


def test_a_subscription_can_be_cancelled(publisher: Publisher, server_url: str) -> None:
    async def body() -> None:
        async with AsyncClient(server_url, namespace=publisher.keys.namespace) as client:

            async def forever() -> None:
                async for _ in client.updates("m"):
                    pass

            task = asyncio.create_task(forever())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(body)


def test_refusals_are_said(publisher: Publisher, server_url: str) -> None:
    async def nobody() -> None:
        async with AsyncClient(f"redis://127.0.0.1:{free_port()}"):
            pass

    with pytest.raises(ServerUnreachableError, match="is the server running"):
        run(nobody)

    with open_server(Address(server_url)) as server:
        server.client().set(publisher.keys.models, "x")

    async def wrong_type() -> None:
        async with AsyncClient(server_url, namespace=publisher.keys.namespace) as client:
            async for _ in client.updates("m"):
                pass

    with pytest.raises(ServerError, match="WRONGTYPE"):
        run(wrong_type)

    async def closed() -> None:
        await AsyncClient(server_url).names()

    with pytest.raises(RuntimeError, match="async with"):
        run(closed)
