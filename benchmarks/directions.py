"""Spherical K-means after one pass, next to faiss and plain K-means on the same unit vectors.

    python benchmarks/directions.py [--points 50000] [--features 384] [--clusters 50] [--runs 10]

The data are like embeddings: unit vectors of 20 topics with 10 subtopics each, of unequal sizes,
with more noise than signal. The figure of a method is the mean of 1 - cos between each point and
its nearest centroid, divided by that of the best of `--runs` batch runs of faiss,
``Kmeans(spherical=True)``: lower is better, and 1 is as good as batch. Times are processor time.

The table is written to docs/quality.md between its markers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import faiss
import numpy as np
from quality import write
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from streamclust import KMeans, StreamLearner, fit

BATCH = 1024
NOISE = 1.2
"""Length of the noise, relative to the part that a subtopic has of its own."""


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def embeddings(n: int, D: int, seed: int = 0) -> np.ndarray:
    """Return unit vectors of 20 topics with 10 subtopics each, in random order, as float32."""
    rng = np.random.default_rng(seed)
    topics = unit(rng.normal(size=(20, D)))
    centres = unit(np.repeat(topics, 10, axis=0) + 0.8 * unit(rng.normal(size=(200, D))))
    share = rng.dirichlet(np.full(200, 2.0))
    X = centres[rng.choice(200, size=n, p=share)] + NOISE * unit(rng.normal(size=(n, D)))
    return unit(X).astype(np.float32)


def loss(X: np.ndarray, centroids: np.ndarray) -> float:
    """Return the mean of 1 - cos to the nearest centroid, whatever the centroids' lengths."""
    cosines = X @ unit(np.asarray(centroids, np.float32)).T
    return 1.0 - float(cosines.max(axis=1).mean(dtype=np.float64))


def one_pass(X: np.ndarray, K: int, seed: int) -> np.ndarray:
    learner = StreamLearner(KMeans(K, metric="cosine"), seed=seed)
    state = learner.init()
    for start in range(0, len(X), BATCH):
        state, _ = learner.update(state, X[start : start + BATCH])
    return state.params.centroids


def one_fit(X: np.ndarray, K: int, seed: int) -> np.ndarray:
    return fit(KMeans(K, metric="cosine"), X, n_init=1, seed=seed).params.centroids


def by_faiss(X: np.ndarray, K: int, seed: int) -> np.ndarray:
    model = faiss.Kmeans(
        X.shape[1], K, niter=50, spherical=True, seed=seed, max_points_per_centroid=len(X)
    )
    model.train(X)
    return model.centroids


def mini_batch(X: np.ndarray, K: int, seed: int) -> np.ndarray:
    model = MiniBatchKMeans(K, random_state=seed, n_init=3)
    for start in range(0, len(X) - K, BATCH):
        model.partial_fit(X[start : start + BATCH])
    return model.cluster_centers_


METHODS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "**streamclust**, one pass": one_pass,
    "scikit-learn MiniBatchKMeans.partial_fit, one pass, centroids normalised": mini_batch,
    "streamclust `fit`, one run": one_fit,
    "faiss `Kmeans(spherical=True)`, one run of 50 iterations": by_faiss,
}


def row(name: str, X: np.ndarray, K: int, best: float, seeds: int) -> str:
    ratios, seconds = [], []
    for seed in range(seeds):
        before = time.process_time()
        centroids = METHODS[name](X[np.random.default_rng(seed).permutation(len(X))], K, seed)
        seconds.append(time.process_time() - before)
        ratios.append(loss(X, centroids) / best)
    print(name, ratios, seconds, flush=True)
    return f"| {name} | {np.median(ratios):.4f} ({max(ratios):.4f}) | {np.median(seconds):.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--clusters", type=int, default=50)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="print the figures, write nothing")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    X, K = embeddings(arguments.points, arguments.features), arguments.clusters
    with threadpool_limits(1):
        found = [loss(X, by_faiss(X, K, 100 + run)) for run in range(arguments.runs)]
        print("batch runs", sorted(found), flush=True)
        rows = [row(name, X, K, min(found), arguments.seeds) for name in METHODS]
    size = f"{arguments.points:,} x {arguments.features} unit vectors, K {K}"
    head = f"| {size} | loss / best of {arguments.runs} batch runs | processor time (s) |"
    text = "\n".join([head, "| --- | ---: | ---: |", *rows])
    print(text)
    if not arguments.dry:
        write("directions", text)


if __name__ == "__main__":
    main()
