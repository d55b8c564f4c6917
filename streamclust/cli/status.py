"""``streamclust status``."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from streamclust.cli._options import Duration, patterns_option, server_options
from streamclust.cli._progress import reading_progress
from streamclust.cli._refresh import refresh
from streamclust.cli._server import (
    no_models,
    opened_server,
    read_overviews,
    select_models,
)
from streamclust.cli._status_summary import Summary
from streamclust.cli._status_table import notes, table_lines
from streamclust.cli._terminal import BAD, print_lines, stdout_terminal
from streamclust.store.model.ordering import SORTS, sort_key
from streamclust.store.model.totals import PHASES
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

    from streamclust.cli._terminal import Terminal
    from streamclust.config import Settings
    from streamclust.store.model.overview import Overview

_LIMIT = 25
"""Maximum number of models that are shown by default; for more models, a summary."""


@click.command()
@click.argument("models", nargs=-1)
@server_options
@patterns_option
@click.option(
    "--phase",
    "phases",
    multiple=True,
    type=click.Choice(PHASES),
    help="Only models in this phase. Repeatable.",
)
@click.option(
    "--sort",
    type=click.Choice(list(SORTS)),
    help="Order of the models; age: by the time of the newest version, the oldest first.  "
    "[default: name, or problems if not all models are shown]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Maximum number of models to show; 0 shows all.  [default: {_LIMIT}; all with --json]",
)
@click.option("--watch", is_flag=True, help="Read and show the table again until Ctrl-C.")
@click.option(
    "--interval",
    type=Duration(0.1, 86_400.0),
    default="2s",
    show_default=True,
    metavar="DURATION",
    help="Time between two tables, with --watch.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON with the weight of each component."
)
def status(
    settings: Settings, models: tuple[str, ...], watch: bool, interval: float, **options: Any
) -> None:
    """Show MODELS (default: all of the namespace) and the workers that learn them.

    A name may be a pattern in quotes: 'clicks-*' stands for all models whose names begin with
    clicks-, ? for one character, [ab] for one of two.

    \b
    WORKER  phase of the live worker; none: no worker; failed: the worker retries
            the model; stalled: no progress; damaged: no worker, and a key of the
            model can't be read; paused: see `models pause`. The reasons
            are below the table.
    VER     newest version
    LAG     entries not learned yet; "?" if the server doesn't know
    LOST    entries removed before they were read; "+?": at least this many
    DEAD    points in the dead-letter stream
    ALERTS  points flagged as anomalies, if there are any
    SCORE   inertia per point (lower is better), or log-likelihood per point
            (higher is better); each point is scored before it is learned

    The first line has the server, the namespace and the time. These are highlighted: LOST and DEAD
    above 0, failed models, and models that have new entries and no worker. The lines below the
    table explain them, and what each model waits for. With one model named, the command also shows
    its components.

    If there are more models than --limit, the command shows the number of models per phase and per
    group. Then it shows the models with problems, in this order: failed, stalled and damaged
    models; then the largest LAG; then the oldest version.

    With --watch, the table is refreshed in place; in a pipe or file, each table follows the
    previous one.

    \b
    Examples:
      streamclust status
      streamclust status machines
      streamclust status 'clicks-*' --phase failed --phase stalled
      streamclust status --sort lag --limit 10
      streamclust status --watch
      streamclust status --json | jq '.[] | {model, lag, rate}'
    """
    names, as_json = (*models, *options["patterns"]), bool(options["as_json"])
    query = _Query(names, options["phases"], options["sort"], options["limit"], watch)
    with opened_server(settings) as server:
        client, label = server.client(), server.label

        def read() -> list[str]:
            if as_json:
                return ["".join(_json(client, settings, query, label)).replace("\n", " ")]
            return _page(client, settings, query, label)

        if watch:
            refresh(_retrying(read, label), interval)
        if as_json:
            for part in _json(client, settings, query, label):
                click.echo(part, nl=False)
            click.echo()
        else:
            print_lines(read())


class _Query(NamedTuple):
    """Which models to show, and how.

    Attributes
    ----------
    names : tuple of str
        Names and patterns; empty for all models.
    phases : tuple of str
        Empty for all phases.
    sort : str or None
    limit : int or None
    quiet : bool
        Whether to show no progress.
    """

    names: tuple[str, ...]
    phases: tuple[str, ...]
    sort: str | None
    limit: int | None = None
    quiet: bool = False

    def rows(
        self, client: redis.Redis, settings: Settings, names: Sequence[str], label: str
    ) -> Iterator[Overview]:
        """Yield the models of these names that are in the chosen phases, one after another."""
        rows: Iterator[Overview] = read_overviews(client, settings, names, label)
        if not self.quiet:
            rows = reading_progress(rows, len(names), "models")
        return (row for row in rows if not self.phases or row.phase in self.phases)


def _json(client: redis.Redis, settings: Settings, query: _Query, label: str) -> Iterator[str]:
    """Yield the parts of a JSON array with one line per model, while the models are read."""
    now = datetime.now().astimezone().replace(microsecond=0)
    where = {"server": label, "namespace": settings.namespace, "time": now.isoformat()}
    names = select_models(client, settings, query.names, label)
    if query.sort is not None:
        key = sort_key(query.sort)
        rows = query.rows(client, settings, names, label)
        names = [name for *_, name in sorted(key(row) for row in rows)]
    rows = islice(query.rows(client, settings, names, label), query.limit or None)
    separator = "["
    for row in rows:
        yield separator + exact_json({**row.as_dict(), **where})
        separator = ",\n"
    yield "[]" if separator == "[" else "]"


def _page(client: redis.Redis, settings: Settings, query: _Query, label: str) -> list[str]:
    """Return the lines for people: one line per model; of many models, only the first few."""
    from streamclust.runtime.overviews import group_of

    terminal = stdout_terminal()
    now = datetime.now().astimezone()
    where_and_when = f"{label}  namespace {settings.namespace}  {now:%Y-%m-%d %H:%M:%S %Z}"
    head = terminal.wrap(printable(where_and_when))
    names = select_models(client, settings, query.names, label)
    limit = _LIMIT if query.limit is None else query.limit
    sort = query.sort or ("problems" if limit and len(names) > limit else "name")
    summary = Summary(group_of(settings))
    rows = summary.first(query.rows(client, settings, names, label), sort, limit)
    if not rows:
        return [*head, *_no_models(settings, query, terminal)]
    detailed = len(query.names) == 1 and query.names == (rows[0].name,)
    if detailed:
        rows = [_with_components(client, settings, rows[0])]
    lines = table_lines(rows, terminal)
    lines += summary.tail(terminal)
    lines += notes(rows, label, terminal, detailed=detailed)
    return [*head, *summary.head(sort, terminal), *lines]


def _with_components(client: redis.Redis, settings: Settings, row: Overview) -> Overview:
    """Return an overview with the whole newest version, if it can be read."""
    from streamclust.errors import DamagedVersionError, UnknownModelError
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.versions import read_model

    if row.model is None:
        return row
    try:
        return replace(row, model=read_model(client, Keys(settings.namespace, row.name)))
    except (DamagedVersionError, UnknownModelError) as error:
        return replace(row, model=None, troubles=(*row.troubles, str(error)))


def _retrying(read: Callable[[], list[str]], label: str) -> Callable[[], list[str]]:
    """Return a `read` that shows the newest lines and the error while the server is unavailable."""
    import redis

    from streamclust.store.server.connect import translated
    from streamclust.store.server.faults import passes

    newest: list[str] = []

    def read_or_wait() -> list[str]:
        try:
            newest[:] = read()
        except redis.RedisError as error:
            if not passes(error):
                raise
            terminal = stdout_terminal()
            lines = terminal.fold(f"error: {translated(error, label)}; trying again")
            return [*newest, *(terminal.paint(line, BAD) for line in lines)]
        return newest

    return read_or_wait


def _no_models(settings: Settings, query: _Query, terminal: Terminal) -> list[str]:
    if query.phases:
        return terminal.fold(f"no model is in the phase {' or '.join(query.phases)}")
    return [
        *terminal.fold(printable(f"no models yet in namespace {settings.namespace!r}")),
        *terminal.fold(printable(f"{no_models(settings)}; then run `streamclust worker`")),
    ]
