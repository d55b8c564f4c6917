"""Mixtures and points with gaps, in NumPy; see `streamclust.models.conditionals` for the formulas.

The points of one missingness pattern share the coefficients of the regression of the missing values
on the present ones. So the sums of a pattern follow from the moments of its present features, which
are computed as for complete points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamclust.errors import DataError
from streamclust.kernels.results import Moments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from streamclust.arrays import Array, CovarianceType, Labels, Points
    from streamclust.kernels.patterns import Patterns
    from streamclust.kernels.results import Mixture

_CELLS = 1 << 20
"""Largest number of cells of an array for a chunk of patterns: 8 MiB."""


def chunks_of_patterns(absent: NDArray[np.bool_], covariances: Array) -> Iterator[slice]:
    """Yield slices of patterns whose factors have at most `_CELLS` cells, or single patterns."""
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
    """Return the factors of pattern `p`, as kernels take them."""
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


def expected_step(
    step: Callable[..., tuple[Moments, float]],
    X: Points,
    w: Array,
    patterns: Patterns,
    mixture: Mixture,
    floor: Array,
) -> tuple[Moments, float]:
    """Add the expected moments of one chunk of patterns after the other."""
    _, means, covariances, kind = mixture
    total = Moments(np.zeros(len(means)), np.zeros(means.shape), np.zeros(covariances.shape))
    log_likelihood = 0.0
    for part in chunks_of_patterns(patterns.absent, covariances):
        absent, rows = patterns.absent[part], patterns.rows[part]
        roots = marginal_roots(absent, covariances, kind)
        moments, score = _present_moments(step, X, w, absent, rows, mixture, roots)
        if roots is None:
            expected = _EXPECTED[kind](absent, moments, covariances, floor)
        else:
            A, C = regressions(absent, covariances, roots)
            diagonal = np.arange(absent.shape[1])
            C[..., diagonal, diagonal] -= absent[:, None, :] * floor
            expected = _of_regressions(A, C, moments, kind)
        total = Moments(*(a + b for a, b in zip(total, expected, strict=True)))
        log_likelihood += score
    return total, log_likelihood


def _present_moments(
    step: Callable[..., tuple[Moments, float]],
    X: Points,
    w: Array,
    absent: NDArray[np.bool_],
    rows: list[Labels],
    mixture: Mixture,
    roots: Array | None,
) -> tuple[Moments, float]:
    """Return the moments of the present features, zero-padded, one pattern after the other."""
    log_weights, means, covariances, kind = mixture
    weight, first = np.zeros((len(rows), len(means))), np.zeros((len(rows), *means.shape))
    second, log_likelihood = np.zeros((len(rows), *covariances.shape)), 0.0
    for p, own in enumerate(rows):
        present = np.flatnonzero(~absent[p])
        root = root_of(roots, p, present, covariances, kind)
        values = X.take(own, axis=0).take(present, axis=1)
        found, score = step(values, w[own], log_weights, means.take(present, axis=1), root, kind)
        weight[p], first[p][:, present] = found.weight, found.first
        if roots is not None:
            second[p][..., present[:, None], present] = found.second
        elif kind == "diag":
            second[p][:, present] = found.second
        else:
            second[p] = found.second * len(present)  # the sum over the features
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
    absent: NDArray[np.bool_], moments: Moments, variances: Array, floor: Array
) -> Moments:
    weight, first, second = moments
    missing = weight.T @ absent  # mass of the missing values, (K, D)
    raw = np.maximum(variances - floor, 0.0)
    return Moments(weight.sum(axis=0), first.sum(axis=0), second.sum(axis=0) + missing * raw)


def _of_spheres(
    absent: NDArray[np.bool_], moments: Moments, variances: Array, floor: Array
) -> Moments:
    weight, first, second = moments
    missing = weight.T @ absent.sum(axis=1)
    raw = np.maximum(variances - floor.mean(), 0.0)
    second = (second.sum(axis=0) + missing * raw) / absent.shape[1]
    return Moments(weight.sum(axis=0), first.sum(axis=0), second)


_EXPECTED = {"diag": _of_variances, "spherical": _of_spheres}
"""Moments of the present features of each pattern -> the expected moments of whole points."""


def marginal_log_gaussians(
    log_gaussians: Callable[..., Array],
    X: Points,
    patterns: Patterns,
    means: Array,
    covariances: Array,
    kind: CovarianceType,
    out: Array,
) -> None:
    """Write the rows (OUT) of points with gaps, one pattern after the other."""
    for part in chunks_of_patterns(patterns.absent, covariances):
        roots = marginal_roots(patterns.absent[part], covariances, kind)
        for p, own in enumerate(patterns.rows[part]):
            present = np.flatnonzero(~patterns.absent[part][p])
            root = root_of(roots, p, present, covariances, kind)
            values = X.take(own, axis=0).take(present, axis=1)
            out[own] = log_gaussians(values, means.take(present, axis=1), root, kind)


def marginal_log_dets(
    absent: NDArray[np.bool_], means: Array, covariances: Array, kind: CovarianceType
) -> Array:
    """Return log det of the present features' covariances, shape (P, K), or (P, 1) if tied."""
    if kind in ("full", "tied"):
        found = []
        for part in chunks_of_patterns(absent, covariances):
            roots = marginal_roots(absent[part], covariances, kind)
            found.append(2.0 * np.log(np.diagonal(roots, axis1=-2, axis2=-1)).sum(axis=-1))  # type: ignore[arg-type]
        return np.concatenate(found)
    logs = np.log(covariances.reshape(len(means), -1))
    return np.asarray(~absent @ np.broadcast_to(logs, means.shape).T)
