"""Directions to cluster: unit vectors around a few centres, points of any length along them."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from streamclust.arrays import Array, Labels


def unit(X: Any) -> Array:
    """Return the rows divided by their lengths."""
    X = np.asarray(X, np.float64)
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


def directions(n: int, K: int, D: int, seed: int = 0, spread: float = 0.3) -> tuple[Array, Labels]:
    """Return `n` points of lengths from 1e-3 to 1e3 around K directions, and their clusters.

    The directions are at right angles if K is at most D.
    """
    rng = np.random.default_rng(seed)
    random = np.random.default_rng(1000 + K).normal(size=(D, K))
    centres = np.linalg.qr(random)[0].T if K <= D else unit(random.T)
    owners = rng.integers(K, size=n)
    X = unit(centres[owners] + spread * rng.normal(size=(n, D)) / np.sqrt(D))
    return X * 10.0 ** rng.uniform(-3.0, 3.0, size=(n, 1)), owners


def best_loss(X: Array, w: Array, K: int) -> float:
    """Return the least mean of 1 - cos of all partitions of a few points into K clusters.

    The best centroid of a cluster is the direction of its sum, which leaves n - |sum|.
    """
    owners = np.array(list(product(range(K), repeat=len(X))))
    sums = (((owners == k) * w) @ unit(X) for k in range(K))
    lengths = np.sum([np.linalg.norm(each, axis=1) for each in sums], axis=0)
    return float((w.sum() - lengths).min() / w.sum())
