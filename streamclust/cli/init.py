"""``streamclust init``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from streamclust.cli._confirm import check_new
from streamclust.cli._options import FAMILY_KINDS
from streamclust.cli._render import say
from streamclust.text import printable


@click.command()
@click.argument("model", default="machines")
@click.option("--stream", metavar="KEY", help="Stream of the points.  [default: MODEL]")
@click.option(
    "--kind",
    "--model-kind",
    "kind",
    type=click.Choice(FAMILY_KINDS),
    default=FAMILY_KINDS[0],
    show_default=True,
    help="Kind of the model.",
)
@click.option(
    "-k",
    "--k",
    "n_components",
    type=click.IntRange(min=1),
    metavar="K",
    help="Number of components.  [default: auto]",
)
@click.option(
    "--features",
    metavar="A,B",
    help="Names of the features, in order.  [default: those of the first entry]",
)
@click.option(
    "--redis-url", metavar="URL", default="embedded", show_default=True, help="Redis server."
)
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    default="config.yaml",
    show_default=True,
    help="File to write.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--dry-run", is_flag=True, help="Print the file, and write nothing.")
def init(
    model: str,
    stream: str | None,
    kind: str,
    n_components: int | None,
    features: str | None,
    redis_url: str,
    out: Path,
    force: bool,
    dry_run: bool,
) -> None:
    """Write a commented config.yaml with one model, MODEL.

    Each key has its meaning as a comment. An existing file is replaced only after a question, or
    with --force. `streamclust try FILE` writes the same file with the values that fit your data.

    \b
    Examples:
      streamclust init                               model and stream `machines`
      streamclust init sensors -k 8 --features temperature,load
      streamclust init sensors --dry-run
    """
    from streamclust.config.write import starter_file
    from streamclust.files import check_target, write_whole

    chosen: dict[str, Any] = {
        "kind": kind,
        "n_components": n_components or "auto",
        "streams": [stream or model],
        "scale": "standard",
    }
    if features is not None:
        chosen["points"] = {"features": [name.strip() for name in features.split(",")]}
    text = starter_file(model, chosen, url=redis_url)
    if dry_run:
        click.echo(text, nl=False)
        return
    check_new(out, force=force)
    check_target(out)
    write_whole(out, text.encode())
    click.echo(f"wrote {printable(str(out))}")
    say("next:")
    for line in _next(out, stream or model):
        say(f"  {printable(line)}")


def _next(out: Path, stream: str) -> list[str]:
    import shlex

    config = "" if out == Path("config.yaml") else f" -c {shlex.quote(str(out))}"
    return [
        f"streamclust config check --connect{config}",
        f"streamclust ingest points.csv --stream {shlex.quote(stream)}{config}",
        f"streamclust worker{config}",
    ]
