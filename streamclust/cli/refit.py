"""``streamclust refit``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import (
    ONE_SHOT_WAIT,
    Duration,
    NumberRange,
    data_options,
    engine_option,
    server_options,
    wait_option,
)
from streamclust.cli._passes import opened_passes
from streamclust.cli._render import COSINE_SCORES, SCORES, numbers, plural
from streamclust.cli._tables import Table, lay_out
from streamclust.cli._terminal import print_lines, stdout_terminal
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamclust.config import Settings
    from streamclust.refit.command import Report, Selection
    from streamclust.refit.runs import Pass, Run


@click.command()
@click.argument("model")
@data_options
@click.option(
    "--restarts",
    type=click.IntRange(min=0),
    metavar="N",
    help="Fits from new starts, besides the fit from the live model.  [default: refit.restarts]",
)
@click.option(
    "--method",
    type=click.Choice(("batch", "kmedoids")),
    default="batch",
    show_default=True,
    help="batch is Lloyd's algorithm or EM; kmedoids chooses points of the data as centroids, for "
    "kind kmeans and at most 5,000 points.",
)
@click.option(
    "--tol",
    type=NumberRange(min=0),
    metavar="NUMBER",
    default=1e-6,
    show_default=True,
    help="Convergence: minimum gain per iteration, as a fraction of J (K-means) or in nats "
    "per point (mixtures).",
)
@click.option(
    "--max-iter",
    type=click.IntRange(min=1),
    metavar="N",
    default=300,
    show_default=True,
    help="Maximum iterations per fit.",
)
@click.option("--dry-run", is_flag=True, help="Only compare with the live model; change nothing.")
@click.option("--force", is_flag=True, help="Use the result even if it isn't better.")
@click.option(
    "--keep-best", is_flag=True, help="On Ctrl-C, use the best fit so far instead of none."
)
@click.option(
    "--wait",
    "answer_within",
    type=Duration(forever=True),
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="Maximum wait for the worker to apply the result.",
)
@server_options
@engine_option
@wait_option("30s")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def refit(
    ctx: click.Context,
    settings: Settings,
    model: str,
    which: Selection,
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
    """Fit MODEL again to all stored points, and swap the result into the live model.

    The command runs Lloyd's algorithm (K-means) or EM (mixtures) until it converges, over the
    entries that the stream still holds, or over files. It fits from the live model and from new
    starts. K-means in one dimension finds the global optimum. The best fit replaces the live model
    if it is better on the same points. Components keep their numbers.

    A running worker applies the result between two batches, then adds the points that arrived
    meanwhile. Without a worker the command changes the stored state itself.

    Up to 256 MiB of points are held in memory. If there are more, all points are read again for
    each iteration, and new starts come from a weighted sample of them.

    With --method kmedoids, the fit and the live model are compared by the mean distance to the
    nearest centre. Points of the data are rarely better centres than centroids, so kmedoids usually
    needs --force. After that, the model continues to learn by K-means.

    \b
    Examples:
      streamclust refit machines                     all entries of the stream
      streamclust refit machines --last 1h --dry-run compare only
      streamclust refit machines --from 2026-05-01 --to 2026-05-02T12:00
      streamclust refit machines --data points.csv
      streamclust refit machines --data 'days/*.parquet' --engine threads
    """
    from streamclust.refit.command import Request
    from streamclust.refit.command import refit as run
    from streamclust.refit.runs import Plan

    with opened_passes(
        settings,
        model,
        wait=ONE_SHOT_WAIT if wait is None else wait,
        primary=not dry_run,
        start=None if dry_run else True,
    ) as passes:
        job = passes.job
        tries = job.model.refit.restarts if restarts is None else restarts
        request = Request(
            which,
            Plan(tries, tol, max_iter, job.model.seed),
            medoids=method == "kmedoids",
            dry_run=dry_run,
            force=force,
            keep_best=keep_best,
            timeout=answer_within,
        )
        report = run(job, request, passes.callbacks(_pass_words), passes.engine)
    if as_json:
        used = passes.engine.summary()
        click.echo(exact_json({"model": model, **asdict(report), "engine": used}))
    else:
        metric = getattr(job.model, "metric", "euclidean")
        _show(report, model, dry_run, SCORES if metric == "euclidean" else COSINE_SCORES)
    if report.stopped:
        ctx.exit(EXIT_INTERRUPTED)


def _pass_words(step: Pass) -> str:
    name = _start(step.run).removeprefix("from ")
    return f"{name}: iteration {step.iteration}, {step.loss:.6g} (best {step.best:.6g})"


def _start(name: str) -> str:
    names = {"live": "from live model", "medoids": "medoids", "moves": "moves"}
    return names.get(name, f"restart {name}")


_DISTANCE = "Euclidean distance per point (to the nearest medoid; lower is better)"


def _show(report: Report, model: str, dry_run: bool, scores_by_name: Mapping[str, str]) -> None:
    """Print the score of each fit, and the verdict."""
    terminal = stdout_terminal()
    where = "in memory" if report.in_memory else "read again for each iteration"
    meaning = scores_by_name.get(report.objective, _DISTANCE)
    head = f"{plural(report.points, 'point')}, {where}; {meaning}:"
    sign = -1.0 if report.objective == "log_likelihood" else 1.0
    losses = [report.live_loss, *(run.loss for run in report.runs)]
    scores = numbers([None if loss is None else sign * loss for loss in losses], 6)
    table = Table()
    table.add_column("FIT")
    table.add_column("SCORE", "right")
    table.add_column("", whole=True)
    table.add_row("live model", scores[0], "")
    for run, score in zip(report.runs, scores[1:], strict=True):
        table.add_row(_start(run.start), score, _end(run))
    lines = [*terminal.fold(head), *lay_out(table, terminal, table.columns[2:]).lines]
    print_lines([*lines, *terminal.fold(_verdict(report, model, dry_run))])


def _end(run: Run) -> str:
    if run.start == "medoids":
        return "the only run" if run.iterations == 1 else f"best of {run.iterations} runs"
    if not run.iterations and not run.converged:
        return "scored only: no better than another fit to a coreset"
    return f"{plural(run.iterations, 'iteration')}, {'' if run.converged else 'not '}converged"


def _verdict(report: Report, model: str, dry_run: bool) -> str:
    prefix = "interrupted; " if report.stopped else ""
    how_much = _gain(report)
    if report.delivered is None:
        hint = "" if dry_run else " (use --force to swap in the refit anyway)"
        return f"{prefix}the refit is {how_much}: {model} is unchanged{hint}"
    if report.delivered.waits:
        resume = f"`streamclust models resume {model}`"
        return f"{prefix}the refit is {how_much}: {model} is paused, so it waits for {resume}"
    how = "applied by the worker" if report.delivered.by_worker else "swapped in place"
    where = "" if report.on_top else ", at the current position of the model"
    return f"{prefix}the refit is {how_much}: {how}{where}, version {report.delivered.version}"


def _gain(report: Report) -> str:
    if report.live_loss is None:
        return "the first model"
    if not report.better:
        return "not better than the live model"
    if report.objective != "log_likelihood" and report.live_loss > 0.0:
        return f"{1.0 - report.loss / report.live_loss:.3%} better"
    unit = " nats per point" * (report.objective == "log_likelihood")
    return f"{report.live_loss - report.loss:.4g}{unit} better"
