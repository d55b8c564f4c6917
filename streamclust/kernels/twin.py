"""The kernels in NumPy: the reference for tests, and the fallback without a native library.

Points are processed in tiles of a fixed number of rows, so memory is bounded. The sums of a batch
are the sums of its chunks, added in their order. The bits of a result don't depend on the number of
BLAS threads, because matrix products are cut into pieces that BLAS computes in one thread. This
holds for up to 64 features; LAPACK's factors of larger covariances may depend on the number of
threads. Parameters and results are described in `streamclust.kernels`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from streamclust.kernels import twin_gaps, twin_seeding
from streamclust.kernels.chunks import CHUNK, chunks
from streamclust.kernels.patterns import sort_by_pattern
from streamclust.kernels.results import Assigned, ClusterSums, Moments, Sampled, Sums
from streamclust.kernels.stored import StoredPoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from streamclust.arrays import Array, CovarianceType, Labels, Points
    from streamclust.kernels.patterns import Patterns
    from streamclust.kernels.results import Components, Expected, Mixture, PointScores

_TILE_CELLS = 1 << 18
"""Number of distances or densities per tile: 2 MiB, so that a tile stays in cache."""

_ONE_THREAD = 1 << 18
"""Number of multiplications in a product up to which OpenBLAS uses one thread."""

_FARTHEST = 1e200
"""Largest squared Mahalanobis distance; larger distances are limited to this value."""


def _tiles(n: int, K: int, D: int) -> Iterator[slice]:
    rows = max(1, _TILE_CELLS // max(K, D))
    for start in range(0, n, rows):
        yield slice(start, start + rows)


def _pieces(n: int, D: int) -> Iterator[tuple[slice, slice]]:
    """Cut `n` rows and `D` columns so that rows * columns * D is at most `_ONE_THREAD`."""
    columns = min(D, 64)
    rows = max(1, min(4096, _ONE_THREAD // (D * columns)))
    for column in range(0, D, columns):
        for row in range(0, n, rows):
            yield slice(row, row + rows), slice(column, column + columns)


def squared_distances(X: Points, C: Array) -> Array:
    """Add the squares feature by feature, which is the canonical order."""
    out = np.zeros((len(X), len(C)))
    for tile in _tiles(len(X), len(C), X.shape[1]):
        _canonical(X[tile].T[:, :, None], C.T[:, None, :], out[tile])
    return out


def plusplus(X: Array, w: Array, K: int, uniform: Array) -> Labels:
    """See `streamclust.kernels.plusplus`."""
    return twin_seeding.plusplus(squared_distances, X, w, K, uniform)


def swaps(X: Array, w: Array, centroids: Array, uniform: Array) -> Array:
    """See `streamclust.kernels.swaps`."""
    return twin_seeding.swaps(squared_distances, X, w, centroids, uniform)


def moves(
    X: Array, w: Array, labels: Labels, weight: Array, centroids: Array
) -> tuple[Array, Labels]:
    """See `streamclust.kernels.moves`."""
    return twin_seeding.moves(squared_distances, X, w, labels, weight, centroids)


def assign(X: Points, centroids: Array) -> Assigned:
    """Compare distances from a matrix product; where rounding could matter, canonical ones."""
    shift = centroids.mean(axis=0)
    C = centroids - shift
    c_sq = np.einsum("kd,kd->k", C, C)
    labels = np.empty(len(X), dtype=np.intp)
    nearest = np.empty(len(X))
    for tile in _tiles(len(X), *C.shape):
        best, close = _nearest(X[tile] - shift, C, c_sq)
        _decide(X[tile], centroids, close, best)
        labels[tile] = best
        nearest[tile] = canonical(X[tile], centroids[best])
    return Assigned(labels, nearest)


def canonical(X: Points, C: Array) -> Array:
    """Return ||x_n - c_n||^2, shape (N,), summed from the first feature to the last."""
    return _canonical(X.T, C.T, np.zeros(len(X)))


def _canonical(X: Points, C: Array, total: Array) -> Array:
    for x, c in zip(X, C, strict=True):
        difference = x - c
        total += difference * difference
    return total


def _nearest(T: Array, C: Array, c_sq: Array) -> tuple[Labels, Labels]:
    """Return the argmin, and the rows of `T` where rounding could change it."""
    partial = T @ (-2.0 * C.T)
    partial += c_sq
    best = partial.argmin(axis=1)
    size = (np.sqrt(np.einsum("nd,nd->n", T, T)) + np.sqrt(c_sq.max())) ** 2
    rounding = 4.0 * (T.shape[1] + 2) * np.finfo(np.float64).eps
    limit = partial[np.arange(len(T)), best] + rounding * size
    near = partial <= limit[:, None]
    if np.count_nonzero(near) == len(T):
        return best, np.empty(0, dtype=np.intp)
    return best, np.flatnonzero(near.sum(axis=1) > 1)


def _decide(X: Points, C: Array, rows: Labels, best: Labels) -> None:
    """Set `best` (OUT) at `rows` to the argmin of the canonical distances."""
    step = max(1, _TILE_CELLS // len(C))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        total = np.zeros((len(part), len(C)))
        best[part] = _canonical(X[part].T[:, :, None], C.T[:, None, :], total).argmin(axis=1)


def cluster_moments(X: Points, w: Array, labels: Labels, reference: Array) -> tuple[Array, Array]:
    """Add each chunk in the order of its points."""
    K, D = reference.shape
    weight, first = np.zeros(K), np.zeros(K * D)
    for chunk in chunks(len(X)):
        own, mass = labels[chunk], w[chunk]
        weighted = mass[:, None] * (X[chunk] - reference[own])
        cells = own[:, None] * D + np.arange(D)
        weight += np.bincount(own, weights=mass, minlength=K)
        first += np.bincount(cells.ravel(), weights=weighted.ravel(), minlength=K * D)
    return weight, first.reshape(K, D)


def kmeans_step(X: Points, w: Array, centroids: Array) -> ClusterSums:
    """Assign, then add. The inertia of a chunk is added in eight lanes, point n in lane n mod 8."""
    assigned = assign(X, centroids)
    weight, first = cluster_moments(X, w, assigned.labels, centroids)
    inertia, cost = 0.0, w * assigned.squared_distances
    for chunk in chunks(len(X)):
        lane = np.arange(len(cost[chunk])) % 8
        inertia += sum(np.bincount(lane, weights=cost[chunk], minlength=8).tolist())
    return ClusterSums(weight, first, inertia, assigned)


def kmeans_sums(X: Points | StoredPoints, w: Array, centroids: Array) -> Sums:
    """Return the sums of `kmeans_step`."""
    X = X.read() if isinstance(X, StoredPoints) else X
    return Sums(*kmeans_step(X, w, centroids)[:3])


def interleave(columns: Sequence[NDArray[Any]], out: Points) -> None:
    """Write the columns piece by piece, so that the rows stay in cache."""
    step = max(1, _TILE_CELLS // max(1, len(columns)))
    for start in range(0, len(out), step):
        rows = slice(start, start + step)
        for place, column in enumerate(columns):
            out[rows, place] = column[rows]


def sample(w: Array, assigned: Assigned, n_clusters: int, size: float, start: float) -> Sampled:
    """Sum in the order of the points; if the grid picks none, return the most probable point."""
    labels, distances = assigned
    if not len(w):
        return Sampled(np.empty(0, np.intp), np.empty(0))
    weight, cost = np.bincount(labels, weights=w, minlength=n_clusters), w * distances
    total = float(np.add.accumulate(cost)[-1])
    tau = size / (np.count_nonzero(weight) / n_clusters + (1.0 if total > 0.0 else 0.0))
    with np.errstate(divide="ignore", over="ignore"):  # for a cluster without points
        share = tau / (weight * n_clusters)
    probability = np.fmin(1.0, w * share[labels] + tau * (cost / (total if total > 0.0 else 1.0)))
    ticks = np.floor(np.add.accumulate(probability) + start)
    picked = np.flatnonzero(np.diff(ticks, prepend=0.0))
    if not len(picked):
        picked = np.array([probability.argmax()])
    return Sampled(picked, probability[picked])


def log_gaussians(X: Points, means: Array, cholesky: Array, kind: CovarianceType) -> Array:
    """Whiten the differences, one component after the other."""
    K, D = means.shape
    out = np.empty((len(X), K))
    for k in range(K):
        root = cholesky if kind == "tied" else cholesky[k]
        whitened, log_det = _WHITEN[kind](X - means[k], root)
        # fmin: NaN, from an overflow within the sum, is as far as `_FARTHEST`.
        distance = np.fmin(np.einsum("nd,nd->n", whitened, whitened), _FARTHEST)
        out[:, k] = -0.5 * (distance + D * np.log(2.0 * np.pi)) - log_det
    return out


def _whiten_matrix(difference: Array, root: Array) -> tuple[Array, float]:
    from scipy.linalg.lapack import dtrtri  # imported here: this is the slowest import

    inverse = dtrtri(root, lower=1)[0]  # of a triangle: as accurate as solving
    whitened = np.empty_like(difference)
    for rows, panel in _pieces(*difference.shape):
        whitened[rows, panel] = difference[rows] @ inverse[panel].T
    return whitened, float(np.log(np.diagonal(root)).sum())


def _whiten_diag(difference: Array, root: Array) -> tuple[Array, float]:
    return difference / root, float(np.log(root).sum())


def _whiten_spherical(difference: Array, root: Array) -> tuple[Array, float]:
    return difference / root, difference.shape[1] * float(np.log(root))


_WHITEN: dict[str, Callable[[Array, Array], tuple[Array, float]]] = {
    "full": _whiten_matrix,
    "tied": _whiten_matrix,
    "diag": _whiten_diag,
    "spherical": _whiten_spherical,
}
"""Difference (N, D) and root of Sigma -> L^-1 (x - mu), and log det L."""


def normalise(joint: Array, background: Array | float = -np.inf) -> tuple[Array, Array]:
    """Return responsibilities gamma_nk, shape (N, K), and log sum_k exp(joint_nk), shape (N,).

    The rows of gamma sum to one for any magnitude of `joint`; single components may be -inf. The
    background is one number, or one per row. Its exponential is another term of each sum, so the
    rows of gamma sum to less than one.
    """
    top, noisy = joint.max(axis=1), np.any(background > -np.inf)
    if noisy:
        top = np.maximum(top, background)
    shares = np.exp(joint - top[:, None])
    total = shares.sum(axis=1)
    if noisy:
        total += np.exp(background - top)
    return shares / total[:, None], top + np.log(total)


def mixture_step(
    X: Points,
    w: Array,
    *mixture: *Mixture,
    background: float = -np.inf,
    log_density: Array | None = None,
) -> tuple[Moments, float]:
    """Add the steps of the chunks."""

    def step(start: int) -> tuple[Moments, float]:
        part = slice(start, start + CHUNK)
        density = None if log_density is None else log_density[part]
        return _chunk_step(X[part], w[part], density, *mixture, background=background)

    total, log_likelihood = step(0)
    for start in range(CHUNK, len(X), CHUNK):
        part, score = step(start)
        total = Moments(*(sums + more for sums, more in zip(total, part, strict=True)))
        log_likelihood += score
    return total, log_likelihood


def _chunk_step(
    X: Points,
    w: Array,
    density: Array | None,
    log_weights: Array,
    means: Array,
    cholesky: Array,
    kind: CovarianceType,
    *,
    background: float,
) -> tuple[Moments, float]:
    """Return the moments and the log-likelihood of a chunk; write `density` if it is given."""
    weight, first = np.zeros(len(means)), np.zeros_like(means)
    second: Array = np.zeros(())
    log_likelihood = 0.0
    for tile in _tiles(len(X), *means.shape):
        joint = log_weights + log_gaussians(X[tile], means, cholesky, kind)
        responsibilities, log_density = normalise(joint, background)
        if density is not None:
            density[tile] = log_density if background == -np.inf else normalise(joint)[1]
        log_likelihood += float((w[tile] * log_density).sum())
        part = mixture_moments(X[tile], w[tile, None] * responsibilities, means, kind)
        weight += part.weight
        first += part.first
        second = second + part.second
    return Moments(weight, first, second), log_likelihood


def expected_step(
    X: Points,
    w: Array,
    patterns: Patterns,
    components: Components,
    ridge: Array,
    background: Array | None = None,
    scores: PointScores | None = None,
) -> Expected:
    """See `streamclust.kernels.expected_step`."""
    complete = twin_gaps.Complete(mixture_step, log_gaussians)
    return twin_gaps.expected_step(complete, X, w, patterns, components, ridge, background, scores)


marginal_log_gaussians = partial(twin_gaps.marginal_log_gaussians, log_gaussians)
marginal_log_dets = twin_gaps.marginal_log_dets

split_rows = twin_gaps.split_rows


def find_patterns(X: Points) -> Patterns:
    """See `streamclust.kernels.find_patterns`."""
    return sort_by_pattern(X, *split_rows(X))


def partial_step(
    X: Points, w: Array | None, rows: Labels, centroids: Array, assigned: Assigned
) -> tuple[Array, Array, float]:
    """See `streamclust.kernels.partial_step`."""
    return twin_gaps.partial_step(cluster_moments, X, w, rows, centroids, assigned)


def mixture_moments(X: Points, weighted: Array, reference: Array, kind: CovarianceType) -> Moments:
    """Return the three moments about `reference` under `weighted` (N, K) = w_n gamma_nk."""
    first = np.empty_like(reference)
    parts = []
    for k in range(len(reference)):
        difference = X - reference[k]
        scaled = weighted[:, k, None] * difference
        first[k] = scaled.sum(axis=0)
        parts.append(_SCATTER[kind](scaled, difference))
    second = np.sum(parts, axis=0) if kind == "tied" else np.stack(parts)
    return Moments(weighted.sum(axis=0), first, second)


def _scatter_matrix(scaled: Array, difference: Array) -> Array:
    D = difference.shape[1]
    out = np.zeros((D, D))
    for rows, panel in _pieces(*difference.shape):
        out[:, panel] += scaled[rows].T @ difference[rows, panel]
    return 0.5 * (out + out.T)  # the two triangles differ by rounding


_SCATTER: dict[str, Callable[[Array, Array], Array]] = {
    "full": _scatter_matrix,
    "tied": _scatter_matrix,
    "diag": lambda scaled, difference: np.einsum("nd,nd->d", scaled, difference),
    "spherical": lambda scaled, difference: (
        np.einsum("nd,nd->", scaled, difference) / scaled.shape[1]
    ),
}
"""w gamma (x - r) and (x - r), both (N, D) -> the second moment of one component."""
