"""Options that several commands share."""

from __future__ import annotations

import math
from functools import partial, wraps
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamclust.cli._render import say
from streamclust.cli._table_options import table_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.config import Settings
    from streamclust.refit.command import Selection

F = TypeVar("F", bound="Callable[..., Any]")

FAMILY_KINDS = ("kmeans", "gaussian_mixture")
"""The kinds of `streamclust.models.FAMILIES`, which takes too long to import for the help."""

ONE_SHOT_WAIT = 30.0
"""Default wait for the server at the start, in seconds, of commands that end by themselves."""


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config, --redis-url and --set; the command receives `settings`."""

    @click.option(
        "--config",
        "-c",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Settings file.  [default: config.yaml if it exists]",
    )
    @click.option("--redis-url", metavar="URL", help="Redis server; same as --set redis.url=URL.")
    @click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Override a setting: models.machines.n_clusters=5. Repeatable.",
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

        _refuse_bytes(kwargs)
        flags = (*overrides, *([] if redis_url is None else [f"redis.url={redis_url}"]))
        settings = load_settings(config, flags)
        # A reload reads the same file. If it is missing then, the reload fails.
        click.get_current_context().meta[_LOADER] = partial(
            load_settings, settings.file or config, flags
        )
        for line in settings.warnings:
            say(f"warning: {line}")
        return command(*args, settings=settings, **kwargs)

    return wrapper


_LOADER = "streamclust.settings_loader"


def settings_loader() -> Callable[[], Settings]:
    """Return a function that reads the settings of the running command again."""
    loader: Callable[[], Settings] = click.get_current_context().meta[_LOADER]
    return loader


def _refuse_bytes(values: dict[str, Any]) -> None:
    """Refuse a name that isn't UTF-8: no client can send it to the server as text."""
    for name, value in values.items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not text.isascii():
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise click.UsageError(f"{name.upper()} {text!r} isn't UTF-8 text") from None


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


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A duration as in the settings; the value is in seconds.

    Parameters
    ----------
    least : float, default=0
    most : float, optional
        Default: no limit.
    forever : bool, default=False
        Whether the word `forever` is a duration too.
    """

    name = "duration"

    def __init__(
        self, least: float = 0.0, most: float = math.inf, *, forever: bool = False
    ) -> None:
        self._least, self._most, self._forever = least, most, forever

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds, or refuse the value."""
        from streamclust.config.values import parse_duration

        if self._forever and value == "forever":
            return math.inf
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.fail(f"got {value!r}; {error}{', or forever' * self._forever}", param, ctx)
        if not self._least <= seconds <= self._most:
            most = f" and at most {self._most:g}s" if self._most < math.inf else ""
            self.fail(f"got {value!r}; expected at least {self._least:g}s{most}", param, ctx)
        return seconds


def wait_option(default: str) -> Callable[[F], F]:
    """Add --wait-for-server; the command receives `wait` in seconds, or None if it isn't given.

    `default` describes the default in the help.
    """
    return click.option(
        "--wait-for-server",
        "wait",
        type=Duration(forever=True),
        metavar="DURATION",
        help="Maximum wait for the server at the start: 30s, 5m, forever; 0 doesn't wait (exit "
        f"code 3).  [default: {default}]",
    )


def warn(sentence: str) -> None:
    """Print a warning."""
    say(f"warning: {sentence}")


def daemon_wait(wait: float | None, until_idle: bool) -> float:
    """Return how long a daemon waits at the start: forever, except with --until-idle."""
    if wait is not None:
        return wait
    return ONE_SHOT_WAIT if until_idle else math.inf


ENGINES = ("auto", "inline", "threads", "processes", "dask")
"""The kinds of `streamclust.config.engine`, which takes too long to import for the help."""


def engine_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --engine, a short form of the setting engine.kind; put it below `server_options`."""

    @click.option(
        "--engine",
        "engine",
        type=click.Choice(ENGINES),
        help="What computes the sums over many points: one thread, several threads, several "
        "processes, which read large CSV files faster, or the workers of a Dask cluster "
        "(engine.address). All give the same result.  [default: the "
        "setting engine.kind: auto]",
    )
    @wraps(command)
    def wrapper(*args: Any, settings: Settings, engine: str | None, **kwargs: Any) -> Any:
        if engine is not None:
            chosen = settings.engine.model_copy(update={"kind": engine})
            settings = settings.model_copy(update={"engine": chosen})
        return command(*args, settings=settings, **kwargs)

    decorated: Callable[..., Any] = wrapper
    return decorated


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select points; the command receives `which`."""

    @click.option(
        "--from",
        "first",
        metavar="ID|TIME",
        help="First entry: an ID, or a time such as 2026-05-01T12:00.  [default: the oldest entry]",
    )
    @click.option(
        "--to",
        "last",
        metavar="ID|TIME",
        help="Last entry: an ID or a time.  [default: the last entry that the model has learned]",
    )
    @click.option(
        "--last",
        "latest",
        metavar="DURATION|N",
        help="Only the most recent points: a duration (1h) or a number of points (1e6).",
    )
    @click.option(
        "--data",
        "files",
        multiple=True,
        metavar="FILE",
        help="Read a file instead of the stream: CSV, JSON lines, .npy, .npz, Parquet. A pattern "
        "in quotes selects several files, in the order of their names: 'dir/*.parquet'. "
        "Repeatable.",
    )
    @table_options(
        "Columns of the files, in the order of the features.  [default: those with the names of "
        "the features]",
        ("stop", "skip"),
        "What to do with a bad row of a file: stop with an error, or skip it with a warning.  "
        "[default: stop]",
    )
    @click.option(
        "--from-coreset",
        is_flag=True,
        help="Use the coreset: weighted points in the model's state that stand for all learned "
        "points, including trimmed entries.",
    )
    @wraps(command)
    def wrapper(
        *args: Any,
        first: str | None,
        last: str | None,
        latest: str | None,
        files: tuple[str, ...],
        table: dict[str, Any],
        from_coreset: bool,
        **kwargs: Any,
    ) -> Any:
        which = _selection(first, last, latest, files, table, from_coreset)
        return command(*args, which=which, **kwargs)

    decorated: Callable[..., Any] = wrapper
    return decorated


def data_files(name: str) -> list[Path]:
    """Return the file of this name, or the files that match a pattern, in the order of names.

    Raises
    ------
    click.BadParameter
        If there is no such file.
    """
    path = Path(name)
    problem = ""
    if path.is_dir():
        pattern = f"{name.rstrip('/')}/*.parquet"
        problem = f"{name!r} is a folder; select its files by a pattern, such as '{pattern}'."
    elif not path.exists():
        found = [Path(each) for each in sorted(glob(name, recursive=True))]  # noqa: PTH207
        files = [each for each in found if not each.is_dir()]
        if files:
            return files
        problem = f"File {name!r} does not exist."
        if has_magic(name):
            problem = f"No file matches {name!r}."
    if problem:
        raise click.BadParameter(problem, param_hint="'--data'")
    return [path]


def _selection(
    first: str | None,
    last: str | None,
    latest: str | None,
    files: tuple[str, ...],
    table: dict[str, Any],
    from_coreset: bool,
) -> Selection:
    """Return the selection of points that the options describe; refuse options that conflict."""
    from streamclust.refit.command import Selection
    from streamclust.refit.span import Span
    from streamclust.tables import TableOptions

    if files and (first or last or latest):
        raise click.UsageError(
            "--data can't be combined with --from, --to or --last: files have no entry IDs"
        )
    if first and latest:
        raise click.UsageError("--from and --last both set the first entry; give only one")
    if from_coreset and (files or first or last or latest):
        raise click.UsageError(
            "--from-coreset can't be combined with --data, --from, --to or --last"
        )
    chosen = {name: value for name, value in table.items() if value not in (None, (), ".")}
    if chosen and not files:
        option = next(iter(chosen)).replace("_", "-")
        raise click.UsageError(f"--{option} is an option for files: give --data FILE")
    paths = tuple(path for name in files for path in data_files(name))
    span, options = Span(first, last, latest), TableOptions(**chosen)
    return Selection(span, paths, options, from_coreset, warn)


patterns_option = click.option(
    "--model",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Only models whose names match, as in 'clicks-*'. Repeatable; same as MODELS.",
)
"""Selects models by patterns, beside an argument MODELS."""
