"""``streamclust ingest``."""

from __future__ import annotations

import json
import signal
import time
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import click

from streamclust.cli.common import opened_server, server_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from streamclust.config import Settings
    from streamclust.ingest import IngestReport
    from streamclust.store.layout import EntryFormat
    from streamclust.tables import Chunk

FORMATS = ("fields", "json", "float32", "float64")
KINDS = ("csv", "tsv", "jsonl", "ndjson", "npy", "npz", "parquet")
DEFAULT_BLOCK = {"fields": 1, "json": 1, "float32": 1024, "float64": 1024}
CHUNK = 8192
EXIT_INTERRUPTED = 130


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
    settings: Settings,
    files: tuple[str, ...],
    entry_format: EntryFormat,
    block: int | None,
    as_json: bool,
    **options: Any,
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
    size = block or DEFAULT_BLOCK[entry_format]
    report, interrupted = _send(settings, files, entry_format, size, **options)
    click.echo(_as_json(report, options["stream"]) if as_json else _sentence(report, **options))
