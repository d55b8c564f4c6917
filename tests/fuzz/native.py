"""Feed native code replies and arrays that nobody meant, for so many seconds.

python -m tests.fuzz.native --seconds 60
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator

import click

from streamclust.kernels import native
from streamclust.store.reply import native as wire
from tests.fuzz.arrays import fuzz_kernels
from tests.fuzz.replies import fuzz_replies


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0), default=60, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="Of every choice.  [default: a new one]")
def fuzz(seconds: float, seed: int | None) -> None:
    """Try replies for half of the time, and arrays for the other half."""
    seed = secrets.randbelow(10**9) if seed is None else seed
    if not wire.available():
        raise click.ClickException("there is no native library")
    click.echo(f"seed {seed}, library {native.LIBRARY}", err=True)
    tally = _until(fuzz_replies(10**9, seed), seconds / 2)
    click.echo(json.dumps(tally | _until(fuzz_kernels(10**9, seed), seconds / 2)))


def _until(tries: Iterator[dict[str, int]], seconds: float) -> dict[str, int]:
    """Go on for so long, at least once."""
    end = time.monotonic() + seconds
    tally = next(tries)
    while time.monotonic() < end:
        tally = next(tries)
    return tally


if __name__ == "__main__":
    fuzz()
