"""Output about versions: tables of one model or of many, new versions, and `models map`."""

from __future__ import annotations

import time
from math import isnan
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._progress import reading_progress
from streamclust.cli._render import WIDEST_NAME, bars, kind_and_shape, number, score_meaning
from streamclust.cli._server import opened_server, read_overviews, select_models
from streamclust.cli._tables import Column, Styled, Table, lay_out
from streamclust.cli._terminal import BAD, MUTED, cells, print_lines, stdout_terminal
from streamclust.text import exact_json, printable
from streamclust.times import ago, iso_time, local_time

if TYPE_CHECKING:
    from streamclust.cli._tables import Cell
    from streamclust.cli._terminal import Terminal
    from streamclust.config import Settings
    from streamclust.errors import DamagedVersionError
    from streamclust.formats.model import Model
    from streamclust.formats.model_head import ModelHead
    from streamclust.models.codebook import VersionMap
    from streamclust.store.model.overview import Overview


def version_facts(model: Model | ModelHead) -> dict[str, Any]:
    """Return all values of a version except the arrays, for JSON, with times by ISO 8601."""
    return {
        **model.summary(),
        "published": iso_time(model.published_ms),
        "event_time": iso_time(model.time_ms),
    }


def damaged_row(model: str, error: DamagedVersionError, as_json: bool) -> str:
    """Return the row of a version that can't be read."""
    if as_json:
        return exact_json({"model": model, "version": error.version, "error": str(error)})
    return printable(f"{error.version:>8}  damaged: {error}")


class VersionTable:
    """The table of `models list`: it collects all versions, then shows them."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, ...]] = []
        self._damaged: list[tuple[int, str]] = []
        self._newest: Model | None = None

    def add(self, model: Model) -> None:
        """Add the next version."""
        row = _cells(model, self._newest, 24)
        self._rows.append((row[0], ago(model.published_ms), ago(model.time_ms), *row[1:]))
        self._newest = model

    def add_damaged(self, row: str) -> None:
        """Add the row of the next version, which can't be read."""
        self._damaged.append((len(self._rows), row))

    def lines(self, terminal: Terminal) -> list[str]:
        """Return the table, and what its score and times mean."""
        newest = self._newest
        if newest is None:
            return [line for _, row in self._damaged for line in terminal.fold(row)]
        table = Table(
            [
                Column("VERSION", right=True),
                Column("PUBLISHED", right=True),
                Column("EVENT TIME", right=True),
                *_columns(newest),
            ]
        )
        for row in self._rows:
            table.add_row(*row)
        _, _, event, points, reason, _, moved, weights = table.columns
        optional = [weights, moved, event, reason, points]
        notes = (
            score_meaning(newest),
            f"version {newest.version} was published {local_time(newest.published_ms)}; "
            f"its newest point is of {local_time(newest.time_ms)}",
        )
        layout = lay_out(table, terminal, optional)
        lines = layout.lines
        for place, text in reversed(self._damaged):
            before = 1 + place if layout.header else len(lines)
            lines[before:before] = [terminal.paint(line, BAD) for line in terminal.fold(text)]
        return lines + [
            terminal.paint(line, MUTED) for note in notes for line in terminal.wrap(note)
        ]


class VersionRows:
    """The lines of `watch`: one per version, under a header."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._widest = [
            "1" * 8,
            "00:00:00",
            "10,000,000",
            "rollback",
            "-1.234e-05",
            "1.234e-05",
            "",
        ]
        self._header = ""

    def lines(self, model: Model, before: Model | None) -> list[str]:
        """Return the line of a version; first the header, if the columns are new or wider."""
        version, *others = _cells(model, before, 24)
        row = [version, _clock(model.published_ms or model.time_ms), *others]
        self._widest = [max(pair, key=cells) for pair in zip(self._widest, row, strict=True)]
        zone = time.strftime("%Z")
        table = Table(
            [Column("VERSION", right=True), Column(f"TIME {zone}".rstrip()), *_columns(model)]
        )
        table.add_row(*self._widest)
        table.add_row(*row)
        _, clock, points, reason, _, moved, weights = table.columns
        optional = [weights, moved, clock, reason, points]
        layout = lay_out(table, self._terminal, optional)
        if not layout.header:  # each version is a block of lines
            for column in table.columns:
                del column.cells[0]
            return ["", *lay_out(table, self._terminal, optional).lines]
        header, self._header = self._header, layout.header
        return layout.lines[-1:] if layout.header == header else [layout.header, layout.lines[-1]]


def _columns(model: Model) -> list[Column]:
    """Return the columns that both tables have."""
    score = model.score_name.replace("_", " ").upper()
    return [
        Column("POINTS", right=True),
        Column("REASON"),
        Column(score, right=True),
        Column("MOVED", right=True),
        Column("WEIGHTS", bars=True),
    ]


def _cells(model: Model, before: Model | None, width: int) -> tuple[str, ...]:
    return (
        str(model.version),
        f"{model.points:,}",
        printable(model.reason),
        number(model.score),
        number(_moved(model, before)),
        bars(model.mass.tolist(), width),
    )


def _clock(time_ms: float | None) -> str:
    """Return the local time of day, with the date if it isn't today's."""
    words = local_time(time_ms).split()
    if len(words) < 2:
        return "-"
    return words[1] if words[0] == time.strftime("%Y-%m-%d") else f"{words[0]} {words[1]}"


def _moved(model: Model, before: Model | None) -> float | None:
    """Return the largest move of a component since `before`; None if they can't be compared."""
    if before is None or model.replaces(before):
        return None
    if before.means.shape[1] != model.means.shape[1]:
        return None
    if before.means.shape != model.means.shape and not (len(before.ids) and len(model.ids)):
        return None
    return max(
        (far for far in model.displacement_from(before).tolist() if not isnan(far)), default=None
    )


def map_dict(found: VersionMap, old: int, new: int) -> dict[str, Any]:
    """Return the map for JSON."""
    columns = (found.old.tolist(), found.new.tolist(), found.share.tolist())
    names = ("from", "to", "share")
    return {
        "versions": [old, new],
        "moved": found.moved,
        "successors": {str(k): to for k, to in found.successors.items()},
        "pairs": [dict(zip(names, pair, strict=True)) for pair in zip(*columns, strict=True)],
    }


def map_lines(found: VersionMap, model: str, old: int, new: int, terminal: Terminal) -> list[str]:
    """Return a table with the successor of each component, and a sentence."""
    table = Table()
    for header in ("FROM", "TO", "SHARE", "KEPT"):
        table.add_column(header, justify="right")
    for k, successor in found.successors.items():
        share = float(found.share[found.old == k].sum())
        kept = float(found.share[(found.old == k) & (found.new == successor)].sum())
        table.add_row(str(k), str(successor), f"{share:.2%}", f"{kept / share:.2%}")
    head = f"{printable(model)} {old} -> {new}: {found.moved:.2%} of the points change components"
    return [*terminal.wrap(head), *lay_out(table, terminal, table.columns[2:3]).lines]


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
            if not as_json:
                table.add_row(*_newest_cells(row))
            elif row.model is not None:
                click.echo(exact_json(version_facts(row.model)))
            else:
                absent = {"model": row.name, "version": None, "error": row.reason or None}
                click.echo(exact_json(absent))
    if as_json:
        return
    if not table.columns[0].cells:
        click.echo(printable(f"no models yet in namespace {settings.namespace!r}"))
        return
    _, kind, version, published, event, points, reason, score = table.columns
    optional = [event, reason, kind, points, score, published, version]
    print_lines(lay_out(table, stdout_terminal(), optional).lines)


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
