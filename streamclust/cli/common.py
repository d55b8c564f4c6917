"""What several commands share: the options that say which server, and the server itself."""

from __future__ import annotations

import math
import os
import sys
import threading
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from streamclust.client.client import Client
    from streamclust.config import Settings
    from streamclust.runtime.job import Job
    from streamclust.store.connect import Server

F = TypeVar("F", bound="Callable[..., Any]")

EXIT_INTERRUPTED = 130

ONE_SHOT_WAIT = 30.0
"""Seconds that a command which ends by itself waits for the server at the start, by default."""


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config, --redis-url and --set; the command receives `settings`."""

    @click.option(
        "--config",
        "-c",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Configuration file.  [default: config.yaml, if there is one]",
    )
    @click.option("--redis-url", metavar="URL", help="Server to use; same as --set redis.url=URL.")
    @click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Override a setting, such as models.palette.n_clusters=32. Repeatable.",
    )
    @wraps(command)
    def wrapper(
        *args: Any,
        config: Path | None,
        redis_url: str | None,
        overrides: tuple[str, ...],
        **kwargs: Any,
    ) -> Any:
        from streamclust.config import load_settings

        flags = (*overrides, *([] if redis_url is None else [f"redis.url={redis_url}"]))
        return command(*args, settings=load_settings(config, flags), **kwargs)

    return wrapper


class NumberRange(click.FloatRange):
    """A range of numbers; NaN is outside of every range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or refuse it."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class _Wait(click.ParamType):  # type: ignore[type-arg]
    """A duration as in the settings, or `forever`; seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        from streamclust.config.values import parse_duration

        if value == "forever":
            return math.inf
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}, or forever", param, ctx)


def wait_option(default: str) -> Callable[[F], F]:
    """Add --wait-for-server; the command receives `wait`, in seconds: None if it isn't given.

    `default` describes what the command does then.
    """
    return click.option(
        "--wait-for-server",
        "wait",
        type=_Wait(),
        metavar="TIME",
        help="How long to wait at the start for a server that is away, loads its data, is busy or "
        f"demoted: 30s, forever; 0 exits at once (code 3).  [default: {default}]",
    )


def daemon_wait(wait: float | None, until_idle: bool) -> float:
    """Return how long a daemon waits at the start: for ever, unless it is to end by itself."""
    if wait is not None:
        return wait
    return ONE_SHOT_WAIT if until_idle else math.inf


def say(line: str) -> None:
    """Write a line for people to stderr; one that nobody can read changes nothing else."""
    try:
        click.echo(line, err=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Give up what can't be written: it would fail again at the end, and change the exit code."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def plain_console(*, stderr: bool = False) -> Console:
    """Return a console that shows text as it is: `[red]` or `:tada:` in a name mean nothing."""
    from rich.console import Console

    return Console(markup=False, emoji=False, stderr=stderr)


@contextmanager
def opened_server(
    settings: Settings, wait: float | None = None, *, primary: bool = False
) -> Iterator[Server]:
    """Open the server of the settings; its faults inside become errors of one line.

    With `wait`, wait so many seconds for one that can't be worked with yet (that is a replica, if
    the `primary` is needed).
    """
    from streamclust.store.connect import Address, open_server, translate

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
    """Give the server of the settings without a connection, for those who wait for it themselves.

    Its faults inside become errors of one line.
    """
    from streamclust.store.connect import Address, find_server, translate

    with find_server(Address(**_address(settings))) as server, translate(server.label):
        yield server


@contextmanager
def opened_client(settings: Settings, wait: float | None = None) -> Iterator[Client]:
    """Open the Python client on the server of the settings; wait for that so many seconds."""
    from streamclust.client.client import Client

    with opened_server(settings, wait) if wait else nullcontext():
        client = Client(**_address(settings), namespace=settings.namespace)
    with client:
        yield client


def _address(settings: Settings) -> dict[str, Any]:
    """Return which server the settings name."""
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
    """Open the server for work on one configured model, with a log of warnings only."""
    from streamclust.errors import ConfigError
    from streamclust.runtime.job import Job
    from streamclust.runtime.log import command_log

    if model not in settings.models:
        known = ", ".join(sorted(settings.models)) or "none"
        raise ConfigError(f"model {model!r} isn't configured; these are: {known}")
    with opened_server(settings, wait, primary=primary) as server:
        log = command_log().bind(model=model)
        yield Job(model, settings, server, threading.Event(), until_idle=False, log=log)
