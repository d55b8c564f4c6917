"""``streamclust ingest``."""

from __future__ import annotations

from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._options import (
    ONE_SHOT_WAIT,
    TABLE_KINDS,
    NumberRange,
    server_options,
    wait_option,
)
from streamclust.cli._progress import point_progress
from streamclust.cli._server import opened_server
from streamclust.cli._signals import CtrlC
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.client.ingest import IngestReport
    from streamclust.config import Settings
    from streamclust.formats.layout import EntryFormat
    from streamclust.tables import Chunk, Kind

FORMATS = ("fields", "json", "float32", "float64")
DEFAULT_BLOCK = {"fields": 1, "json": 1, "float32": 1024, "float64": 1024}
CHUNK = 8192


@click.command()
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    metavar="FILES...",
)
@click.option("--stream", required=True, metavar="KEY", help="Stream that gets the points.")
@click.option(
    "--format",
    "entry_format",
    type=click.Choice(FORMATS),
    default="fields",
    show_default=True,
    help="Format of an entry: named fields, a JSON array, or raw little-endian numbers.",
)
@click.option(
    "--block",
    type=click.IntRange(min=1),
    metavar="N",
    help="Points per entry.  [default: 1; 1024 for float32 and float64]",
)
@click.option(
    "--rate",
    type=NumberRange(min=0, min_open=True),
    metavar="N",
    help="Points per second.  [default: no limit]",
)
@click.option(
    "--columns", metavar="A,B", help="Columns to send, in order.  [default: all except the weights]"
)
@click.option(
    "--weight-column",
    metavar="NAME",
    help="Column of weights; also the name of the entry's weight field.",
)
@click.option(
    "--kind",
    type=click.Choice(TABLE_KINDS),
    help="Format of the files.  [default: from the suffix; csv for standard input]",
)
@click.option(
    "--key", metavar="NAME", help="Name of the array to read, if an .npz file has several."
)
@click.option(
    "--maxlen",
    type=click.IntRange(min=1),
    metavar="N",
    help="Trim the stream to approximately N entries.  [default: no trimming]",
)
@server_options
@wait_option("30s")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def ingest(
    ctx: click.Context,
    /,
    settings: Settings,
    stream: str,
    entry_format: EntryFormat,
    block: int | None,
    rate: float | None,
    maxlen: int | None,
    wait: float | None,
    as_json: bool,
    **table: Any,
) -> None:
    """Send points from FILES (or "-", standard input) to a stream.

    The command reads CSV and TSV, JSON lines (arrays or objects), NumPy's .npy and .npz, and
    Parquet. In CSV a first row that isn't all numbers is a header. Columns without names are called
    x0, x1, and so on.

    Ctrl-C ends the command: it finishes the current write and reports the number of points.

    If the server refuses points for a while (busy, out of memory, a replica), ingest retries them
    for the time of --wait-for-server. Retried points may follow points that were accepted later. If
    the connection is lost, ingest ends with code 3: whether the last points arrived is unknown.

    \b
    Examples:
      streamclust ingest points.csv --stream points
      streamclust ingest points.csv --stream points --columns temperature,load
      streamclust ingest points.npy --stream points --format float32 --block 256
      tail -f points.jsonl | streamclust ingest - --kind jsonl --stream points
    """
    from streamclust.client.ingest import ingest as send
    from streamclust.runtime.backoff import Backoff
    from streamclust.runtime.log import command_log

    _check_stream(stream, settings.namespace)
    block = block or DEFAULT_BLOCK[entry_format]
    ctrl_c = CtrlC()
    chunks, total = _open_tables(block, ctrl_c.wait_for, **table)
    wait = ONE_SHOT_WAIT if wait is None else wait
    with (
        opened_server(settings, wait) as server,
        ctrl_c,
        point_progress(total) as on_progress,
    ):
        backoff = Backoff(server.label, ctrl_c, command_log(), "points_refused", wait)

        def on_sent(points: int) -> None:
            backoff.over()
            if on_progress is not None:
                on_progress(points)

        report = send(
            server.client(),
            stream,
            ctrl_c.guard(chunks),
            format=entry_format,
            block=block,
            weight_field=table["weight_column"] or "w",
            rate=rate,
            maxlen=maxlen,
            on_progress=on_sent,
            on_refusal=backoff.wait,
            stop=ctrl_c,
            label=server.label,
        )
    click.echo((_json if as_json else _sentence)(report, stream, ctrl_c.is_set()))
    if ctrl_c.is_set():
        ctx.exit(EXIT_INTERRUPTED)


def _check_stream(stream: str, namespace: str) -> None:
    from streamclust.store.model.keys import is_own
    from streamclust.text import has_control

    if not stream:
        raise click.UsageError("--stream is empty; name a stream")
    if is_own(stream, namespace):
        raise click.UsageError(
            f"--stream {stream!r} is a key that streamclust writes; name another stream"
        )
    if has_control(stream):
        raise click.UsageError(f"--stream {stream!r} has a control character; name another stream")


def _open_tables(
    block: int,
    wait_for: Callable[[int], None],
    files: tuple[str, ...],
    columns: str | None,
    weight_column: str | None,
    kind: Kind | None,
    key: str | None,
) -> tuple[Iterator[Chunk], int | None]:
    """Return the chunks of all files, cut into full blocks, and the number of rows if known."""
    from streamclust.tables import count_rows, read_table

    options: dict[str, Any] = {
        "kind": kind,
        "columns": None if columns is None else [name.strip() for name in columns.split(",")],
        "weight_column": weight_column,
        "chunk": max(CHUNK // block, 1) * block,
        "key": key,
        "wait_for": wait_for,
    }
    tables = [read_table(file, **options) for file in files]
    counts = [count for file in files if (count := count_rows(file, kind=kind)) is not None]
    return chain.from_iterable(tables), sum(counts) if len(counts) == len(files) else None


def _json(report: IngestReport, stream: str, interrupted: bool) -> str:
    return exact_json({"stream": stream, **asdict(report), "interrupted": interrupted})


def _sentence(report: IngestReport, stream: str, interrupted: bool) -> str:
    points = f"{report.points:,} point{'' if report.points == 1 else 's'}"
    entries = f"{report.entries:,} entr{'y' if report.entries == 1 else 'ies'}"
    return (
        f"{'interrupted: ' if interrupted else ''}"
        f"{points} in {entries} to stream {stream!r} in {report.seconds:.1f} s"
    )
