"""``streamclust ingest``."""

from __future__ import annotations

from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli.common import (
    EXIT_INTERRUPTED,
    ONE_SHOT_WAIT,
    NumberRange,
    opened_server,
    server_options,
    wait_option,
)
from streamclust.cli.ctrl_c import CtrlC
from streamclust.cli.progress import point_progress
from streamclust.text import exact_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.client.ingest import IngestReport
    from streamclust.config import Settings
    from streamclust.store.layout import EntryFormat
    from streamclust.tables import Chunk, Kind

FORMATS = ("fields", "json", "float32", "float64")
KINDS = ("csv", "tsv", "jsonl", "ndjson", "npy", "npz", "parquet")
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
@click.option("--stream", required=True, metavar="KEY", help="The stream to fill.")
@click.option(
    "--format",
    "entry_format",
    type=click.Choice(FORMATS),
    default="fields",
    show_default=True,
    help="How an entry holds points: named fields, a JSON array, or raw little-endian bytes.",
)
@click.option(
    "--block",
    type=click.IntRange(min=1),
    metavar="N",
    help="Points an entry.  [default: 1; 1024 for float32 and float64]",
)
@click.option(
    "--rate",
    type=NumberRange(min=0, min_open=True),
    metavar="N",
    help="Points a second.  [default: as fast as the server takes them]",
)
@click.option(
    "--columns", metavar="A,B", help="Columns to send, in order.  [default: all but the weights]"
)
@click.option("--weight-column", metavar="NAME", help="Column of weights; also the entry's field.")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="What the files hold.  [default: as their suffix says; csv on standard input]",
)
@click.option("--key", metavar="NAME", help="Array in an .npz file that has several.")
@click.option(
    "--maxlen",
    type=click.IntRange(min=1),
    metavar="N",
    help="Trim the stream to about so many entries.  [default: keep all]",
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
    """Send points from FILES (or "-", standard input) into a stream.

    Reads CSV and TSV (a first row that isn't all numbers is a header), JSON lines (arrays or
    objects), NumPy's .npy and .npz, and Parquet. Columns without names are called x0, x1, and so
    on. Ctrl-C finishes what is under way and says how much went in.

    Points that the server refuses for a while (it is busy, out of memory, demoted, ...) are sent
    again, for as long as --wait-for-server says, behind those that were accepted meanwhile. When
    the connection is lost, ingest ends: whether the last points arrived can't be known.

    \b
    Examples:
      streamclust ingest points.csv --stream points
      streamclust ingest points.csv --stream points --columns x,y --weight-column n
      streamclust ingest embeddings.npy --stream vectors --format float32 --block 256
      tail -f sensor.jsonl | streamclust ingest - --kind jsonl --stream points
    """
    from streamclust.client.ingest import ingest as send
    from streamclust.runtime.backoff import Patience
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
        refused = "the server refuses points; trying again"
        patience = Patience(server.label, ctrl_c, command_log(), refused, wait)

        def on_sent(points: int) -> None:
            patience.over()
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
            on_refusal=patience.wait,
            stop=ctrl_c,
            label=server.label,
        )
    click.echo((_json if as_json else _sentence)(report, stream, ctrl_c.is_set()))
    if ctrl_c.is_set():
        ctx.exit(EXIT_INTERRUPTED)


def _check_stream(stream: str, namespace: str) -> None:
    from streamclust.store.keys import is_own
    from streamclust.text import has_control

    if not stream:
        raise click.UsageError("--stream is empty; name a stream")
    if is_own(stream, namespace):
        raise click.UsageError(f"--stream {stream!r} is a key of streamclust; name another")
    if has_control(stream):
        raise click.UsageError(f"--stream {stream!r} has a control character; name another")


def _open_tables(
    block: int,
    wait_for: Callable[[int], None],
    files: tuple[str, ...],
    columns: str | None,
    weight_column: str | None,
    kind: Kind | None,
    key: str | None,
) -> tuple[Iterator[Chunk], int | None]:
    """Return the chunks of all files, cut so that blocks are full, and their number of rows."""
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
