"""The numerical kernels beside what people would use instead, and beside the machine's limits.

    python benchmarks/kernels.py [--repeat 7] [--out bench-output/kernels.json] [--page]

One thread each, in turn, the best of several repetitions, in processor time (so that other
programs take none of it). K-means: a step (assign and accumulate) of float32 points beside
`MiniBatchKMeans.partial_fit` of scikit-learn and faiss's exact search, which only assigns.
Mixtures: an EM step in float64 beside scikit-learn's. river learns one point at a time. The limits
are those of NumPy's matrix product and of copying large arrays, measured in the same run.

`--page` writes docs/performance.md and docs/pictures/roofline.png.
"""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import sklearn
from page import options_of, processor, table, write_figures, write_section
from sklearn.cluster import MiniBatchKMeans
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from streamclust import kernels
from streamclust.kernels import native
from streamclust.models.covariance import COVARIANCES

KMEANS = [(2, 8), (3, 64), (16, 64), (16, 256), (64, 256), (128, 1024)]
MIXTURES = [(kind, *shape) for kind in ("full", "diag", "tied", "spherical")
            for shape in ((2, 8), (8, 16), (16, 16), (32, 32))]  # fmt: skip
LARGE = [(2, 65_536), (768, 4096)]
BATCH = 1024
BEST = "avx512vnni"
PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "roofline.png"

Row = dict[str, Any]


def best(tasks: dict[str, Callable[[], object]], repeat: int) -> tuple[dict[str, float], float]:
    """Return each task's least processor time in seconds, and the median of median over least."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(repeat):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            times[name].append(time.process_time() - start)
    noise = float(np.median([np.median(all_) / min(all_) for all_ in times.values()]))
    return {name: min(all_) for name, all_ in times.items()}, noise


def blobs(D: int, K: int, N: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """N points around K standard normal centres times `spread`."""
    rng = np.random.default_rng(0)
    centres = spread * rng.normal(size=(K, D))
    return centres[rng.integers(0, K, N)] + rng.normal(size=(N, D)), centres


def limits(repeat: int) -> Row:
    """GFLOP/s of the matrix product in both precisions, and GB/s of a copy."""
    n = 1024
    single = np.random.default_rng(0).random((n, n), dtype=np.float32)
    double, big = single.astype(np.float64), np.zeros(1 << 24)
    copy = np.empty_like(big)
    least, noise = best(
        {
            "sgemm": lambda: single @ single,
            "dgemm": lambda: double @ double,
            "copy": lambda: np.copyto(copy, big),
        },
        repeat,
    )
    return {
        "sgemm": 2e-9 * n**3 / least["sgemm"],
        "dgemm": 2e-9 * n**3 / least["dgemm"],
        "bandwidth": 2e-9 * big.nbytes / least["copy"],
        "noise": noise,
    }


def in_batches(step: Callable[[np.ndarray], object], X: np.ndarray) -> Callable[[], None]:
    batches = [X[i : i + BATCH] for i in range(0, min(len(X), 20 * BATCH), BATCH)]
    return lambda: [step(batch) for batch in batches] and None


def kmeans(D: int, K: int, repeat: int) -> Row:
    N = max(20 * BATCH, min(200_000, 400_000_000 // (D * K)) // BATCH * BATCH)
    points, C = blobs(D, K, N, 1.4)
    X, w = points.astype(np.float32), np.ones(N)
    index = faiss.IndexFlatL2(D)
    index.add(C.astype(np.float32))
    peer = MiniBatchKMeans(
        K, init=C.astype(np.float32), n_init=1, batch_size=BATCH, reassignment_ratio=0.0
    ).partial_fit(X[: max(BATCH, K)])
    tasks: dict[str, Callable[[], object]] = {
        "streamclust": lambda: kernels.kmeans_step(X, w, C),
        "float64": lambda: kernels.kmeans_step(points, w, C),
        "batches": in_batches(lambda x: kernels.kmeans_step(x, w[: len(x)], C), X),
        "faiss": lambda: index.search(X, 1),
        "sklearn": lambda: peer.partial_fit(X),
        "sklearn_batches": in_batches(peer.partial_fit, X),
    }
    for name in kernels.available():
        tasks[name] = forced(name, lambda: kernels.kmeans_step(X, w, C))
    least, noise = best(tasks, repeat)
    few = min(N, 20 * BATCH)
    rates = {k: (few if "batches" in k else N) / t / 1e6 for k, t in least.items()}
    return {"D": D, "K": K, "rates": rates, "noise": noise, "flops": 2.0 * D * K,
            "bytes": 4.0 * D + 8.0}  # fmt: skip


def forced(name: str, task: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with kernels.using(name):
            return task()

    return run


def mixture(kind: Any, D: int, K: int, repeat: int) -> Row:
    """Take steps of a mixture that fits, as a stream's does, and of one that has just started."""
    N = 40_960 if D * K < 500 else 16_384
    X, _ = blobs(D, K, N, 2.0)
    w = np.ones(N)
    tasks: dict[str, Callable[[], object]] = {}
    for name, begun, passes in (("", "kmeans", 5), (" early", "random_from_data", 1)):
        peer = GaussianMixture(K, covariance_type=kind, max_iter=passes, init_params=begun,
                               random_state=0).fit(X[:8192])  # fmt: skip
        root = COVARIANCES[kind].root(peer.covariances_)
        model = (X, w, np.log(peer.weights_), peer.means_, root, kind)
        step = partial(kernels.mixture_step, *model)
        tasks |= {f"streamclust{name}": step, f"sklearn{name}": partial(sklearn_step, peer, X)}
        if not name:
            tasks |= {target: forced(target, step) for target in kernels.available()}
    least, noise = best(tasks, repeat)
    rates = {name: N / t / 1e6 for name, t in least.items()}
    pair = 2.0 * D * (D + 1) if kind in ("full", "tied") else 8.0 * D
    return {"kind": kind, "D": D, "K": K, "rates": rates, "noise": noise, "flops": K * pair,
            "bytes": 8.0 * D + 8.0}  # fmt: skip


def sklearn_step(peer: GaussianMixture, X: np.ndarray) -> None:
    """Take an e-step and an m-step, from the same parameters each time."""
    start = (peer.weights_, peer.means_, peer.covariances_, peer.precisions_cholesky_)
    _, log_resp = peer._e_step(X)
    peer._m_step(X, log_resp)
    peer.weights_, peer.means_, peer.covariances_, peer.precisions_cholesky_ = start


def one_at_a_time(repeat: int) -> Row:
    """River's K-means, which takes a dict a point."""
    from river import cluster, stream

    X, C = blobs(2, 8, 2000, 1.4)
    feed = [x for x, _ in stream.iter_array(X[:500])]
    learner = cluster.KMeans(n_clusters=8, seed=0)
    points, w = X.astype(np.float32), np.ones(len(X))
    least, noise = best(
        {
            "river": lambda: [learner.learn_one(x) for x in feed],
            "streamclust": in_batches(lambda x: kernels.kmeans_step(x, w[: len(x)], C), points),
        },
        repeat,
    )
    rates = {"river": 500 / least["river"] / 1e6, "streamclust": 2000 / least["streamclust"] / 1e6}
    return {"D": 2, "K": 8, "rates": rates, "noise": noise}


def large(D: int, K: int) -> Row:
    """One step of a large codebook, and the memory beside points and statistics."""
    N = 2048
    points, C = blobs(D, K, N, 1.4)
    X, w = points.astype(np.float32), np.ones(N)
    least, _ = best({"streamclust": lambda: kernels.kmeans_step(X, w, C)}, 2)
    rates = {"streamclust": N / least["streamclust"] / 1e6}
    return {"D": D, "K": K, "rates": rates, "flops": 2.0 * D * K,
            "codebook_mb": 8e-6 * K * D, "packed_mb": 13e-6 * K * D}  # fmt: skip


def share(row: Row, peaks: Row, peak: str) -> float:
    """Return how near the rate is to what the roofline allows."""
    roof = min(peaks[peak], peaks["bandwidth"] * row["flops"] / row["bytes"])
    return row["rates"]["streamclust"] * row["flops"] * 1e-3 / roof


def times(rate: float, other: float) -> str:
    return f"**{rate / other:.1f}x**" if rate >= other else f"{rate / other:.2f}x"


def kmeans_table(rows: list[Row], peaks: Row) -> str:
    header = ["D, K", "x faiss (assigns only)", "x scikit-learn",
              "x scikit-learn, batches of 1,024", "of the limit", "streamclust",
              "streamclust, batches", "streamclust, float64", "faiss", "scikit-learn",
              "scikit-learn, batches"]  # fmt: skip
    body = []
    for row in rows:
        r = row["rates"]
        body.append([
            f"{row['D']}, {row['K']:,}", times(r["streamclust"], r["faiss"]),
            times(r["streamclust"], r["sklearn"]), times(r["batches"], r["sklearn_batches"]),
            f"{share(row, peaks, 'sgemm'):.0%}",
            *(f"{r[k]:.3g}" for k in ("streamclust", "batches", "float64", "faiss", "sklearn",
                                      "sklearn_batches")),
        ])  # fmt: skip
    return table(header, body)


def mixture_table(rows: list[Row]) -> str:
    header = ["covariance, D, K", "x scikit-learn", "x scikit-learn, just started", "streamclust",
              "scikit-learn", "streamclust, just started",
              "scikit-learn, just started"]  # fmt: skip
    body = []
    for row in rows:
        r, names = row["rates"], ("streamclust", "sklearn", "streamclust early", "sklearn early")
        body.append([
            f"{row['kind']}, {row['D']}, {row['K']}", times(r["streamclust"], r["sklearn"]),
            times(r["streamclust early"], r["sklearn early"]),
            *(f"{r[name]:.3g}" for name in names),
        ])  # fmt: skip
    return table(header, body)


def target_table(rows: list[Row]) -> str:
    names = [name for name in (*native.TARGETS, "numpy") if name in rows[0]["rates"]]
    body = []
    for row in rows:
        slowest = row["rates"]["numpy"]
        label = f"{row.get('kind', 'kmeans')}, {row['D']}, {row['K']:,}"
        body.append([label, *(f"{row['rates'][name] / slowest:.1f}" for name in names)])
    return table(["model, D, K", *names], body)


def large_table(rows: list[Row], peaks: Row) -> str:
    header = ["D, K", "of sgemm", "thousand points/s", "codebook, MB", "copies, MB"]
    body = []
    for row in rows:
        rate = row["rates"]["streamclust"]
        body.append([
            f"{row['D']}, {row['K']:,}", f"{rate * row['flops'] * 1e-3 / peaks['sgemm']:.0%}",
            f"{1e3 * rate:.3g}", f"{row['codebook_mb']:.1f}", f"{row['packed_mb']:.1f}",
        ])  # fmt: skip
    return table(header, body)


def report(results: Row) -> str:
    peaks, river = results["limits"], results["river"]["rates"]
    noise = np.median([row["noise"] for row in results["kmeans"] + results["mixture"]])
    return f"""\
## Kernels

`python benchmarks/kernels.py --page` wrote this section from one run with one thread per program.
In the tables of K-means and mixtures, the columns with "x" and "of the limit" have ratios. The
others have million points per second of processor time.
Each figure is from the best of {results["repeat"]} repetitions, in which the programs take
turns. The median repetition took {noise:.2f} times as long as the best. At the start,
the load average of the {os.cpu_count()} processors was {results["load"][0]:.1f}.

{results["machine"]}.

In this run a matrix product reached {peaks["sgemm"]:.0f} GFLOP/s in float32 and
{peaks["dgemm"]:.0f} in float64. Copying large arrays reached {peaks["bandwidth"]:.0f} GB/s (read
and written). "Of the limit" is the measured speed divided by the speed that these limits allow (the
[roofline](glossary.md) below). The limit counts only the
multiplications and additions that the result needs. It doesn't count comparisons, exponentials, and
distances that are computed again in float64.

### K-means: a step on float32 points

A step assigns points to centroids and sums the points of each centroid. It gives the labels of a
computation in float64, and sums in float64. faiss (`IndexFlatL2`) only assigns, in float32.
scikit-learn is `MiniBatchKMeans.partial_fit`.

{kmeans_table(results["kmeans"], peaks)}

river's K-means learns one point at a time. streamclust in batches of 1,024 is
{river["streamclust"] / river["river"]:,.0f} times as fast (D 2, K 8).

"Of the limit" may exceed 100%. The limit counts a float32 product of each point with every
centroid. On processors with `avx512vnni`, streamclust rules out most centroids by products of
8-bit integers, which are cheaper. The labels are the same
([internals](internals/kernels.md)).

### Gaussian mixtures: an EM step in float64

scikit-learn's step is its `_e_step` and `_m_step`. streamclust's step gives the same moments to
1e-9. The table has two models of the same points. The first fits the points, as the model of a
stream nearly always does. The second has just started from random points ("just started"). Then
the responsibility for each point is divided among many components.

{mixture_table(results["mixture"])}

From 9 features on, streamclust leaves out pairs of a point and a component with a responsibility
below e^-40 (4e-18). If components lie apart, most pairs are left out
([internals](internals/kernels.md)). The roofline also counts these pairs. So in the plot, a mixture
can lie above the limit.

The gain is smallest for large mixtures that have just started. For diagonal and spherical
covariances, scikit-learn uses matrix products of x and x^2, which lose digits if the data are far
from the origin. streamclust computes with x - mu, component by component.

### Targets

A target is a build of the kernels for one instruction set. The table has the speed of each target,
relative to the NumPy version. `avx512` and `avx512vnni` differ only in K-means with D and K above
8. Other differences between their columns are noise:

{target_table(results["kmeans"] + results["mixture"][:8])}

![Roofline](pictures/roofline.png)

### Large codebooks

Time grows as N K D, memory as K D. "of sgemm" is the speed relative to a float32 matrix product.
"copies" is the memory of up to three copies of the codebook in other formats, which a step makes. A
block of points with its scores needs 64 bytes per centroid more.
No step allocates an array of N times K.

{large_table(results["large"], peaks)}
"""


def elsewhere(results: Row) -> str:
    """Return the section of a processor that hasn't what the best kernels need."""
    peaks = results["limits"]
    return f"""\
## Kernels: {results["kernels"]}

This section has the same tables for a processor without `{BEST}`.
`python benchmarks/kernels.py --page` writes it on such a processor. {results["machine"]}.

A matrix product reached {peaks["sgemm"]:.0f} GFLOP/s in float32 and
{peaks["dgemm"]:.0f} in float64. Copying large arrays reached {peaks["bandwidth"]:.0f} GB/s.

{kmeans_table(results["kmeans"], peaks)}

{mixture_table(results["mixture"])}
"""


def draw(results: Row) -> None:
    """Draw the roofline: GFLOP/s over flops per byte that is read."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    peaks = results["limits"]
    intensity = np.logspace(-0.5, 4, 200)
    for peak, colour in (("sgemm", "tab:blue"), ("dgemm", "tab:orange")):
        roof = np.minimum(peaks[peak], intensity * peaks["bandwidth"])
        axes.loglog(intensity, roof, color=colour, label=f"limit by {peak} and copying")
    for rows, marker, colour in (("kmeans", "o", "tab:blue"), ("mixture", "s", "tab:orange")):
        for row in results[rows]:
            if row.get("kind") in ("tied", "spherical"):
                continue  # where full and diag are
            rate = row["rates"].get("streamclust early", row["rates"]["streamclust"])
            at = (row["flops"] / row["bytes"], rate * row["flops"] * 1e-3)
            axes.plot(*at, marker, color=colour)
            name = row.get("kind", "")
            axes.annotate(f"{name} {row['D']}, {row['K']}", at, (3, 3),
                          textcoords="offset points", fontsize=6)  # fmt: skip
    axes.set(xlabel="operations that are needed, per byte of points", ylabel="GFLOP/s",
             title="K-means (circles, float32) and mixtures (squares, float64): D, K")  # fmt: skip
    axes.legend(loc="lower right")
    figure.savefig(PICTURE, dpi=110)


def machine() -> str:
    return (
        f"{processor()}; Python {platform.python_version()}, NumPy {np.__version__}, "
        f"scikit-learn {sklearn.__version__}, faiss {faiss.__version__}"
    )


def measure(repeat: int) -> Row:
    warnings.simplefilter("ignore")  # scikit-learn's, that one iteration doesn't converge
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1), kernels.limit_threads(1):
        return {
            "repeat": repeat,
            "machine": machine(),
            "kernels": kernels.describe(),
            "load": os.getloadavg(),
            "limits": limits(repeat),
            "kmeans": [kmeans(*shape, repeat) for shape in KMEANS],
            "mixture": [mixture(*shape, repeat) for shape in MIXTURES],
            "river": one_at_a_time(3),
            "large": [large(*shape) for shape in LARGE],
        }


def main() -> None:
    parser = options_of(__doc__, out=Path("bench-output/kernels.json"))
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    results = measure(options.repeat)
    write_figures(options, results)
    text = report(results)
    print(text)
    if options.page:
        if results["kernels"] == BEST:
            write_section("kernels", text)
            draw(results)
        else:
            write_section(f"kernels, {results['kernels']}", elsewhere(results))


if __name__ == "__main__":
    main()
