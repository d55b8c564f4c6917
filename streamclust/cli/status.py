"""``streamclust status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamclust.cli._options import server_options
from streamclust.cli._render import (
    WIDEST_NAME,
    bars,
    count,
    number,
    plain_console,
    plain_table,
    print_components,
    print_table,
)
from streamclust.cli._server import opened_server, read_overviews
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from streamclust.config import Settings
    from streamclust.formats.lost import Lost
    from streamclust.formats.model import Model
    from streamclust.store.model.overview import Overview


@click.command()
@click.argument("models", nargs=-1)
@server_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON with the weight of each component."
)
def status(settings: Settings, models: tuple[str, ...], as_json: bool) -> None:
    """Show MODELS (default: all of the namespace) and the workers that learn them.

    \b
    WORKER  phase of the live worker; none: no worker; failed: the worker retries
            the model; stalled: no progress; damaged: no worker, and a key of the
            model can't be read. The reasons are below the table.
    VER     newest version
    LAG     entries not learned yet; "?" if the server doesn't know
    LOST    entries removed before they were read; "+?": at least this many
    DEAD    points in the dead-letter stream
    SCORE   inertia or log-likelihood per point, out of sample

    With one model named, the command also shows its components.

    \b
    Examples:
      streamclust status
      streamclust status machines
      streamclust status --json | jq '.[] | {model, lag, rate}'
    """
    with opened_server(settings) as server:
        rows = read_overviews(server.client(), settings, models)
    if as_json:
        click.echo(exact_json([row.as_dict() for row in rows]))
    else:
        _show(rows, detailed=len(models) == 1)


def _show(rows: Sequence[Overview], *, detailed: bool) -> None:
    console = plain_console()
    if not rows:
        console.print("no models yet: describe one in config.yaml, then run `streamclust worker`")
        return
    table = _models_table(rows)
    columns = {column.header: column for column in table.columns}
    print_table(table, [columns[name] for name in ("WEIGHTS", "KIND", "RATE/S")])
    for row in rows:
        if row.reason:
            click.echo(printable(f"{row.name}: {row.phase}: {row.reason}"))
    known = (row.health.kernels for row in rows if row.health and row.health.kernels)
    kernels = sorted(set(map(printable, known)))
    if kernels:
        console.print(f"kernels: {'; '.join(kernels)}")
    if detailed and rows[0].model is not None:
        console.print()
        print_components(rows[0].model)


def _models_table(rows: Sequence[Overview]) -> Table:
    table = plain_table(collapse_padding=True)
    for name in ("MODEL", "KIND", "WORKER"):
        table.add_column(name, no_wrap=True)
    for name in ("VER", "POINTS", "RATE/S", "LAG", "LOST", "DEAD", "SCORE"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("WEIGHTS", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Overview) -> tuple[str, ...]:
    model, health = row.model, row.health
    return (
        printable(row.name, WIDEST_NAME),
        "-" if model is None else _kind(model),
        "none" if row.phase == "stopped" else printable(row.phase),
        "-" if model is None else str(model.version),
        count(row.points, "-"),
        "-" if health is None else f"{health.rate:,.0f}",
        count(row.lag),
        _lost(row.lost),
        count(row.dead),
        "-" if model is None else number(model.score),
        "" if model is None else bars(model.mass.tolist(), 12),
    )


def _lost(lost: Lost | None) -> str:
    if lost is None:
        return "?"
    return count(lost.entries) + ("+?" if lost.unknown else "")


def _kind(model: Model) -> str:
    return "{} {}x{}".format(model.kind.removeprefix("gaussian_"), *model.means.shape)
