"""Streams that change: how fast K-means follows, and false alarms where nothing changes.

    python benchmarks/drift.py [--seeds 3] [--jobs 2] [--skip NAME]

writes docs/drift.md and its picture.

Six clusters in four dimensions; batches of 250 points, a half-life of 5,000 points for all who
have one. 15,000 points of one concept, then 5,000 after the change. What is told is the inertia on
4,000 fresh points of the current concept over that of an oracle: the best of four batch fits to
4,000 other points of it. Every learner is given the same points in the same order.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from page import table
from reviving import Spark

from streamclust import GaussianMixture, HalfLife, KMeans, StreamLearner, fit
from streamclust.online.drift import Drift

DOCS = Path(__file__).parent.parent / "docs"
K, D, BATCH, HALF_LIFE = 6, 4, 250, 5_000
CHANGE, END, WARM_UP = 15_000, 20_000, 1_000
LOOK = 500
"""Points between looks at the centroids."""

SLOW = "river CluStream"
"""Takes minutes a stream, so that it gets one seed."""


@dataclass(frozen=True)
class Concept:
    """A mixture of round Gaussians."""

    means: Any
    weights: Any
    deviation: float = 1.0

    def draw(self, n: int, rng: np.random.Generator) -> Any:
        labels = rng.choice(len(self.means), size=n, p=self.weights / self.weights.sum())
        return self.means[labels] + self.deviation * rng.normal(size=(n, D))


def places(rng: np.random.Generator) -> Any:
    """Six centres that are at least 6 standard deviations apart."""
    while True:
        means = rng.uniform(-12.0, 12.0, size=(K, D))
        gaps = np.linalg.norm(means[:, None] - means[None], axis=2)[np.triu_indices(K, 1)]
        if gaps.min() > 6.0:
            return means


def jump(rng: np.random.Generator) -> Callable[[int], Concept]:
    before, after = (Concept(places(rng), np.ones(K)) for _ in range(2))
    return lambda t: before if t < CHANGE else after


def rotation(rng: np.random.Generator) -> Callable[[int], Concept]:
    means = places(rng)

    def at(t: int) -> Concept:
        angle = 0.5 * np.pi * np.clip((t - HALF_LIFE) / (CHANGE - HALF_LIFE), 0.0, 1.0)
        turn = np.eye(D)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        return Concept(means @ turn, np.ones(K))

    return at


def appears(rng: np.random.Generator) -> Callable[[int], Concept]:
    means = places(rng)
    five = np.array([1.0] * (K - 1) + [0.0])
    before, after = Concept(means, five), Concept(means, np.ones(K))
    return lambda t: before if t < CHANGE else after


def disappears(rng: np.random.Generator) -> Callable[[int], Concept]:
    means = places(rng)
    five = np.array([1.0] * (K - 1) + [0.0])
    before, after = Concept(means, np.ones(K)), Concept(means, five)
    return lambda t: before if t < CHANGE else after


def scale(rng: np.random.Generator) -> Callable[[int], Concept]:
    means = places(rng)
    return lambda t: Concept(
        means * (1.0 if t < CHANGE else 3.0), np.ones(K), 1.0 + 2.0 * (t >= CHANGE)
    )


def recurring(rng: np.random.Generator) -> Callable[[int], Concept]:
    first, second = (Concept(places(rng), np.ones(K)) for _ in range(2))
    return lambda t: first if (t // HALF_LIFE) % 2 else second


STREAMS = {
    "abrupt jump": jump,
    "gradual rotation": rotation,
    "a cluster appears": appears,
    "a cluster disappears": disappears,
    "scale x 3": scale,
    "recurring": recurring,
}

# ---- learners: a function that takes a batch and returns centroids


def ours(family: Any, drift: Drift | None, **more: Any) -> Callable[[Any], Any]:
    learner = StreamLearner(family, HalfLife(HALF_LIFE), warm_up=WARM_UP, drift=drift, **more)
    state = learner.init()

    def learn(X: Any) -> Any:
        nonlocal state
        state, _ = learner.update(state, X)
        return None if state.params is None else state.params.means

    return learn


def scikit() -> Callable[[Any], Any]:
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(K, n_init=4, random_state=0)
    return lambda X: model.partial_fit(X).cluster_centers_


def by_river(model: Any) -> Callable[[Any], Any]:
    def learn(X: Any) -> Any:
        for point in X.tolist():
            model.learn_one(dict(enumerate(point)))
        if hasattr(model, "_recluster"):
            model.predict_one(dict(enumerate(X[0].tolist())))  # it clusters when it is asked
        centers = [[c[d] for d in range(D)] for c in model.centers.values()]
        return np.array(centers) if centers else None

    return learn


def learners() -> dict[str, Callable[[], Callable[[Any], Any]]]:
    from river import cluster

    step = 1.0 - 2.0 ** (-K / HALF_LIFE)
    window = {"max_micro_clusters": 100, "time_window": HALF_LIFE, "time_gap": BATCH, "seed": 0}
    fading = {"fading_factor": 1.0 / HALF_LIFE, "cleanup_interval": BATCH}
    return {
        "streamclust, half-life alone": lambda: ours(KMeans(K), None),
        "streamclust, forget": lambda: ours(KMeans(K), Drift(on_drift="forget")),
        "streamclust, recluster": lambda: ours(KMeans(K), Drift(on_drift="recluster")),
        "Spark's rule": lambda: ours(Spark(K), None, coreset=0),
        "scikit-learn partial_fit": scikit,
        "river KMeans": lambda: by_river(cluster.KMeans(K, halflife=step, sigma=10, seed=0)),
        SLOW: lambda: by_river(cluster.CluStream(n_macro_clusters=K, **window)),
        "river DBSTREAM": lambda: by_river(cluster.DBSTREAM(clustering_threshold=3.0, **fading)),
    }


def inertia(X: Any, centroids: Any) -> float:
    return float(((X[:, None] - centroids[None]) ** 2).sum(axis=2).min(axis=1).mean())


def follow(name: str, seed: int, skip: list[str]) -> dict[str, Any]:
    """Return learner -> inertia over the oracle's, look by look."""
    rng = np.random.default_rng((seed, list(STREAMS).index(name)))
    concept = STREAMS[name](rng)
    running = {
        label: make()
        for label, make in learners().items()
        if label not in skip and (seed == 0 or label != SLOW)
    }
    curves: dict[str, list[float]] = {label: [] for label in running}
    oracles: dict[int, tuple[Concept, Any]] = {}
    for t in range(0, END, BATCH):
        X = concept(t).draw(BATCH, rng)
        found = {label: learn(X) for label, learn in running.items()}
        if (t + BATCH) % LOOK:
            continue
        now = concept(t + BATCH - 1)
        if id(now) not in oracles:
            best_fit = fit(KMeans(K), now.draw(4000, rng), seed=seed)
            oracles[id(now)] = now, best_fit.params.centroids
        oracle = oracles[id(now)][1]
        fresh = now.draw(4000, rng)
        best = inertia(fresh, oracle)
        for label, centroids in found.items():
            curves[label].append(np.nan if centroids is None else inertia(fresh, centroids) / best)
    return {label: np.array(curve) for label, curve in curves.items()}


# ---- false alarms


def stationary(n: int = 1_000_000) -> list[tuple[str, str, int, int]]:
    """Return (kind, detector, points a batch, alarms)."""
    rng = np.random.default_rng(0)
    concept = Concept(places(rng), np.ones(K))
    found = []
    for detector in ("page_hinkley", "adwin"):
        for family in (KMeans(K), GaussianMixture(K)):
            for batch in (1024, 100) if family.kind == "kmeans" else (1024,):
                learner = StreamLearner(family, HalfLife(HALF_LIFE), drift=Drift(detector))
                state = learner.init()
                for _ in range(n // batch):
                    state, _ = learner.update(state, concept.draw(batch, rng))
                found.append((family.kind, detector, batch, state.counts.drifts))
    return found


# ---- the page


def picture(curves: dict[str, dict[str, Any]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(14, 7), sharex=True, sharey=True)
    t = LOOK / 1000 * np.arange(1, END // LOOK + 1)
    for axis, (name, by_label) in zip(axes.flat, curves.items(), strict=True):
        for label, curve in by_label.items():
            width = 2.0 if label.startswith("streamclust") else 1.0
            axis.semilogy(t, curve, label=label, linewidth=width)
        axis.set_title(name)
        axis.axhline(1.05, color="0.7", linewidth=0.8)
    axes[0, 0].set_ylabel("inertia / oracle's")
    axes[1, 1].set_xlabel("points, in thousands")
    axes[0, 0].set_ylim(0.95, 100.0)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=4)
    figure.tight_layout(rect=(0.0, 0.08, 1.0, 1.0))
    figure.savefig(DOCS / "pictures" / "drift.png", dpi=80)


def at(curve: Any, points: int) -> str:
    value = curve[points // LOOK - 1]
    return "-" if np.isnan(value) else f"{value:.3f}" if value < 10 else f"{value:.0f}"


def page(
    curves: dict[str, dict[str, Any]], alarms: list[tuple[str, str, int, int]], seeds: int
) -> str:
    labels = list(next(iter(curves.values())))
    halves = []
    for when in (CHANGE + HALF_LIFE // 2, CHANGE + HALF_LIFE):
        rows = [[label, *(at(curves[name][label], when) for name in curves)] for label in labels]
        halves.append(table(["", *curves], rows))
    counts = table(
        ["model", "detector", "points per batch", "alarms in 1,000,000 points"],
        [[kind, detector, str(batch), str(found)] for kind, detector, batch, found in alarms],
    )
    return PAGE.format(seeds=seeds, half=halves[0], whole=halves[1], counts=counts)


PAGE = """\
# Drift

<!-- Written by benchmarks/drift.py. Change that file instead. -->

A stream may change: a sensor is moved, a season ends, another kind of customer arrives. With a
half-life, each model follows slowly. A drift detector reports the change, and can let the model
forget the past at once:

```yaml
models:
  machines:
    kind: kmeans
    n_clusters: 6
    streams: machines
    forgetting: {{kind: points, half_life: 5000}}
    drift: {{detector: page_hinkley, on_drift: forget}}
```

| `on_drift` | what happens at a drift |
|---|---|
| `announce` | The default: the worker logs `drift_detected`, and publishes a version (`drift`). |
| `forget` | As `announce`. The weight of all earlier points is also multiplied by 0.01. |
| `recluster` | As `forget`. After a warm-up of new points, they are fitted; a better fit is used. |

`streamclust models list machines` shows the reason of each version, and the
[dashboard](dashboard.md) marks drifts in the chart of the score. `status --json` and `metrics`
count drifts. [configuration.md](configuration.md#modelsnamedrift) explains the thresholds, and
[internals/drift.md](internals/drift.md) the detectors.

## How fast models follow

`python benchmarks/drift.py` (part of `make quality`) feeds streams with a known truth to
streamclust and to its peers. Each stream has six clusters in four dimensions. The half-life is
5,000 points for every learner that has one, and a batch has 250 points. A figure is the inertia on
new points of the current concept, divided by the inertia of a model that was fitted to that
concept alone: 1 is perfect. It is the median of {seeds} seeds.

The stream changes after 15,000 points. The gradual rotation is by 90 degrees: it begins at 5,000
points and ends at 15,000. Recurring concepts alternate every 5,000 points.

![Inertia divided by the best possible inertia, over time](pictures/drift.png)

One half-life after the change:

{whole}

Half a half-life after the change:

{half}

The detector is `page_hinkley` with its defaults. The last word of a row of streamclust is the
setting `on_drift`. scikit-learn's `partial_fit` does not forget. river's `KMeans` moves a centre
by the step that halves a cluster's past in 5,000 points. `DBSTREAM` fades by 1 / half-life per
point and chooses its own number of clusters. `CluStream` needs minutes per stream, so it has one
seed, or is left out with `--skip`.

Three weaknesses are visible. While the stream rotates, a fit to the points since the alarm is
already old when it is finished, so `recluster` and `forget` lag until the rotation ends.
`page_hinkley` does not detect that a cluster disappears, because no point has a higher loss.
`DBSTREAM` is below 1 where it uses more than six clusters.

## False alarms

One million points of one concept, detectors with their defaults:

{counts}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--skip", action="append", default=[], help="leave out a learner")
    options = parser.parse_args()
    curves: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        counted = pool.submit(stationary)
        tasks = {
            (name, seed): pool.submit(follow, name, seed, options.skip)
            for name in STREAMS
            for seed in range(options.seeds)
        }
        for name in STREAMS:
            runs = [tasks[name, seed].result() for seed in range(options.seeds)]
            curves[name] = {
                label: np.median([run[label] for run in runs if label in run], axis=0)
                for label in runs[0]
            }
            print(name)
            for label, curve in curves[name].items():
                half, whole = at(curve, CHANGE + HALF_LIFE // 2), at(curve, END)
                print(f"  {label:30} {half:>8} {whole:>8}", flush=True)
        alarms = counted.result()
    print(*alarms, sep="\n")
    picture(curves)
    (DOCS / "drift.md").write_text(page(curves, alarms, options.seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
