"""The options of tables in files or on standard input, shared by all commands that read them."""

from __future__ import annotations

import csv
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE_KINDS = ("csv", "tsv", "jsonl", "ndjson", "npy", "npz", "parquet")
"""The kinds of `streamclust.tables`, which takes too long to import for the help."""

_ESCAPES = {"\\t": "\t", "tab": "\t", "space": " "}


class Names(click.ParamType):  # type: ignore[type-arg]
    """Names of columns, separated by commas; a name with a comma is in double quotes."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names, or refuse an empty one."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in next(csv.reader([value], skipinitialspace=True), []))
        if not all(names) or not names:
            self.fail(f"{value!r} has an empty name; give names such as a,b", param, ctx)
        return names


class _Delimiter(click.ParamType):  # type: ignore[type-arg]
    """One character, or the name of one."""

    name = "character"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = _ESCAPES.get(value, value)
        if len(text) != 1 or text in '"\r\n':
            self.fail(f"{value!r} is not one character; give ; or | or tab or space", param, ctx)
        return str(text)


class _Encoding(click.ParamType):  # type: ignore[type-arg]
    """The name of an encoding."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from streamclust.errors import DataError
        from streamclust.tables.options import check_encoding

        try:
            check_encoding(value)
        except DataError as error:
            self.fail(str(error), param, ctx)
        return str(value)


FORMAT_OPTIONS = (
    click.option(
        "--kind",
        type=click.Choice(TABLE_KINDS),
        help="Format of the file.  [default: by its suffix, before .gz or .zst; csv for standard "
        "input]",
    ),
    click.option(
        "--key", metavar="NAME", help="Name of the array to read, if an .npz file has several."
    ),
    click.option(
        "--delimiter",
        type=_Delimiter(),
        metavar="CHAR",
        help="Separator of the cells in CSV: one character, tab or space.  [default: a comma, or a "
        "semicolon with --decimal ,]",
    ),
    click.option(
        "--decimal",
        type=click.Choice([".", ","]),
        default=".",
        show_default=True,
        help="Decimal point in CSV.",
    ),
    click.option(
        "--header/--no-header",
        default=None,
        help="The first row of CSV has the names of the columns, or is a point.  [default: names "
        "if no cell is a number]",
    ),
    click.option(
        "--encoding",
        type=_Encoding(),
        metavar="NAME",
        help="Encoding of a text: latin-1, cp1252, utf-16, ...  [default: utf-8]",
    ),
)


NAMES: dict[str, Any] = {"type": Names(), "metavar": "A,B"}

LABEL_AND_TIME_OPTIONS = (
    click.option(
        "--label-columns",
        default=(),
        help="Columns of text to add to each entry as fields, such as a host. The setting "
        "encode.labels copies them to the codes.",
        **NAMES,
    ),
    click.option(
        "--time-column",
        metavar="NAME",
        help="Column of the event time, which becomes the ID of the entry. The rows must be sorted "
        "by it. A time without a zone is in UTC.",
    ),
    click.option(
        "--time-format",
        metavar="FORMAT",
        help="Format of the event time: s, ms, us or ns since 1970, iso, or a format such as "
        "%d/%m/%Y %H:%M.  [default: by the first value]",
    ),
)


MISSING_OPTION = click.option(
    "--missing",
    type=click.Choice(("reject", "learn")),
    help="What to do with a row that has a missing value (an empty cell, NaN, null, NA and the "
    "like): reject it as a bad row, or send it without this value, for a model that learns missing "
    "values.  [default: points.missing of the stream's model; reject if there is none]",
)


def columns_option(text: str) -> Callable[..., Any]:
    """Return the option --columns with this help."""
    return click.option("--columns", help=text, **NAMES)


def table_options(
    columns: str, bad: tuple[str, ...], bad_help: str, *, ingest: bool = False
) -> Callable[..., Any]:
    """Add the options of a table; the command receives `table`, the keywords of `TableOptions`.

    Parameters
    ----------
    columns
        Help of --columns.
    bad
        Choices of --on-bad.
    bad_help
        Help of --on-bad.
    ingest
        Whether labels and event times are options too.
    """
    options = [
        columns_option(columns),
        click.option("--exclude", default=(), help="Columns to leave out.", **NAMES),
        click.option(
            "--weight-column",
            metavar="NAME",
            help="Column of weights; also the name of the entry's weight field."
            if ingest
            else "Column of the files that holds the weights.",
        ),
    ]
    if ingest:
        options += (*LABEL_AND_TIME_OPTIONS, MISSING_OPTION)
    options += [
        *FORMAT_OPTIONS,
        click.option("--on-bad", type=click.Choice(bad), help=bad_help),
    ]
    keys = (
        *("kind", "key", "columns", "exclude", "weight_column", "label_columns", "time_column"),
        *("time_format", "delimiter", "decimal", "header", "encoding", "on_bad", "missing"),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            table = {key: kwargs.pop(key) for key in keys if key in kwargs}
            return command(*args, table=table, **kwargs)

        result: Callable[..., Any] = wrapper
        for option in reversed(options):
            result = option(result)
        return result

    return decorate
