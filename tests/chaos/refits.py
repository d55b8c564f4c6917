"""Refits and rollbacks of a worker that is killed at random, under a live feed.

python -m tests.chaos.refits --kills 40

Nothing is forgotten, so what the mass must be follows from the versions alone: from one to the next
it grows by the points between them; a rollback leaves at most that of the version that came back.
"""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.chaos.__main__ import _BINARIES, _server
from tests.support.forked import PipedCommand
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.refit_helpers import EAGER
from tests.support.waiting import wait_until
from tests.support.workspace import Workspace, environment

_OPTIONS = {**EAGER, "publish": {"every": "100ms", "keep": 1_000_000}}


def story(folder: Path, url: str, seed: int, kills: int) -> tuple[list[str], dict[str, int]]:
    """Return what differs from the oracle, and counts of what happened."""
    rng = random.Random(seed)  # noqa: S311
    folder.mkdir(parents=True)
    workspace = Workspace(folder, url, f"refits-{seed}")
    workspace.write({"m": kmeans(workspace.stream(), **_OPTIONS)}, worker={"lease": "2s"})
    sizes: list[int] = []

    def feed() -> None:
        with workspace.client as client:
            sizes.append(30 * rng.randint(1, 20))
            add_blocks(client, workspace.stream(), blobs(sizes[-1], seed=rng.randint(0, 999)))

    feed()
    assert _run(workspace, "worker", "--until-idle").wait(120) == 0
    for _ in range(kills):
        worker = _run(workspace, "worker")
        feed()
        versions = workspace.versions("m")
        back = str(rng.choice(versions).version)
        again = (
            ["models", "rollback", "m", back] if rng.random() < 0.5 else ["refit", "m", "--force"]
        )
        command = _run(workspace, *again)
        feed()
        time.sleep(rng.uniform(0.2, 1.5))
        worker.kill()
        worker.wait()
        with workspace.client as client:
            client.delete(workspace.keys("m").lease)
        if rng.random() < 0.3:
            command.kill()
            with workspace.client as client:
                client.delete(workspace.keys("m").refitting)
        command.wait(120)
    assert _run(workspace, "worker", "--until-idle").wait(120) == 0
    wait_until(lambda: workspace.committed("m") == sum(sizes))
    return _differences(workspace, sum(sizes))


def _run(workspace: Workspace, *arguments: str) -> PipedCommand:
    with (workspace.folder / f"{arguments[0]}.log").open("ab") as log:
        return PipedCommand(
            list(arguments),
            cwd=workspace.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _differences(workspace: Workspace, points: int) -> tuple[list[str], dict[str, int]]:
    """Compare each version with the oracle."""
    masses: dict[int, float] = {}
    counts = {"versions": 0, "refit": 0, "rollback": 0}
    wrong, mass, before = [], 0.0, 0
    for model in workspace.versions("m"):
        mass, before = mass + model.points - before, model.points
        found = float(model.mass.sum())
        known = (mass, *(each for each in masses.values() if each < mass))
        if model.reason == "rollback" and min(abs(found - each) for each in known) > 1e-6 * mass:
            wrong.append(f"version {model.version}: mass {found} after a rollback is of no version")
        elif model.reason != "rollback" and abs(found - mass) > 1e-6 * mass:
            wrong.append(f"version {model.version} ({model.reason}): mass {found}, right {mass}")
        masses[model.version] = mass = found
        counts["versions"] += 1
        counts[model.reason] = counts.get(model.reason, 0) + 1
    if before != points:
        wrong.append(f"{before} points in the newest version of {points}")
    return wrong, counts


@click.command()
@click.option("--kills", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="Of every choice.  [default: a new one]")
def refits(kills: int, seed: int | None) -> None:
    """Kill a worker while refits and rollbacks go in; check the mass of each version."""
    seed = secrets.randbelow(10**9) if seed is None else seed
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        url = stack.enter_context(_server(_BINARIES["Valkey 9"](), folder / "server"))
        wrong, counts = story(folder / "story", url, seed, kills)
    click.echo(f"seed {seed}: {kills} kills, {counts}")
    click.echo("\n".join(wrong) or "the mass of each version is that of a single pass")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    refits()
