"""`models list` of many models: the newest version of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamclust.cli._progress import reading_progress
from streamclust.cli._render import WIDEST_NAME, kind_and_shape, number
from streamclust.cli._server import opened_server, read_overviews, select_models
from streamclust.cli._tables import Column, Styled, Table, lay_out
from streamclust.cli._terminal import BAD, print_lines, stdout_terminal
from streamclust.text import exact_json, printable
from streamclust.times import ago, iso_time

if TYPE_CHECKING:
    from streamclust.cli._tables import Cell
    from streamclust.config import Settings
    from streamclust.store.model.overview import Overview


def list_models(settings: Settings, names: tuple[str, ...], as_json: bool) -> None:
    """List the newest version of each model, in the order of the names."""
    table = Table([Column("MODEL"), Column("KIND"), Column("VERSION", right=True)])
    for header in ("PUBLISHED", "EVENT TIME", "POINTS"):
        table.add_column(header, "right")
    table.add_column("REASON")
    table.add_column("SCORE", "right")
    with opened_server(settings) as server:
        client, label = server.client(), server.label
        chosen = select_models(client, settings, names, label)
        rows = read_overviews(client, settings, chosen, label)
        for row in reading_progress(rows, len(chosen), "models"):
            if as_json:
                click.echo(_newest_json(row))
            else:
                table.add_row(*_newest_cells(row))
    if as_json:
        return
    if not table.columns[0].cells:
        click.echo(printable(f"no models yet in namespace {settings.namespace!r}"))
        return
    _, kind, version, published, event, points, reason, score = table.columns
    optional = [event, reason, kind, points, score, published, version]
    print_lines(lay_out(table, stdout_terminal(), optional).lines)


def _newest_json(row: Overview) -> str:
    if row.model is None:
        return exact_json({"model": row.name, "version": None, "error": row.reason or None})
    times = {
        "published": iso_time(row.model.published_ms),
        "event_time": iso_time(row.model.time_ms),
    }
    return exact_json({**row.model.summary(), **times})


def _newest_cells(row: Overview) -> tuple[Cell, ...]:
    model, name = row.model, printable(row.name, WIDEST_NAME)
    if model is None:
        damaged = Styled("damaged", BAD) if row.troubles else "-"
        return (name, "-", "-", "-", "-", "-", damaged, "-")
    return (
        name,
        kind_and_shape(model),
        str(model.version),
        ago(model.published_ms),
        ago(model.time_ms),
        f"{model.points:,}",
        printable(str(model.summary()["reason"])),
        number(model.score),
    )
