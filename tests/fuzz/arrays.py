"""Arrays that no caller means, through all native kernels: NaN, infinity, and any shape.

What comes out of such numbers means nothing, but a label names a cluster, and nothing is read or
written outside of the arrays, which a build with AddressSanitizer sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from streamclust import kernels
from streamclust.arrays import CovarianceType
from streamclust.kernels import choice
from streamclust.kernels.results import Assigned

_KINDS: tuple[CovarianceType, ...] = ("full", "tied", "diag", "spherical")
_ODD = (np.nan, np.inf, -np.inf, 1e300, -1e200, 1e-310, 0.0, 3e38)


def fuzz_kernels(count: int, seed: int) -> Iterator[dict[str, int]]:
    """Try so many shapes on each native kernel; yield how many steps were tried.

    Raises
    ------
    AssertionError
        With the seed and number of the one that went wrong.
    """
    tally = {"shapes": 0, "calls": 0}
    names = [name for name in kernels.available() if name != choice.NUMPY and _is_built(name)]
    for number in range(count):
        for name in names:
            try:
                with kernels.using(name), np.errstate(all="ignore"):
                    tally["calls"] += _try(
                        choice.kernels_in_use(), np.random.default_rng((seed, number))
                    )
            except Exception as error:
                where = f"kernels, {name}, seed {seed}, number {number}"
                raise AssertionError(f"{where}: {error!r}") from error
        tally["shapes"] += 1
        yield tally


def _is_built(name: str) -> bool:
    with kernels.using(name):
        library = choice.library()
    return library is not None and hasattr(library, f"assign_{name}")


def _spoiled(values: Any, rng: np.random.Generator) -> Any:
    """Return an array in which some numbers, or all, are odd ones."""
    share = rng.choice([0.0, 0.0, 0.01, 0.3, 1.0])
    odd = rng.choice(np.array(_ODD), values.shape)
    return np.where(rng.random(values.shape) < share, odd, values)


def _try(kernel: choice.Kernels, rng: np.random.Generator) -> int:
    N, K, D = (int(rng.integers(low, high)) for low, high in ((0, 300), (1, 70), (1, 40)))
    if rng.random() < 0.03:  # more than a chunk
        N, K, D = kernels.CHUNK + N // 4, 1 + K // 9, 1 + D // 6
    X, C = _spoiled(rng.normal(size=(N, D)), rng), _spoiled(rng.normal(size=(K, D)), rng)
    w, size = _spoiled(rng.random(N), rng), float(rng.integers(1, 50))
    points = X.astype(np.float32) if rng.random() < 0.5 else X
    for assigned in (kernel.assign(points, C), kernel.kmeans_step(points, w, C).assigned):
        assert ((assigned.labels >= 0) & (assigned.labels < K)).all(), "a label is no cluster"
    labels = rng.integers(0, K, N)
    kernel.squared_distances(points, C)
    kernel.cluster_moments(points, w, labels, C)
    picked = kernel.sample(w, Assigned(labels, _spoiled(rng.random(N), rng)), K, size, rng.random())
    assert len(picked.picked) <= N
    for kind in _KINDS:
        root = _spoiled(rng.random(_shape_of_root(kind, K, D)) + 0.1, rng)
        kernel.log_gaussians(points, C, root, kind)
        kernel.mixture_step(points, w, _spoiled(rng.normal(size=K), rng), C, root, kind)
    if N:
        chosen = kernel.plusplus(X, w, K, rng.random(1 + 3 * (K - 1)))
        assert ((chosen >= 0) & (chosen < N)).all(), "a choice is no point"
        kernel.swaps(X, w, C, _spoiled(rng.random(9), rng))
        _, target = kernel.moves(X, w, labels, _spoiled(rng.random(K), rng), C)
        assert ((target >= 0) & (target < K)).all(), "a target is no cluster"
    return 10


def _shape_of_root(kind: CovarianceType, K: int, D: int) -> tuple[int, ...]:
    return {"full": (K, D, D), "tied": (D, D), "diag": (K, D)}.get(kind, (K,))
