"""``streamclust decode``."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamclust.cli._code_files import published_model
from streamclust.cli._options import server_options
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json

if TYPE_CHECKING:
    from streamclust.config import Settings


@click.command()
@click.argument("codes", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Output file: .npy, .csv, or a picture such as .png.",
)
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def decode(settings: Settings, codes: Path, out: Path, as_json: bool) -> None:
    """Restore the points of CODES, a file that `streamclust encode` wrote, each as its centroid.

    The command needs the server only if CODES has the name of the model instead of the centroids.
    The output file is written completely or not at all. A symbolic link isn't followed. An output
    over 1 GiB that is also over 4,096 times the size of CODES is refused. In a CSV file, a name
    that a spreadsheet would read as a formula gets the prefix '.

    \b
    Examples:
      streamclust decode codes.safetensors --out points.npy
      streamclust decode photo.safetensors --out photo.png
    """
    import numpy as np

    from streamclust.encoder.files import decode_parts, write_parts
    from streamclust.encoder.pictures import as_pixels, write_pixels
    from streamclust.files import check_target

    check_target(out)
    try:
        header, D, parts = decode_parts(codes, partial(published_model, settings))
        if out.suffix.lower() in (".npy", ".csv"):
            write_parts(out, parts, (header.n, D), header.features)
        elif header.picture is not None:
            pixels = np.concatenate([as_pixels(part, header.peak) for part in parts])
            write_pixels(out, pixels.reshape(header.picture))
        else:
            raise click.UsageError(
                f"--out {out}: {codes} holds no picture; name a .npy or .csv file"
            )
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    if as_json:
        click.echo(exact_json({**asdict(header), "bits_per_point": header.bits}))
    else:
        click.echo(f"{header.n:,} points to {out}, distortion {header.distortion:.6g}")
