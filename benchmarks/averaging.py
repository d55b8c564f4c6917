"""Polyak-Ruppert averaging from good and rough starts: nats below the optimum.

    python benchmarks/averaging.py

The data are 272 points of a mixture like that of the Old Faithful data; a stream brings them in
batches of 10, 20 times over, each time in another order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamclust import GaussianMixture, MixtureParams, PowerSchedule, StreamLearner, fit
from streamclust.models.stats import decay, merge

WEIGHTS = np.array([0.356, 0.644])
MEANS = np.array([[2.036, 54.479], [4.290, 79.968]])
COVARIANCES = np.array([[[0.069, 0.435], [0.435, 33.70]], [[0.170, 0.940], [0.940, 36.05]]])
FAMILY = GaussianMixture(2)


def points(seed: int = 7) -> Any:
    """Return points, shape (272, 2)."""
    truth = MixtureParams(WEIGHTS, MEANS, COVARIANCES, "full")
    return FAMILY.sample(truth, 272, np.random.default_rng(seed))[0]


def starts(X: Any) -> dict[str, MixtureParams]:
    """Return the best fit, and two starts with the covariance of all points."""
    wide = np.stack([np.cov(X.T)] * 2)
    far, close = np.array([[1.0, 40.0], [6.0, 100.0]]), np.array([[3.0, 65.0], [4.0, 75.0]])
    return {
        "at the optimum": fit(FAMILY, X, n_init=8, tol=1e-12).params,
        "means far apart, wide": MixtureParams(np.full(2, 0.5), far, wide, "full"),
        "means close, wide": MixtureParams(np.full(2, 0.5), close, wide, "full"),
    }


def run(X: Any, start: MixtureParams, kappa: float, passes: int, seed: int) -> tuple[Any, Any, Any]:
    """Return the last parameters, those of the mean of all steps, and the published ones."""
    learner = StreamLearner(FAMILY, PowerSchedule(kappa=kappa, average=True), coreset=0)
    state, rng = learner.init(start), np.random.default_rng(seed)
    mean: Any = None
    for _ in range(passes):
        order = rng.permutation(len(X))
        for rows in range(0, len(X), 10):
            state, _ = learner.update(state, X[order[rows : rows + 10]])
            n, stats = state.clock.steps, state.stats or FAMILY.prior_stats(start, 1.0)
            share = decay(stats, 1.0 / stats.mass)
            mean = share if n == 1 else merge(decay(share, 1.0 / n), decay(mean, (n - 1.0) / n))
    return state.params, FAMILY.m_step(mean, start), learner.published(state)


def main() -> None:
    """Print a table."""
    X = points()
    given = starts(X)
    ones = np.ones(len(X))

    def likelihood(params: Any) -> float:
        return FAMILY.e_step(params, X, ones).objective

    best = likelihood(given["at the optimum"])
    print("| start | kappa | last step | mean of all steps | published |\n|---|---|---|---|---|")
    for name, start in given.items():
        for kappa in (0.6, 0.7, 0.9):
            runs = [run(X, start, kappa, 20, seed) for seed in range(3)]
            nats = [np.mean([best - likelihood(each[i]) for each in runs]) for i in range(3)]
            print(f"| {name} | {kappa} | " + " | ".join(f"{each:.2f}" for each in nats) + " |")


if __name__ == "__main__":
    main()
