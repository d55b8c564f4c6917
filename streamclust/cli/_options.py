"""Options that several commands share."""

from __future__ import annotations

import math
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

ONE_SHOT_WAIT = 30.0
"""Seconds that a command which ends by itself waits for the server at the start, by default."""

TABLE_KINDS = ("csv", "tsv", "jsonl", "ndjson", "npy", "npz", "parquet")
"""The kinds of `streamclust.tables`, which takes too long to import for the help."""


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


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which points; the command receives `which`."""

    @click.option(
        "--from",
        "first",
        metavar="ID|TIME",
        help="First entry: an ID, or a time such as 2026-05-01T12:00.  [default: the oldest]",
    )
    @click.option(
        "--to",
        "last",
        metavar="ID|TIME",
        help="Last entry.  [default: the newest that the model has learned]",
    )
    @click.option(
        "--last",
        "latest",
        metavar="TIME|N",
        help="The last so much event time (1h) or so many points (1e6).",
    )
    @click.option(
        "--data",
        "files",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file instead of the stream: CSV, JSON lines, .npy, .npz, Parquet. Repeatable.",
    )
    @click.option("--weight-column", metavar="NAME", help="Column of weights in the files.")
    @click.option(
        "--from-coreset",
        is_flag=True,
        help="The weighted points that the model itself keeps, also of entries long trimmed.",
    )
    @wraps(command)
    def wrapper(
        *args: Any,
        first: str | None,
        last: str | None,
        latest: str | None,
        files: tuple[Path, ...],
        weight_column: str | None,
        from_coreset: bool,
        **kwargs: Any,
    ) -> Any:
        from streamclust.refit.command import Which
        from streamclust.refit.span import Span

        if files and (first or last or latest):
            raise click.UsageError("--data goes without --from, --to and --last: files have no IDs")
        if first and latest:
            raise click.UsageError("--from and --last both say where to begin; give one")
        if from_coreset and (files or first or last or latest):
            raise click.UsageError("--from-coreset stands alone: it is of all that was learned")
        which = Which(Span(first, last, latest), files, weight_column, from_coreset)
        return command(*args, which=which, **kwargs)

    return wrapper
