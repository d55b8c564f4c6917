"""``streamclust encode``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli.common import (
    NumberRange,
    daemon_wait,
    found_server,
    server_options,
    wait_option,
)
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.config import Settings
    from streamclust.encoder.loop import Tally

KINDS = ("csv", "tsv", "jsonl", "ndjson", "npy", "npz", "parquet")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("model")
@server_options
@click.option("--until-idle", is_flag=True, help="Encode what is there, and exit.")
@wait_option("forever for the model's streams; 30s with --until-idle")
@click.option("--file", "file", type=_FILE, metavar="FILE", help="Encode a file instead.")
@click.option("--image", type=_FILE, metavar="FILE", help="Encode the pixels of a picture instead.")
@click.option("--stdin", is_flag=True, help="Encode standard input instead.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File of packed codes (.safetensors).  [default: lines of CSV on standard output]",
)
@click.option("--kind", type=click.Choice(KINDS), help="What FILE holds.  [default: by its suffix]")
@click.option("--columns", metavar="A,B", help="Columns of FILE to use, in order.  [default: all]")
@click.option("--version", type=click.IntRange(min=1), help="Version of MODEL.  [default: newest]")
@click.option(
    "--codebook/--no-codebook",
    default=True,
    help="Keep the centroids in the packed file, or only the model's name.  [default: keep]",
)
@click.option(
    "--peak",
    type=NumberRange(min=0, min_open=True),
    default=255.0,
    show_default=True,
    help="White in the model's units, for --image: 255, or 1.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def encode(
    settings: Settings,
    model: str,
    until_idle: bool,
    wait: float | None,
    as_json: bool,
    **points: Any,
) -> None:
    """Write the code of each point of MODEL's streams to {namespace:MODEL}:codes.

    A code is the number of the nearest centroid, or of the most responsible component; with it go
    the distance and the version of the model. The entry of the codes has the ID of the points'
    entry, so each is there once, whatever is killed. Any number of encoders share the work: start
    as many as are needed. New versions of the model are followed; before the first one, encoders
    wait, and then encode all that they were given. Ctrl-C or SIGTERM ends it cleanly.

    With --file, --image or --stdin it encodes those points instead, with the newest version of
    MODEL (or with a model in a .safetensors file), into a file of ceil(log2 K) bits a point;
    `streamclust decode` gives the points back, each as its centroid.

    \b
    Examples:
      streamclust encode palette                   until Ctrl-C; start several to go faster
      streamclust encode palette --until-idle      encode what is there, and exit
      streamclust encode palette --set models.palette.encode.top=3
      streamclust encode palette --image photo.png --out photo.safetensors
      streamclust encode m.safetensors --file points.npy --out codes.safetensors
      tail -f points.csv | streamclust encode palette --stdin
    """
    source = _source(points)
    if source is None:
        _encode_streams(settings, model, until_idle, daemon_wait(wait, until_idle), as_json)
    else:
        from streamclust.cli.code_files import encode_points

        encode_points(settings, model, source, as_json, **points)


def _source(points: dict[str, Any]) -> str | None:
    """Return which option says where the points are, or None for the model's streams."""
    given = [name for name in ("file", "image", "stdin") if points[name]]
    if len(given) > 1:
        raise click.UsageError("give one of --file, --image and --stdin")
    if not given and points["out"] is not None:
        raise click.UsageError("--out goes with --file, --image or --stdin")
    if given == ["image"] and points["out"] is None:
        raise click.UsageError("--image needs --out")
    return given[0] if given else None


def _encode_streams(
    settings: Settings, model: str, until_idle: bool, wait: float, as_json: bool
) -> None:
    from streamclust.encoder.daemon import encode_streams

    with found_server(settings) as server:
        done = encode_streams(settings, server, model, wait=wait, until_idle=until_idle)
    if as_json:
        click.echo(_json(model, done))
    else:
        for tally in done:
            click.echo(_sentence(tally))


def _json(model: str, done: Sequence[Tally]) -> str:
    return exact_json({"model": model, "streams": [asdict(tally) for tally in done]})


def _sentence(tally: Tally) -> str:
    notes = {
        "bad": "without a code",
        "taken_over": "entries taken over",
        "gone": "entries gone before",
        "unknown_gaps": "gaps of unknown size",
    }
    more = "".join(
        f", {value:,} {words}" for name, words in notes.items() if (value := getattr(tally, name))
    )
    done = f"{tally.points:,} points in {tally.entries:,} entries encoded"
    return f"{printable(tally.stream)}: {done}{more}"
