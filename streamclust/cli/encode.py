"""``streamclust encode``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from streamclust.cli.common import opened_server, server_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.config import Settings
    from streamclust.encoder.loop import Tally


@click.command()
@click.argument("model")
@server_options
@click.option("--until-idle", is_flag=True, help="Encode what is there, and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def encode(settings: Settings, model: str, until_idle: bool, as_json: bool) -> None:
    """Write the code of each point of MODEL's streams to {namespace:MODEL}:codes.

    A code is the number of the nearest centroid, or of the most responsible component; with it go
    the distance and the version of the model. The entry of the codes has the ID of the points'
    entry, so each is there once, whatever is killed. Any number of encoders share the work: start
    as many as are needed. New versions of the model are followed; before the first one, encoders
    wait, and then encode all that they were given. Ctrl-C or SIGTERM ends it cleanly.

    \b
    Examples:
      streamclust encode palette                   until Ctrl-C; start several to go faster
      streamclust encode palette --until-idle      encode what is there, and exit
      streamclust encode palette --set models.palette.encode.top=3
    """
    from streamclust.encoder.daemon import encode_streams

    with opened_server(settings) as server:
        done = encode_streams(settings, server, model, until_idle=until_idle)
    if as_json:
        click.echo(_json(model, done))
    else:
        for tally in done:
            click.echo(_sentence(tally))


def _json(model: str, done: Sequence[Tally]) -> str:
    from dataclasses import asdict

    return json.dumps({"model": model, "streams": [asdict(tally) for tally in done]})


def _sentence(tally: Tally) -> str:
    notes = {
        "bad": "without a code",
        "taken_over": "entries taken over",
        "gone": "entries gone before",
    }
    more = "".join(
        f", {value:,} {words}" for name, words in notes.items() if (value := getattr(tally, name))
    )
    return f"{tally.stream}: {tally.points:,} points in {tally.entries:,} entries encoded{more}"
