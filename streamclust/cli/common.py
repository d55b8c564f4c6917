"""What several commands share: the options that say which server, and the server itself."""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from streamclust.client import Client
    from streamclust.config import Settings
    from streamclust.store.connect import Server
    from streamclust.worker.model import Job

F = TypeVar("F", bound="Callable[..., Any]")


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


def plain_console(*, stderr: bool = False) -> Console:
    """Return a console that shows text as it is: `[red]` or `:tada:` in a name mean nothing."""
    from rich.console import Console

    return Console(markup=False, emoji=False, stderr=stderr)


@contextmanager
def opened_server(settings: Settings) -> Iterator[Server]:
    """Open the server of the settings; its faults inside become errors of one line."""
    from streamclust.store.connect import Address, open_server, translate

    with open_server(Address(**_address(settings))) as server, translate(server.label):
        yield server


@contextmanager
def opened_client(settings: Settings) -> Iterator[Client]:
    """Open the Python client on the server of the settings."""
    from streamclust.client import Client

    with Client(**_address(settings), namespace=settings.namespace) as client:
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
def opened_job(settings: Settings, model: str) -> Iterator[Job]:
    """Open the server for work on one configured model, with a log of warnings only."""
    import threading

    from streamclust.errors import ConfigError
    from streamclust.worker.log import command_log
    from streamclust.worker.model import Job

    if model not in settings.models:
        known = ", ".join(sorted(settings.models)) or "none"
        raise ConfigError(f"model {model!r} isn't configured; these are: {known}")
    with opened_server(settings) as server:
        log = command_log().bind(model=model)
        yield Job(model, settings, server, threading.Event(), until_idle=False, log=log)
