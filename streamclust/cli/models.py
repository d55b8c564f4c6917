"""``streamclust models``: the stored versions of a model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamclust.cli._model_changes import delete, rename, reset
from streamclust.cli._model_pauses import pause, resume
from streamclust.cli._options import Duration, data_options, patterns_option, server_options
from streamclust.cli._render import count, number, plural, score_meaning
from streamclust.cli._server import each_version, opened_client, opened_job, opened_server
from streamclust.cli._signals import CtrlC
from streamclust.cli._tables import facts
from streamclust.cli._terminal import MUTED, print_lines, stdout_terminal
from streamclust.cli._versions import VersionTable, damaged_row, list_models, version_facts
from streamclust.text import exact_json, printable
from streamclust.times import ago, iso_time, local_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.config import Settings
    from streamclust.formats.model import Model
    from streamclust.refit.command import Selection

_VERSION = click.IntRange(min=1)


@click.group()
def models() -> None:
    """List, show, compare, export and roll back the stored versions of a model.

    The server stores the newest `publish.keep` versions (default: 100). `delete`, `reset` and
    `rename` change the model as a whole; they list the changes and ask first. `pause` stops the
    learning of models until `resume`.

    \b
    Examples:
      streamclust models list                        the newest version of each model
      streamclust models list machines               all stored versions of this model
      streamclust models diff machines               the two newest versions
      streamclust models diff machines 1 2
      streamclust models export machines machines.npz
    """


@models.command(name="list", short_help="List models, or the stored versions of one.")
@click.argument("models", nargs=-1)
@server_options
@patterns_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print one line of JSON per version or model."
)
def list_versions(
    settings: Settings, models: tuple[str, ...], patterns: tuple[str, ...], as_json: bool
) -> None:
    """List the newest versions of MODELS (default: all), or all stored versions of one model.

    With one model named, the command lists all its stored versions, oldest first. With no name,
    several names or a pattern such as 'clicks-*', it lists the newest version of each model.

    PUBLISHED is the age of the version, and EVENT TIME is the age of the newest point in it. MOVED
    is the largest distance that a component moved since the previous version. REASON says why the
    version was published:

    \b
    start     the first version        resize    the number of components changed
    step      the regular publication  drift     a drift was detected
    resolve   a fit of the coreset     refit     the result of a refit
    reseed    a component was moved    rollback  an older version came back
    leave     the worker ended

    \b
    Examples:
      streamclust models list                        the newest version of each model
      streamclust models list 'clicks-*'
      streamclust models list machines               all stored versions of this model
      streamclust models list machines --json | jq 'select(.reason == "refit")'
    """
    names = (*models, *patterns)
    from streamclust.runtime.discovery import selects_several

    if len(names) == 1 and not selects_several(names[0], settings):
        _list_versions(settings, names[0], as_json)
    else:
        list_models(settings, names, as_json)


def _list_versions(settings: Settings, model: str, as_json: bool) -> None:
    from streamclust.errors import DamagedVersionError

    table = VersionTable()
    with opened_client(settings) as client:
        with suppress(DamagedVersionError):
            client.model(model)  # an unknown model is an error that lists the known ones
        for version in each_version(client, model, 0, 0.0):
            if isinstance(version, DamagedVersionError):
                row = damaged_row(model, version, as_json)
                click.echo(row) if as_json else table.add_damaged(row)
            elif as_json:
                click.echo(exact_json(version_facts(version)))
            else:
                table.add(version)
    print_lines(table.lines(stdout_terminal()))


@models.command(name="show", short_help="Show one version and its components.")
@click.argument("model")
@click.argument("version", type=_VERSION, required=False)
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON with all arrays.")
def show_version(settings: Settings, model: str, version: int | None, as_json: bool) -> None:
    """Show VERSION of MODEL (default: the newest) and its components.

    The line "codebook" says how evenly points use the components. The perplexity is the effective
    number of components: K if all have the same weight, and less otherwise. A dead component has
    less than 1 % of the average weight of a component; a near-dead one has less than 10 %.

    \b
    Examples:
      streamclust models show machines
      streamclust models show machines 1 --json | jq .centroids
    """
    from streamclust.cli._components import component_lines

    with opened_client(settings) as client:
        found = client.model(model, version)
    if as_json:
        from streamclust.formats.export import to_json

        summary = {**found.summary(), "codebook": asdict(found.codebook_health)}
        click.echo(to_json(summary, found.named_arrays()))
        return
    terminal = stdout_terminal()
    rows = facts(_facts(found), terminal, 17)
    print_lines([*rows, "", *component_lines(found, terminal)])


def _facts(model: Model) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a version, for people."""
    yield "model", printable(model.name)
    yield "version", str(model.version)
    yield "published", _time(model.published_ms)
    yield "reason", printable(model.reason)
    yield "kind", model.kind
    if model.metric != "euclidean":
        yield "metric", model.metric
    yield "components", count(len(model.means))
    yield "features", count(model.means.shape[1])
    yield "points", f"{model.points:,} learned, up to {_time(model.time_ms)}"
    yield "effective weight", f"{float(model.mass.sum()):,.1f}"
    name, _, meaning = score_meaning(model).partition(" per point ")
    yield name, f"{number(model.score)} per point {meaning}"
    health = model.codebook_health
    usage = f"perplexity {number(health.perplexity)} of {health.n_codes:,}, largest share "
    usage += f"{health.largest_share:.1%}, {health.dead:,} dead, {health.near_dead:,} near-dead"
    yield "codebook", usage
    for stream, entry_id in model.position.items():
        yield "position", f"{printable(stream)}: {printable(entry_id)}"


def _score(model: Model) -> str:
    return "none" if model.score is None else number(model.score)


def _time(time_ms: float | None) -> str:
    return "-" if time_ms is None else f"{ago(time_ms)} ({local_time(time_ms)})"


@models.command(short_help="Show how components moved between two versions.")
@click.argument("model")
@click.argument("old", type=_VERSION, required=False)
@click.argument("new", type=_VERSION, required=False)
@server_options
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    metavar="N",
    help="Show only the N components that moved most; 0 shows all.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON with the changes of each component."
)
def diff(
    settings: Settings, model: str, old: int | None, new: int | None, top: int, as_json: bool
) -> None:
    """Show how each component of MODEL changed from version OLD to NEW.

    By default, NEW is the newest version, and OLD the version before it.

    The components that moved most come first. MOVED is the Euclidean distance between the two
    centroids or means, in the units of the data. SHARE is the share of the weight in each version,
    and CHANGE is its change in percentage points. The columns of features show the change of the
    centroid or mean: its value in NEW minus its value in OLD. If K adapts, a component that only
    NEW has is `born`, and one that only OLD has is `died`.

    \b
    Examples:
      streamclust models diff machines 1 2
      streamclust models diff machines 1 --json | jq '.moved | max'
    """
    from streamclust.errors import DataError

    with opened_client(settings) as client:
        after = client.model(model, new)
        if old is None and after.version == 1:
            raise DataError(f"model {model!r} has one version; there is nothing to compare")
        before = client.model(model, after.version - 1 if old is None else old)
    if as_json:
        click.echo(exact_json(_difference(before, after)))
    else:
        _show_difference(before, after, top)


def _difference(before: Model, after: Model) -> dict[str, object]:
    from streamclust.cli._components import centroid_changes, share

    moved = [None if isnan(each) else each for each in after.displacement_from(before).tolist()]
    difference = {
        "model": after.name,
        "versions": [before.version, after.version],
        "published": [iso_time(version.published_ms) for version in (before, after)],
        "points": after.points - before.points,
        "moved": moved,
        "weight": [before.mass.tolist(), after.mass.tolist()],
        "share": [share(before).tolist(), share(after).tolist()],
        "change": centroid_changes(before, after),
        after.score_name: [before.score, after.score],
    }
    if len(after.ids):
        difference["ids"] = [before.numbers.tolist(), after.numbers.tolist()]
    return difference


def _show_difference(before: Model, after: Model, top: int) -> None:
    from streamclust.cli._components import difference_lines

    terminal = stdout_terminal()
    score, _, _ = score_meaning(after).partition(" per point ")
    head, *legend = (
        terminal.wrap(note)
        for note in (
            f"{printable(after.name)} {before.version} -> {after.version}: "
            f"{plural(after.points - before.points, 'point')}, {score} {_score(before)} -> "
            f"{_score(after)} per point",
            score_meaning(after),
            f"columns of features: version {after.version} minus version {before.version}",
        )
    )
    table = difference_lines(before, after, top, terminal)
    print_lines([*head, *table, *(terminal.paint(line, MUTED) for note in legend for line in note)])


@models.command(name="map", short_help="Show which points change components.")
@click.argument("model")
@click.argument("old", type=_VERSION)
@click.argument("new", type=_VERSION)
@data_options
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON with all pairs of components.")
def map_versions(
    settings: Settings, model: str, old: int, new: int, which: Selection, as_json: bool
) -> None:
    """Show how points move from the components of version OLD of MODEL to those of version NEW.

    The points are those of the streams, of files or of the coreset. FROM is a component of OLD.
    SHARE is the share of all points that are in FROM. TO is the component of NEW that has most of
    the points of FROM. KEPT is the share of the points of FROM that are in TO.

    This helps to update an index with one list per component: only the points that change
    components must move to another list.

    \b
    Examples:
      streamclust models map machines 1 2 --from-coreset
      streamclust models map machines 1 2 --data points.csv --json
    """
    from streamclust.cli._versions import map_dict, map_lines
    from streamclust.refit.command import map_live

    with opened_job(settings, model) as job:
        label, found = map_live(job, which, old, new)
    if as_json:
        click.echo(exact_json({"model": model, "source": label, **map_dict(found, old, new)}))
    else:
        print_lines(map_lines(found, model, old, new, stdout_terminal()))


@models.command(short_help="Write a version to a file, or to a vector set.")
@click.argument("model")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("version", type=_VERSION, required=False)
@server_options
@click.option(
    "--to",
    type=click.Choice(["file", "faiss", "onnx", "vset"]),
    default="file",
    show_default=True,
    help="Write a file in the format of its suffix, an index of faiss, an ONNX model, or a vector "
    "set of the server, which needs Redis 8.",
)
def export(settings: Settings, model: str, out: Path, version: int | None, to: str) -> None:
    """Write VERSION of MODEL (default: the newest) to the file OUT, or to the vector set OUT.

    A file ends in .safetensors, .npz, .json, .faiss or .onnx. Another model can start from a
    .safetensors file (setting `init.path`), and `streamclust encode` can use the file without a
    server. A .faiss file is a flat index of the centroids: the coarse quantizer of an IVF index of
    faiss. A .onnx file computes labels, and distances or log densities, in any ONNX runtime. It
    needs the extra `onnx`.

    With `--to vset`, OUT is a key of the server. A vector set there is replaced in one step. Its
    elements are the centroids, and their names are the numbers of the components. Vector sets
    compare directions, so the model needs the metric cosine.

    \b
    Examples:
      streamclust models export machines machines.npz
      streamclust models export machines machines-1.safetensors 1
      streamclust models export machines machines.onnx
      streamclust models export stories lists --to faiss
      streamclust models export stories story-lists --to vset
    """
    with opened_client(settings) as client:
        found = client.model(model, version)
    if to == "vset":
        from streamclust.store.model.vector_set import write_vector_set

        with opened_server(settings, primary=True) as server:
            write_vector_set(server.raw_client(), str(out), found)
    else:
        found.save(out, None if to == "file" else to)
    click.echo(f"wrote version {found.version} of {model} to {out}")


@models.command(short_help="Return to an older version.")
@click.argument("model")
@click.argument("version", type=_VERSION)
@server_options
@click.option(
    "--wait",
    type=Duration(forever=True),
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="Maximum wait for the worker's answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def rollback(settings: Settings, model: str, version: int, wait: float, as_json: bool) -> None:
    """Return to VERSION of MODEL: publish it again as a new version, and continue from there.

    A running worker applies it between two batches. Without a worker the command changes the stored
    state itself. If the model is paused, the rollback is stored, and is applied when the model is
    resumed. The model loses what it learned after VERSION; no point is learned again.

    \b
    Examples:
      streamclust models rollback machines 1
      streamclust models rollback machines 1 --json
    """
    from streamclust.refit.rollback import rollback as run

    with opened_job(settings, model, start=True) as job, CtrlC() as ctrl_c:
        done = run(job, version, wait, ctrl_c.is_set)
    if as_json:
        click.echo(exact_json({"model": model, "back_to": version, **asdict(done)}))
    elif done.waits:
        resume = f"`streamclust models resume {model}`"
        click.echo(f"{model} is paused: the rollback to version {version} waits for {resume}")
    else:
        how = "by its worker" if done.by_worker else "in place"
        click.echo(f"{model} is back at version {version}, as version {done.version} ({how})")


for _command in (pause, resume, rename, reset, delete):
    models.add_command(_command)
