"""How long one far outlier holds a centroid under a half-life.

    python benchmarks/outlier.py

One point at distance R comes into a stream of round clusters of unit variance, 10 apart, when the
statistics have long been full. Half-lives until no centroid is more than one standard deviation (a
single cluster) or 3 (three clusters) outside of the data.
"""

from __future__ import annotations

import numpy as np

from streamclust import HalfLife, KMeans, StreamLearner

CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


def half_lives(K: int, R: float, half_life: int, coreset: int | None, seed: int) -> float:
    """Return after how many half-lives the last centroid has come back."""
    rng, size = np.random.default_rng(seed), max(50, half_life // 50)
    learner = StreamLearner(KMeans(K), HalfLife(half_life), coreset=coreset)
    state, last = learner.init(), 0
    for batch in range(66 * half_life // size):
        X = CENTRES[rng.integers(0, K, size)] + rng.normal(size=(size, 2))
        since = batch - 6 * half_life // size
        if since == 0:
            X[7] = R
        state, _ = learner.update(state, X)
        bound = 1.0 if K == 1 else 13.0
        if since >= 0 and np.abs(state.params.centroids).max() > bound:  # type: ignore[union-attr]
            last = since + 1
    return last * size / half_life


def main() -> None:
    """Print a table."""
    distances = (1e2, 1e4, 2.0**31 - 1.0, 1e14)
    print("| clusters | half-life | coreset | " + " | ".join(f"{R:.3g}" for R in distances) + " |")
    for K in (1, 3):
        for half_life in (500, 5000):
            for coreset in (None, 0):
                row = []
                for R in distances:
                    found = [half_lives(K, R, half_life, coreset, seed) for seed in range(3)]
                    row.append(f"{np.median(found):.0f}")
                name = "default" if coreset is None else "none"
                print(f"| {K} | {half_life} | {name} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
