"""``streamclust models``: the versions of a model that the server keeps."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamclust.cli.common import (
    NumberRange,
    opened_client,
    opened_job,
    plain_console,
    server_options,
)
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.config import Settings
    from streamclust.store.published import Model

_VERSION = click.IntRange(min=1)


@click.group()
def models() -> None:
    """List, show, compare and export the versions of a model, or go back to one.

    The server keeps the newest `publish.keep` versions.

    \b
    Examples:
      streamclust models list palette
      streamclust models diff palette 41 42
      streamclust models export palette palette.npz
    """


@models.command(name="list", short_help="List the versions that are kept.")
@click.argument("model")
@server_options
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a version.")
def list_versions(settings: Settings, model: str, as_json: bool) -> None:
    """List the versions of MODEL that are kept, oldest first.

    MOVED is how far the component that moved most went since the version before.

    \b
    Examples:
      streamclust models list palette
      streamclust models list palette --json | jq 'select(.reason == "reseed")'
    """
    from streamclust.cli.watch import damaged, each_version, header, row
    from streamclust.errors import DamagedVersionError

    before: Model | None = None
    with opened_client(settings) as client:
        with suppress(DamagedVersionError):
            client.model(model)  # says which models there are, if not this one
        for version in each_version(client, model, 0, 0.0):
            if isinstance(version, DamagedVersionError):
                click.echo(damaged(model, version, as_json))
                continue
            if as_json:
                click.echo(exact_json(version.summary()))
                continue
            if before is None:
                click.echo(header(version))
            click.echo(row(version, before))
            before = version


@models.command(short_help="Show a version and its components.")
@click.argument("model")
@click.argument("version", type=_VERSION, required=False)
@server_options
@click.option("--json", "as_json", is_flag=True, help="JSON, with all arrays.")
def show(settings: Settings, model: str, version: int | None, as_json: bool) -> None:
    """Show VERSION of MODEL (default: the newest) and its components.

    \b
    Examples:
      streamclust models show palette
      streamclust models show palette 41 --json | jq .centroids
    """
    with opened_client(settings) as client:
        found = client.model(model, version)
    if as_json:
        click.echo(found.to_json())
        return
    from streamclust.cli.status import components_table

    console = plain_console()
    for name, value in found.summary().items():
        console.print(f"{name:<17} {printable(str(value))}", highlight=False)
    console.print()
    console.print(components_table(found))


@models.command(short_help="Show how components moved between versions.")
@click.argument("model")
@click.argument("old", type=_VERSION)
@click.argument("new", type=_VERSION, required=False)
@server_options
@click.option("--json", "as_json", is_flag=True, help="JSON, with the drift of each component.")
def diff(settings: Settings, model: str, old: int, new: int | None, as_json: bool) -> None:
    """Show how each component of MODEL has moved from version OLD to NEW (default: the newest).

    MOVED is the Euclidean distance between the two centroids or means, in units of the data. Where
    K adapts, components that only one of the versions has are `born` or `died`.

    \b
    Examples:
      streamclust models diff palette 41 42
      streamclust models diff palette 1 --json | jq '.moved | max'
    """
    with opened_client(settings) as client:
        before, after = client.model(model, old), client.model(model, new)
    if as_json:
        click.echo(exact_json(_difference(before, after)))
    else:
        _show_difference(before, after)


def _difference(before: Model, after: Model) -> dict[str, object]:
    moved = [None if isnan(each) else each for each in after.drift_from(before).tolist()]
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
    from rich.table import Table

    from streamclust.cli.words import number

    table = Table(box=None, header_style="bold", pad_edge=False)
    versions = before.version, after.version
    for name in ("#", "MOVED", *(f"WEIGHT {version}" for version in versions), "CHANGE"):
        table.add_column(name, justify="right")
    for row in _rows(before, after):
        table.add_row(*row)
    console = plain_console()
    scores = " -> ".join(number(model.score) for model in (before, after))
    console.print(
        f"{printable(after.name)} {versions[0]} -> {versions[1]}: "
        f"{after.points - before.points:,} points, {after.score_name} {scores}",
        highlight=False,
    )
    console.print(table)


def _rows(before: Model, after: Model) -> Iterator[tuple[str, ...]]:
    """Yield a row for each component of either version."""
    from streamclust.cli.words import number

    moved = dict(zip(after.numbers.tolist(), after.drift_from(before).tolist(), strict=True))
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
    """Write VERSION of MODEL (default: the newest) to OUT: .safetensors, .npz or .json.

    A .safetensors file can be what another model starts from (`init.path`), and what
    `streamclust encode` uses without a server.

    \b
    Examples:
      streamclust models export palette palette.npz
      streamclust models export palette palette-41.safetensors 41
    """
    with opened_client(settings) as client:
        found = client.model(model, version)
    found.save(out)
    click.echo(f"version {found.version} of {model} to {out}")


@models.command(short_help="Go back to an older version.")
@click.argument("model")
@click.argument("version", type=_VERSION)
@server_options
@click.option(
    "--wait",
    type=NumberRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the worker may take to answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def rollback(settings: Settings, model: str, version: int, wait: float, as_json: bool) -> None:
    """Go back to VERSION of MODEL: publish it again, as a new version, and learn on from there.

    A running worker takes it over between two batches; without one the state is swapped in place.
    What was learned since then counts no more, and no point is learned again.

    \b
    Examples:
      streamclust models rollback palette 41
    """
    from streamclust.cli.ctrl_c import CtrlC
    from streamclust.errors import StoppedError
    from streamclust.refit.rollback import rollback as run

    with opened_job(settings, model) as job, CtrlC() as ctrl_c:
        try:
            done = run(job, version, wait, ctrl_c.is_set)
        except StoppedError as error:
            click.echo(f"error: {error}", err=True)
            raise SystemExit(130) from None
    if as_json:
        click.echo(exact_json({"model": model, "back_to": version, **asdict(done)}))
    else:
        how = "taken over by its worker" if done.by_worker else "in place"
        click.echo(f"{model} is back at version {version}, as version {done.version} ({how})")
