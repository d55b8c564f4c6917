"""``streamclust models``: the stored versions of a model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import NumberRange, server_options
from streamclust.cli._render import (
    damaged_row,
    number,
    plain_console,
    plain_table,
    print_components,
    print_table,
    version_header,
    version_row,
)
from streamclust.cli._server import each_version, opened_client, opened_job
from streamclust.cli._signals import CtrlC
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.config import Settings
    from streamclust.formats.model import Model

_VERSION = click.IntRange(min=1)


@click.group()
def models() -> None:
    """List, show, compare, export and roll back the stored versions of a model.

    The server stores the newest `publish.keep` versions (default: 100).

    \b
    Examples:
      streamclust models list machines
      streamclust models diff machines 1 2
      streamclust models export machines machines.npz
    """


@models.command(name="list", short_help="List the stored versions.")
@click.argument("model")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per version.")
def list_versions(settings: Settings, model: str, as_json: bool) -> None:
    """List the stored versions of MODEL, oldest first.

    MOVED is the largest distance that a component moved since the previous version.

    \b
    Examples:
      streamclust models list machines
      streamclust models list machines --json | jq 'select(.reason == "refit")'
    """
    from streamclust.errors import DamagedVersionError

    before: Model | None = None
    with opened_client(settings) as client:
        with suppress(DamagedVersionError):
            client.model(model)  # an unknown model is an error that lists the known ones
        for version in each_version(client, model, 0, 0.0):
            if isinstance(version, DamagedVersionError):
                click.echo(damaged_row(model, version, as_json))
                continue
            if as_json:
                click.echo(exact_json(version.summary()))
                continue
            if before is None:
                click.echo(version_header(version))
            click.echo(version_row(version, before))
            before = version


@models.command(short_help="Show one version and its components.")
@click.argument("model")
@click.argument("version", type=_VERSION, required=False)
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON with all arrays.")
def show(settings: Settings, model: str, version: int | None, as_json: bool) -> None:
    """Show VERSION of MODEL (default: the newest) and its components.

    \b
    Examples:
      streamclust models show machines
      streamclust models show machines 1 --json | jq .centroids
    """
    with opened_client(settings) as client:
        found = client.model(model, version)
    if as_json:
        click.echo(found.to_json())
        return
    console = plain_console()
    for name, value in found.summary().items():
        console.print(f"{name:<17} {printable(str(value))}", highlight=False)
    console.print()
    print_components(found)


@models.command(short_help="Show how components moved between two versions.")
@click.argument("model")
@click.argument("old", type=_VERSION)
@click.argument("new", type=_VERSION, required=False)
@server_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON with the distance of each component."
)
def diff(settings: Settings, model: str, old: int, new: int | None, as_json: bool) -> None:
    """Show how far each component of MODEL moved from version OLD to NEW (default: the newest).

    MOVED is the Euclidean distance between the two centroids or means, in the units of the data. If
    K adapts, a component that only NEW has is `born`, and one that only OLD has is `died`.

    \b
    Examples:
      streamclust models diff machines 1 2
      streamclust models diff machines 1 --json | jq '.moved | max'
    """
    with opened_client(settings) as client:
        before, after = client.model(model, old), client.model(model, new)
    if as_json:
        click.echo(exact_json(_difference(before, after)))
    else:
        _show_difference(before, after)


def _difference(before: Model, after: Model) -> dict[str, object]:
    moved = [None if isnan(each) else each for each in after.displacement_from(before).tolist()]
    difference = {
        "model": after.name,
        "versions": [before.version, after.version],
        "points": after.points - before.points,
        "moved": moved,
        "weight": [before.mass.tolist(), after.mass.tolist()],
        after.score_name: [before.score, after.score],
    }
    if len(after.ids):
        difference["ids"] = [before.numbers.tolist(), after.numbers.tolist()]
    return difference


def _show_difference(before: Model, after: Model) -> None:
    table = plain_table()
    versions = before.version, after.version
    for name in ("#", "MOVED", *(f"WEIGHT {version}" for version in versions), "CHANGE"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in _rows(before, after):
        table.add_row(*row)
    console = plain_console()
    scores = " -> ".join(number(model.score) for model in (before, after))
    console.print(
        f"{printable(after.name)} {versions[0]} -> {versions[1]}: "
        f"{after.points - before.points:,} points, {after.score_name} {scores}",
        highlight=False,
    )
    print_table(table)


def _rows(before: Model, after: Model) -> Iterator[tuple[str, ...]]:
    """Yield a row for each component of either version."""
    moved = dict(zip(after.numbers.tolist(), after.displacement_from(before).tolist(), strict=True))
    old, new = (
        dict(zip(m.numbers.tolist(), m.mass.tolist(), strict=True)) for m in (before, after)
    )
    for k in sorted({*old, *new}):
        if k not in new:
            yield str(k), "-", f"{old[k]:,.1f}", "-", "died"
        elif k not in old:
            yield str(k), "-", "-", f"{new[k]:,.1f}", "born"
        else:
            change = f"{new[k] / old[k] - 1.0:+.1%}" if old[k] > 0.0 else "-"
            yield str(k), number(moved[k]), f"{old[k]:,.1f}", f"{new[k]:,.1f}", change


@models.command(short_help="Write a version to a file.")
@click.argument("model")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("version", type=_VERSION, required=False)
@server_options
def export(settings: Settings, model: str, out: Path, version: int | None) -> None:
    """Write VERSION of MODEL (default: the newest) to the file OUT: .safetensors, .npz or .json.

    Another model can start from a .safetensors file (setting `init.path`), and `streamclust encode`
    can use the file without a server.

    \b
    Examples:
      streamclust models export machines machines.npz
      streamclust models export machines machines-1.safetensors 1
    """
    with opened_client(settings) as client:
        found = client.model(model, version)
    found.save(out)
    click.echo(f"wrote version {found.version} of {model} to {out}")


@models.command(short_help="Return to an older version.")
@click.argument("model")
@click.argument("version", type=_VERSION)
@server_options
@click.option(
    "--wait",
    type=NumberRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Maximum wait for the worker's answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def rollback(settings: Settings, model: str, version: int, wait: float, as_json: bool) -> None:
    """Return to VERSION of MODEL: publish it again as a new version, and continue from there.

    A running worker applies it between two batches. Without a worker the command changes the stored
    state itself. The model loses what it learned after VERSION; no point is learned again.

    \b
    Examples:
      streamclust models rollback machines 1
      streamclust models rollback machines 1 --json
    """
    from streamclust.errors import StoppedError
    from streamclust.refit.rollback import rollback as run

    with opened_job(settings, model) as job, CtrlC() as ctrl_c:
        try:
            done = run(job, version, wait, ctrl_c.is_set)
        except StoppedError as error:
            click.echo(f"error: {error}", err=True)
            raise SystemExit(EXIT_INTERRUPTED) from None
    if as_json:
        click.echo(exact_json({"model": model, "back_to": version, **asdict(done)}))
    else:
        how = "by its worker" if done.by_worker else "in place"
        click.echo(f"{model} is back at version {version}, as version {done.version} ({how})")
