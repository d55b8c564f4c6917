"""The engine dask beside one thread, its cost per part, and what the simulator says of both.

A scheduler and workers run on this machine. With more workers than cores, they share the cores. So
a second comparison uses processor time: the busiest process of a fold (a worker, the scheduler, or
this one) would need so many seconds if each process had a core. The simulator has a core for each
worker too, and the costs of one worker.

    python benchmarks/engine_dask.py --points 4e6 --workers 1 --workers 2 --workers 4
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine import FAMILIES, parts_of, seconds_of, write_npy
from engine_sim import Costs, simulate

from streamclust.engine import EStep, Inline, Part, Reader, deadlines
from streamclust.engine.cut import cut_array
from streamclust.engine.dask import Dask
from streamclust.fitting.search import search_of
from streamclust.system_limits import cores_of_process
from tests.support.dask_cluster import DaskCluster
from tests.support.waiting import wait_until


def timed(call: Any, rounds: int) -> tuple[float, float]:
    """Return the least seconds of a call, and its least processor time here."""
    found = []
    for _ in range(rounds):
        wall, own = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - wall, time.process_time() - own))
    return min(each for each, _ in found), min(own for _, own in found)


def cost_per_part(dask: Dask, task: EStep, rounds: int) -> float:
    """Return the processor seconds of this process per part, from parts of one point."""
    X = np.zeros((1, task.params.means.shape[1]))
    parts: list[Part] = 400 * [*cut_array(X, np.ones(1))]
    return timed(lambda: dask.fold(task, Reader(), parts), rounds)[1] / len(parts)


class Counting(Dask):
    """The engine, which counts the bundles that workers computed."""

    bundles = 0

    def succeeded(self, *arguments: Any) -> None:
        """Count a bundle."""
        self.bundles += 1
        super().succeeded(*arguments)


def seconds_used(cluster: DaskCluster) -> list[float]:
    """Return the processor seconds of the scheduler and of each worker up to now."""
    times = [psutil.Process(process.pid).cpu_times() for process in cluster.processes]
    return [each.user + each.system for each in times]


def by_processor_time(
    cluster: DaskCluster, dask: Counting, label: str, task: EStep, data: Any, rounds: int
) -> None:
    """Print the speed that processor times allow, and that of the simulator."""
    (reader, parts), workers = data, dask.connection.slots
    own = time.process_time()
    for _ in range(rounds):
        Inline(threads=1).fold(task, reader, parts)
    alone = (time.process_time() - own) / rounds
    start, own, bundles = seconds_used(cluster), time.process_time(), dask.bundles
    for _ in range(rounds):
        dask.fold(task, reader, parts)
    own = (time.process_time() - own) / rounds
    scheduler, *each = (
        (end - begin) / rounds for begin, end in zip(start, seconds_used(cluster), strict=True)
    )
    sent = (dask.bundles - bundles) / rounds
    computed = sum(each) / sent
    costs = Costs(part=computed, submit=own / sent / 4, receive=3 * own / sent / 4)
    expected = simulate(costs, workers, round(sent), 5).seconds
    busiest = max(scheduler, own, *each)
    click.echo(
        f"{label}, {workers} workers, processor time: alone {alone:.2f} s; here {own:.2f}, "
        f"scheduler {scheduler:.2f}, workers {', '.join(f'{value:.2f}' for value in each)}; "
        f"{sent:.0f} bundles; allows {alone / busiest:.2f}x, simulated {alone / expected:.2f}x"
    )


@click.command(help=__doc__)
@click.option("--points", default=400_000.0, help="Points in an .npy file.")
@click.option("--workers", default=(1, 2), multiple=True, help="Numbers of workers, ascending.")
@click.option("--rounds", default=2, help="Rounds; the best counts.")
@click.option("--by-process", is_flag=True, help="Processor time of each process, not the clock.")
def main(points: float, workers: tuple[int, ...], rounds: int, by_process: bool) -> None:
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
        alone = {
            label: timed(lambda t=task: Inline(threads=1).fold(t, reader, parts), rounds + 2)
            for label, task in tasks
            if not by_process
        }
        with Counting(cluster.address) as dask:
            for number in workers:
                while len(cluster.workers) < number:
                    cluster.start_worker()
                wait_until(lambda n=number: dask.connection.slots == n, 120.0)
                for label, task in tasks:
                    data = (reader, parts)
                    if by_process:
                        deadlines.SHORTEST = deadlines.UNKNOWN = 120.0  # no part is computed here
                        by_processor_time(cluster, dask, label, task, data, rounds)
                    else:
                        row(dask, cluster, label, task, data, alone[label], rounds)


def used(cluster: DaskCluster, call: Any, rounds: int) -> tuple[float, dict[str, float]]:
    """Return the least seconds of a call, and the least processor time of each process."""
    pids = {"here": os.getpid(), "scheduler": cluster.scheduler_pid}
    pids |= {f"worker {number}": each.pid for number, each in enumerate(cluster.workers, 1)}
    best, least = float("inf"), dict.fromkeys(pids, float("inf"))
    for _ in range(rounds + 2):
        before, started = {name: seconds_of(pid) for name, pid in pids.items()}, time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
        for name, pid in pids.items():
            least[name] = min(least[name], seconds_of(pid) - before[name])
    return best, least


def row(
    dask: Dask,
    cluster: DaskCluster,
    label: str,
    task: EStep,
    data: Any,
    inline: tuple[float, float],
    rounds: int,
) -> None:
    """Print the speed of one number of workers, and that of the simulator."""
    (reader, parts), workers = data, dask.connection.slots
    each = cost_per_part(dask, task, rounds)
    before = dask.counts.workers, dask.counts.here
    seconds, least = used(cluster, lambda: dask.fold(task, reader, parts), rounds)
    by_workers, here = dask.counts.workers - before[0], dask.counts.here - before[1]
    cores, (alone, plain) = cores_of_process(), inline
    costs = Costs(part=alone / len(parts), submit=each / 4, receive=3 * each / 4, cores=cores)
    expected = simulate(costs, workers, len(parts), 5).seconds
    times = ", ".join(f"{name} {1e3 * spent:.0f} ms" for name, spent in least.items())
    click.echo(
        f"{label}, {workers} workers: {alone / seconds:.2f}x of one thread ({alone:.3f} s), "
        f"simulated {alone / expected:.2f}x; {len(parts)} parts, {1e3 * each:.2f} ms here "
        f"per bundle; parts by workers {by_workers}, here {here}\n"
        f"    processor time: one thread {1e3 * plain:.0f} ms, {times}; together "
        f"{sum(least.values()) / plain:.2f}x, so {cores} cores allow at most "
        f"{min(cores, workers + 1) * plain / sum(least.values()):.2f}x"
    )


if __name__ == "__main__":
    main()
