"""``streamclust ingest``."""

from __future__ import annotations

import signal
import time
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import click

from streamclust.cli.common import opened_server, server_options
from streamclust.cli.progress import point_progress
from streamclust.text import exact_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from streamclust.config import Settings
    from streamclust.ingest import IngestReport
    from streamclust.store.layout import EntryFormat
    from streamclust.tables import Chunk, Kind

FORMATS = ("fields", "json", "float32", "float64")
KINDS = ("csv", "tsv", "jsonl", "ndjson", "npy", "npz", "parquet")
DEFAULT_BLOCK = {"fields": 1, "json": 1, "float32": 1024, "float64": 1024}
CHUNK = 8192
EXIT_INTERRUPTED = 130
GLANCE_SECONDS = 0.05


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
    type=click.FloatRange(min=0, min_open=True),
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
    as_json: bool,
    **table: Any,
) -> None:
    """Send points from FILES (or "-", standard input) into a stream.

    Reads CSV and TSV (a first row that isn't all numbers is a header), JSON lines (arrays or
    objects), NumPy's .npy and .npz, and Parquet. Columns without names are called x0, x1, and so
    on. Ctrl-C finishes what is under way and says how much went in.

    \b
    Examples:
      streamclust ingest points.csv --stream points
      streamclust ingest points.csv --stream points --columns x,y --weight-column n
      streamclust ingest embeddings.npy --stream vectors --format float32 --block 256
      tail -f sensor.jsonl | streamclust ingest - --kind jsonl --stream points
    """
    from streamclust.ingest import ingest as send

    _check_stream(stream, settings.namespace)
    block = block or DEFAULT_BLOCK[entry_format]
    chunks, total = _open_tables(block, **table)
    with opened_server(settings) as server, CtrlC() as ctrl_c, point_progress(total) as on_progress:
        report = send(
            server.client(),
            stream,
            ctrl_c.guard(chunks),
            format=entry_format,
            block=block,
            weight_field=table["weight_column"] or "w",
            rate=rate,
            maxlen=maxlen,
            on_progress=on_progress,
            stop=ctrl_c,
            label=server.label,
        )
    click.echo((_json if as_json else _sentence)(report, stream, ctrl_c.is_set()))
    if ctrl_c.is_set():
        ctx.exit(EXIT_INTERRUPTED)


def _check_stream(stream: str, namespace: str) -> None:
    from streamclust.store.keys import is_own
    from streamclust.text import has_control

    if is_own(stream, namespace):
        raise click.UsageError(f"--stream {stream!r} is a key of streamclust; name another")
    if has_control(stream):
        raise click.UsageError(f"--stream {stream!r} has a control character; name another")


def _open_tables(
    block: int,
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
    }
    tables = [read_table(file, **options) for file in files]
    counts = [count for file in files if (count := count_rows(file, kind=kind)) is not None]
    return chain.from_iterable(tables), sum(counts) if len(counts) == len(files) else None


class CtrlC:
    """Turns Ctrl-C into a request to stop, which spares what is being sent; a second one forces.

    While it waits for input there is nothing to spare, so the wait ends at once. No lock is taken:
    a signal handler could wait for ever for one that its own thread holds.
    """

    def __init__(self) -> None:
        self._set = False
        self._reading = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        again, self._set = self._set, True
        if again or self._reading:
            raise KeyboardInterrupt

    def is_set(self) -> bool:
        """Say whether Ctrl-C was pressed."""
        return self._set

    def wait(self, timeout: float) -> bool:
        """Wait so many seconds, or until Ctrl-C."""
        deadline = time.monotonic() + timeout
        while not self._set and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, GLANCE_SECONDS))
        return self._set

    def guard(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Hand the chunks on until Ctrl-C."""
        while not self._set and (chunk := self._next(chunks)) is not None:
            yield chunk

    def _next(self, chunks: Iterator[Chunk]) -> Chunk | None:
        try:
            self._reading = True
            return next(chunks, None)
        except KeyboardInterrupt:
            return None
        finally:
            self._reading = False


def _json(report: IngestReport, stream: str, interrupted: bool) -> str:
    return exact_json({"stream": stream, **asdict(report), "interrupted": interrupted})


def _sentence(report: IngestReport, stream: str, interrupted: bool) -> str:
    points = f"{report.points:,} point{'' if report.points == 1 else 's'}"
    entries = f"{report.entries:,} entr{'y' if report.entries == 1 else 'ies'}"
    return (
        f"{'interrupted: ' if interrupted else ''}"
        f"{points} in {entries} to stream {stream!r} in {report.seconds:.1f} s"
    )
