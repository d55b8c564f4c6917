"""``streamclust ingest``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._ingest_tables import IngestTables
from streamclust.cli._options import (
    ONE_SHOT_WAIT,
    NumberRange,
    server_options,
    wait_option,
    warn,
)
from streamclust.cli._progress import point_progress
from streamclust.cli._render import plural
from streamclust.cli._server import opened_server
from streamclust.cli._signals import CtrlC
from streamclust.cli._table_options import table_options
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json

if TYPE_CHECKING:
    from streamclust.client.ingest import IngestReport
    from streamclust.client.progress import Progress
    from streamclust.config import Settings
    from streamclust.formats.layout import EntryFormat

FORMATS = ("fields", "json", "float32", "float64")
DEFAULT_BLOCK = {"fields": 1, "json": 1, "float32": 1024, "float64": 1024}


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
@table_options(
    "Columns to send, in order.  [default: all columns that no other option names]",
    ("stop", "skip", "dead"),
    "What to do with a bad row: stop with an error, skip it with a warning, or skip it and store "
    "it in the stream {KEY}:ingest:dead.  [default: stop; skip for standard input]",
    ingest=True,
)
@click.option(
    "--maxlen",
    type=click.IntRange(min=1),
    metavar="N",
    help="Trim the stream to approximately N entries.  [default: no trimming]",
)
@click.option(
    "--restart",
    is_flag=True,
    help="Send all rows. By default, a file whose last run was interrupted is continued.",
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
    restart: bool,
    wait: float | None,
    as_json: bool,
    files: tuple[str, ...],
    table: dict[str, Any],
) -> None:
    """Send points from FILES (or "-", standard input) to a stream.

    The command reads CSV and TSV, JSON lines (arrays or objects), NumPy's .npy and .npz, and
    Parquet; CSV and JSON lines can be compressed (.gz, .zst). In CSV a first row without a number
    is a header. Columns without names are called x0, x1, and so on. A list of numbers in Parquet or
    JSON, such as an embedding, is one column per number: NAME_0, NAME_1, and so on. An index that
    pandas wrote is left out.

    Ctrl-C ends the command: it finishes the current write and reports the number of points. If the
    command ends before it has sent all points of its files, the next run sends only the rest: the
    progress is stored with the points, in the key {KEY}:ingest.

    If the server refuses points for a while (busy, out of memory, a replica), ingest retries them
    for the time of --wait-for-server. If the connection is lost, ingest ends with code 3.

    \b
    Examples:
      streamclust ingest points.csv --stream points
      streamclust ingest points.csv --stream points --columns temperature,load
      streamclust ingest log.csv.gz --stream log --time-column t --label-columns host
      streamclust ingest europe.csv --stream points --decimal , --encoding cp1252
      streamclust ingest points.npy --stream points --format float32 --block 256
      tail -f points.jsonl | streamclust ingest - --kind jsonl --stream points
    """
    from streamclust.client.ingest import ingest as send
    from streamclust.client.progress import Progress
    from streamclust.runtime.backoff import Backoff
    from streamclust.runtime.log import command_log

    _check_stream(stream, settings.namespace)
    block = block or (1 if table["label_columns"] else DEFAULT_BLOCK[entry_format])
    wait, ctrl_c = ONE_SHOT_WAIT if wait is None else wait, CtrlC()
    tables = IngestTables(files, table, settings, stream, entry_format, block, ctrl_c.wait_for)
    total = tables.count()
    with (
        opened_server(settings, wait, start=True) as server,
        ctrl_c,
        point_progress(total) as show,
    ):
        client, resumes = server.client(), tables.has_files
        progress = Progress(client, stream, restart=restart, warn=warn) if resumes else None
        backoff = Backoff(server.label, ctrl_c, command_log(), "points_refused", wait)

        def on_sent(points: int) -> None:
            backoff.over()
            show(points)

        report = send(
            client,
            stream,
            ctrl_c.guard(tables.chunks(progress)),
            format=entry_format,
            block=block,
            weight_field=table["weight_column"] or "w",
            rate=rate,
            maxlen=maxlen,
            on_progress=on_sent,
            on_refusal=backoff.wait,
            progress=progress,
            keep_dead=table["on_bad"] == "dead",
            stop=ctrl_c,
            label=server.label,
        )
        if progress is not None and not ctrl_c.is_set():
            progress.finish()
    found = _Found(report, stream, progress, ctrl_c.is_set())
    click.echo(found.json() if as_json else found.sentence(table["on_bad"] == "dead"))
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


@dataclass(frozen=True)
class _Found:
    """The result of the command."""

    report: IngestReport
    stream: str
    progress: Progress | None
    interrupted: bool

    def json(self) -> str:
        """Return the result as JSON."""
        resumed = 0 if self.progress is None else self.progress.resumed
        more = {"resumed": resumed, "interrupted": self.interrupted}
        return exact_json({"stream": self.stream, **asdict(self.report), **more})

    def sentence(self, keeps_dead: bool) -> str:
        """Return the result as a sentence."""
        report = self.report
        bad = f"; {plural(report.bad, 'bad row')} skipped"
        if keeps_dead:
            from streamclust.store.stream.keys import dead_key

            bad += f", see the stream {dead_key(self.stream)!r}"
        continues = self.interrupted and self.progress is not None
        rest = "; the next run sends the rest" if continues else ""
        return (
            f"{'interrupted: ' if self.interrupted else ''}"
            f"{plural(report.points, 'point')} in {plural(report.entries, 'entry')} "
            f"to stream {self.stream!r} in {report.seconds:.1f} s"
            f"{bad if report.bad else ''}{rest}"
        )
