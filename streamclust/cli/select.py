"""``streamclust select``."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._options import data_options, engine_option, server_options
from streamclust.cli._passes import opened_passes
from streamclust.cli._render import numbers, say
from streamclust.cli._tables import Column, Table, lay_out
from streamclust.cli._terminal import MUTED, print_lines, stdout_terminal
from streamclust.text import exact_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.config import Settings
    from streamclust.refit.command import Selection
    from streamclust.refit.runs import Pass
    from streamclust.refit.scoring import Score
    from streamclust.refit.selection import Choice


@click.command()
@click.argument("model")
@click.option(
    "-k",
    "--k",
    "numbers",
    default="2..12",
    show_default=True,
    metavar="A..B",
    help="Numbers of components to compare: a range, or a list such as 2,4,8.",
)
@data_options
@click.option(
    "--restarts",
    type=click.IntRange(min=1),
    metavar="N",
    default=4,
    show_default=True,
    help="Fits per number from different starts; the best fit is used.",
)
@click.option(
    "--png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the chart.  [default: MODEL-select.png]",
)
@click.option("--no-png", is_flag=True, help="Draw no chart.")
@server_options
@engine_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def select(
    settings: Settings,
    model: str,
    numbers: str,
    which: Selection,
    restarts: int,
    png: Path | None,
    no_png: bool,
    as_json: bool,
) -> None:
    """Compare numbers of components on the points of MODEL's stream or of files.

    The command fits a model of MODEL's kind for each number and marks the best by three rules: the
    elbow (where the curve of J over K bends most), the lowest BIC, and the highest silhouette. It
    changes nothing, and MODEL needs no published version. The chart needs matplotlib; without it,
    only the table is printed.

    \b
    Examples:
      streamclust select machines                    K from 2 to 12, all entries
      streamclust select machines --k 8,16,32,64 --last 1e5
      streamclust select machines --k 2..20 --png elbow.png
    """
    from streamclust.files import check_target
    from streamclust.refit.command import select_live
    from streamclust.refit.curves import check_plotting, draw
    from streamclust.refit.runs import Plan
    from streamclust.refit.selection import choose, parse_numbers

    wanted = parse_numbers(numbers)
    path = None if no_png else png or Path(f"{model}-select.png")
    if png is None and path is not None and find_spec("matplotlib") is None:
        path = None
        say("no chart: it needs matplotlib (pip install matplotlib)")
    if path is not None:
        check_plotting()
        check_target(path)
    with opened_passes(settings, model, start=True if which.files else None) as passes:
        job, progress = passes.job, passes.progress
        scores = select_live(
            job,
            which,
            wanted,
            Plan(restarts, seed=job.model.seed),
            on_pass=lambda K, step: progress.show(_pass_words(K, step, wanted)),
            stop=passes.stop,
            on_part=progress.on_part,
            engine=passes.engine,
        )
    choice = choose(scores)
    if path is not None:
        draw(scores, choice, f"{model}: {scores[0].points:,} points", path)
    (_print_json if as_json else _show)(model, scores, choice, path)


def _pass_words(K: int, step: Pass, wanted: Sequence[int]) -> str:
    place = f"{wanted.index(K) + 1} of {len(wanted)}"
    return f"K = {K} ({place}): run {step.run}, iteration {step.iteration}, best {step.best:.6g}"


def _print_json(model: str, scores: Sequence[Score], choice: Choice, path: Path | None) -> None:
    whole: dict[str, Any] = {"model": model, "scores": [asdict(each) for each in scores]}
    whole |= {"choice": asdict(choice), "png": None if path is None else str(path)}
    click.echo(exact_json(whole))


def _show(model: str, scores: Sequence[Score], choice: Choice, path: Path | None) -> None:
    table, terminal = Table(), stdout_terminal()
    for header, values, digits in (
        ("J/N", [each.inertia_per_point for each in scores], 5),
        ("LOG-LIK/N", [each.log_likelihood_per_point for each in scores], 5),
        ("AIC", [each.aic for each in scores], 7),
        ("BIC", [each.bic for each in scores], 7),
        ("SILHOUETTE", [each.silhouette for each in scores], 4),
    ):
        table.add_column(header, "right").cells.extend(numbers(values, digits))
    inertia, likelihood, aic, bic, silhouette = table.columns
    table.columns.insert(0, Column("K", right=True))
    table.columns[0].cells.extend(str(each.n_components) for each in scores)
    marks = table.add_column("BEST BY", whole=True)
    marks.cells.extend(_marks(each.n_components, choice) for each in scores)
    optional = [aic, likelihood, silhouette, bic, inertia]
    lines = lay_out(table, terminal, optional).lines
    notes = [
        "lower is better: J/N (inertia per point), AIC, BIC",
        "higher is better: LOG-LIK/N (log-likelihood per point, in nats), SILHOUETTE",
    ]
    lines += [terminal.paint(line, MUTED) for note in notes for line in terminal.wrap(note)]
    print_lines(lines)
    if path is not None:
        click.echo(f"chart: {path}")


def _marks(K: int, choice: Choice) -> str:
    names = (
        (choice.elbow, "elbow"),
        (choice.bic, "BIC"),
        (choice.silhouette, "silhouette"),
    )
    return ", ".join(name for chosen, name in names if chosen == K)
