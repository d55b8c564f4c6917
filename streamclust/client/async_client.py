"""The Python client for asyncio."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from typing import TYPE_CHECKING, Any, Self, TypeVar

import redis

from streamclust.client.arguments import as_address
from streamclust.client.client import Client
from streamclust.errors import ClientClosedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from streamclust.client.follower import Follower, OnGap
    from streamclust.client.ingest import IngestReport
    from streamclust.formats.alerts import Alert
    from streamclust.formats.model import Model
    from streamclust.store.model.pause import Pause

T = TypeVar("T")

_BLOCK_MS = 500


class AsyncClient:
    """Reads models and adds points to streams, without blocking the event loop.

    `streamclust.Client` does the work in threads, so all kinds of servers are supported. Each
    running `updates` has its own thread.

    Parameters
    ----------
    url : str, default='embedded'
    **options
        The other parameters of `streamclust.Client`.

    Raises
    ------
    DataError
        If an argument has the wrong type, or `namespace` can't be a namespace.

    Examples
    --------
    >>> from streamclust import AsyncClient
    >>> async def main() -> None:
    ...     async with AsyncClient("redis://localhost:6379") as client:
    ...         print((await client.model("palette")).means)
    ...         async for model in client.updates("palette", since=0):
    ...             print(model.version)
    """

    def __init__(self, url: str = "embedded", **options: Any) -> None:
        given = signature(Client).bind(url, **options)  # TypeError for an unknown parameter
        given.apply_defaults()
        as_address(**given.arguments)
        self._url = url
        self._options = options
        self._opened: Client | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises
        ------
        ConfigError
            If `url` isn't the URL of a server.
        ServerError
            If the server can't be reached or refuses the connection.
        """
        self._opened = await asyncio.to_thread(lambda: Client(self._url, **self._options))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._client.close)

    def __repr__(self) -> str:
        state = "not open" if self._opened is None else repr(self._opened)[1:-1]
        return f"<{type(self).__name__}: {state}>"

    @property
    def _client(self) -> Client:
        if self._opened is None:
            raise ClientClosedError("the client isn't open; use it in `async with`")
        return self._opened

    async def names(self) -> list[str]:
        """Return the names of all models in the namespace."""
        return await asyncio.to_thread(self._client.names)

    async def model(self, name: str, version: int | None = None) -> Model:
        """Return the latest version of a model, or another version that is still stored.

        Raises
        ------
        UnknownModelError
            If the model or the version doesn't exist.
        DataError
            If `name` isn't a text, or `version` isn't an integer from 1.
        """
        return await asyncio.to_thread(self._client.model, name, version)

    async def pause(self, name: str, **options: Any) -> Pause:
        """Pause a model; see `streamclust.Client.pause`.

        Raises
        ------
        BusyError
            If the worker hasn't confirmed in time.
        DataError
            If an argument can't be used.
        """
        return await asyncio.to_thread(lambda: self._client.pause(name, **options))

    async def resume(self, name: str) -> Pause | None:
        """End the pause of a model; see `streamclust.Client.resume`.

        Raises
        ------
        DataError
            If `name` can't be the name of a model.
        """
        return await asyncio.to_thread(self._client.resume, name)

    async def add(self, stream: str, X: Any, **options: Any) -> IngestReport:
        """Add points to a stream; see `streamclust.Client.add`.

        Raises
        ------
        DataError
            If a value can't be used.
        ServerError
            If the server refuses points or can't be reached.
        """
        return await asyncio.to_thread(self._client.add, stream, X, **options)

    def updates(
        self, name: str, *, since: int | None = None, on_gap: OnGap | None = None
    ) -> AsyncGenerator[Model]:
        """Yield each version once, oldest first, and wait for new versions.

        See `streamclust.Client.updates`, also for lost connections.

        Parameters
        ----------
        name : str
        since : int, optional
            Yield the stored versions after this one first; 0 for all. By default, start with the
            latest version.
        on_gap : callable, optional
            Called with the numbers of the first and the last version of a gap: versions that were
            trimmed before they could be read. By default, the client logs a warning.

        Raises
        ------
        DataError
            If an argument has the wrong type or value; raised by the call itself.
        ServerError
            If the server refuses a command.
        """
        return _followed(self._client.follower(name, since, on_gap))

    def alerts(
        self, name: str, *, since: int | None = None, on_gap: OnGap | None = None
    ) -> AsyncGenerator[Alert]:
        """Yield each alert of a model once, oldest first, and wait for new alerts.

        See `streamclust.Client.alerts`, also for lost connections.

        Parameters
        ----------
        name : str
        since : int, optional
            Yield the stored alerts after this number first; 0 for all. By default, only new alerts.
        on_gap : callable, optional
            Called with the numbers of the first and the last alert of a gap: alerts that were
            trimmed before they could be read. By default, the client logs a warning.

        Raises
        ------
        DataError
            If an argument has the wrong type or value; raised by the call itself.
        ServerError
            If the server refuses a command.
        """
        return _followed(self._client.alert_follower(name, since, on_gap))


async def _followed(follower: Follower[T]) -> AsyncGenerator[T]:
    """Yield the items that a follower reads in its own thread."""
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "streamclust-updates")
    try:
        while True:
            try:
                found = await loop.run_in_executor(thread, follower.poll, _BLOCK_MS)
            except redis.RedisError as error:
                await asyncio.sleep(follower.pause_after(error))
                continue
            for each in found:
                yield each
    finally:
        thread.shutdown(wait=False)
