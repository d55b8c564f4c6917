"""Anomaly scores after one pass, next to batch models and other streaming detectors.

    python benchmarks/anomaly.py [--seeds 3] [--only tables feeds] [--data shuttle ...] [--dry]

Data with labels: each model learns one half of the points, without labels, and scores the other
half. Ours and river's learn it in one pass. Feeds with injected anomalies: each point is scored
before it is learned; a batch model is fitted to the whole feed and scores it.

The figures are the area under the ROC curve (AUC), the average precision (AP), and the share of
flagged points if the threshold is meant to flag 1 % of all points. The tables are written to
docs/quality.md between their markers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from pyod.models.copod import COPOD
from pyod.models.ecod import ECOD
from pyod.models.hbos import HBOS
from quality import write
from river import anomaly, datasets, preprocessing, stats
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture as BatchMixture
from threadpoolctl import threadpool_limits

from streamclust import GaussianMixture, HalfLife, StreamLearner, kernels
from streamclust.models.scores import AnomalyScore, Distributions, anomaly_score
from streamclust.online.scores import Anomaly

RATE = 0.01
BATCH = 1024
FEED_POINTS = 20_000
HALF_LIFE = 2_000
FEED_BATCH = HALF_LIFE // 64
"""As a worker with `batch.size: auto`."""

UNSCORED = 2_000
"""Points at the start of a feed that have no anomalies and aren't counted."""


class Split(NamedTuple):
    """Points to learn, points to score, which of those are anomalies, and the size of a model."""

    learn: np.ndarray
    test: np.ndarray
    anomalies: np.ndarray
    K: int
    covariance_type: str
    reg_covar: float


class Feed(NamedTuple):
    """Points in order, and which of them are anomalies."""

    X: np.ndarray
    anomalies: np.ndarray


# ---------------------------------------------------------------------------------------- data


def halves(X: np.ndarray, anomalies: np.ndarray, seed: int, *model: Any) -> Split:
    """Learn a random half, standardised; score the other."""
    order = np.random.default_rng(500 + seed).permutation(len(X))
    learn, test = order[: len(X) // 2], order[len(X) // 2 :]
    return standardised(X[learn], X[test], anomalies[test], *model)


def standardised(learn: np.ndarray, test: np.ndarray, anomalies: np.ndarray, *model: Any) -> Split:
    center, deviation = learn.mean(axis=0), learn.std(axis=0)
    scale = np.where(deviation > 0.0, deviation, 1.0)
    return Split((learn - center) / scale, (test - center) / scale, anomalies, *model)


@cache
def shuttle_points() -> tuple[np.ndarray, np.ndarray]:
    points = list(datasets.Shuttle())
    X = np.array([list(x.values()) for x, _ in points], dtype=float)
    return X, np.array([bool(y) for _, y in points])


def shuttle(seed: int) -> list[Split]:
    return [halves(*shuttle_points(), seed, 10, "full", 1e-4)]


def shuttle_held_out(seed: int) -> list[Split]:
    """Learn half of the normal points; score the others and the anomalies."""
    X, anomalies = shuttle_points()
    normal = np.random.default_rng(500 + seed).permutation(np.flatnonzero(~anomalies))
    learn = X[normal[: len(normal) // 2]]
    test = np.concatenate([normal[len(normal) // 2 :], np.flatnonzero(anomalies)])
    return [standardised(learn, X[test], anomalies[test], 10, "full", 1e-4)]


def breast_cancer(seed: int) -> list[Split]:
    """Benign, with one malignant point per 20; the others are left out.

    A half has nine malignant points, so the figures are means over ten draws and halves per seed.
    """
    X, benign = load_breast_cancer(return_X_y=True)
    normal, malignant = np.flatnonzero(benign == 1), np.flatnonzero(benign == 0)
    splits = []
    for draw in range(10 * seed, 10 * seed + 10):
        rng = np.random.default_rng(draw)
        few = rng.choice(malignant, len(normal) // 20, replace=False)
        chosen = np.concatenate([normal, few])
        splits.append(halves(X[chosen], benign[chosen] == 0, draw, 2, "diag", 1e-4))
    return splits


def digits(seed: int) -> list[Split]:
    """Each class held out in turn: learn half of the others, score the rest and that class."""
    X, y = load_digits(return_X_y=True)
    splits = []
    for held_out in range(10):
        rng = np.random.default_rng((seed, held_out))
        known = rng.permutation(np.flatnonzero(y != held_out))
        test = np.concatenate([known[len(known) // 2 :], np.flatnonzero(y == held_out)])
        learn = X[known[: len(known) // 2]]
        splits.append(standardised(learn, X[test], y[test] == held_out, 9, "tied", 1e-2))
    return splits


def feed(kind: str, seed: int) -> Feed:
    """Three correlated clusters in five features; 1 % of the points are anomalies.

    Half of the anomalies are uniform in a box around the clusters. The other half break the
    correlation within a cluster, where each feature by itself looks normal. `drift`: the clusters
    move by ten standard deviations in total. `jump`: they jump at half time. `far`: nothing moves,
    but a fifth of the anomalies are values of 1e3 to 1e6.
    """
    rng, n, D, K = np.random.default_rng((seed, 7)), FEED_POINTS, 5, 3
    centres = rng.uniform(-10.0, 10.0, (K, D))
    direction = rng.normal(size=(K, D))
    direction *= 10.0 / np.linalg.norm(direction, axis=1, keepdims=True)
    mixing = rng.normal(size=(K, D, D)) / np.sqrt(D) + 0.3 * np.eye(D)
    labels, t = rng.integers(0, K, n), np.arange(n) / n
    moved = {"drift": t, "jump": t >= 0.5, "far": 0.0 * t}[kind]
    place = centres[labels] + moved[:, None] * direction[labels]
    X = place + np.einsum("nij,nj->ni", mixing[labels], rng.normal(size=(n, D)))
    anomalies = rng.random(n) < 0.01
    anomalies[:UNSCORED] = False
    broad = anomalies & (rng.random(n) < 0.5)
    low, high = X.min(axis=0), X.max(axis=0)
    X[broad] = rng.uniform(low, high, (int(broad.sum()), D))
    apart = anomalies & ~broad
    own = np.sqrt(np.einsum("kij,kij->ki", mixing, mixing))[labels[apart]]
    X[apart] = place[apart] + 1.5 * own * rng.choice([-1.0, 1.0], own.shape)
    if kind == "far":
        far = np.flatnonzero(anomalies)[::5]
        X[far] *= 10.0 ** rng.uniform(3.0, 6.0, (len(far), 1))
    return Feed(X / X[~anomalies].std(axis=0), anomalies)


# -------------------------------------------------------------------------------------- models

Scores = tuple[float, np.ndarray]
"""The threshold for alerts, and the scores of the points to score; higher is more unusual."""


def at_quantile(learned: np.ndarray, tested: np.ndarray) -> Scores:
    """Return the threshold that flags 1 % of the learned points, and the scores."""
    return float(np.quantile(learned, 1.0 - RATE)), tested


def family_of(split: Split, **options: Any) -> GaussianMixture:
    return GaussianMixture(split.K, split.covariance_type, reg_covar=split.reg_covar, **options)


def ours(score: AnomalyScore = "model", **options: Any) -> Callable[[Split, int], Scores]:
    """One pass over the points to learn."""

    def run(split: Split, seed: int) -> Scores:
        family, warm_up = family_of(split, **options), min(1000, len(split.learn) // 2)
        learner = StreamLearner(family, seed=seed, warm_up=warm_up, anomaly=Anomaly(score=score))
        state = learner.init()
        for start in range(0, len(split.learn), BATCH):
            state, _ = learner.update(state, split.learn[start : start + BATCH])
        known = Distributions(None, state.feature_distribution, score)
        learned, tested = (
            anomaly_score(family, state.params, X, known) for X in (split.learn, split.test)
        )
        return at_quantile(learned, tested)

    return run


def batch_mixture(split: Split, seed: int) -> Scores:
    model = BatchMixture(
        split.K, covariance_type=split.covariance_type, reg_covar=split.reg_covar, n_init=4,
        random_state=seed,
    ).fit(split.learn)  # fmt: skip
    return at_quantile(-model.score_samples(split.learn), -model.score_samples(split.test))


def isolation_forest(split: Split, seed: int) -> Scores:
    model = IsolationForest(random_state=seed).fit(split.learn)
    return at_quantile(-model.score_samples(split.learn), -model.score_samples(split.test))


def pyod_model(model_class: Any) -> Callable[[Split, int], Scores]:
    def run(split: Split, seed: int) -> Scores:
        model = model_class().fit(split.learn)
        return at_quantile(model.decision_scores_, model.decision_function(split.test))

    return run


class FeatureScorers:
    """river's GaussianScorer has one feature: one scorer per feature, the largest score counts."""

    def __init__(self) -> None:
        self._scorers: dict[int, anomaly.GaussianScorer] = {}

    def score_one(self, x: dict[int, float]) -> float:
        known = {d: self._scorers[d] for d in x if d in self._scorers}
        return max((known[d].score_one(None, x[d]) for d in known), default=0.0)

    def learn_one(self, x: dict[int, float]) -> None:
        for d, value in x.items():
            self._scorers.setdefault(d, anomaly.GaussianScorer()).learn_one(None, value)


def half_space_trees(seed: int) -> Any:
    return preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(25, 8, window_size=100, seed=seed)


def river_model(make: Callable[[int], Any]) -> Callable[[Split, int], Scores]:
    def run(split: Split, seed: int) -> Scores:
        model = make(seed)
        learned = scored_and_learned(model, split.learn)
        tested = [model.score_one(dict(enumerate(row))) for row in split.test.tolist()]
        return at_quantile(learned, np.array(tested))

    return run


def scored_and_learned(model: Any, X: np.ndarray) -> np.ndarray:
    """Return the score of each point before it is learned."""
    scores = []
    for row in X.tolist():
        x = dict(enumerate(row))
        scores.append(model.score_one(x))
        model.learn_one(x)
    return np.array(scores)


MODELS: dict[str, Callable[[Split, int], Scores]] = {
    "**streamclust**, one pass, outliers 0.01": ours(outliers=0.01),
    "streamclust, one pass, default settings": ours(),
    "**streamclust**, one pass, score tail_score": ours("tail_score"),
    "scikit-learn GaussianMixture, batch": batch_mixture,
    "scikit-learn IsolationForest, batch": isolation_forest,
    "pyod ECOD, batch": pyod_model(ECOD),
    "pyod COPOD, batch": pyod_model(COPOD),
    "pyod HBOS, batch": pyod_model(HBOS),
    "river HalfSpaceTrees, one pass": river_model(half_space_trees),
    "river GaussianScorer per feature, one pass": river_model(lambda seed: FeatureScorers()),
}

DATA: dict[str, Callable[[int], list[Split]]] = {
    "shuttle": shuttle,
    "shuttle-held-out": shuttle_held_out,
    "breast-cancer": breast_cancer,
    "digits": digits,
}


def measured(scores: Scores, split: Split) -> tuple[float, float, float]:
    threshold, tested = scores
    flagged = tested[~split.anomalies] > threshold
    return (*quality(tested, split.anomalies), float(flagged.mean()))


def quality(scores: np.ndarray, anomalies: np.ndarray) -> tuple[float, float]:
    """Return the AUC and the average precision."""
    return roc_auc_score(anomalies, scores), average_precision_score(anomalies, scores)


def tables(models: dict[str, Callable[[Split, int], Scores]], names: list[str], seeds: int) -> str:
    def cell(run: Callable[[Split, int], Scores], name: str) -> str:
        found = [
            measured(run(split, seed), split) for seed in range(seeds) for split in DATA[name](seed)
        ]
        return figures(np.array(found))

    return table(models, names, cell)


# --------------------------------------------------------------------------------------- feeds


Flagged = tuple[np.ndarray, np.ndarray]
"""The score of each point of a feed, and whether it is flagged."""


def ours_on_feed(score: AnomalyScore = "model", **options: Any) -> Callable[[Feed, int], Flagged]:
    """Each score is from before the point was learned, as is the threshold."""

    def run(feed: Feed, seed: int) -> Flagged:
        family, anomaly = GaussianMixture(5, **options), Anomaly(RATE, score=score)
        learner = StreamLearner(family, HalfLife(HALF_LIFE), seed=seed, anomaly=anomaly)
        state, scores, flagged = learner.init(), [], []
        for start in range(0, len(feed.X), FEED_BATCH):
            X = feed.X[start : start + FEED_BATCH]
            if state.params is None:
                scores.append(np.zeros(len(X)))
            else:
                features = Distributions(None, state.feature_distribution, score)
                scores.append(anomaly_score(family, state.params, X, features))
            known = learner.score_distribution(state)
            flagged.append(scores[-1] > (np.inf if known is None else known.threshold(RATE)))
            state, _ = learner.update(state, X)
        return np.concatenate(scores), np.concatenate(flagged)

    return run


def by_quantile(scores: np.ndarray) -> Flagged:
    """Flag as river's QuantileFilter does: what is beyond the quantile of the scores so far."""
    quantile, flagged = stats.Quantile(1.0 - RATE), np.zeros(len(scores), bool)
    for n, score in enumerate(scores.tolist()):
        flagged[n] = score > (quantile.get() or np.inf)
        quantile.update(score)
    return scores, flagged


def batch_on_feed(run: Callable[[Split, int], Scores]) -> Callable[[Feed, int], Flagged]:
    def score(feed: Feed, seed: int) -> Flagged:
        threshold, scores = run(Split(feed.X, feed.X, feed.anomalies, 5, "full", 1e-6), seed)
        return scores, scores > threshold

    return score


def river_on_feed(make: Callable[[int], Any]) -> Callable[[Feed, int], Flagged]:
    return lambda feed, seed: by_quantile(scored_and_learned(make(seed), feed.X))


FEEDS = ("drift", "jump", "far")
ON_FEEDS: dict[str, Callable[[Feed, int], Flagged]] = {
    "**streamclust**, half-life 2,000, outliers 0.01": ours_on_feed(outliers=0.01),
    "streamclust, half-life 2,000": ours_on_feed(),
    "**streamclust**, half-life 2,000, score tail_score": ours_on_feed("tail_score"),
    "scikit-learn GaussianMixture, batch": batch_on_feed(batch_mixture),
    "scikit-learn IsolationForest, batch": batch_on_feed(isolation_forest),
    "river HalfSpaceTrees, QuantileFilter": river_on_feed(half_space_trees),
    "river GaussianScorer per feature, QuantileFilter": river_on_feed(
        lambda seed: FeatureScorers()
    ),
}


def feeds(models: dict[str, Callable[[Feed, int], Flagged]], names: list[str], seeds: int) -> str:
    def cell(run: Callable[[Feed, int], Flagged], name: str) -> str:
        found = []
        for seed in range(seeds):
            made = feed(name, seed)
            try:
                scores, flagged = (each[UNSCORED:] for each in run(made, seed))
            except ValueError:  # scikit-learn's, for a singular covariance
                return "the fit fails"
            found.append((*quality(scores, made.anomalies[UNSCORED:]), float(flagged.mean())))
        return figures(np.array(found))

    return table(models, names, cell)


# --------------------------------------------------------------------------------------- table


def figures(found: np.ndarray) -> str:
    auc, precision, alerts = found.mean(axis=0)
    return f"{auc:.3f}; {precision:.3f}; {100.0 * alerts:.1f} %"


def table(rows: dict[str, Any], names: list[str], cell: Callable[[Any, str], str]) -> str:
    lines = ["| detector | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for label, run in rows.items():
        cells = []
        for name in names:
            cells.append(cell(run, name))
            print(f"{label:52} {name:14} {cells[-1]}", flush=True)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--only", nargs="+", choices=("tables", "feeds"), default=["tables", "feeds"]
    )
    parser.add_argument("--data", nargs="+", choices=(*DATA, *FEEDS), default=[*DATA, *FEEDS])
    parser.add_argument("--dry", action="store_true", help="print the figures, write nothing")
    options = parser.parse_args()
    with threadpool_limits(1), kernels.limit_threads(1):
        for name in options.only:
            if name == "tables":
                text = tables(
                    MODELS, [each for each in options.data if each in DATA], options.seeds
                )
            else:
                text = feeds(
                    ON_FEEDS, [each for each in options.data if each in FEEDS], options.seeds
                )
            if not options.dry:
                write(f"anomaly-{name}", text)


if __name__ == "__main__":
    main()
