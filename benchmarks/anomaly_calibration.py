"""Whether the share of flagged points is the rate that was asked for: stationary, and after a jump.

    python benchmarks/anomaly_calibration.py                    # about ten minutes on one core
    python benchmarks/anomaly_calibration.py --points 200000    # faster, with more noise

A learner with a half-life scores each batch before it learns the batch. A point is flagged if its
score is above the threshold of the rate, which comes from the scores of earlier batches. The tables
have the share of flagged points, divided by the rate: 1.00 is perfect.

The methods get the same scores:

* streamclust: the learner's own memory of scores;
* decayed only: one distribution, which decays like the statistics (no recent scores, no coreset);
* QuantileFilter: that of river, which estimates the quantile by the P2 algorithm.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from river.anomaly import QuantileFilter
from river.base import AnomalyDetector

from streamclust import Anomaly, Drift, GaussianMixture, HalfLife, KMeans, StreamLearner
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.models.scores import anomaly_score

RATES = (1e-2, 1e-3, 1e-4)
BATCH = 1024
K = 8

Array = NDArray[np.float64]


class Feed(NamedTuple):
    """A mixture of Gaussians with covariances of its own."""

    weights: Array
    means: Array
    roots: Array

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Return n points."""
        labels = rng.choice(len(self.weights), n, p=self.weights)
        noise = rng.standard_normal((n, self.means.shape[1]))
        return np.asarray(self.means[labels] + np.einsum("nij,nj->ni", self.roots[labels], noise))


def feed_of(D: int, rng: np.random.Generator) -> Feed:
    """Return a feed of K clusters, some of which touch."""
    square = rng.normal(size=(K, D, D)) / np.sqrt(D)
    covariances = 0.6 * square @ square.swapaxes(1, 2) + 0.4 * np.eye(D)
    means = 8.0 / np.sqrt(2.0) / D**0.25 * rng.normal(size=(K, D))
    return Feed(rng.dirichlet(np.full(K, 5.0)), means, np.linalg.cholesky(covariances))


JUMPS: dict[str, Callable[[Feed, np.random.Generator], Feed]] = {
    "new clusters": lambda feed, rng: feed_of(feed.means.shape[1], rng),
    "all shifted by 10": lambda feed, _: feed._replace(
        means=feed.means + 10.0 / np.sqrt(feed.means.shape[1])
    ),
    "all shifted by 2": lambda feed, _: feed._replace(
        means=feed.means + 2.0 / np.sqrt(feed.means.shape[1])
    ),
    "doubled spread": lambda feed, _: feed._replace(roots=2.0 * feed.roots),
    "halved spread": lambda feed, _: feed._replace(roots=0.5 * feed.roots),
}


class Batch(NamedTuple):
    """The scores of a batch under the parameters before it, and the thresholds of the learner.

    `start` is the number of points before the batch.
    """

    start: int
    scores: Array
    thresholds: Array


def batches(
    learner: StreamLearner[Any], feeds: list[tuple[Feed, int]], seed: int
) -> Iterator[Batch]:
    """Yield the scored batches of feeds of so many points, one after the other."""
    rng, state, start = np.random.default_rng(seed), learner.init(), 0
    for feed, points in feeds:
        for _ in range(points // BATCH):
            X = feed.draw(BATCH, rng)
            if state.params is not None:
                thresholds = np.full(len(RATES), np.inf)
                if state.scores is not None:
                    thresholds = state.scores.current.thresholds(np.array(RATES))
                scores = anomaly_score(learner.family, state.params, X)
                yield Batch(start, scores, thresholds)
            state, _ = learner.update(state, X)
            start += BATCH


class Own:
    """The learner's own thresholds."""

    def flags(self, batch: Batch) -> Array:
        """Return how many points are flagged per rate."""
        return np.asarray((batch.scores > batch.thresholds[:, None]).sum(axis=1, dtype=float))


class Decayed:
    """One distribution that decays like the statistics."""

    def __init__(self, half_life: float) -> None:
        self._known, self._lam = ScoreDistribution(), 2.0 ** (-BATCH / half_life)

    def flags(self, batch: Batch) -> Array:
        """Return how many points are flagged per rate."""
        thresholds = self._known.thresholds(np.array(RATES))
        self._known = self._known.decay(self._lam).add(batch.scores)
        return np.asarray((batch.scores > thresholds[:, None]).sum(axis=1, dtype=float))


class _Given(AnomalyDetector):  # type: ignore[misc]
    """Takes the score itself in place of a point."""

    def learn_one(self, x: Any) -> None:
        """Learn nothing."""

    def score_one(self, x: Any) -> float:
        """Return the score."""
        return float(x)


class River:
    """QuantileFilter of river, one per rate."""

    def __init__(self) -> None:
        self._filters = [QuantileFilter(_Given(), q=1.0 - rate) for rate in RATES]

    def flags(self, batch: Batch) -> Array:
        """Return how many points are flagged per rate."""
        found = np.zeros(len(RATES))
        for at, each in enumerate(self._filters):
            for score in batch.scores.tolist():
                found[at] += each.classify(each.score_one(score))
                each.learn_one(score)
        return found


def shares(
    learner: StreamLearner[Any],
    feeds: list[tuple[Feed, int]],
    methods: dict[str, Any],
    starts: list[int],
    seed: int,
) -> dict[str, Array]:
    """Return the flagged share of each method, divided by the rate, between points `starts`."""
    found = {name: np.zeros((len(starts), len(RATES))) for name in methods}
    count = np.zeros((len(starts), 1))
    for batch in batches(learner, feeds, seed):
        window = int(np.searchsorted(starts, batch.start, side="right")) - 1
        flags = {name: method.flags(batch) for name, method in methods.items()}
        if window >= 0:
            count[window] += BATCH
            for name in methods:
                found[name][window] += flags[name]
    return {name: each / np.maximum(count, 1) / RATES for name, each in found.items()}


def words(row: Array) -> str:
    """Return the cells of a table."""
    return " | ".join(f"{value:.2f}" for value in row)


def stationary(points: int, with_river: bool) -> None:
    """Print the shares of feeds that don't change."""
    print(f"Stationary feeds of {points:,} points, half-life {points // 10:,}:\n")
    print("| model | D | method | 1e-2 | 1e-3 | 1e-4 |\n|---|---|---|---|---|---|")
    for name, family in MODELS.items():
        for D in (2, 8, 16):
            rng, half_life = np.random.default_rng(D), points / 10
            learner = StreamLearner(family, HalfLife(half_life), anomaly=Anomaly())
            methods: dict[str, Any] = {"streamclust": Own(), "decayed only": Decayed(half_life)}
            if with_river:
                methods["QuantileFilter"] = River()
            found = shares(learner, [(feed_of(D, rng), points)], methods, [points // 100], seed=D)
            for method, rates in found.items():
                print(f"| {name} | {D} | {method} | {words(rates[0])} |", flush=True)


MODELS: dict[str, Any] = {
    "K-means": KMeans(K),
    "mixture, full": GaussianMixture(K),
    "mixture, diag": GaussianMixture(K, "diag"),
}

DRIFTS = {"none": None, "forget": Drift(on_drift="forget"), "resolve": Drift(on_drift="resolve")}

WINDOWS = (0.0, 0.5, 1.0, 2.0, 3.0)
"""Starts of the windows after a jump, in half-lives."""


def jumps(points: int, with_river: bool) -> None:
    """Print the shares after a jump."""
    half_life = points // 10
    titles = [f"{a:g} to {b:g}" for a, b in zip(WINDOWS, [*WINDOWS[1:], 4.0], strict=True)]
    print(
        f"\nAfter a jump, share / rate at 1e-2 and 1e-3 by half-life (of {half_life:,} points):\n"
    )
    print("| model | jump | drift | method | " + " | ".join(titles) + " |")
    print("|---|---|---|---|" + "---|" * len(titles))
    for name in ("K-means", "mixture, full"):
        for jump, changed in JUMPS.items():
            for drift, detector in DRIFTS.items():
                rng = np.random.default_rng(1)
                feed = feed_of(4, rng)
                at = 4 * half_life // BATCH * BATCH
                feeds = [(feed, at), (changed(feed, rng), 4 * half_life)]
                learner = StreamLearner(
                    MODELS[name], HalfLife(half_life), drift=detector, anomaly=Anomaly()
                )
                methods: dict[str, Any] = {"streamclust": Own()}
                if drift == "none":
                    methods["decayed only"] = Decayed(half_life)
                    if with_river:
                        methods["QuantileFilter"] = River()
                starts = [at + int(start * half_life) for start in WINDOWS]
                for method, rates in shares(learner, feeds, methods, starts, seed=2).items():
                    cells = " | ".join(f"{row[0]:.2f}, {row[1]:.2f}" for row in rates)
                    print(f"| {name} | {jump} | {drift} | {method} | {cells} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=1_000_000, help="points of a stationary feed")
    parser.add_argument("--no-river", action="store_true", help="leave river out, which is slow")
    parser.add_argument("--only", choices=["stationary", "jumps"], help="one of the tables")
    given = parser.parse_args()
    if given.only != "jumps":
        stationary(given.points, not given.no_river)
    if given.only != "stationary":
        jumps(given.points, not given.no_river)


if __name__ == "__main__":
    main()
