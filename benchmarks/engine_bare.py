"""The bound of the engines: processes without an engine, each with every n-th part of one file.

They share nothing but the file, the caches and the memory of the machine. So their speed is what
several cores can reach at most with the same parts and kernels.

    python benchmarks/engine_bare.py --points 4e6 --workers 2
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine import FAMILIES, parts_of, write_npy

from streamclust.engine import EStep, Inline, Reader
from streamclust.fitting.search import search_of
from streamclust.system_limits import keep_memory_flat


def serve(path: Path, family: int, place: int, number: int) -> None:
    """Fold every `number`-th part whenever a line arrives, and print the processor time."""
    keep_memory_flat()
    parts, reader = parts_of(path), Reader()
    start = next(iter(reader.blocks(parts[0], lambda _: None)))
    chosen, rng = FAMILIES[family][1], np.random.default_rng(0)
    params = search_of(chosen).init(start.X[:2000], start.w[:2000], rng)
    task, engine = EStep(chosen, params), Inline(threads=1)
    for _ in sys.stdin:
        started = time.process_time()
        engine.fold(task, reader, parts[place::number])
        print(time.process_time() - started, flush=True)


def measure(path: Path, family: int, number: int, rounds: int) -> tuple[float, float]:
    """Return the least seconds of all processes together, and their least processor time."""
    words = [sys.executable, __file__, "--serve", str(path), "--family", str(family)]
    processes = [
        subprocess.Popen(
            [*words, "--place", str(place), "--workers", str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for place in range(number)
    ]
    found = []
    for _ in range(rounds + 2):
        started = time.perf_counter()
        for each in processes:
            stdin = cast("IO[str]", each.stdin)
            stdin.write("\n")
            stdin.flush()
        used = sum(float(each.stdout.readline()) for each in processes if each.stdout)
        found.append((time.perf_counter() - started, used))
    for each in processes:
        each.communicate()
    return min(wall for wall, _ in found[2:]), min(used for _, used in found[2:])


@click.command(help=__doc__)
@click.option("--points", default=400_000.0, help="Points in an .npy file.")
@click.option("--workers", default=2, help="Number of processes.")
@click.option("--rounds", default=5, help="Rounds; the best counts.")
@click.option("--serve", "path", type=Path, hidden=True)
@click.option("--family", default=0, hidden=True)
@click.option("--place", default=0, hidden=True)
def main(
    points: float, workers: int, rounds: int, path: Path | None, family: int, place: int
) -> None:
    if path is not None:
        serve(path, family, place, workers)
        return
    with TemporaryDirectory() as name:
        file = Path(name) / "points.npy"
        write_npy(file, int(points))
        for number, (label, _) in enumerate(FAMILIES):
            alone, used = measure(file, number, 1, rounds)
            together, all_used = measure(file, number, workers, rounds)
            click.echo(
                f"{int(points):,} points, {label}: 1 process {alone:.3f} s, {workers} processes "
                f"{alone / together:.2f}x (processor time {all_used / used:.2f}x)"
            )


if __name__ == "__main__":
    main()
