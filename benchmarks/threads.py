"""Steps of large batches with 1 to all cores, beside faiss and scikit-learn with as many threads.

    python benchmarks/threads.py [--points 4000000] [--repeat 5] [--threads 8] [--page]

A step of K-means (D 16, K 64) and of mixtures (D 16, K 16), in wall-clock time: the best of several
repetitions, in turn for each number of threads. The machine should have nothing else to do. faiss
only assigns, in float32; scikit-learn's step of K-means is `MiniBatchKMeans.partial_fit`, that of a
mixture an e-step and an m-step. The peers get fewer points, and the rates are compared.

`--page` writes a section of docs/performance.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import faiss
import numpy as np
from kernels import sklearn_step
from page import processor, table, write_section
from sklearn.cluster import MiniBatchKMeans
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from streamclust import kernels
from streamclust.arrays import CovarianceType
from streamclust.models.covariance import COVARIANCES
from streamclust.system_limits import cores_of_process

D = 16
PEER_POINTS = 400_000
"""Points for faiss and scikit-learn; a step of a mixture by scikit-learn needs 1 KB per point."""

Rates = dict[str, dict[int, float]]
"""Million points per second, by name and number of threads."""


def points(N: int, K: int) -> tuple[np.ndarray, np.ndarray]:
    """N points around K centres, made in parts, which needs little more memory than the points."""
    rng = np.random.default_rng(0)
    centres, X = 1.4 * rng.normal(size=(K, D)), np.empty((N, D))
    for start in range(0, N, 100_000):
        part = X[start : start + 100_000]
        part[:] = centres[rng.integers(0, K, len(part))] + rng.normal(size=part.shape)
    return X, centres


def tasks(N: int) -> dict[str, tuple[int, Callable[[int], object]]]:
    """Return, by name, the number of points of a task and a function of the number of threads."""
    X, C = points(N, 64)
    single, w = X.astype(np.float32), np.ones(N)
    index = faiss.IndexFlatL2(D)
    index.add(C.astype(np.float32))
    peer = MiniBatchKMeans(
        64, init=C.astype(np.float32), n_init=1, batch_size=1024, reassignment_ratio=0.0
    ).partial_fit(single[:1024])
    n = min(N, PEER_POINTS)
    found: dict[str, tuple[int, Callable[[int], object]]] = {
        "kmeans, float64": (N, own(lambda: kernels.kmeans_sums(X, w, C))),
        "kmeans, float32": (N, own(lambda: kernels.kmeans_sums(single, w, C))),
        "kmeans with labels, float64": (N, own(lambda: kernels.kmeans_step(X, w, C))),
        "kmeans with labels, float32": (N, own(lambda: kernels.kmeans_step(single, w, C))),
        "faiss": (n, theirs(lambda: index.search(single[:n], 1))),
        "scikit-learn, kmeans": (n, theirs(lambda: peer.partial_fit(single[:n]))),
    }
    kinds: tuple[CovarianceType, ...] = ("full", "diag")
    for kind in kinds:
        mixture: Any = GaussianMixture(16, covariance_type=kind, max_iter=5, random_state=0)
        mixture.fit(X[:8192])
        root = COVARIANCES[kind].root(mixture.covariances_)
        model = (np.log(mixture.weights_), mixture.means_, root, kind)
        found[kind] = N, own(partial(kernels.mixture_step, X, w, *model))
        found[f"scikit-learn, {kind}"] = n, theirs(partial(sklearn_step, mixture, X[:n]))
    return found


def own(step: Callable[[], object]) -> Callable[[int], object]:
    def run(threads: int) -> object:
        with kernels.using(kernels.describe(), threads=threads):
            return step()

    return run


def theirs(step: Callable[[], object]) -> Callable[[int], object]:
    def run(threads: int) -> object:
        faiss.omp_set_num_threads(threads)
        with threadpool_limits(threads):
            return step()

    return run


def measure(N: int, repeat: int, most: int) -> Rates:
    rates: Rates = {}
    for name, (n, task) in tasks(N).items():
        best = dict.fromkeys(range(1, most + 1), float("inf"))
        for _ in range(repeat):
            for threads in best:
                start = time.perf_counter()
                task(threads)
                best[threads] = min(best[threads], time.perf_counter() - start)
        rates[name] = {threads: 1e-6 * n / seconds for threads, seconds in best.items()}
        print(name, {threads: round(rate, 2) for threads, rate in rates[name].items()}, flush=True)
    return rates


def report(rates: Rates, N: int) -> str:
    numbers = list(next(iter(rates.values())))
    header = ["step", "1 thread", *(f"{threads} threads" for threads in numbers[1:])]
    body = [
        [name, f"{rate[1]:.3g}", *(f"{rate[threads] / rate[1]:.2f}x" for threads in numbers[1:])]
        for name, rate in rates.items()
    ]
    return f"""\
## Threads

`python benchmarks/threads.py --page` wrote this section ({processor()}). The table has the speed of
one step of {N:,} points, with D 16 and K 64 (K-means) or K 16 (mixtures). The
first column has million points per second of wall-clock time. The others have the speedup with more
threads. faiss and scikit-learn get at most {PEER_POINTS:,} points.
A step "with labels" also writes the label and the distance of each point. A worker needs
them; a fit doesn't.

{table(header, body)}

The bits of a result don't depend on the number of threads
([internals](internals/kernels.md#threads)). A step uses one thread, and one more per 17 million
multiplications. All steps of a process together use at most as many threads as it has cores;
`STREAMCLUST_THREADS` sets a lower limit. So a large fit, or the only model of a worker, can use the
whole machine. If at least as many models learn as there are cores, each uses one core. For example,
a K-means step of 4,096 points at D 16, K 64 has 4 million multiplications, so it uses one thread.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=4_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores_of_process())
    parser.add_argument("--page", action="store_true", help="write docs/performance.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's, that few iterations don't converge
    rates = measure(options.points, options.repeat, options.threads)
    text = report(rates, options.points)
    print(text)
    if options.page:
        write_section("threads", text)


if __name__ == "__main__":
    main()
