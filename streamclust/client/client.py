"""The Python client: the newest model, and its updates as they come."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import redis

from streamclust.client.follower import Follower
from streamclust.store.connect import Address, open_server, translate, translated
from streamclust.store.keys import Keys
from streamclust.store.subscription import model_names, read_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from streamclust.client.follower import OnGap
    from streamclust.store.published import Model

_BLOCK_MS = 500


class Client:
    """Reads the models that workers publish.

    Parameters
    ----------
    url : str, default='embedded'
        ``redis://``, ``rediss://`` or ``unix://`` of the server that the worker uses,
        ``redis+sentinel://host,host/service``, ``redis+cluster://host,host``, or ``embedded`` for
        the server that all commands in this directory share.
    namespace : str, default='streamclust'
    data_dir : path, default='.streamclust'
        Of the embedded server.
    username, password : str, optional
    sentinel_username, sentinel_password : str, optional
        For the sentinels.

    Raises
    ------
    ServerError
        If the server can't be reached or refuses.

    Examples
    --------
    >>> from streamclust import Client
    >>> with Client("redis://localhost:6379") as client:        # doctest: +SKIP
    ...     labels = client.model("palette").predict(pixels)
    ...     for model in client.updates("palette"):
    ...         print(model.version, model.params.centroids)
    """

    def __init__(
        self,
        url: str = "embedded",
        *,
        namespace: str = "streamclust",
        data_dir: str | Path = ".streamclust",
        username: str | None = None,
        password: str | None = None,
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
    ) -> None:
        self._namespace = namespace
        logins = username, password, sentinel_username, sentinel_password
        self._server = open_server(Address(url, Path(data_dir), *logins))
        with translate(self._server.label):
            self._client = self._server.client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the embedded server stops when its last user has left."""
        self._server.close()

    def names(self) -> list[str]:
        """Return the names of all models in the namespace."""
        with translate(self._server.label):
            return model_names(self._client, self._namespace)

    def model(self, name: str, version: int | None = None) -> Model:
        """Return the newest version of a model, or a given one that is still kept.

        Raises
        ------
        UnknownModelError
            If there is none.
        """
        with translate(self._server.label):
            return read_model(self._client, Keys(self._namespace, name), version)

    def updates(
        self,
        name: str,
        *,
        since: int | None = None,
        timeout: float | None = None,
        on_gap: OnGap | None = None,
    ) -> Iterator[Model]:
        """Yield each version once, oldest first, and wait for the next.

        A lost connection is made again, and reading goes on after the last version that was
        yielded. Both are logged, under the name ``streamclust``.

        Parameters
        ----------
        name : str
        since : int, optional
            Yield the kept versions after this one first; 0 for all. Default: begin with the
            newest.
        timeout : float, optional
            End when no version came for so many seconds; 0 yields what is there. Default: never.
        on_gap : callable, optional
            Called with the first and the last number of versions that were trimmed away before
            they could be read. Default: a warning is logged.

        Raises
        ------
        ServerError
            If the server refuses, or can't be reached until the `timeout` is over.
        """
        follower = self.follower(name, since, on_gap)
        quiet_since = time.monotonic()
        while True:
            remaining = None if timeout is None else quiet_since + timeout - time.monotonic()
            try:
                models = follower.poll(_patience(remaining))
            except redis.RedisError as error:
                if remaining is not None and remaining <= 0.0:
                    raise translated(error, self._server.label) from error
                time.sleep(_no_longer(follower.pause_after(error), remaining))
                continue
            for model in models:
                yield model
                quiet_since = time.monotonic()
            if not models and remaining is not None and remaining <= 0.0:
                return

    @property
    def label(self) -> str:
        """Return the server's name for people."""
        return self._server.label

    def follower(self, name: str, since: int | None, on_gap: OnGap | None) -> Follower:
        """Return what reads the versions of a model; for event loops of one's own."""
        keys = Keys(self._namespace, name)
        return Follower(self._client, keys, self._server.label, since, on_gap)


def _no_longer(pause: float, remaining: float | None) -> float:
    return pause if remaining is None else min(pause, remaining)


def _patience(remaining: float | None) -> int | None:
    """Return how long a read may block, in milliseconds; None for not at all."""
    if remaining is None:
        return _BLOCK_MS
    milliseconds = min(_BLOCK_MS, int(remaining * 1000))
    return milliseconds if milliseconds > 0 else None
