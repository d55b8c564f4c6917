"""The server, the client and the job that the settings describe, opened for a command."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from streamclust.cli.exit_codes import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

    from streamclust.client.client import Client
    from streamclust.config import Settings
    from streamclust.errors import DamagedVersionError
    from streamclust.formats.model import Model
    from streamclust.runtime.job import Job
    from streamclust.store.model.overview import Overview
    from streamclust.store.server.connect import Server


@contextmanager
def opened_server(
    settings: Settings, wait: float | None = None, *, primary: bool = False
) -> Iterator[Server]:
    """Open the server of the settings; inside, faults of the server become errors of one line.

    With `wait`, wait up to that many seconds until the server is ready. If `primary` is needed, a
    replica isn't ready.
    """
    from streamclust.store.server.connect import Address, open_server, translate

    address = Address(**_address(settings))
    if wait is None:
        with open_server(address) as server, translate(server.label):
            yield server
        return
    from streamclust.runtime.backoff import wait_for_server
    from streamclust.runtime.log import command_log

    with found_server(settings) as server:
        try:
            wait_for_server(server, threading.Event(), command_log(), wait, primary=primary)
        except KeyboardInterrupt:
            raise SystemExit(EXIT_INTERRUPTED) from None
        yield server


@contextmanager
def found_server(settings: Settings) -> Iterator[Server]:
    """Give the server of the settings without a connection, for a caller that waits by itself.

    Inside, faults of the server become errors of one line.
    """
    from streamclust.store.server.connect import Address, find_server, translate

    with find_server(Address(**_address(settings))) as server, translate(server.label):
        yield server


@contextmanager
def opened_client(settings: Settings, wait: float | None = None) -> Iterator[Client]:
    """Open the Python client; wait up to `wait` seconds for the server."""
    from streamclust.client.client import Client

    with opened_server(settings, wait) if wait else nullcontext():
        client = Client(**_address(settings), namespace=settings.namespace)
    with client:
        yield client


def _address(settings: Settings) -> dict[str, Any]:
    """Return the address of the server as keyword arguments."""
    redis = settings.redis
    return {
        "url": redis.url,
        "data_dir": redis.data_dir,
        "username": redis.username,
        "password": redis.read_password(),
        "sentinel_username": redis.sentinel_username,
        "sentinel_password": redis.read_sentinel_password(),
    }


@contextmanager
def opened_job(
    settings: Settings, model: str, wait: float | None = None, *, primary: bool = False
) -> Iterator[Job]:
    """Open the server for a job on one configured model; the log has only warnings."""
    from streamclust.errors import ConfigError
    from streamclust.runtime.job import Job
    from streamclust.runtime.log import command_log

    if model not in settings.models:
        raise ConfigError(_not_configured(model, sorted(settings.models)))
    with opened_server(settings, wait, primary=primary) as server:
        log = command_log().bind(model=model)
        yield Job(model, settings, server, threading.Event(), until_idle=False, log=log)


def _not_configured(model: str, known: list[str]) -> str:
    near = get_close_matches(model, known, n=1)
    if near:
        return f"model {model!r} isn't configured; did you mean {near[0]!r}?"
    return (
        f"model {model!r} isn't configured; configured models: {', '.join(known)}"
        if known
        else f"model {model!r} isn't configured; describe it in config.yaml, or name a file of "
        "settings with --config"
    )


def each_version(
    client: Client, model: str, since: int | None, timeout: float | None
) -> Iterator[Model | DamagedVersionError]:
    """Yield the updates of a model; a version that can't be read is yielded as its error."""
    from streamclust.errors import DamagedVersionError

    while True:
        try:
            yield from client.updates(model, since=since, timeout=timeout)
        except DamagedVersionError as error:
            since = error.version
            yield error
        else:
            return


def read_overviews(
    client: redis.Redis, settings: Settings, names: Sequence[str] = ()
) -> list[Overview]:
    """Return the overviews of these models. Default: all that are configured or exist."""
    from streamclust.store.model import overview

    configured = {name: model.streams for name, model in settings.models.items()}
    return overview.read_overviews(client, settings.namespace, configured, names)
