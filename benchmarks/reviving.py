"""What to do with empty and dying components: the candidates, side by side.

    python benchmarks/reviving.py [--seeds 5]

One pass over each stream in batches of 1,024. K-means: inertia over that of the best of four batch
fits on the same points (lower is better). Mixture: log-likelihood per point minus the batch fit's
(higher is better). Median and worst of the seeds, and how often components were revived.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
from river import datasets
from sklearn.datasets import load_sample_image

from streamclust import (
    Forgetting,
    GaussianMixture,
    HalfLife,
    KMeans,
    MixtureParams,
    StreamLearner,
    fit,
)
from streamclust.models.covariance import _Full
from streamclust.models.revive import split

BATCH = 1024


@dataclass(frozen=True)
class Spark(KMeans):
    """Split the heaviest cluster when the lightest is below 1e-8 of it (Spark MLlib)."""

    def revive(self, stats, dying, X, w, rng):
        light, heavy = int(stats.weight.argmin()), int(stats.weight.argmax())
        if stats.weight[light] >= 1e-8 * stats.weight[heavy]:
            return stats, ()
        centre = stats.averages(stats.reference)[heavy]
        step = 1e-14 * np.maximum(np.abs(centre), 1.0)
        weight, first, reference = stats.weight.copy(), stats.first.copy(), stats.reference.copy()
        weight[[heavy, light]] = 0.5 * (weight[heavy] + weight[light])
        first[[heavy, light]] = 0.0
        reference[heavy], reference[light] = centre + step, centre - step
        return replace(stats, weight=weight, first=first, reference=reference), (light,)


@dataclass(frozen=True)
class UniformDraw(KMeans):
    """Draw from the batch, uniformly, below 0.01 of the heaviest (scikit-learn's MiniBatchKMeans).

    A new cluster takes the least weight among the kept ones, as scikit-learn has it.
    """

    def revive(self, stats, dying, X, w, rng):
        low = stats.weight < 0.01 * stats.weight.max()
        if not low.any():
            return stats, ()
        chosen = rng.choice(len(X), size=min(int(low.sum()), len(X) // 2), replace=False)
        which = np.flatnonzero(low)[: len(chosen)]
        weight, first, reference = stats.weight.copy(), stats.first.copy(), stats.reference.copy()
        reference[which], first[which] = X[chosen], 0.0
        weight[which] = stats.weight[~low].min()
        return replace(stats, weight=weight, first=first, reference=reference), tuple(which)


@dataclass(frozen=True)
class Poorest(GaussianMixture):
    """Put a dying component, with the pooled covariance, on the worst explained point."""

    def revive(self, stats, dying, X, w, rng):
        params = self.m_step(stats, _blank(stats))
        mass, first = stats.weight.copy(), stats.first.copy()
        second, reference = stats.second.copy(), stats.reference.copy()
        pooled = np.einsum("k,kij->ij", params.weights, params.covariances)
        order = np.argsort(self.score_points(params, X))
        for k, n in zip(dying, order, strict=False):
            reference[k], first[k] = X[n], 0.0
            mass[k], second[k] = 1.0, pooled
        return replace(stats, weight=mass, first=first, second=second, reference=reference), tuple(
            dying
        )


@dataclass(frozen=True)
class Heaviest(GaussianMixture):
    """Split the component of the largest mass, as Spark does for K-means."""

    def revive(self, stats, dying, X, w, rng):
        with patch.object(_Full, "inertia", lambda self, second, weight: weight):
            return split(stats, dying)


def _blank(stats):
    K, D = stats.reference.shape
    return MixtureParams(np.full(K, 1 / K), stats.reference, np.tile(np.eye(D), (K, 1, 1)), "full")


def shuttle(seed: int) -> np.ndarray:
    X = np.array([list(x.values()) for x, _ in datasets.Shuttle()], dtype=float)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return np.random.default_rng(seed).permutation(X)


def segments(seed: int) -> np.ndarray:
    X = np.array([list(x.values()) for x, _ in datasets.ImageSegments()], dtype=float)
    X = X[:, X.std(axis=0) > 0]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return np.random.default_rng(seed).permutation(X)


def pixels(name: str, seed: int) -> np.ndarray:
    X = load_sample_image(name).reshape(-1, 3).astype(float)
    return np.random.default_rng(seed).permutation(X)


def moving(seed: int) -> np.ndarray:
    """Ten blobs, of which three vanish and three appear elsewhere half-way."""
    rng = np.random.default_rng(seed)
    before = rng.uniform(-50, 50, (10, 4))
    after = np.vstack([before[:7], rng.uniform(-50, 50, (3, 4))])
    halves = [
        centres[rng.integers(0, 10, 40_000)] + rng.normal(size=(40_000, 4))
        for centres in (before, after)
    ]
    return np.vstack(halves)


def stream(family, fade, forgetting, X, seed):
    learner = StreamLearner(family, forgetting, seed=seed, reassignment_ratio=fade)
    state = learner.init()
    for start in range(0, len(X), BATCH):
        state, _ = learner.update(state, X[start : start + BATCH])
    return state


def table(title, streams, families, seeds) -> None:
    print(f"\n{title}")
    for name, (make, forgetting, target, K) in streams.items():
        print(f"  {name}")
        for label, family_of in families.items():
            (kind, fade), results, revived = family_of, [], []
            family = kind(K)
            for seed in range(seeds):
                X = make(seed)
                state = stream(family, fade, forgetting, X, seed)
                last = X[-target:]
                got = family.loss(family.e_step(state.params, last, np.ones(len(last))))
                best = best_fit(name, K, family, last, seed)
                results.append(got / best if family.kind == "kmeans" else best - got)
                revived.append(state.counts.revived)
            worst = max(results) if family.kind == "kmeans" else min(results)
            print(
                f"    {label:42} median {np.median(results):8.4f}  worst {worst:8.4f}"
                f"  revived {np.mean(revived):6.1f}"
            )


_FITS: dict[tuple, float] = {}


def best_fit(name, K, family, X, seed):
    key = (name, K, family.kind, seed)
    if key not in _FITS:
        plain = KMeans(K) if family.kind == "kmeans" else GaussianMixture(K)
        _FITS[key] = fit(plain, X, seed=seed, tol=1e-4, max_iter=100).loss
    return _FITS[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    none = Forgetting()
    streams = {
        "Shuttle, K 10, no forgetting": (shuttle, none, 50_000, 10),
        "Shuttle, K 10, half-life 5,000": (shuttle, HalfLife(5_000), 20_000, 10),
        "ImageSegments, K 7, no forgetting": (segments, none, 3_000, 7),
        "blobs of which 3 move, half-life 5,000": (moving, HalfLife(5_000), 20_000, 10),
    }
    pictures = {
        "china.jpg then flower.jpg, K 64, half-life 50,000": (
            lambda seed: np.vstack([pixels("china.jpg", seed), pixels("flower.jpg", seed)]),
            HalfLife(50_000),
            100_000,
            64,
        )
    }
    fades = (0.01, 0.05, 0.1, 0.2, 0.4)
    kmeans = {
        "never": (KMeans, 0.0),
        "Spark: split the heaviest": (Spark, 1.0),
        "scikit-learn: uniform draw": (UniformDraw, 1.0),
        **{f"reseed by d^2 below {fade:g} of the best": (KMeans, fade) for fade in fades},
    }
    mixtures = {
        "never": (GaussianMixture, 0.0),
        **{f"worst explained point below {fade:g}": (Poorest, fade) for fade in fades},
        **{f"split the heaviest below {fade:g}": (Heaviest, fade) for fade in fades},
        **{f"split the widest below {fade:g}": (GaussianMixture, fade) for fade in fades},
    }
    table("K-means: inertia over the batch fit's", streams | pictures, kmeans, seeds)
    table("Mixture: log-likelihood above the batch fit's", streams, mixtures, seeds)


if __name__ == "__main__":
    main()
