"""``streamclust refit``."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli.common import (
    ONE_SHOT_WAIT,
    NumberRange,
    opened_job,
    server_options,
    wait_option,
)
from streamclust.text import exact_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.config import Settings
    from streamclust.refit.command import Report, Watcher, Which
    from streamclust.refit.runs import Pass, Run

EXIT_INTERRUPTED = 130


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which points; the command receives `which`."""

    @click.option(
        "--from",
        "first",
        metavar="ID|TIME",
        help="First entry: an ID, or a time such as 2026-05-01T12:00.  [default: the oldest]",
    )
    @click.option(
        "--to",
        "last",
        metavar="ID|TIME",
        help="Last entry.  [default: the newest that the model has learned]",
    )
    @click.option(
        "--last",
        "latest",
        metavar="TIME|N",
        help="The last so much event time (1h) or so many points (1e6).",
    )
    @click.option(
        "--data",
        "files",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file instead of the stream: CSV, JSON lines, .npy, .npz, Parquet. Repeatable.",
    )
    @click.option("--weight-column", metavar="NAME", help="Column of weights in the files.")
    @click.option(
        "--from-coreset",
        is_flag=True,
        help="The weighted points that the model itself keeps, also of entries long trimmed.",
    )
    @wraps(command)
    def wrapper(
        *args: Any,
        first: str | None,
        last: str | None,
        latest: str | None,
        files: tuple[Path, ...],
        weight_column: str | None,
        from_coreset: bool,
        **kwargs: Any,
    ) -> Any:
        from streamclust.refit.command import Which
        from streamclust.refit.span import Span

        if files and (first or last or latest):
            raise click.UsageError("--data goes without --from, --to and --last: files have no IDs")
        if first and latest:
            raise click.UsageError("--from and --last both say where to begin; give one")
        if from_coreset and (files or first or last or latest):
            raise click.UsageError("--from-coreset stands alone: it is of all that was learned")
        which = Which(Span(first, last, latest), files, weight_column, from_coreset)
        return command(*args, which=which, **kwargs)

    return wrapper


@click.command()
@click.argument("model")
@data_options
@click.option(
    "--restarts",
    type=click.IntRange(min=0),
    help="Runs from fresh seeds, besides the one from the live model.  [default: as configured]",
)
@click.option(
    "--method",
    type=click.Choice(("batch", "kmedoids")),
    default="batch",
    show_default=True,
    help="Lloyd or EM; or K-medoids, whose centroids are points: at most 5,000, kind kmeans.",
)
@click.option(
    "--tol",
    type=NumberRange(min=0),
    default=1e-6,
    show_default=True,
    help="A run has converged when it gains no more: a share of J, or nats per point.",
)
@click.option(
    "--max-iter", type=click.IntRange(min=1), default=300, show_default=True, help="Of each run."
)
@click.option("--dry-run", is_flag=True, help="Compare with the live model, and change nothing.")
@click.option("--force", is_flag=True, help="Swap it in also if it is no better.")
@click.option(
    "--keep-best", is_flag=True, help="After Ctrl-C go on with the best so far, not with nothing."
)
@click.option(
    "--wait",
    "answer_within",
    type=NumberRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the worker may take to swap it in.",
)
@server_options
@wait_option("30s")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def refit(
    ctx: click.Context,
    /,
    settings: Settings,
    model: str,
    which: Which,
    restarts: int | None,
    method: str,
    tol: float,
    max_iter: int,
    dry_run: bool,
    force: bool,
    keep_best: bool,
    answer_within: float,
    wait: float | None,
    as_json: bool,
) -> None:
    """Fit MODEL anew to the whole retained stream, and swap it into the live model.

    Runs Lloyd's algorithm (K-means) or EM (mixtures) to convergence over the points that the stream
    still holds, or over files: from the live model, and from fresh seeds. The best run is swapped
    in if it beats the live model on the same points. A running worker takes it over between two
    batches and learns on top what has arrived meanwhile; without one the state is swapped in place.
    Components keep their numbers. K-means in one dimension gets the global optimum.

    K-medoids is compared by the mean distance to the nearest centre, which is seldom less for
    points of the data than for centroids: to have it, use --force. The stream goes on by K-means.

    Up to 256 MiB of points are kept in memory; more are read again for each pass, and seeded from
    a sample.

    \b
    Examples:
      streamclust refit palette                          all that the stream still holds
      streamclust refit palette --last 1h --dry-run      would it be better?
      streamclust refit palette --last 1e6 --restarts 10
      streamclust refit palette --from 2026-05-01 --to 2026-05-02T12:00
      streamclust refit palette --data a.parquet --data b.npy
      streamclust refit palette --last 5000 --method kmedoids
      streamclust refit palette --from-coreset           when the stream was trimmed
    """
    from streamclust.cli.ctrl_c import CtrlC
    from streamclust.errors import StoppedError
    from streamclust.refit.command import Request
    from streamclust.refit.command import refit as run
    from streamclust.refit.runs import Plan

    opened = opened_job(
        settings, model, ONE_SHOT_WAIT if wait is None else wait, primary=not dry_run
    )
    with opened as job, CtrlC() as ctrl_c, _progress(ctrl_c.is_set) as watch:
        tries = job.model.refit.restarts if restarts is None else restarts
        plan = Plan(tries, tol, max_iter, job.model.seed)
        request = Request(
            which,
            plan,
            medoids=method == "kmedoids",
            dry_run=dry_run,
            force=force,
            keep_best=keep_best,
            timeout=answer_within,
        )
        try:
            report = run(job, request, watch)
        except StoppedError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(EXIT_INTERRUPTED)
    if as_json:
        click.echo(exact_json({"model": model, **asdict(report)}))
    else:
        _say(report, model, dry_run)
    if report.stopped:
        ctx.exit(EXIT_INTERRUPTED)


@contextmanager
def _progress(stop: Any) -> Iterator[Watcher]:
    """Show each pass on a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from streamclust.refit.command import Watcher

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Watcher(stop=stop)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task, words = bar.add_task("reading", total=None), ["reading"]

        def on_points(count: int) -> None:
            bar.update(task, description=f"{words[-1]}; at {count:,}")

        def on_pass(step: Pass) -> None:
            words[:] = [_pass_words(step)]
            bar.update(task, description=words[-1])

        yield Watcher(on_points, on_pass, stop)


def _pass_words(step: Pass) -> str:
    return f"{_start(step.run)}: iteration {step.iteration}, {step.loss:.6g} (best {step.best:.6g})"


def _start(name: str) -> str:
    names = {"live": "from live model", "medoids": "medoids"}
    return names.get(name, f"from seeds {name}")


_LOSSES = {
    "inertia": "inertia",
    "log_likelihood": "negative log-likelihood",
    "distance": "Euclidean distance",
}


def _say(report: Report, model: str, dry_run: bool) -> None:
    unit = _LOSSES[report.objective]
    where = "in memory" if report.in_memory else "read again for each pass"
    click.echo(f"{report.points:,} points, {where}; {unit} per point:")
    click.echo(f"  {'live model':<16}{_loss(report.live_loss)}")
    for run in report.runs:
        click.echo(f"  {_start(run.start):<16}{_loss(run.loss)}  {_end(run)}")
    click.echo(_verdict(report, model, dry_run))


def _end(run: Run) -> str:
    if run.start == "medoids":
        return "the only run" if run.iterations == 1 else f"best of {run.iterations} runs"
    passes = f"{run.iterations} iteration{'' if run.iterations == 1 else 's'}"
    return f"{passes}, {'' if run.converged else 'not '}converged"


def _loss(loss: float | None) -> str:
    return "-".rjust(12) if loss is None else f"{loss:12.6g}"


def _verdict(report: Report, model: str, dry_run: bool) -> str:
    begun = "interrupted; " if report.stopped else ""
    how_much = _gain(report)
    if report.delivered is None:
        left = "is left as it was" + ("" if dry_run else " (--force swaps all the same)")
        return f"{begun}the refit is {how_much}: {model} {left}"
    how = "taken over by the worker" if report.delivered.by_worker else "swapped in place"
    on_top = "" if report.on_top else ", at the model's present position"
    return f"{begun}the refit is {how_much}: {how}{on_top}, version {report.delivered.version}"


def _gain(report: Report) -> str:
    if report.live_loss is None:
        return "the first model"
    if not report.better:
        return "no better than the live model"
    if report.live_loss > 0.0 and report.loss >= 0.0:
        return f"{1.0 - report.loss / report.live_loss:.3%} better"
    return f"{report.live_loss - report.loss:.4g} better"
