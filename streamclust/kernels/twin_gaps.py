"""Mixtures and points with gaps, in NumPy; see `streamclust.models.conditionals` for the formulas.

All points of one missingness pattern have the same regression of the missing values on the present
ones. So the sums of a pattern follow from the moments of its present features, which are computed
as for complete points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streamclust.errors import DataError
from streamclust.kernels.results import Expected, Moments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from streamclust.arrays import Array, CovarianceType, Labels, Points
    from streamclust.kernels.patterns import Patterns
    from streamclust.kernels.results import Assigned, Components, PointScores

_CELLS = 1 << 20
"""Largest number of values in an array for a chunk of patterns: 8 MiB."""


def chunks_of_patterns(absent: NDArray[np.bool_], covariances: Array) -> Iterator[slice]:
    """Yield slices of patterns: as many as have factors of at most `_CELLS` values, or one."""
    step = max(1, _CELLS // covariances.size)
    for start in range(0, len(absent), step):
        yield slice(start, min(start + step, len(absent)))


def marginal_roots(
    absent: NDArray[np.bool_], covariances: Array, kind: CovarianceType
) -> Array | None:
    """Return the Cholesky factors of the present features of each pattern; None for variances.

    The shape is (P, K, D, D), or (P, 1, D, D) for tied covariances. Rows and columns of missing
    features are those of the identity.
    """
    if kind not in ("full", "tied"):
        return None
    present, D = ~absent, absent.shape[1]
    both = present[:, None, :, None] & present[:, None, None, :]
    try:
        return np.linalg.cholesky(np.where(both, covariances.reshape(-1, D, D), np.eye(D)))
    except np.linalg.LinAlgError:
        raise DataError("a covariance is not positive definite; raise reg_covar") from None


def root_of(
    roots: Array | None, p: int, present: Labels, covariances: Array, kind: CovarianceType
) -> Array:
    """Return the factors of the present features of pattern `p`, in the shape for kernels."""
    if roots is None:
        return np.sqrt(covariances if kind == "spherical" else covariances.take(present, axis=1))
    root = roots[p].take(present, axis=1).take(present, axis=2)
    return np.ascontiguousarray(root[0] if kind == "tied" else root)


def regressions(absent: NDArray[np.bool_], covariances: Array, roots: Array) -> tuple[Array, Array]:
    """Return A = [I; B] and C of each pattern and component, zero-padded: (P, K, D, D)."""
    D = absent.shape[1]
    covariances, absent = covariances.reshape(-1, D, D), absent[:, None, :]
    inverse = _inverse_of_lower(roots)
    cross = covariances * (absent[..., None] & ~absent[..., None, :])
    whitened = cross @ inverse.swapaxes(-1, -2)
    A = whitened @ inverse
    A[..., np.arange(D), np.arange(D)] += ~absent
    C = covariances * (absent[..., None] & absent[..., None, :])
    return A, C - whitened @ whitened.swapaxes(-1, -2)


def _inverse_of_lower(L: Array) -> Array:
    """Return the inverses of lower triangles (..., D, D), by forward substitution."""
    inverse = np.zeros_like(L)
    for i in range(L.shape[-1]):
        row = -(L[..., i, None, :i] @ inverse[..., :i, :])[..., 0, :]
        row[..., i] += 1.0
        inverse[..., i, :] = row / L[..., i, i, None]
    return inverse


class Complete(NamedTuple):
    """The kernels for complete points, which the kernels for points with gaps call."""

    mixture_step: Callable[..., tuple[Moments, float]]
    log_gaussians: Callable[..., Array]


def expected_step(
    complete: Complete,
    X: Points,
    w: Array,
    patterns: Patterns,
    components: Components,
    ridge: Array,
    background: Array | None = None,
    scores: PointScores | None = None,
) -> Expected:
    """Add the expected moments of the chunks of patterns, in their order."""
    _, means, covariances, _, kind = components
    total = Moments(np.zeros(len(means)), np.zeros(means.shape), np.zeros(covariances.shape))
    log_likelihood, entropy = 0.0, 0.0
    entropies = entropies_of_patterns(
        patterns.absent, components, marginal_log_dets(patterns.absent, components)
    )
    log_backgrounds = np.full(len(patterns), -np.inf) if background is None else background
    for part in chunks_of_patterns(patterns.absent, covariances):
        absent, rows = patterns.absent[part], patterns.rows[part]
        roots = marginal_roots(absent, covariances, kind)
        moments, score = _present_moments(
            complete, X, w, absent, rows, components, roots, log_backgrounds[part]
        )
        log_likelihood += score
        entropy += float((moments.weight * entropies[part]).sum())
        if roots is None:
            expected = _EXPECTED[kind](absent, moments, covariances, ridge)
        else:
            A, C = regressions(absent, covariances, roots)
            diagonal = np.arange(absent.shape[1])
            C[..., diagonal, diagonal] -= absent[:, None, :] * ridge
            expected = _of_regressions(A, C, moments, kind)
        total = Moments(*(a + b for a, b in zip(total, expected, strict=True)))
    if kind in ("full", "tied"):  # the triangles differ by rounding
        total = total._replace(second=0.5 * (total.second + total.second.swapaxes(-1, -2)))
    if scores is not None:
        _score_points(complete, X, patterns, components, entropies, scores)
    return Expected(total, log_likelihood, entropy)


def _score_points(
    complete: Complete,
    X: Points,
    patterns: Patterns,
    components: Components,
    entropies: Array,
    scores: PointScores,
) -> None:
    """Write the rows of points with gaps to `scores`."""
    joint = np.zeros((len(X), len(components.means)))
    marginal_log_gaussians(complete.log_gaussians, X, patterns, components, joint)
    for p, rows in enumerate(patterns.rows):
        joint_of_pattern = components.log_weights + joint[rows]
        top = joint_of_pattern.max(axis=1, keepdims=True)
        shares = np.exp(joint_of_pattern - top)
        total = shares.sum(axis=1)
        scores.log_density[rows] = top[:, 0] + np.log(total)
        if scores.entropy is not None:
            scores.entropy[rows] = (shares * entropies[p]).sum(axis=1) / total


def entropies_of_patterns(
    absent: NDArray[np.bool_], components: Components, marginal: Array
) -> Array:
    """Return the entropy of the missing values of each pattern in each component, (P, K).

    `marginal` is the result of `marginal_log_dets`.
    """
    (K, D), kind, root = components.means.shape, components.kind, components.root
    if kind in ("full", "tied"):
        root = np.diagonal(root, axis1=-2, axis2=-1)
    logs = np.log(root)
    whole = 2.0 * (D * logs if kind == "spherical" else logs.sum(axis=-1))
    log_dets = np.broadcast_to(whole - marginal, (len(absent), K))
    missing = absent.sum(axis=1)[:, None]
    return np.asarray(0.5 * (float(np.log(2.0 * np.pi) + 1.0) * missing + log_dets))


def _present_moments(
    complete: Complete,
    X: Points,
    w: Array,
    absent: NDArray[np.bool_],
    rows: list[Labels],
    components: Components,
    roots: Array | None,
    background: Array,
) -> tuple[Moments, float]:
    """Return the moments of the present features, zero-padded, one pattern after the other."""
    log_weights, means, covariances, _, kind = components
    weight, first = np.zeros((len(rows), len(means))), np.zeros((len(rows), *means.shape))
    second, log_likelihood = np.zeros((len(rows), *covariances.shape)), 0.0
    for p, points in enumerate(rows):
        present = np.flatnonzero(~absent[p])
        root = root_of(roots, p, present, covariances, kind)
        values = X.take(points, axis=0).take(present, axis=1)
        mixture = (log_weights, means.take(present, axis=1), root, kind)
        log_background = float(background[p])
        of_pattern, score = complete.mixture_step(
            values, w[points], *mixture, background=log_background
        )
        weight[p], first[p][:, present] = of_pattern.weight, of_pattern.first
        if roots is not None:
            second[p][..., present[:, None], present] = of_pattern.second
        elif kind == "diag":
            second[p][:, present] = of_pattern.second
        else:
            second[p] = of_pattern.second * len(present)  # the sum over the features
        log_likelihood += score
    return Moments(weight, first, second), log_likelihood


def _of_regressions(A: Array, C: Array, moments: Moments, kind: CovarianceType) -> Moments:
    weight, first, second = moments
    if kind == "tied":
        A, mass = A[:, 0], weight.sum(axis=1)[:, None, None]
        first = (first @ A.swapaxes(-1, -2)).sum(axis=0)
        second = (A @ second @ A.swapaxes(-1, -2) + mass * C[:, 0]).sum(axis=0)
    else:
        first = (A @ first[..., None])[..., 0].sum(axis=0)
        second = (A @ second @ A.swapaxes(-1, -2) + weight[..., None, None] * C).sum(axis=0)
    return Moments(weight.sum(axis=0), first, second)


def _of_variances(
    absent: NDArray[np.bool_], moments: Moments, variances: Array, ridge: Array
) -> Moments:
    weight, first, second = moments
    missing = weight.T @ absent  # mass of the missing values, (K, D)
    raw = np.maximum(variances - ridge, 0.0)
    return Moments(weight.sum(axis=0), first.sum(axis=0), second.sum(axis=0) + missing * raw)


def _of_spheres(
    absent: NDArray[np.bool_], moments: Moments, variances: Array, ridge: Array
) -> Moments:
    weight, first, second = moments
    missing = weight.T @ absent.sum(axis=1)
    raw = np.maximum(variances - ridge.mean(), 0.0)
    second = (second.sum(axis=0) + missing * raw) / absent.shape[1]
    return Moments(weight.sum(axis=0), first.sum(axis=0), second)


_EXPECTED = {"diag": _of_variances, "spherical": _of_spheres}
"""Moments of the present features of each pattern -> the expected moments of whole points."""


def marginal_log_gaussians(
    log_gaussians: Callable[..., Array],
    X: Points,
    patterns: Patterns,
    components: Components,
    out: Array,
) -> None:
    """Write the rows (OUT) of points with gaps, one pattern after the other."""
    _, means, covariances, _, kind = components
    for part in chunks_of_patterns(patterns.absent, covariances):
        roots = marginal_roots(patterns.absent[part], covariances, kind)
        for p, points in enumerate(patterns.rows[part]):
            present = np.flatnonzero(~patterns.absent[part][p])
            root = root_of(roots, p, present, covariances, kind)
            values = X.take(points, axis=0).take(present, axis=1)
            out[points] = log_gaussians(values, means.take(present, axis=1), root, kind)


def marginal_log_dets(absent: NDArray[np.bool_], components: Components) -> Array:
    """Return log det of the present features' covariances, shape (P, K), or (P, 1) if tied."""
    _, means, covariances, _, kind = components
    if kind in ("full", "tied"):
        log_dets = []
        for part in chunks_of_patterns(absent, covariances):
            roots = marginal_roots(absent[part], covariances, kind)
            log_dets.append(2.0 * np.log(np.diagonal(roots, axis1=-2, axis2=-1)).sum(axis=-1))  # type: ignore[arg-type]
        return np.concatenate([np.empty((0, 1 if kind == "tied" else len(means))), *log_dets])
    logs = np.log(covariances.reshape(len(means), -1))
    return np.asarray(~absent @ np.broadcast_to(logs, means.shape).T)


def split_rows(X: Points) -> tuple[Labels, Labels]:
    """Return the rows of points without gaps and the rows of points with gaps, both ascending."""
    gappy = np.isnan(X).any(axis=1)
    return np.flatnonzero(~gappy), np.flatnonzero(gappy)


def partial_step(
    cluster_moments: Callable[..., tuple[Array, Array]],
    X: Points,
    w: Array | None,
    rows: Labels,
    centroids: Array,
    assigned: Assigned,
) -> tuple[Array, Array, float]:
    """Assign, then add; the coordinate of the centroid replaces a missing value."""
    step = max(1, _CELLS // len(centroids))
    for start in range(0, len(rows), step):
        own = rows[start : start + step]
        distances, present = _partial_distances(X[own], centroids)
        assigned.labels[own] = distances.argmin(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # NaN for a point without a value
            assigned.squared_distances[own] = distances.min(axis=1) * (
                X.shape[1] / present.sum(axis=1)
            )
    if w is None:
        return np.zeros(len(centroids)), np.zeros(centroids.shape), 0.0
    labels, mass, points = assigned.labels[rows], w[rows], X[rows]
    imputed = np.where(np.isnan(points), centroids[labels], points)
    weight, first = cluster_moments(imputed, mass, labels, centroids)
    # Added one by one: the sum of a matrix product depends on the machine.
    nothing = np.zeros(len(mass), np.intp)
    return weight, first, float(np.bincount(nothing, mass * assigned.squared_distances[rows], 1)[0])


def _partial_distances(X: Points, centroids: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return the sums of the present squared differences, from the first feature on."""
    total, difference = np.zeros((2, len(X), len(centroids)))
    present = ~np.isnan(X)
    values = np.where(present, X, 0.0)
    for x, is_present, u in zip(values.T, present.T, centroids.T, strict=True):
        np.subtract(x[:, None], u, out=difference)
        difference *= is_present[:, None]
        difference *= difference
        total += difference
    return total, present
