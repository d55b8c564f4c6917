"""The server, the client and the job that the settings describe, opened for a command."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from streamclust.cli._render import say
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import ONE_MODEL, is_pattern, known_names, printable

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

NO_CONFIG = "no config.yaml in this folder"

_POLL = 0.2
"""Seconds between checks whether the embedded server runs."""

_SILENCE = 2.0
"""Seconds without an answer after which a command prints the server that it waits for."""


@contextmanager
def opened_server(
    settings: Settings,
    wait: float | None = None,
    *,
    primary: bool = False,
    start: bool | None = None,
) -> Iterator[Server]:
    """Open the server of the settings; inside, faults of the server become errors of one line.

    With `wait`, wait up to that many seconds until the server is ready. If `primary` is needed, a
    replica isn't ready. `start` decides whether the embedded server is started; by default, it is
    started if its data are stored here, and stops with the command.
    """
    from streamclust.store.server.connect import Address, open_server, translate

    address = Address(**server_address(settings))
    start = has_stored_data(settings) if start is None else start
    if wait is None:
        with print_if_slow(settings):
            server = open_server(address, start=start)
        with server, translate(server.label):
            yield server
        return
    from streamclust.runtime.backoff import wait_for_server
    from streamclust.runtime.log import command_log

    with found_server(settings, start=start, wait=wait) as server:
        try:
            with print_if_slow(settings):
                wait_for_server(server, threading.Event(), command_log(), wait, primary=primary)
        except KeyboardInterrupt:
            raise SystemExit(EXIT_INTERRUPTED) from None
        yield server


@contextmanager
def print_if_slow(settings: Settings) -> Iterator[None]:
    """Print the name of the server if the block takes long, as it does with a server that hangs."""
    from streamclust.store.server.url import server_label

    label = server_label(settings.redis.url, settings.redis.data_dir)
    note = threading.Timer(_SILENCE, say, (printable(f"waiting for an answer from {label}"),))
    note.daemon = True
    note.start()
    try:
        yield
    finally:
        note.cancel()


@contextmanager
def found_server(settings: Settings, *, start: bool = False, wait: float = 0.0) -> Iterator[Server]:
    """Give the server of the settings without a connection; the caller waits until it is ready.

    Inside, faults of the server become errors of one line. Without `start`, wait up to `wait`
    seconds until another command has started the embedded server.
    """
    from streamclust.store.server.connect import translate

    with _find(settings, start, wait) as server, translate(server.label):
        yield server


def _find(settings: Settings, start: bool, wait: float) -> Server:
    from streamclust.errors import ServerUnreachableError
    from streamclust.store.server.connect import Address, find_server

    address, is_reported = Address(**server_address(settings)), False
    deadline = time.monotonic() + wait
    while True:
        try:
            return find_server(address, start=start)
        except ServerUnreachableError as error:
            if time.monotonic() >= deadline:
                raise
            if not is_reported:
                say(f"{error}; waiting")
                is_reported = True
        time.sleep(min(_POLL, max(deadline - time.monotonic(), 0.0)))


def has_stored_data(settings: Settings) -> bool:
    """Return whether the embedded server of the settings has data here."""
    folder = settings.redis.data_dir.expanduser() / "appendonlydir"
    return settings.redis.url == "embedded" and folder.is_dir()


@contextmanager
def opened_client(settings: Settings) -> Iterator[Client]:
    """Open the Python client."""
    from streamclust.client.client import SettingsClient

    with (
        opened_server(settings),
        SettingsClient(**server_address(settings), namespace=settings.namespace) as client,
    ):
        yield client


def server_address(settings: Settings) -> dict[str, Any]:
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
    settings: Settings,
    model: str,
    wait: float | None = None,
    *,
    primary: bool = False,
    start: bool | None = None,
) -> Iterator[Job]:
    """Open the server for a job on one configured model; the log has only warnings.

    See `opened_server`.
    """
    from streamclust.errors import ConfigError
    from streamclust.runtime.job import Job
    from streamclust.runtime.log import command_log

    if model not in settings.models:
        raise ConfigError(not_configured(model, settings))
    with opened_server(settings, wait, primary=primary, start=start) as server:
        log = command_log().bind(model=model)
        yield Job(model, settings, server, threading.Event(), until_idle=False, log=log)


def no_models(settings: Settings) -> str:
    """Return a text for settings without a model: what is missing, and what to do."""
    if settings.file:
        return f"{settings.file} describes no model; add one under `models:`"
    return f"{NO_CONFIG}; `streamclust init` writes one, or name another file with --config"


def not_configured(model: str, settings: Settings) -> str:
    """Return a text for a model that the settings don't have."""
    known = sorted(settings.models.entries)
    if model in known:
        return f"{model!r} is a template; name one of its models, such as those of `status`"
    if is_pattern(model):
        return f"{ONE_MODEL.format(model)}; `streamclust status {model!r}` lists those that match"
    near = get_close_matches(model, known, n=1)
    if near:
        return f"model {model!r} isn't configured; did you mean {near[0]!r}?"
    if known:
        return f"model {model!r} isn't configured; configured models: {', '.join(known)}"
    return f"model {model!r} isn't configured: {no_models(settings)}"


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


def read_overview(client: redis.Redis, settings: Settings, model: str, label: str) -> Overview:
    """Return the overview of a model.

    Raises
    ------
    UnknownModelError
        If neither the settings nor the server have the model.
    """
    [row] = read_overviews(client, settings, [model], label)
    return row


def refuse_unknown(client: redis.Redis, settings: Settings, model: str, label: str) -> None:
    """Raise an error for a model that is neither in the settings nor on the server."""
    from streamclust.errors import UnknownModelError
    from streamclust.store.model.versions import model_names

    if model not in settings.models and model not in model_names(client, settings.namespace):
        raise UnknownModelError(unknown_model(client, settings, model, label))


def unknown_model(client: redis.Redis, settings: Settings, model: str, label: str) -> str:
    """Return a text for a model that neither the settings nor the server have."""
    from streamclust.store.model.versions import model_names

    there = model_names(client, settings.namespace)
    from streamclust.runtime.discovery import select_names, selects_several

    if selects_several(model, settings):
        if matches := select_names(there, model, settings):
            return f"{ONE_MODEL.format(model)}, such as {matches[0]!r}"
        known = known_names(model, sorted({*there, *settings.models}), "models")
        return f"no model matches {model!r} in namespace {settings.namespace!r}; {known}"
    near = get_close_matches(model, {*there, *settings.models}, n=1)
    known = known_names(model, there, "models there")
    end = f"did you mean {near[0]!r}?" if near else known
    where = f"in {settings.file}" if settings.file else f"here ({NO_CONFIG})"
    return (
        f"model {model!r} is neither configured {where} nor on {label} in namespace "
        f"{settings.namespace!r}; {end}"
    )


def select_models(
    client: redis.Redis, settings: Settings, names: Sequence[str], label: str
) -> list[str]:
    """Return the models that names, patterns and templates select.

    Default: all that the settings name, that exist, or whose streams match a template. Named models
    come first, in the given order; then the others, sorted.

    Raises
    ------
    UnknownModelError
        If a pattern or template has no model.
    """
    from streamclust.errors import UnknownModelError
    from streamclust.runtime.discovery import select_names, selects_several
    from streamclust.runtime.overviews import all_names

    several = [name for name in names if selects_several(name, settings)]
    named = [name for name in names if name not in several]
    if names and not several:
        return list(dict.fromkeys(named))
    there = all_names(settings, client)
    if not names:
        return sorted(there)
    found: set[str] = set()
    for name in several:
        matches = select_names(there, name, settings)
        if not matches:
            raise UnknownModelError(unknown_model(client, settings, name, label))
        found.update(matches)
    return list(dict.fromkeys([*named, *sorted(found)]))


def read_overviews(
    client: redis.Redis, settings: Settings, names: Sequence[str] | None = None, label: str = ""
) -> Iterator[Overview]:
    """Yield the overviews of these models. Default: all that are configured or exist.

    Raises
    ------
    UnknownModelError
        If neither the settings nor the server have a model.
    """
    from streamclust.errors import UnknownModelError
    from streamclust.runtime import overviews

    names = select_models(client, settings, (), label) if names is None else names
    try:
        yield from overviews.read_overviews(client, settings, names)
    except UnknownModelError as error:
        raise UnknownModelError(unknown_model(client, settings, error.model, label)) from None
