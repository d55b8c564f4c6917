"""Whether the share of flagged points is the rate that was asked for: stationary, and after a jump.

    python benchmarks/anomaly_calibration.py                     # some minutes on two cores
    python benchmarks/anomaly_calibration.py --seeds 16          # smaller standard errors
    python benchmarks/anomaly_calibration.py --only jumps --dry  # print one table, write nothing
    python benchmarks/anomaly_calibration.py --only jumps --drift forget recluster --dry

A learner with a half-life scores each batch before it learns the batch. A point is flagged if its
score is above the threshold of the rate, which comes from the scores of earlier batches. The tables
have the share of flagged points, divided by the rate: 1.00 is perfect. Each cell is the mean over
the seeds, with its standard error: the deviation between seeds / sqrt(number of seeds). Each seed
has other clusters and other points.

With each counted batch, three more batches of the same feed are scored and flagged, but not
learned. So the share has less noise: flags of the learned points alone have a counting error of
1 / sqrt(rate * points).

The methods get the same scores:

* streamclust: the learner's own memory of scores;
* decayed only: one distribution, which decays like the statistics (no recent scores, no coreset);
* QuantileFilter: that of river, which estimates the quantile by the P2 algorithm (with --river).
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from page import write_section
from river.anomaly import QuantileFilter
from river.base import AnomalyDetector

from streamclust import Anomaly, Drift, GaussianMixture, HalfLife, KMeans, StreamLearner
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.models.scores import anomaly_score

PAGE = Path(__file__).parent.parent / "docs" / "internals" / "scores.md"
RATES = (1e-2, 1e-3, 1e-4)
BATCH = 1024
SCORED = 4
"""Number of batches that are scored per batch that is learned and counted."""

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
        X = rng.standard_normal((n, self.means.shape[1]))
        for label, (mean, root) in enumerate(zip(self.means, self.roots, strict=True)):
            X[labels == label] = mean + X[labels == label] @ root.T
        return X


def feed_of(D: int, rng: np.random.Generator) -> Feed:
    """Return a feed of K clusters, some of which touch."""
    square = rng.normal(size=(K, D, D)) / np.sqrt(D)
    covariances = 0.6 * square @ square.swapaxes(1, 2) + 0.4 * np.eye(D)
    means = 8.0 / np.sqrt(2.0) / D**0.25 * rng.normal(size=(K, D))
    return Feed(rng.dirichlet(np.full(K, 5.0)), means, np.linalg.cholesky(covariances))


def shifted(feed: Feed, by: float) -> Feed:
    """Return the feed with all clusters moved by a vector of this length."""
    return feed._replace(means=feed.means + by / np.sqrt(feed.means.shape[1]))


JUMPS: dict[str, Callable[[Feed, np.random.Generator], Feed]] = {
    "new clusters": lambda feed, rng: feed_of(feed.means.shape[1], rng),
    "all shifted by 10": lambda feed, _: shifted(feed, 10.0),
    "all shifted by 2": lambda feed, _: shifted(feed, 2.0),
    "doubled spread": lambda feed, _: feed._replace(roots=2.0 * feed.roots),
    "halved spread": lambda feed, _: feed._replace(roots=0.5 * feed.roots),
}

MODELS: dict[str, Any] = {
    "K-means": KMeans(K),
    "mixture, full": GaussianMixture(K),
    "mixture, diag": GaussianMixture(K, "diag"),
}

DRIFTS = {"none": None} | {name: Drift(on_drift=name) for name in ("forget", "recluster")}


class Batch(NamedTuple):
    """The scores of a batch under the parameters before it, and the thresholds of the learner.

    `start` is the number of points before the batch; the points of `more` aren't learned.
    """

    start: int
    scores: Array
    more: Array
    thresholds: Array


def batches(
    learner: StreamLearner[Any], feeds: list[tuple[Feed, int]], first: int, seed: int
) -> Iterator[Batch]:
    """Yield the scored batches of feeds of so many points, one after the other.

    Points that aren't learned are drawn from point `first` on.
    """
    rng, state, start = np.random.default_rng((seed, 1)), learner.init(), 0
    others = np.random.default_rng((seed, 2))
    for feed, points in feeds:
        for _ in range(points // BATCH):
            X = feed.draw(BATCH, rng)
            if state.params is not None:
                thresholds = np.full(len(RATES), np.inf)
                if state.scores is not None:
                    thresholds = state.scores.usual.thresholds(np.array(RATES))
                more = feed.draw((SCORED - 1) * BATCH if start >= first else 0, others)
                scores, more = (
                    anomaly_score(learner.family, state.params, each) for each in (X, more)
                )
                yield Batch(start, scores, more, thresholds)
            state, _ = learner.update(state, X)
            start += BATCH


class Own:
    """The learner's own thresholds."""

    def flags(self, batch: Batch) -> Array:
        """Return the share of flagged points per rate."""
        return share_above(batch.thresholds, batch)


class Decayed:
    """One distribution that decays like the statistics."""

    def __init__(self, half_life: float) -> None:
        self._known, self._lam = ScoreDistribution(), 2.0 ** (-BATCH / half_life)

    def flags(self, batch: Batch) -> Array:
        """Return the share of flagged points per rate."""
        thresholds = self._known.thresholds(np.array(RATES))
        self._known = self._known.decay(self._lam).add(batch.scores)
        return share_above(thresholds, batch)


def share_above(thresholds: Array, batch: Batch) -> Array:
    """Return the share of the points above each threshold."""
    above = sum((each > thresholds[:, None]).sum(axis=1) for each in (batch.scores, batch.more))
    return np.asarray(above / (len(batch.scores) + len(batch.more)))


class _Given(AnomalyDetector):  # type: ignore[misc]
    """Takes the score itself in place of a point."""

    def learn_one(self, x: Any) -> None:
        """Learn nothing."""

    def score_one(self, x: Any) -> float:
        """Return the score."""
        return float(x)


class River:
    """QuantileFilter of river, one per rate; it flags only points that it learns."""

    def __init__(self) -> None:
        self._filters = [QuantileFilter(_Given(), q=1.0 - rate) for rate in RATES]

    def flags(self, batch: Batch) -> Array:
        """Return the share of flagged points per rate."""
        found = np.zeros(len(RATES))
        for at, each in enumerate(self._filters):
            for score in batch.scores.tolist():
                found[at] += each.classify(each.score_one(score))
                each.learn_one(score)
        return found / BATCH


class Case(NamedTuple):
    """A feed for a model: D features, and a jump or None.

    A feed without a jump has ten half-lives, the first of which isn't counted. A jump comes after
    four half-lives, and four more follow.
    """

    model: str
    D: int
    jump: str | None = None
    drift: str = "none"

    def shares(self, seed: int, half_life: int, with_river: bool) -> dict[str, Array]:
        """Return by method the flagged share per window and rate, divided by the rate."""
        rng = np.random.default_rng((seed, 0))
        feed, starts = feed_of(self.D, rng), [half_life]
        feeds = [(feed, 10 * half_life)]
        if self.jump is not None:
            at = 4 * half_life // BATCH * BATCH
            feeds = [(feed, at), (JUMPS[self.jump](feed, rng), 4 * half_life)]
            starts = [at + int(start * half_life) for start in WINDOWS]
        learner = StreamLearner(
            MODELS[self.model], HalfLife(half_life), drift=DRIFTS[self.drift], anomaly=Anomaly()
        )
        methods: dict[str, Any] = {"streamclust": Own()}
        if self.drift == "none":
            methods["decayed only"] = Decayed(half_life)
        if with_river and self.drift == "none":
            methods["QuantileFilter"] = River()
        found = {name: np.zeros((len(starts), len(RATES))) for name in methods}
        count = np.zeros((len(starts), 1))
        for batch in batches(learner, feeds, starts[0], seed):
            window = int(np.searchsorted(starts, batch.start, side="right")) - 1
            flags = {name: method.flags(batch) for name, method in methods.items()}
            if window >= 0:
                count[window] += 1
                for name in methods:
                    found[name][window] += flags[name]
        return {name: each / np.maximum(count, 1) / RATES for name, each in found.items()}


WINDOWS = (0.0, 0.5, 1.0, 2.0, 3.0)
"""Starts of the windows after a jump, in half-lives; the table has the mean of the last two."""

STATIONARY = [Case(model, D) for model in MODELS for D in (2, 8, 16)]


def rows(cases: list[Case], given: argparse.Namespace) -> Iterator[tuple[Case, str, Array]]:
    """Yield each case with a method and its shares, (seeds, windows, rates)."""
    half_life = given.points // 10
    with ProcessPoolExecutor(given.jobs) as pool:
        found = [
            [pool.submit(case.shares, seed, half_life, given.river) for seed in range(given.seeds)]
            for case in cases
        ]
        for case, futures in zip(cases, found, strict=True):
            each = [future.result() for future in futures]
            for method in each[0]:
                yield case, method, np.array([shares[method] for shares in each])


def cells(found: Array) -> list[str]:
    """Return the mean and the standard error per rate of shares (seeds, rates)."""
    mean = found.mean(axis=0)
    if len(found) == 1:
        return [f"{value:.2f}" for value in mean]
    errors = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    return [f"{value:.2f} ± {error:.2f}" for value, error in zip(mean, errors, strict=True)]


def table(header: list[str], lines: Iterator[list[str]]) -> str:
    """Print a Markdown table line by line, and return it."""
    found = []
    for line in itertools.chain([header, ["---"] * len(header)], lines):
        found.append(f"| {' | '.join(line)} |")
        print(found[-1], flush=True)
    return "\n".join(found)


def stationary(given: argparse.Namespace) -> str:
    """Return the shares of feeds that don't change."""
    print(f"Stationary feeds of {given.points:,} points, half-life {given.points // 10:,}:\n")
    lines = (
        [case.model, str(case.D), method, *cells(found[:, 0])]
        for case, method, found in rows(STATIONARY, given)
    )
    return table(["model", "D", "method", "1e-2", "1e-3", "1e-4"], lines)


def after_jumps(given: argparse.Namespace) -> str:
    """Return the shares after a jump."""
    print(f"\nAfter a jump, by half-life of {given.points // 10:,} points:\n")
    cases = [
        Case(model, 4, jump, drift)
        for jump in JUMPS
        for model in ("K-means", "mixture, full")
        for drift in given.drift
    ]
    lines = (
        [str(case.jump), case.model, case.drift, method]
        + [f"{value:.2f}" for value in found[:, :3, 0].mean(axis=0)]
        + cells(found[:, 3:].mean(axis=1))
        for case, method, found in rows(cases, given)
    )
    first = [f"{start:g} to {end:g}: 1e-2" for start, end in itertools.pairwise(WINDOWS[:4])]
    return table(
        ["jump", "model", "drift", "method", *first]
        + [f"2 to 4: {rate}" for rate in ("1e-2", "1e-3", "1e-4")],
        lines,
    )


TABLES = {"stationary": stationary, "jumps": after_jumps}


def main() -> None:
    """Print both tables, and write them into docs/internals/scores.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=1_000_000, help="ten half-lives")
    parser.add_argument("--seeds", type=int, default=2, help="number of feeds per row")
    parser.add_argument("--river", action="store_true", help="compare with river, which is slow")
    parser.add_argument("--only", choices=TABLES, help="one of the tables")
    parser.add_argument(
        "--drift", nargs="+", choices=DRIFTS, default=["none"], help="what a drift detector does"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of processes")
    parser.add_argument("--dry", action="store_true", help="print the figures, write nothing")
    given = parser.parse_args()
    for name, function in TABLES.items():
        if given.only in (None, name):
            text = function(given)
            if not given.dry:
                write_section(name, text, PAGE)


if __name__ == "__main__":
    main()
