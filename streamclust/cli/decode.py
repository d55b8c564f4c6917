"""``streamclust decode``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamclust.cli.common import server_options

if TYPE_CHECKING:
    from streamclust.config import Settings


@click.command()
@click.argument("codes", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where the points go: .npy, .csv, or a picture such as .png.",
)
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def decode(settings: Settings, codes: Path, out: Path, as_json: bool) -> None:
    """Give back the points of a file that `streamclust encode` wrote, each as its centroid.

    The server is asked only if the file names its model instead of holding the centroids.

    \b
    Examples:
      streamclust decode codes.safetensors --out points.npy
      streamclust decode photo.safetensors --out photo.png
    """
    from streamclust.cli.code_files import find_model
    from streamclust.encoder.files import decode_file, write_points
    from streamclust.encoder.pictures import write_picture

    header, X = decode_file(codes, lambda name, version: find_model(settings, name, version))
    if out.suffix.lower() in (".npy", ".csv"):
        write_points(out, X, header.features)
    elif header.picture is not None:
        write_picture(out, X, header.picture, header.peak)
    else:
        raise click.UsageError(f"{codes} holds no picture; name a .npy or .csv file in --out")
    if as_json:
        click.echo(json.dumps({**asdict(header), "bits_per_point": header.bits}))
    else:
        click.echo(f"{header.n:,} points to {out}, distortion {header.distortion:.6g}")
