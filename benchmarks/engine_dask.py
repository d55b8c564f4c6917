"""The engine dask beside one thread: by the clock, by processor time, and in the simulator.

A scheduler and workers run on this machine. One thread and the cluster take turns. With more
workers than cores, the clock can't show a speed. So a second comparison uses processor time: that
of the busiest worker, and of this process, which sends before and receives after it. A fold would
take so long if each process had a core, and no message took time. The simulator has the measured
costs of a bundle, and a core per worker; compare the clock with it only if there are as many cores.

    python benchmarks/engine_dask.py --points 4e6 --workers 1 --workers 2 --workers 4
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine import FAMILIES, parts_of, seconds_of, write_npy
from engine_sim import Costs, simulate

from streamclust.engine import EStep, Inline, Reader, deadlines
from streamclust.engine.dask import Dask
from streamclust.fitting.search import search_of
from tests.support.dask_cluster import DaskCluster
from tests.support.waiting import wait_until


class Counting(Dask):
    """The engine, which counts the bundles that workers computed."""

    bundles = 0

    def succeeded(self, *arguments: Any) -> None:
        """Count a bundle."""
        self.bundles += 1
        super().succeeded(*arguments)


def used(pids: dict[str, int], call: Any) -> tuple[float, dict[str, float]]:
    """Return the seconds of a call, and the processor time of each process meanwhile."""
    before, started = {name: seconds_of(pid) for name, pid in pids.items()}, time.perf_counter()
    call()
    seconds = time.perf_counter() - started
    return seconds, {name: seconds_of(pid) - before[name] for name, pid in pids.items()}


def medians(found: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each process."""
    return {name: median(each[name] for each in found) for name in found[0]}


def compare(
    dask: Counting, cluster: DaskCluster, label: str, task: EStep, data: Any, rounds: int
) -> None:
    """Print the speeds of the cluster and those of the simulator."""
    (reader, parts), workers = data, dask.connection.slots
    own = {"here": os.getpid()}
    pids = {**own, "scheduler": cluster.scheduler_pid}
    pids |= {f"worker {number}": each.pid for number, each in enumerate(cluster.workers, 1)}
    inline = Inline(threads=1)
    for _ in range(2):  # the first fold learns the size of a bundle
        dask.fold(task, reader, parts)
    dask.bundles = dask.counts.here = 0
    speeds, alone, times = [], [], []
    for number in range(rounds):
        calls = [(inline, own), (dask, pids)][:: -1 if number % 2 else 1]
        found = {e: used(those, lambda e=e: e.fold(task, reader, parts)) for e, those in calls}
        (plain, spent), (seconds, each) = found[inline], found[dask]
        speeds.append(plain / seconds)
        alone.append(spent["here"])
        times.append(each)
    one, each = median(alone), medians(times)
    sent = max(1, round(dask.bundles / rounds / workers)) * workers  # equally many per worker
    in_workers = sum(value for name, value in each.items() if name.startswith("worker"))
    mine = each["here"] / sent
    costs = Costs(part=in_workers / sent, submit=mine / 4, receive=3 * mine / 4)
    waiting = simulate(costs, workers, sent, 20).seconds
    working = simulate(replace(costs, latency=0.0, jitter=0.0), workers, sent, 1).seconds
    busiest = max(value for name, value in each.items() if name.startswith("worker"))
    together = ", ".join(f"{name} {1e3 * value:.0f}" for name, value in each.items())
    click.echo(
        f"{label}, {workers} workers: {median(speeds):.2f}x of one thread, the median of {rounds} "
        f"pairs ({min(speeds):.2f}x to {max(speeds):.2f}x); simulated with a core per worker "
        f"{one / waiting:.2f}x; {len(parts)} parts in {sent} bundles, {dask.counts.here} here\n"
        f"    processor time in ms: one thread {1e3 * one:.0f}; {together}; together "
        f"{sum(each.values()) / one:.2f} times as much\n"
        f"    with a core per process and no latency: {one / (busiest + each['here']):.2f}x, "
        f"simulated {one / working:.2f}x"
    )


@click.command(help=__doc__)
@click.option("--points", default=400_000.0, help="Points in an .npy file.")
@click.option("--workers", default=(1, 2), multiple=True, help="Numbers of workers, ascending.")
@click.option("--rounds", default=5, help="Pairs of folds: one thread, then the cluster.")
def main(points: float, workers: tuple[int, ...], rounds: int) -> None:
    deadlines.SHORTEST = deadlines.UNKNOWN = 120.0  # no part is computed here
    with TemporaryDirectory() as name, DaskCluster(Path(name)) as cluster:
        path = Path(name) / "points.npy"
        write_npy(path, int(points))
        parts, reader = parts_of(path), Reader()
        start = next(iter(reader.blocks(parts[0], lambda _: None)))
        rng = np.random.default_rng(0)
        tasks = [
            (label, EStep(family, search_of(family).init(start.X[:2000], start.w[:2000], rng)))
            for label, family in FAMILIES
        ]
        with Counting(cluster.address) as dask:
            for number in workers:
                while len(cluster.workers) < number:
                    cluster.start_worker()
                wait_until(lambda n=number: dask.connection.slots == n, 120.0)
                for label, task in tasks:
                    compare(dask, cluster, label, task, (reader, parts), rounds)


if __name__ == "__main__":
    main()
