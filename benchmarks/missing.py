"""Points with missing values: what they cost, and how good imputed values are.

    python benchmarks/missing.py [--seeds 3] [--only cost imputation] [--dry]

Cost: processor time of `StreamLearner.update` for a batch, divided by that of the same batch
without missing values, in one thread. Imputation: the root mean squared error of imputed values,
divided by that of the mean of each feature; lower is better. Values are missing completely at
random, and the points are standardised.

The tables are written to docs/quality.md between their markers.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

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

SIZES = ((8, 8), (8, 16), (32, 32))
"""K and D of the table of costs."""

BATCH = 4096
SHARE = 0.3
REG_COVAR = 1e-3
COMPONENTS = 5


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


GAPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a tenth of the points, 4 patterns": in_few_patterns,
    "10 % of the values": lambda X: with_gaps(X, 0.1),
    "30 % of the values": lambda X: with_gaps(X, 0.3),
}


def cost(seeds: int) -> str:
    """Return the table of ratios; the number of patterns is in brackets."""
    lines = [f"| model, K, D | {' | '.join(GAPS)} |", f"| --- |{' ---: |' * len(GAPS)}"]
    for name in ("kmeans", "full", "diag"):
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
                return min(timed(lambda: learner.update(state, points)) for _ in range(3 * seeds))

            complete = seconds(X)
            cells = []
            for make in GAPS.values():
                points = make(X)
                patterns = len(np.unique(np.isnan(points), axis=0)) - 1
                cells.append(f"{seconds(points) / complete:.2f} ({patterns:,})")
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


METHODS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    f"**streamclust** mixture, K {COMPONENTS}, one pass": one_pass,
    f"**streamclust** mixture, K {COMPONENTS}, batch fit": batch_fit,
    "**streamclust** K-means, K 20, batch fit": centroids,
    "scikit-learn IterativeImputer": lambda gaps, seed: IterativeImputer(
        random_state=seed, max_iter=20
    ).fit_transform(gaps),
    "scikit-learn KNNImputer, 5 neighbours": lambda gaps, _: KNNImputer().fit_transform(gaps),
}


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
                missing = np.isnan(gaps)
                begin = time.process_time()
                filled = method(gaps, seed)
                seconds.append(time.process_time() - begin)
                by_mean = SimpleImputer().fit_transform(gaps)
                error = [((each - points)[missing] ** 2).mean() for each in (filled, by_mean)]
                ratios.append(np.sqrt(error[0] / error[1]))
            cells.append(f"{np.median(ratios):.3f} ({np.median(seconds):.1f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


TABLES = {"cost": cost, "imputation": imputation}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--dry", action="store_true", help="print the figures, write nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(1), kernels.limit_threads(1):
        for name in options.only:
            text = TABLES[name](options.seeds)
            if not options.dry:
                write(f"missing-{name}", text)


if __name__ == "__main__":
    main()
