"""``streamclust try``."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._confirm import check_new
from streamclust.cli._options import ENGINES, FAMILY_KINDS
from streamclust.cli._render import bars, number, say
from streamclust.cli._table_options import table_options
from streamclust.cli._try_output import (
    as_dict,
    show_next,
    show_proposal,
    show_result,
    working,
)
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.arrays import Metric
    from streamclust.config import Settings
    from streamclust.config.engine import EngineSettings
    from streamclust.quickstart.learning import Learned, Progress
    from streamclust.quickstart.proposal import Proposal
    from streamclust.tables import TableOptions


@click.command("try")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--name", metavar="NAME", help="Name of the model and the stream.  [default: the name of FILE]"
)
@click.option(
    "--model-kind",
    type=click.Choice(FAMILY_KINDS),
    help="Kind of the model.  [default: kmeans; gaussian_mixture if far points cause most "
    "of the variance]",
)
@click.option(
    "--metric",
    type=click.Choice(("euclidean", "cosine")),
    help="Distance to centroids; cosine compares directions.  [default: cosine for unit vectors]",
)
@click.option(
    "-k",
    "--k",
    "n_components",
    type=click.IntRange(min=1),
    metavar="K",
    help="Number of components.  [default: by the BIC, from 1 to 20, or to 40 if it still falls]",
)
@table_options(
    "Features, in order.  [default: all columns of numbers, except identifiers and classes]",
    ("stop", "skip"),
    "What to do with a bad row: stop with an error, or skip it.  [default: skip]",
    ingest=True,
)
@click.option("--dry-run", is_flag=True, help="Only print the config.yaml; write nothing.")
@click.option("--force", is_flag=True, help="Replace config.yaml, the stream and the model.")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    default="config.yaml",
    show_default=True,
    help="Settings file to write.",
)
@click.option(
    "--png",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the picture.  [default: NAME.png; none without matplotlib]",
)
@click.option("--no-png", is_flag=True, help="Draw no PNG.")
@click.option(
    "--redis-url", metavar="URL", default="embedded", show_default=True, help="Redis server."
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="What compares numbers of clusters and computes the e-steps of large models: one thread, "
    "several threads, or the workers of a Dask cluster. All give the same result; processes uses "
    "threads here.  [default: STREAMCLUST_ENGINE__KIND, or auto]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def try_file(
    file: Path,
    name: str | None,
    model_kind: str | None,
    metric: Metric | None,
    n_components: int | None,
    table: dict[str, Any],
    dry_run: bool,
    force: bool,
    out: Path,
    png: Path | None,
    no_png: bool,
    redis_url: str,
    engine: str | None,
    as_json: bool,
) -> None:
    """Learn a model of FILE: propose settings, write config.yaml, learn, and draw a picture.

    FILE is CSV, TSV, JSON lines, NumPy's .npy or .npz, or Parquet. The command finds the separator,
    the header, times and labels, and proposes the features, their scale and the number of clusters.
    It writes the proposal to a commented config.yaml, sends the points to a stream of the embedded
    server in this folder, and learns them. Edit the file, and continue with the commands that are
    printed at the end.

    \b
    Examples:
      streamclust try points.csv
      streamclust try points.csv --dry-run             only print the config.yaml
      streamclust try log.parquet -k 8 --columns temperature,load
      streamclust try embeddings.npy --metric cosine
      streamclust try europe.csv --delimiter ';' --decimal , --force
    """
    from streamclust.config.write import starter_file
    from streamclust.quickstart.picture import can_draw
    from streamclust.store.server.keeper import keeper_of
    from streamclust.tables import TableOptions

    if not dry_run:
        check_new(out, force=force)
    table["on_bad"] = table["on_bad"] or "skip"
    options = TableOptions(**{key: value for key, value in table.items() if value is not None})
    chosen = _engine_settings(engine)
    how = {"name": name, "kind": model_kind, "n_components": n_components, "metric": metric}
    proposal = _proposed(file, options, chosen, **how)
    text = starter_file(proposal.name, proposal.model, proposal.remarks, redis_url)
    show_proposal(proposal, file)
    if dry_run:
        click.echo(text, nl=False)
        return
    picture = None if no_png or not (png or can_draw()) else png or Path(f"{proposal.name}.png")
    settings = _settings(text, out, chosen)
    learned = _learn(settings, file, proposal, text, out, picture, force=force)
    if as_json:
        click.echo(exact_json(as_dict(proposal, learned, out, picture)))
    else:
        show_result(proposal, learned, picture)
        data_dir = settings.redis.data_dir.expanduser().resolve()
        stops = settings.redis.url == "embedded" and keeper_of(data_dir) is None
        show_next(proposal, out, file, stops=stops)


def _engine_settings(kind: str | None) -> EngineSettings:
    """Return the settings of the engine in the environment, with the kind that was given."""
    from streamclust.config.load import parse_settings

    own = {name: value for name, value in os.environ.items() if "STREAMCLUST_ENGINE__" in name}
    settings = parse_settings("", "settings", own).engine
    return settings if kind is None else settings.model_copy(update={"kind": kind})


def _proposed(file: Path, options: TableOptions, chosen: EngineSettings, **how: Any) -> Proposal:
    """Read the file, and have an engine compare the numbers of clusters."""
    from streamclust.engine.opening import open_engine
    from streamclust.quickstart.proposal import propose

    words = "reading the file and comparing numbers of clusters"
    with open_engine(chosen, say) as engine, working(words):
        return propose(file, options, **how, engine=engine)


def _settings(text: str, out: Path, chosen: EngineSettings) -> Settings:
    """Return the settings of the file that is written, with the engine for costly batches."""
    from streamclust.config.load import parse_settings

    settings = parse_settings(text, str(out), os.environ)
    if chosen.kind == "dask" and chosen.address is None:
        return settings  # a cluster for a try isn't for a worker
    return settings.model_copy(update={"engine": chosen})


def _learn(
    settings: Settings,
    file: Path,
    proposal: Proposal,
    text: str,
    out: Path,
    picture: Path | None,
    *,
    force: bool,
) -> Learned:
    """Write the settings, send the points and learn them."""
    from streamclust.cli._server import opened_server
    from streamclust.files import check_target, write_whole
    from streamclust.quickstart.learning import check_free, delete, learn
    from streamclust.store.model.keys import Keys

    check_target(out)
    if picture is not None:
        check_target(picture)
    with opened_server(settings, start=True) as server:
        client, keys = server.client(), Keys(settings.namespace, proposal.name)
        if force:
            delete(client, keys, proposal.name)
        check_free(client, keys, proposal.name)
        write_whole(out, text.encode())
        say(f"wrote {printable(str(out))}")
        total = len(proposal.rows.X) if proposal.rows.is_complete else None
        try:
            with _progress(total) as show:
                return learn(settings, server, proposal, file, show)
        except KeyboardInterrupt:
            say(
                f"stopped; the points sent so far are in stream {proposal.name!r}, and "
                "`streamclust worker` learns them; start again with --force"
            )
            raise SystemExit(EXIT_INTERRUPTED) from None


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[Progress], None]]:
    """Show bars of the points sent and learned, and a curve of the score, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(30),
        TextColumn("{task.fields[text]}"),
    )
    with Bars(*columns, console=console, transient=True) as display:
        sent = display.add_task("sent", total=total, text="")
        learned = display.add_task("learned", total=total, text="")

        def show(progress: Progress) -> None:
            display.update(sent, completed=progress.sent, text=f"{progress.sent:,} points")
            scores = progress.scores[-16:]
            curve = bars([score - min(scores) for score in scores], 16)
            score = f"  score {number(scores[-1])} {curve}" if scores else ""
            display.update(
                learned, completed=progress.learned, text=f"{progress.learned:,} points{score}"
            )

        yield show
