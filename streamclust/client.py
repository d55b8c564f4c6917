"""The Python client: the newest model, and its updates as they come."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from streamclust.store.connect import Address, open_server, translate
from streamclust.store.keys import Keys
from streamclust.store.subscription import follow, model_names, read_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from streamclust.store.published import Model

_BLOCK_MS = 500


class Client:
    """Reads the models that workers publish.

    Parameters
    ----------
    url : str, default='embedded'
        ``redis://``, ``rediss://`` or ``unix://`` of the server that the worker uses, or
        ``embedded`` for the server that all commands in this directory share.
    namespace : str, default='streamclust'
    data_dir : path, default='.streamclust'
        Of the embedded server.
    username, password : str, optional

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
    ) -> None:
        self._namespace = namespace
        self._server = open_server(Address(url, Path(data_dir), username, password))
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
        self, name: str, *, since: int | None = None, timeout: float | None = None
    ) -> Iterator[Model]:
        """Yield each version, oldest first, and wait for the next.

        Parameters
        ----------
        name : str
        since : int, optional
            Yield the kept versions after this one first; 0 for all. Default: begin with the
            newest.
        timeout : float, optional
            End when no version came for so many seconds; 0 yields what is there. Default: never.
        """
        keys = Keys(self._namespace, name)
        last = self._before_newest(keys) if since is None else since
        quiet_since = time.monotonic()
        while True:
            remaining = None if timeout is None else quiet_since + timeout - time.monotonic()
            with translate(self._server.label):
                models = list(follow(self._client, keys, last, block_ms=_patience(remaining)))
            for model in models:
                yield model
                last = model.version
                quiet_since = time.monotonic()
            if not models and remaining is not None and remaining <= 0.0:
                return

    def _before_newest(self, keys: Keys) -> int:
        with translate(self._server.label):
            newest: Any = self._client.xrevrange(keys.models, count=1)
        return int(newest[0][0].partition(b"-")[0]) - 1 if newest else 0


def _patience(remaining: float | None) -> int | None:
    """Return how long a read may block, in milliseconds; None for not at all."""
    if remaining is None:
        return _BLOCK_MS
    milliseconds = min(_BLOCK_MS, int(remaining * 1000))
    return milliseconds if milliseconds > 0 else None
