"""``streamclust score``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import data_options, engine_option, server_options
from streamclust.cli._progress import pass_progress
from streamclust.cli._render import number, say
from streamclust.cli._server import opened_job
from streamclust.cli._signals import CtrlC
from streamclust.cli._tables import facts
from streamclust.cli._terminal import print_lines, stdout_terminal
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json

if TYPE_CHECKING:
    from streamclust.config import Settings
    from streamclust.refit.command import Selection
    from streamclust.refit.scoring import Score


@click.command()
@click.argument("model")
@data_options
@server_options
@engine_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def score(
    settings: Settings,
    model: str,
    which: Selection,
    as_json: bool,
) -> None:
    """Print the scores of MODEL, in its current state, on points of its stream or of files.

    J is the sum of squared distances to the nearest centroid. For log-likelihood, AIC and BIC,
    K-means counts as a mixture of equal spherical Gaussians. The silhouette is computed from up to
    2,000 points. On points that the model has learned, all scores are better than on new points.
    `status` shows a score of new points: the worker scores each point before it learns the point.

    \b
    Examples:
      streamclust score machines                     all entries of the stream
      streamclust score machines --last 1h
      streamclust score machines --data test.csv --json
    """
    from streamclust.engine.opening import open_engine
    from streamclust.errors import StoppedError
    from streamclust.refit.command import Callbacks, score_live
    from streamclust.runtime.threads import prepared_for_threads

    with (
        opened_job(settings, model) as job,
        prepared_for_threads(),
        open_engine(settings.engine, say) as engine,
        CtrlC() as ctrl_c,
        pass_progress("reading") as shown,
    ):
        watch = Callbacks(on_points=shown.on_points, stop=ctrl_c.is_set, on_part=shown.on_part)
        try:
            label, found = score_live(job, which, watch, engine)
        except StoppedError as error:
            say(f"error: {error}")
            raise SystemExit(EXIT_INTERRUPTED) from None
    if as_json:
        head = {"model": model, "source": label, "engine": engine.summary()}
        click.echo(exact_json({**head, **asdict(found)}))
    else:
        _show(found)


def _show(found: Score) -> None:
    inertia, likelihood = number(found.inertia, 7), number(found.log_likelihood, 7)
    per_point = number(found.inertia_per_point), number(found.log_likelihood_per_point)
    rows = (
        ("points", f"{found.points:,}"),
        ("components", f"{found.n_components:,}"),
        ("J", f"{inertia} ({per_point[0]} per point; lower is better)"),
        ("log-likelihood", f"{likelihood} nats ({per_point[1]} per point; higher is better)"),
        ("AIC", f"{number(found.aic, 7)} ({found.parameters:,} parameters; lower is better)"),
        ("BIC", f"{number(found.bic, 7)} (lower is better)"),
        ("silhouette", f"{number(found.silhouette)} (from -1 to 1; higher is better)"),
    )
    print_lines(facts(rows, stdout_terminal(), 15))
