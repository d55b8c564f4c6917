"""``streamclust encode``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._options import (
    NumberRange,
    daemon_wait,
    server_options,
    settings_loader,
    wait_option,
)
from streamclust.cli._render import plural
from streamclust.cli._server import found_server
from streamclust.cli._table_options import table_options
from streamclust.text import exact_json, is_pattern, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.config import Settings
    from streamclust.encoder.job import Tally

_MAX_LINES = 25
"""Maximum number of streams whose counts are printed; for more streams, only the sums."""

SCORES = ("distance", "log_density", "mahalanobis", "scaled_distance", "tail_score", "quantile")
"""The values of `encode.score`, whose declaration takes too long to import for the help."""

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@server_options
@click.option("--until-idle", is_flag=True, help="Encode all entries of the streams, and exit.")
@wait_option("forever; 30s with --until-idle")
@click.option("--file", "file", type=_FILE, metavar="FILE", help="Encode the points of a file.")
@click.option("--image", type=_FILE, metavar="FILE", help="Encode the pixels of a picture.")
@click.option("--stdin", is_flag=True, help="Encode points from standard input.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Output file of packed codes (.safetensors).  [default: CSV on standard output]",
)
@table_options(
    "Columns of FILE, in the order of the features.  [default: those with the names of the "
    "features]",
    ("stop", "skip"),
    "What to do with a bad row: stop with an error, or skip it and write code -1. skip can't be "
    "combined with --out.  [default: stop; skip for --stdin without --out]",
)
@click.option(
    "--version",
    type=click.IntRange(min=1),
    metavar="VERSION",
    help="Version of MODEL.  [default: the newest]",
)
@click.option(
    "--codebook/--no-codebook",
    default=True,
    help="Store the centroids in the output file, or only the name of the model.  "
    "[default: --codebook]",
)
@click.option(
    "--peak",
    type=NumberRange(min=0, min_open=True),
    metavar="NUMBER",
    default=255.0,
    show_default=True,
    help="For --image: the value of a white pixel in the units of the model, such as 255 or 1.",
)
@click.option(
    "--score",
    "scores",
    type=click.Choice(SCORES),
    multiple=True,
    help="Score of each point beside its code, with --file, --image or --stdin; repeatable. See "
    "encode.score.  [default: the setting encode.score]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def encode(
    settings: Settings,
    models: tuple[str, ...],
    until_idle: bool,
    wait: float | None,
    as_json: bool,
    **points: Any,
) -> None:
    """Write the code of each point of MODEL's streams to the stream {namespace:MODEL}:codes.

    MODEL may be a pattern in quotes: 'clicks-*' follows all models whose names begin with clicks-,
    also those that are created later. One process can follow thousands of models.

    A code is the number of the nearest centroid, or of the component with the highest
    responsibility. Each code has the distance and the version of the model. An entry of codes has
    the ID of the entry of points, so each entry is encoded exactly once, even after a crash.
    Several encoders share the work: start as many as you need. Encoders follow new versions of the
    model, and wait for the first one. SIGHUP or `streamclust reload` lets an encoder read its
    settings again. Ctrl-C or SIGTERM ends an encoder cleanly.

    With --file, --image or --stdin, the command encodes the points of a file, a picture or standard
    input with the newest version of MODEL. MODEL may also be a .safetensors file of a model.
    Columns are found by the names of the model's features; a table without names must have as many
    columns as the model has features. An output file has ceil(log2 K) bits per point. `streamclust
    decode` restores each point as its centroid.

    \b
    Examples:
      streamclust encode machines                    until Ctrl-C
      streamclust encode machines --until-idle       encode all entries and exit
      streamclust encode 'clicks-*' machines         many models in one process
      streamclust encode machines --file points.csv --out codes.safetensors
      tail -f points.csv | streamclust encode machines --stdin
    """
    source = _source(points)
    if source is None:
        _encode_streams(settings, models, until_idle, daemon_wait(wait, until_idle), as_json)
    else:
        from streamclust.cli._code_files import encode_points

        if len(models) > 1:
            raise click.UsageError(f"--{source} needs one MODEL, got {len(models)}")
        encode_points(settings, models[0], source, as_json, **points)


def _source(points: dict[str, Any]) -> str | None:
    """Return the option that names the points, or None for the streams of the model."""
    given = [name for name in ("file", "image", "stdin") if points[name]]
    if len(given) > 1:
        names = " and ".join(f"--{name}" for name in given)
        raise click.UsageError(f"{names} can't be combined; give one")
    if not given and points["out"] is not None:
        raise click.UsageError("--out needs --file, --image or --stdin")
    table = {name for name, value in points["table"].items() if value not in (None, (), ".")}
    if table and (not given or given == ["image"]):
        option = sorted(table)[0].replace("_", "-")
        raise click.UsageError(f"--{option} is an option for tables: give --file or --stdin")
    if points["table"]["on_bad"] == "skip" and points["out"] is not None:
        raise click.UsageError("--on-bad skip needs codes on standard output: leave --out out")
    if points["scores"] and not given:
        raise click.UsageError(
            "--score needs --file, --image or --stdin; for streams, set encode.score"
        )
    if given == ["image"] and points["out"] is None:
        raise click.UsageError("--image needs --out FILE")
    return given[0] if given else None


def _encode_streams(
    settings: Settings, models: Sequence[str], until_idle: bool, wait: float, as_json: bool
) -> None:
    from streamclust.encoder.daemon import encode_streams
    from streamclust.encoder.roster import refuse_unknown

    refuse_unknown(settings, models)  # before the embedded server is started
    load = settings_loader()
    with found_server(settings, start=True) as server:
        done = encode_streams(settings, server, models, wait=wait, until_idle=until_idle, load=load)
    by_model: dict[str, list[Tally]] = {name: [] for name in models if not is_pattern(name)}
    for job, tally in sorted(done, key=lambda item: item[0].id):
        by_model.setdefault(job.name, []).append(tally)
    if as_json:
        for name, tallies in by_model.items():
            found = {"model": name, "streams": [asdict(tally) for tally in tallies]}
            click.echo(exact_json(found))
    elif len(done) <= _MAX_LINES:
        for tallies in by_model.values():
            for tally in tallies:
                click.echo(f"{printable(tally.stream)}: {_sentence(asdict(tally))}")
    else:
        from streamclust.encoder.many import total

        click.echo(f"{plural(len(by_model), 'model')}: {_sentence(total(done))}")


def _sentence(counts: dict[str, Any]) -> str:
    notes = {
        "bad": "without a code",
        "flagged": "flagged as anomalies",
        "taken_over": "entries taken over",
        "gone": "entries removed before they were encoded",
        "unknown_gaps": "gaps of unknown size",
    }
    more = "".join(
        f", {value:,} {words}" for name, words in notes.items() if (value := counts[name])
    )
    return f"{counts['points']:,} points in {counts['entries']:,} entries encoded{more}"
