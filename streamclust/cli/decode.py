"""``streamclust decode``."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._code_files import published_model
from streamclust.cli._options import server_options
from streamclust.cli._table_options import table_options
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json

if TYPE_CHECKING:
    from streamclust.config import Settings
    from streamclust.formats.code_file import Header


@click.command(
    short_help="Restore the points of a file that `encode` wrote, or fill missing values."
)
@click.argument(
    "codes", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Output file: .npy, .csv, or a picture such as .png.",
)
@click.option(
    "--impute",
    "model",
    metavar="MODEL",
    help="Replace the missing values of the points in FILE by the values that MODEL expects.",
)
@click.option(
    "--variance",
    is_flag=True,
    help="With --impute, add a column NAME_variance per feature: the variance of an imputed value, "
    "0 for the others.",
)
@click.option(
    "--version",
    type=click.IntRange(min=1),
    metavar="VERSION",
    help="Version of MODEL, for --impute.  [default: the newest]",
)
@table_options(
    "Columns of FILE, in the order of the features, for --impute.  [default: those with the names "
    "of the features]",
    ("stop", "skip"),
    "What to do with a bad row of FILE, for --impute: stop with an error, or leave it out with a "
    "warning.  [default: stop]",
)
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def decode(
    settings: Settings,
    codes: Path,
    out: Path,
    model: str | None,
    variance: bool,
    version: int | None,
    table: dict[str, Any],
    as_json: bool,
) -> None:
    """Restore the points of FILE, a file that `streamclust encode` wrote, each as its centroid.

    The command needs the server only if FILE has the name of the model instead of the centroids.
    The output file is written completely or not at all. A symbolic link isn't followed. An output
    over 1 GiB that is also over 4,096 times the size of FILE is refused. In a CSV output, the name
    of a column gets the prefix ' if a spreadsheet would read the name as a formula.

    With --impute MODEL, FILE is a table of points: CSV, JSON lines, .npy, .npz or Parquet. Missing
    values (empty cells, NaN, null, NA) are replaced by the values that MODEL expects, given the
    other values of the same point. A mixture gives the conditional mean; K-means gives the value of
    the nearest centroid, and no variance. MODEL may also be a .safetensors file of a model.

    \b
    Examples:
      streamclust decode codes.safetensors --out points.npy
      streamclust decode photo.safetensors --out photo.png
      streamclust decode points.csv --impute machines --out complete.csv
      streamclust decode points.csv --impute machines --variance --out complete.csv
    """
    chosen = {name: value for name, value in table.items() if value not in (None, (), ".")}
    if model is not None:
        from streamclust.cli._code_files import impute_points

        impute_points(
            settings, model, codes, out, chosen, version=version, variance=variance, as_json=as_json
        )
        return
    for name, given in {**chosen, "variance": variance, "version": version}.items():
        if given:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is an option for --impute: give --impute MODEL"
            )
    try:
        header = _decode(settings, codes, out)
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    if as_json:
        click.echo(exact_json({**asdict(header), "bits_per_point": header.bits}))
    else:
        click.echo(f"{header.n:,} points to {out}, distortion {header.distortion:.6g}")


def _decode(settings: Settings, codes: Path, out: Path) -> Header:
    """Write the points of a file of codes; return the header of the codes."""
    import numpy as np

    from streamclust.encoder.files import decode_parts, write_parts
    from streamclust.encoder.pictures import as_pixels, write_pixels
    from streamclust.files import check_target

    check_target(out)
    header, D, parts = decode_parts(codes, partial(published_model, settings))
    if out.suffix.lower() in (".npy", ".csv"):
        write_parts(out, parts, (header.n, D), header.features)
    elif header.picture is not None:
        pixels = np.concatenate([as_pixels(part, header.peak) for part in parts])
        write_pixels(out, pixels.reshape(header.picture))
    else:
        raise click.UsageError(f"--out {out}: {codes} holds no picture; name a .npy or .csv file")
    return header
