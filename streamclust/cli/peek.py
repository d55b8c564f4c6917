"""``streamclust peek``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._options import server_options
from streamclust.cli._render import numbers, plural
from streamclust.cli._server import opened_server
from streamclust.cli._tables import Table
from streamclust.cli._terminal import print_lines, stdout_terminal
from streamclust.text import exact_json, printable
from streamclust.times import local_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

    from streamclust.arrays import Array
    from streamclust.cli._terminal import Terminal
    from streamclust.config import Settings
    from streamclust.formats.layout import Layout, PointsFormat
    from streamclust.store.stream.info import StreamInfo
    from streamclust.store.stream.newest import SeenPoint

_MOST = 1_000
_WIDEST_DATA = 60


@click.command()
@click.argument("stream")
@server_options
@click.option(
    "-n",
    "--number",
    "count",
    type=click.IntRange(1, _MOST),
    metavar="N",
    default=10,
    show_default=True,
    help="Number of points to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per point.")
def peek(settings: Settings, stream: str, count: int, as_json: bool) -> None:
    """Show the newest points of STREAM, oldest first. The format is detected.

    If a model of the settings reads the stream, its `points` settings are used. # is the place of a
    point in a block. Points that can't be read are listed below the table with the reason. The
    command changes nothing.

    \b
    Examples:
      streamclust peek points
      streamclust peek points -n 100 --json | jq .point
    """
    from streamclust.store.stream.info import look
    from streamclust.store.stream.newest import newest_points

    with opened_server(settings) as server:
        client, label = server.client(), server.label
        info = look(client, stream)
        if info is None:
            raise _unknown(settings, client, stream, label)
        spec, model = _points_format(settings, stream)
        raw = server.raw_client()
        layout, points = newest_points(raw, stream, count, spec)
    if as_json:
        for point in points:
            click.echo(exact_json(_as_dict(point, layout)))
        return
    terminal = stdout_terminal()
    summary = map(printable, _summary(stream, label, info, layout, model))
    head = [part for line in summary for part in terminal.fold(line)]
    print_lines([*head, *_lines(points, layout, terminal)])


def _unknown(settings: Settings, client: redis.Redis, stream: str, label: str) -> Exception:
    from streamclust.errors import UnknownStreamError
    from streamclust.store.stream.names import missing_text, similar_streams

    near = similar_streams(client, stream)
    if near:
        hint = f"; did you mean {near[0]!r}?"
    elif stream in settings.models:
        streams = ", ".join(settings.models[stream].streams)
        hint = f"; the model of this name reads: {streams}"
    else:
        hint = ""
    return UnknownStreamError(missing_text(stream, label, end="") + hint)


def _points_format(settings: Settings, stream: str) -> tuple[PointsFormat, str | None]:
    """Return the format of the first model that reads the stream, and the model's name."""
    from streamclust.formats.layout import PointsFormat
    from streamclust.runtime.assemble import points_format

    for name, model in settings.models.reading(stream):
        return points_format(model), name
    return PointsFormat(), None


def _summary(
    stream: str, label: str, info: StreamInfo, layout: Layout | None, model: str | None
) -> Iterator[str]:
    when = local_time(int(info.last.partition("-")[0]))
    when = info.last if when == "-" else when  # an ID that isn't a time
    newest = f", the newest at {when}" if info.length else ""
    entries = plural(info.length, "entry")
    yield f"stream {stream!r} on {label}: {entries}{newest}"
    if layout is not None:
        source = f"as model {model!r} reads it" if model else "detected"
        field = "" if layout.field is None else f" in field {layout.field!r}"
        yield f"format {layout.format}{field} ({source}), {layout.n_features:,} features"
    elif info.length:
        yield "no point can be read"


def _as_dict(point: SeenPoint, layout: Layout | None) -> dict[str, Any]:
    found: dict[str, Any] = {"id": point.entry_id, "index": point.index}
    if point.row is None or layout is None:
        data = point.data.decode(errors="backslashreplace")
        return {**found, "error": point.reason, "data": data}
    values = point.row.tolist()
    named = dict(zip(layout.features, values, strict=True)) if layout.features else values
    weight = {} if layout.weight_field is None else {"weight": point.weight}
    return {**found, "point": named, **weight}


def _lines(points: Sequence[SeenPoint], layout: Layout | None, terminal: Terminal) -> list[str]:
    """Return a table of the points, and a line for each point that can't be read."""
    lines: list[str] = []
    good = [(point, point.row) for point in points if point.row is not None]
    if good and layout is not None:
        lines += ["", *_table_lines(good, layout, terminal)]
    bad = [point for point in points if point.row is None]
    lines += [""] * bool(bad)
    for point in bad:
        place = point.entry_id if point.index <= 0 else f"{point.entry_id} #{point.index:,}"
        data = f": {printable(point.data, _WIDEST_DATA)}" if point.data else ""
        lines += terminal.fold(f"can't be read: {place}: {printable(point.reason)}{data}")
    return lines


def _table_lines(
    points: Sequence[tuple[SeenPoint, Array]], layout: Layout, terminal: Terminal
) -> list[str]:
    import numpy as np

    from streamclust.cli._components import with_features

    table = Table()
    table.add_column("ID", whole=True).cells.extend(point.entry_id for point, _ in points)
    if any(point.index for point, _ in points):
        table.add_column("#", "right").cells.extend(f"{point.index:,}" for point, _ in points)
    if layout.weight_field is not None:
        weights = numbers([point.weight for point, _ in points])
        table.add_column("WEIGHT", "right").cells.extend(weights)
    rows = np.array([row for _, row in points])
    return with_features(table, layout.features, rows, terminal, table.columns[:0:-1])
