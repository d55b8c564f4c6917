"""Output that several commands share: lines, numbers and tables for people."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from math import isnan
from typing import TYPE_CHECKING, Any, TextIO

import click

from streamclust.text import BAR_LEVELS, exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.table import Column, Table

    from streamclust.errors import DamagedVersionError
    from streamclust.formats.model import Model

WIDEST_NAME = 100
"""Maximum number of characters of a name in a table."""

MOST_FEATURES = 8
"""Maximum number of features in a table."""

_VERSION_ROW = "{:>8}  {:<8}  {:>12}  {:<7}  {:>14}  {:>10}  {}"


def bars(values: Sequence[float], width: int = 24) -> str:
    """Return a bar for each value, relative to the largest, for the first `width` values."""
    top = max(values, default=0.0)
    if top <= 0.0:
        return ""
    steps = [round(value / top * (len(BAR_LEVELS) - 1)) for value in values[:width]]
    return "".join(BAR_LEVELS[step] for step in steps) + ("…" if len(values) > width else "")


def number(value: float | None, digits: int = 4) -> str:
    """Return a value with `digits` significant digits, or a dash for None."""
    return "-" if value is None else f"{value:.{digits}g}"


def count(value: int | None, unknown: str = "?") -> str:
    """Return a count with commas between thousands."""
    return unknown if value is None else f"{value:,}"


def say(line: str) -> None:
    """Write a line to stderr; a closed stderr isn't an error."""
    try:
        click.echo(line, err=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Discard output that can't be written: it would fail again at exit and change the code."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def plain_console(*, stderr: bool = False) -> Console:
    """Return a console that shows text unchanged: `[red]` or `:tada:` in a name mean nothing."""
    from rich.console import Console

    return Console(markup=False, emoji=False, stderr=stderr)


def plain_table(**options: Any) -> Table:
    """Return a table without lines; `options` are rich's."""
    from rich.table import Table

    return Table(box=None, header_style="bold", pad_edge=False, **options)


def version_header(model: Model) -> str:
    """Return the header of the rows of versions."""
    score = model.score_name.replace("_", " ").upper()
    return _VERSION_ROW.format("VERSION", "TIME", "POINTS", "REASON", score, "MOVED", "WEIGHTS")


def version_row(model: Model, before: Model | None) -> str:
    """Return the row of a version, with the largest move of a component since `before`."""
    when = "" if model.time_ms is None else time.strftime("%X", time.localtime(model.time_ms / 1e3))
    return _VERSION_ROW.format(
        model.version,
        when,
        f"{model.points:,}",
        printable(model.reason),
        number(model.score),
        number(_moved(model, before)),
        bars(model.mass.tolist()),
    )


def _moved(model: Model, before: Model | None) -> float | None:
    if before is None or model.replaces(before):
        return None
    if before.means.shape[1] != model.means.shape[1]:
        return None
    if before.means.shape != model.means.shape and not (len(before.ids) and len(model.ids)):
        return None
    return max(
        (far for far in model.displacement_from(before).tolist() if not isnan(far)), default=None
    )


def damaged_row(model: str, error: DamagedVersionError, as_json: bool) -> str:
    """Return the row of a version that can't be read."""
    if as_json:
        return exact_json({"model": model, "version": error.version, "error": str(error)})
    return printable(f"{error.version:>8}  damaged: {error}")


def print_table(table: Table, optional: Iterable[Column] = ()) -> int:
    """Print a table without cutting a cell, and return the number of columns left out.

    Parameters
    ----------
    table : Table
    optional : iterable of Column
        Columns to leave out, in this order, while the table is wider than the terminal.
    """
    console, before = plain_console(), len(table.columns)
    for column in optional:
        if _width(table, console) <= console.width:
            break
        table.columns.remove(column)
        for index, kept in enumerate(table.columns):
            kept._index = index
    console.width = max(console.width, _width(table, console))
    console.print(table)
    return before - len(table.columns)


def _width(table: Table, console: Console) -> int:
    """Return the width that the table needs to show every cell whole."""
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update(max_width=1 << 16), table).maximum


def print_components(model: Model) -> None:
    """Print the weight, the share and the centroid or mean of each component.

    Features that don't fit the terminal are counted below the table.
    """
    D = model.means.shape[1]
    names = [printable(name, WIDEST_NAME) for name in model.features or map("x{}".format, range(D))]
    shown = names[:MOST_FEATURES]
    table = plain_table()
    for header in ("#", "WEIGHT", "SHARE", *shown):
        table.add_column(header, justify="right", no_wrap=True)
    total = float(model.mass.sum()) or 1.0
    for k, mass, mean in zip(model.numbers.tolist(), model.mass, model.means, strict=True):
        values = (number(float(value)) for value in mean[:MOST_FEATURES])
        table.add_row(str(k), f"{mass:,.1f}", f"{mass / total:.2%}", *values)
    hidden = D - len(shown) + print_table(table, table.columns[:3:-1])
    if hidden:
        click.echo(
            f"+{hidden:,} more feature{'' if hidden == 1 else 's'}; `models show --json` has all"
        )
