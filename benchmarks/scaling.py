"""How cost grows: with points (1e4 to 1e8), components (2 to 65,536) and features (1 to 768).

    python benchmarks/scaling.py [--points 1e8] [--out scaling.json] [--page]

Processor time of one thread. *Points*: a simulated feed through the streaming learner, in batches
of 1,024 (D 8, K 16); making the feed isn't timed. *Components* (D 16) and *features* (K 64): one
e-step and m-step of K-means beside scikit-learn's MiniBatchKMeans.partial_fit on the same batch of
4,096 points, the best of several. `--page` writes a section of docs/performance.md and a plot.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from page import PAGE, options_of, processor, table, write_figures, write_section
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from streamclust import (
    GaussianMixture,
    HalfLife,
    KMeans,
    KMeansParams,
    StreamLearner,
    kernels,
)

BATCH = 1024
POOL = 1 << 20
STEP = 4096
COMPONENTS = [2 ** (2 * i + 1) for i in range(8)] + [65_536]
FEATURES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 768]


@dataclass(frozen=True)
class Curve:
    """Cost against size: seconds for `points`, microseconds a point for the others."""

    name: str
    sizes: list[int]
    costs: list[float]

    def slope(self, last: int = 4) -> float:
        """Return the exponent of the last few sizes: cost ~ size^slope."""
        x, y = np.log(self.sizes[-last:]), np.log(self.costs[-last:])
        return float(np.polyfit(x, y, 1)[0])


def points_curve(name: str, family: Any, most: int) -> Curve:
    """Return the processor seconds that a feed takes, at each power of ten on the way."""
    rng = np.random.default_rng(0)
    pool = (rng.normal(size=(16, 8)) * 5.0)[rng.integers(0, 16, POOL)] + rng.normal(size=(POOL, 8))
    learner = StreamLearner(family, HalfLife(1e6))
    state, done, spent = learner.init(), 0, 0.0
    sizes, costs = [], []
    for size in (10**power for power in range(4, round(np.log10(most)) + 1)):
        start = time.process_time()
        while done < size:
            at = done % (POOL - BATCH)
            state, _ = learner.update(state, pool[at : at + BATCH])
            done += BATCH
        spent += time.process_time() - start
        sizes.append(size)
        costs.append(spent)
        print(f"{name}: {size:.0e} points, {spent:.2f} s", flush=True)
    return Curve(name, sizes, costs)


def best(call: Callable[[], Any], seconds: float = 0.3, least: int = 3) -> float:
    """Return the shortest processor time of a call, repeated for a while."""
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def step_costs(K: int, D: int) -> tuple[float, float]:
    """Return microseconds a point of a step: streamclust's, scikit-learn's."""
    rng = np.random.default_rng(0)
    C = rng.normal(size=(K, D)).astype(np.float32)
    X = (C[rng.integers(0, K, STEP)] + 0.3 * rng.normal(size=(STEP, D))).astype(np.float32)
    family, params, w = KMeans(K), KMeansParams(C.astype(np.float64)), np.ones(STEP)
    ours = best(lambda: family.m_step(family.e_step(params, X, w), params))
    peer = MiniBatchKMeans(K, init=C, n_init=1, reassignment_ratio=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grown = np.concatenate([X] * (K // STEP + 1)) if K > STEP else X  # its first batch
        peer.partial_fit(grown)
        theirs = best(lambda: peer.partial_fit(X))
    return 1e6 * ours / STEP, 1e6 * theirs / STEP


def step_curves(name: str, shapes: list[tuple[int, int]], sizes: list[int]) -> list[Curve]:
    ours, theirs = [], []
    for (K, D), size in zip(shapes, sizes, strict=True):
        mine, other = step_costs(K, D)
        ours.append(mine)
        theirs.append(other)
        print(f"{name} {size}: {mine:.3f} against {other:.3f} us a point", flush=True)
    return [
        Curve(f"{name}: streamclust", sizes, ours),
        Curve(f"{name}: scikit-learn", sizes, theirs),
    ]


def draw(points: list[Curve], components: list[Curve], features: list[Curve], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((13.0, 4.2), layout="constrained")
    panels: Any = figure.subplots(1, 3)
    labels = (
        (points, "points", "processor seconds"),
        (components, "components K (D 16)", "microseconds a point"),
        (features, "features D (K 64)", "microseconds a point"),
    )
    for axes, (curves, x, y) in zip(panels, labels, strict=True):
        for curve in curves:
            label = f"{curve.name.rpartition(': ')[2]} (slope {curve.slope():.2f})"
            axes.loglog(curve.sizes, curve.costs, "o-", label=label)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def page(points: list[Curve], components: list[Curve], features: list[Curve]) -> str:
    kmeans, mixture = points
    ours, theirs = components
    wide, _ = features
    feed = table(
        ["points of a feed (D 8, K 16)", *(f"{size:.0e}" for size in kmeans.sizes)],
        [
            [
                name,
                *(f"{cost:.3g} s" for cost in curve.costs),
                *[""] * len(kmeans.sizes[len(curve.sizes) :]),
            ]
            for name, curve in (("K-means", kmeans), ("full mixture", mixture))
        ],
    )
    rows = [
        [f"{K:,}", f"{b / a:.1f}x", f"{a:.3g}", f"{b:.3g}"]
        for K, a, b in zip(ours.sizes, ours.costs, theirs.costs, strict=True)
    ]
    more = [
        [f"{D:,}", f"{b / a:.1f}x", f"{a:.3g}", f"{b:.3g}"]
        for D, a, b in zip(wide.sizes, wide.costs, features[1].costs, strict=True)
    ]
    header = ["x scikit-learn", "streamclust, us per point", "scikit-learn"]
    return f"""
## How cost grows

`python benchmarks/scaling.py --page` wrote this section. The tables have the processor time of one
thread ({processor()}).

{feed}

For long feeds, the cost grows nearly as N K D. If cost ~ N^slope, then the slope between the last
two sizes is
{kmeans.slope(2):.2f} for K-means and {mixture.slope(2):.2f} for a mixture. The slope is
below 1 because the fits of warm-up and coreset become less frequent. A step costs as much at the
end of a feed as at its beginning, because the state doesn't grow.

{table(["K (D 16)", *header], rows)}

{table(["D (K 64)", *header], more)}

Over the last four sizes, the slope is {ours.slope():.2f} in K and {wide.slope():.2f} in D. If K D
is small, most of the time goes to fixed costs per batch (calls, checks, the m-step). Then four
times as many components cost little more.

![Cost against points, components and features](pictures/scaling.png)
"""


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--points", type=float, default=1e8)
    options = parser.parse_args()
    most = int(options.points)
    with threadpool_limits(limits=1), kernels.limit_threads(1):
        points = [
            points_curve("K-means", KMeans(16), most),
            points_curve("full mixture", GaussianMixture(16), most // 10),
        ]
        components = step_curves("K", [(K, 16) for K in COMPONENTS], COMPONENTS)
        features = step_curves("D", [(64, D) for D in FEATURES], FEATURES)
    write_figures(options, [asdict(curve) for curve in (*points, *components, *features)])
    if options.page:
        draw(points, components, features, PAGE.parent / "pictures" / "scaling.png")
        write_section("scaling", page(points, components, features))


if __name__ == "__main__":
    main()
