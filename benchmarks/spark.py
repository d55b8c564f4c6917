"""Spark's streaming K-means beside ours, where Java and PySpark are.

    pip install '.[spark]'
    python benchmarks/spark.py [--repeat 5] [--page]

`StreamingKMeansModel.update` of Spark MLlib, one thread (`local[1]`), of a resilient dataset that
it holds in memory already: the cost of reading and of its scheduler's wait for a batch is left out.
Ours is `StreamLearner.update` with a half-life, its coreset included. Spark works in a process of
its own, so these are seconds of the clock: the best of several repetitions, in turn.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from page import table, write_section

from streamclust import HalfLife, KMeans, StreamLearner, kernels
from streamclust.models.kmeans import KMeansParams

if TYPE_CHECKING:
    from collections.abc import Callable

D, K = 16, 64
BATCHES = (1024, 100_000)


def seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def blobs(n: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    centres = 5.0 * rng.normal(size=(K, D))
    return centres[rng.integers(0, K, n)] + rng.normal(size=(n, D)), centres


def ours(X: Any, centres: Any) -> Callable[[], object]:
    learner = StreamLearner(KMeans(K), HalfLife(points=1e6))
    state = learner.init(KMeansParams(centres), weight=1000.0)

    def step() -> None:
        nonlocal state
        state, _ = learner.update(state, X)

    return step


def spark(context: Any, X: Any, centres: Any) -> Callable[[], object]:
    from pyspark.mllib.clustering import StreamingKMeansModel

    data = context.parallelize(list(X), 1).cache()
    data.count()
    model = StreamingKMeansModel(centres.tolist(), [1000.0] * K)
    return lambda: model.update(data, 1.0, "batches")


def measure(repeat: int) -> tuple[str, dict[int, tuple[float, float]]]:
    """Return Spark's version, and (ours, Spark's) points a second for each size of a batch."""
    from pyspark import SparkConf, SparkContext

    quiet = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
    }
    rates = {}
    conf = SparkConf().setMaster("local[1]").setAll(list(quiet.items()))
    with SparkContext(conf=conf) as context:
        context.setLogLevel("ERROR")
        for size in BATCHES:
            X, centres = blobs(size)
            steps = (ours(X, centres), spark(context, X, centres))
            for step in steps:
                step()
            with kernels.limit_threads(1):
                times = [[seconds(step) for step in steps] for _ in range(repeat)]
            best = np.min(times, axis=0)
            rates[size] = (size / best[0], size / best[1])
        return str(context.version), rates


def page(version: str, rates: dict[int, tuple[float, float]]) -> str:
    rows = [
        [f"{size:,}", f"**{mine / its:,.0f}x**", f"{mine:,.0f}", f"{its:,.0f}"]
        for size, (mine, its) in rates.items()
    ]
    return f"""
## Beside Spark

`python benchmarks/spark.py --page` wrote this section. The table has points per second of
wall-clock time for K-means (K {K}, D {D}), with one thread each.
Spark {version}'s `StreamingKMeansModel.update` runs through PySpark, on data in memory. The time in
which Spark waits for a batch and reads it is not included.
streamclust's figure is a whole step of the learner, with its coreset.

{table(["points per batch", "x Spark", "streamclust, points/s", "Spark"], rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--page", action="store_true", help="write docs/performance.md")
    options = parser.parse_args()
    if shutil.which("java") is None or importlib.util.find_spec("pyspark") is None:
        print("no Java, or no PySpark (pip install '.[spark]'): left out", file=sys.stderr)
        return
    text = page(*measure(options.repeat))
    print(text)
    if options.page:
        write_section("spark", text)


if __name__ == "__main__":
    main()
