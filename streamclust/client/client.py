"""The Python client: versions of models, alerts, and points for streams."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet

import redis

from streamclust.client.add import as_points, check_entries, check_stream
from streamclust.client.alerts import AlertFollower
from streamclust.client.arguments import (
    as_address,
    as_seconds,
    as_since,
    check_name,
    check_on_gap,
    check_text,
    name_arguments,
)
from streamclust.client.follower import CLOSED, Follower
from streamclust.client.ingest import ingest
from streamclust.client.pausing import new_pause, pause_all
from streamclust.client.versions import VersionFollower
from streamclust.errors import BusyError, ClientClosedError, ConfigError, ServerError
from streamclust.hyperparameters import as_integer
from streamclust.store.model.keys import Keys
from streamclust.store.model.pause import resume_models
from streamclust.store.model.versions import model_names, read_model
from streamclust.store.server.connect import open_server, translate, translated
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from narwhals.typing import IntoDataFrame
    from numpy.typing import ArrayLike

    from streamclust.arrays import Missing
    from streamclust.client.add import Labels
    from streamclust.client.follower import OnGap
    from streamclust.client.ingest import IngestReport
    from streamclust.errors import StreamclustError
    from streamclust.formats.alerts import Alert
    from streamclust.formats.layout import EntryFormat
    from streamclust.formats.model import Model
    from streamclust.store.model.pause import Pause

T = TypeVar("T")
F = TypeVar("F", bound=Follower[Any])

_BLOCK_MS = 500


class Client:
    """Reads models that workers publish, and adds points to streams.

    Parameters
    ----------
    url : str, default='embedded'
        The server of the worker: ``redis://``, ``rediss://``, ``unix://``,
        ``redis+sentinel://host,host/service`` or ``redis+cluster://host,host``; or ``embedded``
        for the server that all commands in this directory share.
    namespace : str, default='streamclust'
    data_dir : path, default='.streamclust'
        Directory of the embedded server.
    username, password : str, optional
    sentinel_username, sentinel_password : str, optional
        Login for the sentinels.

    Raises
    ------
    DataError
        If an argument has the wrong type, or `namespace` can't be a namespace.
    ConfigError
        If `url` isn't the URL of a server.
    ServerError
        If the server can't be reached or refuses the connection.

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
        address = as_address(
            url,
            namespace,
            data_dir,
            username=username,
            password=password,
            sentinel_username=sentinel_username,
            sentinel_password=sentinel_password,
        )
        self._namespace = namespace
        self._followers: WeakSet[Follower[Any]] = WeakSet()
        self._is_closed = False
        with self._arguments_named():
            self._server = open_server(address)
            with translate(self._server.label):
                self._connection = self._server.client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        more = "" if self._namespace == "streamclust" else f", namespace={self._namespace!r}"
        return f"<{type(self).__name__} of {printable(self._server.label)}{more}>"

    def close(self) -> None:
        """Close the connections; the embedded server stops after its last user has disconnected.

        Later calls of other methods raise ``ClientClosedError``. So do the iterators of `updates`
        and `alerts`.
        """
        self._is_closed = True
        for follower in list(self._followers):
            follower.close()
        self._server.close()

    @property
    def _client(self) -> redis.Redis:
        if self._is_closed:
            raise ClientClosedError(CLOSED)
        return self._connection

    _name_arguments: Callable[[ConfigError | ServerError], None] = staticmethod(name_arguments)

    @contextmanager
    def _arguments_named(self) -> Iterator[None]:
        try:
            yield
        except (ConfigError, ServerError) as error:
            self._name_arguments(error)
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with self._arguments_named(), translate(self._server.label):
            yield

    def _explained(self, error: redis.RedisError) -> StreamclustError:
        found = translated(error, self._server.label)
        if isinstance(found, ServerError):
            self._name_arguments(found)
        return found

    def _keys(self, name: str) -> Keys:
        check_name("name", name)
        return Keys(self._namespace, name)

    def names(self) -> list[str]:
        """Return the names of all models in the namespace."""
        with self._translated():
            return model_names(self._client, self._namespace)

    def model(self, name: str, version: int | None = None) -> Model:
        """Return the latest version of a model, or another version that is still stored.

        Raises
        ------
        UnknownModelError
            If the model or the version doesn't exist.
        DataError
            If `name` isn't a text, or `version` isn't an integer from 1.
        """
        check_text("name", name)
        if version is not None:
            version = as_integer("version", version, 1)
        with self._translated():
            return read_model(self._client, Keys(self._namespace, name), version)

    def pause(self, name: str, *, reason: str = "", by: str = "", wait: float = 10.0) -> Pause:
        """Pause a model: no worker learns or publishes it until `resume`.

        A running worker commits its current batch, and then confirms the pause. A model that is
        paused already keeps its earlier pause. A model that doesn't exist yet is paused too.

        Parameters
        ----------
        name : str
        reason : str, optional
            A text for others, up to 200 characters.
        by : str, optional
            Name of the user who pauses the model. Default: user and host of this process.
        wait : float, default=10.0
            Maximum seconds to wait for the worker.

        Returns
        -------
        Pause
            The pause in effect: since when the model is paused, by whom, and why.

        Raises
        ------
        BusyError
            If the worker hasn't confirmed in time. The pause stays, and takes effect after the
            worker's current batch.
        DataError
            If `name` can't be the name of a model, a text is too long, or `wait` isn't a number of
            seconds.
        """
        keys, pause, wait = self._keys(name), new_pause(reason, by), as_seconds("wait", wait)
        with self._translated():
            found = pause_all(self._client, [keys], pause, wait)
        effect = found.get(keys)
        if effect is None:
            raise BusyError(f"model {name!r} was resumed by another user during the wait")
        if not effect.is_confirmed:
            raise BusyError(
                f"the worker of {name!r} hasn't confirmed the pause within {wait:g} s; it pauses "
                "after its current batch"
            )
        return effect.pause

    def resume(self, name: str) -> Pause | None:
        """End the pause of a model; return the pause, or None if the model isn't paused.

        Raises
        ------
        DataError
            If `name` can't be the name of a model.
        """
        keys = self._keys(name)
        with self._translated():
            [resumed] = resume_models(self._client, [keys])
        return None if resumed is None else resumed.pause

    def add(
        self,
        stream: str,
        X: ArrayLike | IntoDataFrame,
        *,
        labels: Labels | None = None,
        weights: ArrayLike | str | None = None,
        times: ArrayLike | str | None = None,
        features: Sequence[str] | None = None,
        format: EntryFormat | None = None,
        block: int | None = None,
        maxlen: int | None = None,
        missing: Missing = "reject",
    ) -> IngestReport:
        """Add points to a stream, in pipelines.

        All values are checked before the first point is sent. After an error of the server, the
        message has the number of points sent before.

        Parameters
        ----------
        stream : str
            Key of the stream.
        X : array-like of shape (N, D), or data frame
            The points. A frame of pandas, polars or pyarrow: its columns are the features, except
            those that `labels`, `weights` and `times` name.
        labels : mapping, or names of columns of a frame, optional
            Texts that encoders copy to the codes (`encode.labels`): a name and one value per point,
            or one value for all points.
        weights : array-like of shape (N,), or name of a column, optional
            Weights of the points, in the field ``w`` (`points.weight_field`).
        times : array-like of shape (N,), or name of a column, optional
            Event times, ascending: datetimes (in UTC if they have no zone) or integers in
            milliseconds since 1970. They become the IDs of the entries; a block has the time of its
            last point. By default, the server gives its own time.
        features : sequence of str, optional
            Names of the columns of X, for named fields; for a frame, the columns to add, in this
            order, in any format.
        format : {'fields', 'json', 'float32', 'float64'}, optional
            Format of the entries. By default, named fields if the columns have names, else raw
            blocks of the type of X. Blocks hold no names: set `points.features` of the model.
        block : int, optional
            Points per entry. By default, 1 for named fields and for points with labels or times,
            else up to 1,024 points and 1 MiB.
        maxlen : int, optional
            Trim the stream to approximately this number of entries. By default, don't trim.
        missing : {'reject', 'learn'}, default='reject'
            What to do with a point with missing values (NaN, or null in a frame): refuse it, or
            send it for a model with `points.missing: learn`.

        Returns
        -------
        IngestReport
            Numbers of points and entries, duration, and ID of the last entry.

        Raises
        ------
        DataError
            If a value can't be used.
        ServerError
            If the server refuses points or can't be reached.

        Examples
        --------
        >>> import numpy as np
        >>> with Client() as client:  # doctest: +SKIP
        ...     client.add("points", np.random.default_rng(0).normal(size=(10_000, 2)))
        ...     client.add("sensors", frame, labels=["host"], times="timestamp")
        """
        check_stream(stream, self._namespace)
        points = as_points(X, labels, weights, times, features, missing, format)
        chosen = points.format if format is None else format
        size = points.block(chosen) if block is None else as_integer("block", block, 1)
        check_entries(points, chosen, size, maxlen)
        with self._arguments_named():
            return ingest(
                self._client,
                stream,
                points.chunks(size),
                format=chosen,
                block=size,
                maxlen=maxlen,
                label=self._server.label,
            )

    def updates(
        self,
        name: str,
        *,
        since: int | None = None,
        timeout: float | None = None,
        on_gap: OnGap | None = None,
    ) -> Iterator[Model]:
        """Yield each version once, oldest first, and wait for new versions.

        After a lost connection, the client connects again and continues after the last yielded
        version. It logs both events under the name ``streamclust``.

        Parameters
        ----------
        name : str
        since : int, optional
            Yield the stored versions after this one first; 0 for all. By default, start with the
            latest version.
        timeout : float, optional
            Stop after this number of seconds without a version; 0 yields the stored versions
            only. By default, never stop.
        on_gap : callable, optional
            Called with the numbers of the first and the last version of a gap: versions that were
            trimmed before they could be read. By default, the client logs a warning.

        Raises
        ------
        DataError
            If an argument has the wrong type or value; raised by the call itself.
        ServerError
            If the server refuses a command, or can't be reached within `timeout`.
        """
        return self._followed(self.follower(name, since, on_gap), timeout)

    def alerts(
        self,
        name: str,
        *,
        since: int | None = None,
        timeout: float | None = None,
        on_gap: OnGap | None = None,
    ) -> Iterator[Alert]:
        """Yield each alert of a model once, oldest first, and wait for new alerts.

        An alert is a point that was flagged as an anomaly (`anomaly.rate`). After a lost
        connection, the client connects again and continues after the last yielded alert.

        Parameters
        ----------
        name : str
        since : int, optional
            Yield the stored alerts after this number first; 0 for all. By default, only new alerts.
        timeout : float, optional
            Stop after this number of seconds without an alert; 0 yields the stored alerts only. By
            default, never stop.
        on_gap : callable, optional
            Called with the numbers of the first and the last alert of a gap: alerts that were
            trimmed before they could be read. By default, the client logs a warning.

        Raises
        ------
        DataError
            If an argument has the wrong type or value; raised by the call itself.
        ServerError
            If the server refuses a command, or can't be reached within `timeout`.

        Examples
        --------
        >>> with Client() as client:  # doctest: +SKIP
        ...     for alert in client.alerts("machines", since=0):
        ...         print(alert.entry_id, alert.one_in, alert.top[0].feature)
        """
        return self._followed(self.alert_follower(name, since, on_gap), timeout)

    def _followed(self, follower: Follower[T], timeout: float | None) -> Iterator[T]:
        if timeout is not None:
            timeout = as_seconds("timeout", timeout)
        return self._follow(follower, timeout)

    def _follow(self, follower: Follower[T], timeout: float | None) -> Iterator[T]:
        """Yield the items that a follower reads, until none arrives for `timeout` seconds."""
        quiet_since = time.monotonic()
        while True:
            remaining = math.inf if timeout is None else quiet_since + timeout - time.monotonic()
            block_ms = int(min(_BLOCK_MS, 1000.0 * remaining))
            try:
                found = follower.poll(block_ms if block_ms > 0 else None)
            except redis.RedisError as error:
                if remaining <= 0.0:
                    raise self._explained(error) from error
                time.sleep(min(follower.pause_after(error), remaining))
                continue
            for each in found:
                yield each
                quiet_since = time.monotonic()
            if not found and remaining <= 0.0:
                return

    @property
    def label(self) -> str:
        """Return the name of the server for messages."""
        return self._server.label

    def follower(self, name: str, since: int | None, on_gap: OnGap | None) -> VersionFollower:
        """Return the reader of a model's versions, for your own event loop."""
        return self._new_follower(VersionFollower, name, since, on_gap)

    def alert_follower(self, name: str, since: int | None, on_gap: OnGap | None) -> AlertFollower:
        """Return the reader of a model's alerts, for your own event loop."""
        return self._new_follower(AlertFollower, name, since, on_gap)

    def _new_follower(self, kind: type[F], name: str, since: int | None, on_gap: OnGap | None) -> F:
        keys, since = self._keys(name), as_since(since)
        check_on_gap(on_gap)
        label = self._server.label
        follower = kind(self._client, keys, label, since, on_gap, self._explained)
        self._followers.add(follower)
        return follower


class SettingsClient(Client):
    """The client of commands.

    Its errors name settings, such as `redis.url`, not arguments. It reads models of any name,
    because another program may have written them.
    """

    _name_arguments = staticmethod(lambda _: None)

    def _keys(self, name: str) -> Keys:
        return Keys(self._namespace, name)
