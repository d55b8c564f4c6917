"""The engines beside one thread, the cost of the seam, and a refit of a large Parquet file.

All data are written to a temporary folder. Each row is measured in turns with the row it is
compared with, and the best of several rounds counts, so that other load matters less. The ratio of
processor times doesn't depend on other load: with 2 workers, 1.00x allows a speed of 2x. The cost
of the seam is a median of many rounds, with its 95 % bootstrap interval.

    python benchmarks/engine.py --points 4e6 --refit-points 20e6
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from streamclust import GaussianMixture, KMeans
from streamclust.engine import EStep, Inline, Part, Reader
from streamclust.engine.base import never
from streamclust.engine.cut import cut_array, cut_files
from streamclust.engine.processes import Processes
from streamclust.engine.threads import Threads
from streamclust.fitting.search import search_of
from streamclust.kernels.threads import limit_threads
from streamclust.models.stats import merge
from streamclust.refit.data import gather
from streamclust.refit.runs import Plan, search
from streamclust.refit.sources import Files
from streamclust.system_limits import keep_memory_flat
from streamclust.tables import ModelColumns, TableOptions

D = 16
_PIECE = 32
"""Parts of one comparison of the seam: a fold of 4 million points."""

FAMILIES: list[tuple[str, Any]] = [
    ("K-means K 64", KMeans(64)),
    ("full mixture K 16", GaussianMixture(16)),
]


def blobs(n: int, seed: int) -> Any:
    """Return points of 64 clusters, shape (n, D)."""
    rng = np.random.default_rng(seed)
    centres = 4.0 * np.random.default_rng(0).normal(size=(64, D))
    X = rng.normal(size=(n, D))
    X += centres[rng.integers(0, 64, n)]
    return X


def write_npy(path: Path, n: int) -> None:
    """Write points piece by piece."""
    mapped = np.lib.format.open_memmap(path, "w+", np.float64, (n, D))
    for start in range(0, n, 1 << 20):
        mapped[start : start + (1 << 20)] = blobs(min(1 << 20, n - start), start)
    mapped.flush()


def write_parquet(path: Path, n: int) -> None:
    """Write points in row groups of 262,144 points."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(f"x{d}", pa.float64()) for d in range(D)])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n, 1 << 18):
            X = blobs(min(1 << 18, n - start), start)
            writer.write_table(pa.table(list(X.T), schema=schema))


def parts_of(path: Path) -> tuple[Part, ...]:
    """Return the parts of a file."""
    return cut_files([path], TableOptions(), ModelColumns("the benchmark", (), D)).parts


def best(
    calls: Sequence[Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> list[float]:
    """Return the least seconds of each call, over rounds in which all calls take turns."""
    seconds = [float("inf")] * len(calls)
    for _ in range(rounds):
        for place, call in enumerate(calls):
            started = clock()
            call()
            seconds[place] = min(seconds[place], clock() - started)
    return seconds


def one_thread(call: Callable[[], Any]) -> None:
    """Call a function whose kernels use one thread."""
    with limit_threads(1):
        call()


def seam(n: int, rounds: int) -> None:
    """Print the processor time of a fold of points in memory, relative to a plain loop.

    The plain loop calls the kernels for the same blocks, and adds up the results. Each few parts
    are computed twice in both ways, in the order A B B A, so that what changes slowly on the
    machine changes no ratio. A is the plain loop and the fold in turn.
    """
    X, w = blobs(n, 0), np.ones(n)
    parts = cut_array(X, w)
    pieces = [parts[start : start + _PIECE] for start in range(0, len(parts), _PIECE)]
    for name, family in FAMILIES:
        params = search_of(family).init(X[:2000], w[:2000], np.random.default_rng(0))
        task = EStep(family, params)

        def plain(piece: Sequence[Any], task: EStep = task) -> None:
            with limit_threads(1):
                reduce(merge, (task.family.e_step(task.params, part.X, part.w) for part in piece))

        def fold(piece: Sequence[Part], task: EStep = task) -> None:
            Inline(threads=1).fold(task, Reader(), piece)

        ratios, seconds = [], 0.0
        for number, piece in enumerate((rounds + 1) * pieces):
            orders = ((plain, fold, fold, plain), (fold, plain, plain, fold))
            used = {plain: 0.0, fold: 0.0}
            for call in orders[(number + number // len(pieces)) % 2]:
                used[call] += spent(lambda call=call, piece=piece: call(piece))
            ratios.append(used[fold] / used[plain])
            seconds += used[plain] / 2.0
        ratios = ratios[len(pieces) :]  # without the first round
        low, high = interval(ratios)
        click.echo(
            f"seam, {name}: {seconds / (rounds + 1):.3f} s, {np.median(ratios) - 1.0:+.2%} through "
            f"it (median of {len(ratios)} pairs of {_PIECE} parts; 95 % interval {low - 1.0:+.2%} "
            f"to {high - 1.0:+.2%})"
        )


def spent(call: Callable[[], Any]) -> float:
    """Return the processor time that this thread needs for a call."""
    started = time.thread_time()
    call()
    return time.thread_time() - started


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of the median."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


def seconds_of(pid: int) -> float:
    """Return the processor time of all threads of a process."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def processor_seconds(processes: Processes) -> float:
    """Return the processor time of this process and of the engine's processes."""
    return time.process_time() + sum(map(seconds_of, processes.pids))


def engines(folder: Path, n: int, workers: int, rounds: int) -> None:
    """Print the speed of threads and processes, relative to inline in the same rounds."""
    path = folder / "points.npy"
    write_npy(path, n)
    parts, reader = parts_of(path), Reader()
    start = next(iter(reader.blocks(parts[0], lambda _: None)))
    with Threads(workers) as threads, Processes(workers) as processes:
        for name, family in FAMILIES:
            params = search_of(family).init(
                start.X[:2000], start.w[:2000], np.random.default_rng(0)
            )
            task = EStep(family, params)
            every = (Inline(threads=1), threads, processes)
            calls = [lambda each=each, t=task: each.fold(t, reader, parts) for each in every]
            calls[2]()  # starts the processes
            inline, *others = best(calls, rounds, time.perf_counter)
            used = best(calls, rounds, lambda: processor_seconds(processes))
            ratios = ", ".join(
                f"{engine.name} {inline / seconds:.2f}x (processor time {cpu / used[0]:.2f}x)"
                for engine, seconds, cpu in zip(every[1:], others, used[1:], strict=True)
            )
            click.echo(f"{n:,} points, {name}, {workers} workers: inline {inline:.2f} s, {ratios}")


def refit(folder: Path, n: int, workers: int) -> None:
    """Print the seconds per iteration of a refit, relative to one read and one step in memory."""
    import pyarrow.parquet as pq

    path = folder / "points.parquet"
    write_parquet(path, n)
    family: Any = KMeans(64)

    def read_plainly() -> None:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(8192, use_threads=False):
                np.stack([column.to_numpy() for column in batch.columns], axis=1)

    with Threads(workers) as engine:
        source = Files([path], TableOptions(), ModelColumns("the benchmark", (), D))
        points = gather(source, 0, engine=engine)
        X, w = points.sample
        params = search_of(family).init(X[:20_000], w[:20_000], np.random.default_rng(0))
        part = len(w)
        read, step, own = best(
            [
                read_plainly,
                lambda: one_thread(lambda: family.e_step(params, X, w)),
                lambda: points.e_step(family, params, never),
            ],
            2,
            time.perf_counter,
        )
        at_best = (read + step * n / part) / workers
        passes: list[int] = []
        started = time.perf_counter()
        search(
            family,
            points,
            params,
            Plan(restarts=0, max_iter=5),
            on_pass=lambda _: passes.append(1),
        )
        each = (time.perf_counter() - started) / len(passes)
    click.echo(
        f"{n:,} points of Parquet, K-means K 64, {workers} threads: {each:.2f} s per iteration; "
        f"pyarrow alone reads them in {read:.2f} s, the kernel takes {step * n / part:.2f} s, both "
        f"by {workers} threads {at_best:.2f} s: {each / at_best:.2f}x; one fold {own:.2f} s"
    )


@click.command(help=__doc__)
@click.option("--points", default=400_000.0, help="Points of the comparison of engines.")
@click.option("--refit-points", default=1e6, help="Points of the Parquet file; 0 leaves it out.")
@click.option("--workers", default=2, help="Threads and processes.")
@click.option("--rounds", default=3, help="Rounds; the best counts.")
@click.option("--seam-rounds", default=12, help="Rounds for the cost of the seam.")
def main(points: float, refit_points: float, workers: int, rounds: int, seam_rounds: int) -> None:
    keep_memory_flat()
    seam(int(points), seam_rounds)
    with TemporaryDirectory() as name:
        engines(Path(name), int(points), workers, rounds)
        if refit_points:
            refit(Path(name), int(refit_points), workers)


if __name__ == "__main__":
    main()
