"""How long a worker stands still when the primary of a Sentinel pair is lost.

Each round starts a primary, a replica and three sentinels (down-after 500 ms) on loopback, a worker
that commits every 30 points of a live feed, and then kills the primary (-9) or has the sentinels
demote it. Printed are the seconds from that moment until the sentinels name another primary, and
until the worker's first commit there.

    python benchmarks/takeover.py --rounds 5
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.fleet import Watched, watched
from tests.support.fleet_workspace import FleetWorkspace, eager, feeding
from tests.support.workers import WorkerProcess


def measure(folder: Path, how: str) -> tuple[float, float]:
    """Return the seconds until there is another primary, and until the worker commits there."""
    with watched(folder) as fleet:
        workspace = FleetWorkspace(folder, fleet.url, "takeover")
        workspace.write({"m": eager("points")})
        with WorkerProcess(workspace) as worker, feeding(workspace, "points"):
            worker.wait(lambda: workspace.committed("m") > 600)
            before = fleet.primary
            began = time.monotonic()
            _lose(fleet, how)
            worker.wait(lambda: fleet.primary != before)
            named = time.monotonic() - began
            worker.wait(lambda: worker.events("server_back"))
            points = workspace.committed("m")
            worker.wait(lambda: workspace.committed("m") > points)
            return named, time.monotonic() - began


def _lose(fleet: Watched, how: str) -> None:
    if how == "killed":
        fleet.primary.kill()
    else:
        fleet.fail_over()


@click.command()
@click.option("--rounds", default=5, show_default=True)
def main(rounds: int) -> None:
    for how in ("killed", "demoted"):
        for number in range(1, rounds + 1):
            with TemporaryDirectory() as folder:
                named, learning = measure(Path(folder), how)
            print(f"{how} {number}: another primary after {named:.1f} s, learning {learning:.1f} s")


if __name__ == "__main__":
    main()
