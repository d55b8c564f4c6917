"""Quality after one pass over real data, next to batch fits and other streaming libraries.

    python benchmarks/quality.py [--seeds 5] [--only kmeans-shuffled ...] [--data shuttle ...]

Batches of 1,024 standardised points, default settings, one thread each. Each table is written to
docs/quality.md between its markers; the rest of that file is left as it is.

K-means: inertia of all points under the learned centroids, over that of the best of ten
full-batch fits by scikit-learn (lower is better; 1 is as good as batch). Mixtures: log-likelihood
per point in nats (higher is better); the picture is not standardised there, but divided by 255.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from river import cluster, datasets
from sklearn.cluster import KMeans as BatchKMeans
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import load_digits, load_sample_image
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as BatchMixture
from threadpoolctl import threadpool_limits

from streamclust import Forgetting, GaussianMixture, HalfLife, KMeans, StreamLearner, fit, kernels

BATCH = 1024
K = {"shuttle": 10, "segments": 7, "china": 64, "digits": 10}
NAMES = {
    "shuttle": "Shuttle",
    "segments": "ImageSegments",
    "china": "china.jpg, pixels",
    "digits": "digits",
}
REG_COVAR = 1e-4
RIVER_POINTS = 20_000
PAGE = Path(__file__).parents[1] / "docs" / "quality.md"


@cache
def data(name: str) -> np.ndarray:
    """Standardised points in the order of their file; a feature that never varies stays 0."""
    if name == "china":
        X = load_sample_image("china.jpg").reshape(-1, 3).astype(float)
    elif name == "digits":
        X = load_digits().data
    else:
        source = {"shuttle": datasets.Shuttle, "segments": datasets.ImageSegments}[name]
        X = np.array([list(x.values()) for x, _ in source()], dtype=float)
    deviation = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(deviation > 0.0, deviation, 1.0)


def mixture_data(name: str) -> np.ndarray:
    """Points for mixtures: the same, but for the picture."""
    if name == "china":
        return load_sample_image("china.jpg").reshape(-1, 3) / 255.0
    return data(name)


def mixture(name: str) -> GaussianMixture:
    """Ours with the floor that scikit-learn has, which is not relative to the variances there."""
    variance = float(mixture_data(name).var(axis=0).mean()) if name == "china" else 1.0
    return GaussianMixture(K[name], reg_covar=REG_COVAR / variance)


def shuffled(X: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(100 + seed).permutation(X)


def inertia(X: np.ndarray, centroids: np.ndarray) -> float:
    return float(kernels.assign(X, centroids).squared_distances.sum())


@cache
def best_inertia(name: str, start: int = 0) -> float:
    """Of the points from `start` on."""
    return float(BatchKMeans(K[name], n_init=10, random_state=0).fit(data(name)[start:]).inertia_)


def learn(learner: StreamLearner, X: np.ndarray):
    """One pass; return the state and the longest step after the warm-up, in seconds."""
    state, longest = learner.init(), 0.0
    for start in range(0, len(X), BATCH):
        before = time.perf_counter()
        state, info = learner.update(state, X[start : start + BATCH])
        if info.phase == "learning":
            longest = max(longest, time.perf_counter() - before)
    return state, longest


def ours(**options):
    def run(name: str, X: np.ndarray, seed: int) -> np.ndarray:
        state, _ = learn(StreamLearner(KMeans(K[name]), seed=seed, **options), X)
        return state.params.centroids

    return run


def mini_batch(name: str, X: np.ndarray, seed: int) -> np.ndarray:
    model = MiniBatchKMeans(K[name], random_state=seed, n_init=3)
    for start in range(0, len(X), BATCH):
        if len(X[start : start + BATCH]) >= K[name]:
            model.partial_fit(X[start : start + BATCH])
    return model.cluster_centers_


def river_kmeans(name: str, X: np.ndarray, seed: int) -> np.ndarray:
    model = cluster.KMeans(n_clusters=K[name], seed=seed)
    for row in X[:RIVER_POINTS]:
        model.learn_one(dict(enumerate(row.tolist())))
    return np.array([[model.centers[k][d] for d in range(X.shape[1])] for k in range(K[name])])


def batch_once(name: str, X: np.ndarray, seed: int) -> np.ndarray:
    return BatchKMeans(K[name], n_init=1, random_state=seed).fit(X).cluster_centers_


FADING = "half-life of a tenth of the points"
SHUFFLED = {
    "**streamclust**": ours(),
    "without the coreset": ours(coreset=0),
    "scikit-learn MiniBatchKMeans.partial_fit": mini_batch,
    f"river KMeans (first {RIVER_POINTS:,} points)": river_kmeans,
    "scikit-learn KMeans, one full-batch fit": batch_once,
}
IN_ORDER = {
    "**streamclust**": ours(),
    "without the coreset": ours(coreset=0),
    FADING: None,
    "scikit-learn MiniBatchKMeans.partial_fit": mini_batch,
}


def kmeans_shuffled(names: list[str], seeds: int) -> str:
    def cell(run, name: str) -> str:
        best = best_inertia(name)
        found = [
            inertia(X, run(name, X, seed)) / best
            for seed in range(seeds)
            for X in [shuffled(data(name), seed)]
        ]
        return f"{np.median(found):.3f} ({max(found):.3f})"

    return table("learner", SHUFFLED, names, cell)


def kmeans_in_order(names: list[str], seeds: int) -> str:
    def cell(run, name: str) -> str:
        X = data(name)
        run = run or ours(forgetting=HalfLife(len(X) / 10.0))
        learned = [run(name, X, seed) for seed in range(seeds)]
        return "; ".join(
            f"{np.median(found):.3f} ({max(found):.3f})"
            for start in (0, len(X) - len(X) // 10)
            for found in [[inertia(X[start:], c) / best_inertia(name, start) for c in learned]]
        )

    return table("learner", IN_ORDER, names, cell)


def one_pass(in_order: bool, share: float | None = None, **options):
    """Return a run that tells the log-likelihood of all points and of the last tenth."""

    def run(name: str, seed: int) -> tuple[float, float]:
        X = mixture_data(name) if in_order else shuffled(mixture_data(name), seed)
        policy = Forgetting() if share is None else HalfLife(share * len(X))
        family = mixture(name)
        state, _ = learn(StreamLearner(family, policy, seed=seed, **options), X)
        loss = -family.score_points(state.params, X)
        return -float(loss.mean()), -float(loss[-(len(X) // 10) :].mean())

    return run


def batch_mixture(name: str, seed: int) -> tuple[float, float]:
    X = mixture_data(name)
    model = BatchMixture(K[name], reg_covar=REG_COVAR, random_state=seed).fit(X)
    return float(model.score(X)), float(model.score(X[-(len(X) // 10) :]))


def nats(found: list[float]) -> str:
    return f"{np.median(found):.3f} ({min(found):.3f} to {max(found):.3f})"


def mixtures(names: list[str], seeds: int) -> str:
    def cell(run, name: str) -> str:
        return nats([run(name, seed)[0] for seed in range(6 if run is batch_mixture else seeds)])

    return table("learner", mixture_rows(False), names, cell)


def mixtures_in_order(names: list[str], seeds: int) -> str:
    def cell(run, name: str) -> str:
        found = [run(name, seed) for seed in range(min(seeds, 3))]
        return "; ".join(nats(list(each)) for each in zip(*found, strict=True))

    return table("learner", mixture_rows(True), names, cell)


def mixture_rows(in_order: bool):
    return {
        "**streamclust**": one_pass(in_order),
        "without the coreset": one_pass(in_order, coreset=0),
        FADING: one_pass(in_order, 0.1),
        "scikit-learn GaussianMixture, full-batch fits": batch_mixture,
    }


def refits(names: list[str], seeds: int) -> str:
    def cell(from_coreset: bool, name: str) -> str:
        found = []
        for seed in range(seeds):
            X, w, family = shuffled(data(name), seed), None, KMeans(K[name])
            points = X
            if from_coreset:
                core = learn(StreamLearner(family, seed=seed), X)[0].coreset.points
                points, w = core.X, core.w
            centroids = fit(family, points, w, seed=seed, tol=1e-6).params.centroids
            found.append(inertia(X, centroids) / best_inertia(name))
        return f"{np.median(found):.3f} ({max(found):.3f})"

    return table("refit from", {"the coreset": True, "all points": False}, names, cell)


def pauses(names: list[str], seeds: int) -> str:
    def cell(kind, name: str) -> str:
        family, X = KMeans(K[name]), data(name)
        if kind == "mixture":
            family, X = mixture(name), mixture_data(name)
        before = time.perf_counter()
        state, longest = learn(StreamLearner(family), shuffled(X, 0))
        total = time.perf_counter() - before
        return f"{state.counts.reclustered}; {longest:.2f} s of {total:.2f} s"

    return table("model", {"K-means": "kmeans", "mixture": "mixture"}, names, cell)


def table(first: str, rows, names: list[str], cell) -> str:
    lines = [
        f"| {first} | " + " | ".join(f"{NAMES[name]}, K {K[name]}" for name in names) + " |",
        "| --- |" + " --- |" * len(names),
    ]
    for label, run in rows.items():
        cells = []
        for name in names:
            cells.append(cell(run, name))
            print(f"{label:50} {name:10} {cells[-1]}", flush=True)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


TABLES = {
    "kmeans-shuffled": (kmeans_shuffled, ["shuttle", "segments", "china", "digits"]),
    "kmeans-in-order": (kmeans_in_order, ["shuttle", "china"]),
    "mixtures": (mixtures, ["shuttle", "segments", "china", "digits"]),
    "mixtures-in-order": (mixtures_in_order, ["shuttle", "china"]),
    "refit": (refits, ["shuttle", "segments", "china", "digits"]),
    "pauses": (pauses, ["shuttle", "segments", "china", "digits"]),
}


def write(name: str, text: str) -> None:
    """Put a table between its markers in the page."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    if not re.search(pattern, page, re.DOTALL):
        raise SystemExit(f"{PAGE} has no place for {name}: {begin} ... {end}")
    new = re.sub(pattern, lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL)
    PAGE.write_text(new, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--data", nargs="+", choices=K, help="default: those of each table")
    parser.add_argument("--dry", action="store_true", help="print the figures, write nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(1), kernels.limit_threads(1):
        for name in options.only:
            make, names = TABLES[name]
            text = make(options.data or names, options.seeds)
            if not options.dry:
                write(name, text)


if __name__ == "__main__":
    main()
