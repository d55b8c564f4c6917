"""``streamclust score``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import data_options, engine_option, server_options
from streamclust.cli._passes import opened_passes
from streamclust.cli._render import number
from streamclust.cli._tables import facts
from streamclust.cli._terminal import print_lines, stdout_terminal
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
    from streamclust.refit.command import score_live

    with opened_passes(settings, model) as passes:
        label, found = score_live(passes.job, which, passes.callbacks(), passes.engine)
    if as_json:
        head = {"model": model, "source": label, "engine": passes.engine.summary()}
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
