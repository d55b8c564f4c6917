"""``streamclust demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamclust.cli.exit_codes import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from rich.console import Console

    from streamclust.demo.run import Outcome


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="demo-output",
    show_default=True,
    help="Folder for the charts, the report and the worker's log.",
)
@click.option("--quick", is_flag=True, help="Use fewer points: seconds instead of one minute.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the report as JSON, without the live view."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="Random seed.",
)
def demo(out: Path, quick: bool, as_json: bool, seed: int) -> None:
    """Watch a worker learn from two real feeds, and compare the results with scikit-learn.

    The demo starts its own server and worker. The worker learns a palette of 64 colours from the
    pixels of a photograph. Then the feed changes, without a signal to the worker, to the pixels of
    a second photograph. It also learns a mixture of 10 Gaussians from the sensors of a space
    shuttle. Charts and report are written to the output folder. At the end the server, its data and
    the worker are removed. The demo needs scikit-learn and matplotlib.

    \b
    Examples:
      streamclust demo
      streamclust demo --quick --out /tmp/demo
      streamclust demo --json | jq .palettes[].inertia_ratio
    """
    from streamclust.demo.interrupts import Interrupts

    try:
        with Interrupts() as interrupts:
            from rich.console import Console

            from streamclust.demo.plan import Plan, quick_plan
            from streamclust.demo.run import run_demo
            from streamclust.demo.view import LiveView, PlainView

            console = Console(stderr=as_json)
            plain = as_json or not console.is_terminal or console.is_dumb_terminal
            view = PlainView(console) if plain else LiveView(console)
            plan = quick_plan(seed) if quick else Plan(seed=seed)
            outcome = run_demo(plan, out, view, interrupts)
            _show(outcome, console, as_json)
    except KeyboardInterrupt:
        click.echo(
            "stopped; the worker and the server have ended, and their data is deleted", err=True
        )
        raise SystemExit(EXIT_INTERRUPTED) from None


def _show(outcome: Outcome, console: Console, as_json: bool) -> None:
    from streamclust.demo.report import as_table, remarks

    if as_json:
        click.echo(outcome.report.to_json())
    else:
        console.print(as_table(outcome.report, console.width))
        for remark in remarks(outcome.report):
            console.print(remark, highlight=False)
    click.echo("\nWritten:", err=as_json)
    for file in outcome.files:
        click.echo(f"  {file}", err=as_json)
