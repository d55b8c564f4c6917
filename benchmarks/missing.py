"""Points with missing values: what they cost, and how good imputed values are.

    python benchmarks/missing.py [--seeds 3] [--only cost imputation plot] [--dry]

Cost: processor time of `StreamLearner.update` for a batch, divided by that of the same batch
without missing values, in one thread. Imputation: the root mean squared error of imputed values,
divided by that of the mean of each feature; lower is better. Values are missing completely at
random, and the points are standardised.

The tables are written to docs/quality.md between their markers, and the plot to
docs/pictures/imputation.png. scikit-learn's IterativeImputer is fitted to at most 1,000 points, in
5 rounds: with more it takes long.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from quality import write
from river import datasets
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from threadpoolctl import threadpool_limits

from streamclust import GaussianMixture, KMeans, StreamLearner, fit, kernels
from streamclust.models.imputation import impute

SIZES = ((8, 8), (16, 16), (64, 16), (16, 64), (64, 64))
"""K and D of the table of costs."""

BATCH = 4096
SHARE = 0.3
REG_COVAR = 1e-3
COMPONENTS = 5
FEWER_POINTS, ROUNDS = 1000, 5
"""Points and rounds of IterativeImputer."""

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "imputation.png"


# ---- cost


def with_gaps(X: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Return points with values missing at random; each point keeps one value."""
    rng = np.random.default_rng((seed, 1))
    gone = rng.random(X.shape) < share
    gone[np.arange(len(X)), rng.integers(X.shape[1], size=len(X))] = False
    return np.where(gone, np.nan, X)


def in_few_patterns(X: np.ndarray) -> np.ndarray:
    """Return points of which a tenth lacks values, in four patterns."""
    points = X.copy()
    for number in range(4):
        points[10 * number :: 40, number : number + 1 + X.shape[1] // 4] = np.nan
    return points


def tenth_in_few_patterns(X: np.ndarray) -> np.ndarray:
    """Return points of which 40 % lack a quarter of their values, in four patterns."""
    points, size = X.copy(), X.shape[1] // 4
    owner = np.random.default_rng(0).integers(10, size=len(X))
    for number in range(4):
        points[np.ix_(owner == number, np.arange(number * size, (number + 1) * size))] = np.nan
    return points


GAPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a tenth of the points, 4 patterns": in_few_patterns,
    "10 % of the values, 4 patterns": tenth_in_few_patterns,
    "10 % of the values": lambda X: with_gaps(X, 0.1),
    "30 % of the values": lambda X: with_gaps(X, 0.3),
}


def cost(seeds: int) -> str:
    """Return the table of ratios; the number of patterns is in brackets."""
    lines = [f"| model, K, D | {' | '.join(GAPS)} |", f"| --- |{' ---: |' * len(GAPS)}"]
    for name in ("kmeans", "full", "tied", "diag", "spherical"):
        for K, D in SIZES:
            rng = np.random.default_rng(0)
            means = 3.0 * rng.normal(size=(K, D))
            X = means[rng.integers(K, size=BATCH)] + rng.normal(size=(BATCH, D))
            family = (
                KMeans(K, missing="learn")
                if name == "kmeans"
                else GaussianMixture(K, name, missing="learn")
            )
            learner = StreamLearner(family, coreset=0)
            state, _ = learner.update(learner.init(fit(family, X, n_init=1).params, 100.0), X)

            def seconds(points: np.ndarray, learner=learner, state=state) -> float:
                return timed(lambda: learner.update(state, points))

            batches = [X, *(make(X) for make in GAPS.values())]
            # In turn, so that a change of the processor's speed concerns all of them.
            rounds = [[seconds(points) for points in batches] for _ in range(4 * seeds)]
            complete, *others = np.min(rounds, axis=0)
            cells = []
            for points, least in zip(batches[1:], others, strict=True):
                patterns = len(np.unique(np.isnan(points[np.isnan(points).any(axis=1)]), axis=0))
                cells.append(f"{least / complete:.2f} ({patterns:,})")
            title = "K-means" if name == "kmeans" else f"mixture, {name}"
            lines.append(f"| {title}, {K}, {D} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def timed(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


# ---- imputation


def synthetic() -> np.ndarray:
    """Return points of four Gaussians with correlated features."""
    rng = np.random.default_rng(0)
    K, D = 4, 8
    root = rng.normal(size=(K, D, D)) / np.sqrt(D) + 0.5 * np.eye(D)
    owners = rng.integers(K, size=5000)
    noise = np.einsum("nij,nj->ni", root[owners], rng.normal(size=(5000, D)))
    return 1.5 * rng.normal(size=(K, D))[owners] + noise


DATA: dict[str, Callable[[], np.ndarray]] = {
    "four Gaussians, 5,000 x 8": synthetic,
    "ImageSegments, 2,310 x 18": lambda: np.array(
        [list(x.values()) for x, _ in datasets.ImageSegments()], float
    ),
    "breast cancer, 569 x 30": lambda: load_breast_cancer().data,
}


def standardised(X: np.ndarray) -> np.ndarray:
    X = X[:, X.std(axis=0) > 0.0]
    return (X - X.mean(axis=0)) / X.std(axis=0)


def one_pass(gaps: np.ndarray, seed: int) -> np.ndarray:
    family = GaussianMixture(COMPONENTS, reg_covar=REG_COVAR, missing="learn")
    learner = StreamLearner(family, seed=seed, warm_up=min(1000, len(gaps) // 2))
    state = learner.init()
    for start in range(0, len(gaps), 256):
        state, _ = learner.update(state, gaps[start : start + 256])
    return impute(family, learner.in_units(state), gaps).X


def batch_fit(gaps: np.ndarray, seed: int) -> np.ndarray:
    family = GaussianMixture(COMPONENTS, reg_covar=REG_COVAR, missing="learn")
    return impute(family, fit(family, gaps, seed=seed).params, gaps).X


def centroids(gaps: np.ndarray, seed: int) -> np.ndarray:
    family = KMeans(20, missing="learn")
    return impute(family, fit(family, gaps, seed=seed).params, gaps).X


def regressions(gaps: np.ndarray, seed: int) -> np.ndarray:
    imputer = IterativeImputer(random_state=seed, max_iter=ROUNDS)
    return imputer.fit(gaps[:FEWER_POINTS]).transform(gaps)


def neighbours(gaps: np.ndarray, seed: int) -> np.ndarray:
    return KNNImputer().fit_transform(gaps)


def averages(gaps: np.ndarray, seed: int) -> np.ndarray:
    return SimpleImputer().fit_transform(gaps)


METHODS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    f"**streamclust** mixture, K {COMPONENTS}, one pass": one_pass,
    f"**streamclust** mixture, K {COMPONENTS}, batch fit": batch_fit,
    "**streamclust** K-means, K 20, batch fit": centroids,
    f"scikit-learn IterativeImputer, {FEWER_POINTS:,} points, {ROUNDS} rounds": regressions,
    "scikit-learn KNNImputer, 5 neighbours": neighbours,
}


def error(filled: np.ndarray, points: np.ndarray, gaps: np.ndarray) -> float:
    """Return the root mean squared error of the imputed values."""
    return float(np.sqrt(((filled - points)[np.isnan(gaps)] ** 2).mean()))


def imputation(seeds: int) -> str:
    """Return the table of errors, with processor seconds in brackets: medians over seeds."""
    lines = [f"| method | {' | '.join(DATA)} |", f"| --- |{' ---: |' * len(DATA)}"]
    tables = [standardised(make()) for make in DATA.values()]
    for name, method in METHODS.items():
        cells = []
        for X in tables:
            ratios, seconds = [], []
            for seed in range(seeds):
                points = np.random.default_rng(seed).permutation(X)
                gaps = with_gaps(points, SHARE, seed)
                begin = time.process_time()
                filled = method(gaps, seed)
                seconds.append(time.process_time() - begin)
                ratios.append(error(filled, points, gaps) / error(averages(gaps, 0), points, gaps))
            cells.append(f"{np.median(ratios):.3f} ({np.median(seconds):.1f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


# ---- plot


PLOTTED = 2000
"""Points of the plot of errors."""

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
BLUE, RED, GREEN = "#1f5fa8", "#c1272d", "#2d7d46"
LINES = {
    "mixture, one pass": (one_pass, BLUE, "-"),
    "K-means, batch fit": (centroids, GREEN, "-"),
    "IterativeImputer": (regressions, RED, "--"),
    "KNNImputer": (neighbours, RED, ":"),
}


def curves() -> np.ndarray:
    """Return points of two features that depend on each other in three different ways."""
    rng = np.random.default_rng(0)
    means = np.array([[-4.0, 2.0], [0.0, -1.0], [4.0, 3.0]])
    roots = np.array(
        [[[1.0, 0.0], [1.2, 0.3]], [[1.2, 0.0], [-0.9, 0.3]], [[0.9, 0.0], [0.2, 0.7]]]
    )
    owners = rng.integers(3, size=3000)
    return means[owners] + np.einsum("nij,nj->ni", roots[owners], rng.normal(size=(3000, 2)))


def plot(seeds: int) -> None:
    """Draw imputed values of two features, and the errors against the share of missing values."""
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12.1, 4.4), layout="constrained")
    points = curves()
    gaps = points.copy()
    gaps[::3, 1] = np.nan
    family = GaussianMixture(3, missing="learn")
    learner = StreamLearner(family, warm_up=1000)
    state = learner.init()
    for start in range(0, len(gaps), 250):
        state, _ = learner.update(state, gaps[start : start + 250])
    left.plot(*points.T, ",", color="#999999", label="complete points")
    x = np.linspace(-7.0, 7.0, 400)
    found = impute(family, learner.in_units(state), np.column_stack([x, np.full(len(x), np.nan)]))
    middle, deviation = found.X[:, 1], np.sqrt(found.variances[:, 1])
    left.fill_between(
        x, middle - 2 * deviation, middle + 2 * deviation, color=BLUE, alpha=0.15, lw=0
    )
    left.plot(x, middle, color=BLUE, lw=1.5, label="imputed value, and two standard deviations")
    left.axhline(np.nanmean(gaps[:, 1]), color="#555555", ls=":", lw=1, label="mean of the feature")
    left.set(xlabel="feature that is present", ylabel="feature that is missing in a third of them")
    left.set_title("a mixture learned from points with missing values")
    left.legend(loc="lower right", fontsize="small", frameon=False)

    X = standardised(synthetic())[:PLOTTED]
    for name, (method, colour, style) in LINES.items():
        ratios = []
        for share in SHARES:
            each = []
            for seed in range(seeds):
                gaps = with_gaps(X, share, seed)
                each.append(error(method(gaps, seed), X, gaps) / error(averages(gaps, 0), X, gaps))
            ratios.append(np.median(each))
        right.plot(SHARES, ratios, style, color=colour, marker="o", ms=4, lw=1.5, label=name)
        print(name, np.round(ratios, 3).tolist(), flush=True)
    right.axhline(1.0, color="#555555", ls=":", lw=1, label="mean of the feature")
    right.set(
        xlabel="share of missing values", ylabel="error / error of the mean", ylim=(0.0, None)
    )
    right.set_title(f"four Gaussians, {PLOTTED:,} x 8")
    right.legend(fontsize="small", frameon=False)
    figure.savefig(PICTURE, dpi=100)


TABLES = {"cost": cost, "imputation": imputation}
PARTS = [*TABLES, "plot"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--dry", action="store_true", help="print the figures, write nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(1), kernels.limit_threads(1):
        for name in options.only:
            if name == "plot":
                plot(options.seeds)
                continue
            text = TABLES[name](options.seeds)
            if not options.dry:
                write(f"missing-{name}", text)


if __name__ == "__main__":
    main()
