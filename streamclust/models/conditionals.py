r"""Gaussian mixtures and points with gaps: marginal densities and conditional moments.

Of a point x, the values x_o are present and x_m are missing at random. Each component's marginal
density of x_o gives the responsibilities. The e-step adds the expected moments of the whole point,
given x_o (Ghahramani & Jordan 1994; Little & Rubin 2019, section 11.2):

    x^_m = mu_m + B (x_o - mu_o),    B = Sigma_mo Sigma_oo^-1,    x^_o = x_o
    C    = Sigma_mm - B Sigma_om
    first  = sum_n w_n gamma_n (x^_n - mu)
    second = sum_n w_n gamma_n ((x^_n - mu)(x^_n - mu)^T + C)

The points of one missingness pattern share B and C. So their sums follow from the moments of x_o,
which the kernels for complete points compute in |o| dimensions: with A = [I; B],

    first = A first_o,    second = A second_oo A^T + weight C.

One Cholesky factor per pattern and component gives the densities, B and C. Patterns are handled in
chunks of bounded memory. `docs/internals/missing.md` has the sources and the limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from streamclust import kernels
from streamclust.errors import DataError
from streamclust.models.covariance import COVARIANCES
from streamclust.models.patterns import Patterns, patterns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from streamclust.arrays import Array, CovarianceType, Points

_CELLS = 1 << 20
"""Largest number of cells of an array for a chunk of patterns or of rows: 8 MiB."""


class Mixture(Protocol):
    """The parameters of a mixture; see `streamclust.models.gaussian_mixture.MixtureParams`."""

    @property
    def means(self) -> Array:
        """Means, shape (K, D)."""

    @property
    def covariances(self) -> Array:
        """Covariances, in the shape of their type."""

    @property
    def covariance_type(self) -> CovarianceType:
        """'full', 'tied', 'diag' or 'spherical'."""

    @property
    def root(self) -> Array:
        """Cholesky factors, or standard deviations."""

    @property
    def log_weights(self) -> Array:
        """Logarithms of the mixing weights, shape (K,)."""


class _Chunk(NamedTuple):
    """Patterns of a chunk, (P, D), and the factors of their marginal covariances.

    `roots` is (P, K, D, D) for full, (P, 1, D, D) for tied covariances. Rows and columns of
    missing features are those of the identity. For variances it is empty.
    """

    absent: NDArray[np.bool_]
    roots: Array

    def root(self, params: Mixture, p: int, present: NDArray[np.intp]) -> Array:
        """Return the factors of the features that pattern `p` has, as kernels take them."""
        kind = params.covariance_type
        if kind == "spherical":
            return params.root
        if kind == "diag":
            return params.root.take(present, axis=1)
        root = self.roots[p].take(present, axis=1).take(present, axis=2)
        return np.ascontiguousarray(root[0] if kind == "tied" else root)


def _chunks(params: Mixture, groups: Patterns) -> list[tuple[slice, _Chunk]]:
    K, D = params.means.shape
    wide = params.covariance_type in ("full", "tied")
    cells = (K if params.covariance_type != "tied" else 1) * D * (D if wide else 1)
    return [
        (part, _Chunk(groups.absent[part], _roots(params, groups.absent[part])))
        for part in groups.chunks(cells, _CELLS)
    ]


def _matrices(params: Mixture) -> Array:
    return params.covariances.reshape(-1, *params.covariances.shape[-2:])


def _roots(params: Mixture, absent: NDArray[np.bool_]) -> Array:
    if params.covariance_type not in ("full", "tied"):
        return np.empty(0)
    present = ~absent
    both = present[:, None, :, None] & present[:, None, None, :]
    marginal = np.where(both, _matrices(params), np.eye(absent.shape[1]))
    return COVARIANCES[params.covariance_type].root(marginal)


def _regressions(params: Mixture, chunk: _Chunk, floor: Array | float) -> tuple[Array, Array]:
    """Return A and C of each pattern and component, zero-padded: (P, K, D, D), K = 1 if tied.

    `floor` (D,), the part of the variances that the m-step has added, is left out of C.
    """
    covariances, absent = _matrices(params), chunk.absent[:, None, :]
    present = ~absent
    inverse = _inverse_of_lower(chunk.roots)
    cross = covariances * (absent[..., None] & present[..., None, :])
    whitened = cross @ inverse.swapaxes(-1, -2)
    A = whitened @ inverse
    diagonal = np.arange(absent.shape[-1])
    A[..., diagonal, diagonal] += present
    C = covariances * (absent[..., None] & absent[..., None, :])
    C = C - whitened @ whitened.swapaxes(-1, -2)
    C[..., diagonal, diagonal] -= absent * floor
    return A, C


def _inverse_of_lower(L: Array) -> Array:
    """Return the inverses of lower triangles (..., D, D), by forward substitution."""
    inverse = np.zeros_like(L)
    for i in range(L.shape[-1]):
        row = -(L[..., i, None, :i] @ inverse[..., :i, :])[..., 0, :]
        row[..., i] += 1.0
        inverse[..., i, :] = row / L[..., i, i, None]
    return inverse


def e_step(
    params: Mixture, X: Points, w: Array, floor: Array | float = 0.0
) -> tuple[kernels.Moments, float]:
    """Return the expected moments about the means, and sum_n w_n log p(x_o) of all points.

    Complete points are summed first, as without gaps; then the patterns in their order.

    Parameters
    ----------
    params : Mixture
    X, w : arrays of shape (N, D) and (N,)
        NaN is a missing value.
    floor : array of shape (D,), optional
        The floor in `params.covariances`; see `GaussianMixture.reg_covar`. The m-step adds it
        again, so the expected moments must not have it: a feature that is always missing in a
        component would get it once per step.
    """
    groups = patterns(X)
    mixture = (params.log_weights, params.means, params.root, params.covariance_type)
    rows = groups.complete
    total, log_likelihood = kernels.mixture_step(X.take(rows, axis=0), w[rows], *mixture)
    for part, chunk in _chunks(params, groups):
        moments, score = _step_of_patterns(params, X, w, groups.rows[part], chunk)
        expected = _EXPECTED[params.covariance_type](params, chunk, moments, floor)
        total = kernels.Moments(*(a + b for a, b in zip(total, expected, strict=True)))
        log_likelihood += score
    return total, log_likelihood


def _step_of_patterns(
    params: Mixture, X: Points, w: Array, rows: list[NDArray[np.intp]], chunk: _Chunk
) -> tuple[kernels.Moments, float]:
    """Return the moments of the present features, zero-padded, one pattern after the other."""
    (K, D), P, kind = params.means.shape, len(rows), params.covariance_type
    shape = {"full": (K, D, D), "tied": (D, D), "diag": (K, D), "spherical": (K,)}[kind]
    weight, first, second = np.zeros((P, K)), np.zeros((P, K, D)), np.zeros((P, *shape))
    log_likelihood = 0.0
    for p, own in enumerate(rows):
        present = np.flatnonzero(~chunk.absent[p])
        moments, score = kernels.mixture_step(
            _present(X, own, present),
            w[own],
            params.log_weights,
            params.means.take(present, axis=1),
            chunk.root(params, p, present),
            kind,
        )
        weight[p], first[p][:, present] = moments.weight, moments.first
        if kind in ("full", "tied"):
            second[p][..., present[:, None], present] = moments.second
        elif kind == "diag":
            second[p][:, present] = moments.second
        else:
            second[p] = moments.second * len(present)  # the sum over the features
        log_likelihood += score
    return kernels.Moments(weight, first, second), log_likelihood


def _present(X: Points, rows: NDArray[np.intp], present: NDArray[np.intp]) -> Points:
    if not len(present):
        raise DataError("a point has no value: all its values are missing; drop such points")
    return X.take(rows, axis=0).take(present, axis=1)


def _expected_full(
    params: Mixture, chunk: _Chunk, moments: kernels.Moments, floor: Array | float
) -> kernels.Moments:
    A, C = _regressions(params, chunk, floor)
    weight, first, second = moments
    first = (A @ first[..., None])[..., 0].sum(axis=0)
    second = (A @ second @ A.swapaxes(-1, -2) + weight[..., None, None] * C).sum(axis=0)
    return kernels.Moments(weight.sum(axis=0), first, _symmetric(second))


def _expected_tied(
    params: Mixture, chunk: _Chunk, moments: kernels.Moments, floor: Array | float
) -> kernels.Moments:
    A, C = (each[:, 0] for each in _regressions(params, chunk, floor))
    weight, first, second = moments
    mass = weight.sum(axis=1)[:, None, None]
    first = (first @ A.swapaxes(-1, -2)).sum(axis=0)
    second = (A @ second @ A.swapaxes(-1, -2) + mass * C).sum(axis=0)
    return kernels.Moments(weight.sum(axis=0), first, _symmetric(second))


def _symmetric(second: Array) -> Array:
    return np.asarray(0.5 * (second + second.swapaxes(-1, -2)))


def _expected_diag(
    params: Mixture, chunk: _Chunk, moments: kernels.Moments, floor: Array | float
) -> kernels.Moments:
    weight, first, second = moments
    missing = weight.T @ chunk.absent  # mass of the missing values, (K, D)
    raw = np.maximum(params.covariances - floor, 0.0)
    return kernels.Moments(
        weight.sum(axis=0), first.sum(axis=0), second.sum(axis=0) + missing * raw
    )


def _expected_spherical(
    params: Mixture, chunk: _Chunk, moments: kernels.Moments, floor: Array | float
) -> kernels.Moments:
    weight, first, second = moments
    missing = weight.T @ chunk.absent.sum(axis=1)
    raw = np.maximum(params.covariances - np.mean(floor), 0.0)
    second = (second.sum(axis=0) + missing * raw) / chunk.absent.shape[1]
    return kernels.Moments(weight.sum(axis=0), first.sum(axis=0), second)


_EXPECTED = {
    "full": _expected_full,
    "tied": _expected_tied,
    "diag": _expected_diag,
    "spherical": _expected_spherical,
}
"""Moments of the present features of each pattern -> the expected moments of whole points."""


def log_densities(params: Mixture, X: Points) -> Array:
    """Return log N(x_o | mu_o, Sigma_oo) of each point and component, (N, K)."""
    groups, kind = patterns(X), params.covariance_type
    out = np.empty((len(X), len(params.means)))
    rows = groups.complete
    out[rows] = kernels.log_gaussians(X.take(rows, axis=0), params.means, params.root, kind)
    for part, chunk in _chunks(params, groups):
        for p, own in enumerate(groups.rows[part]):
            present = np.flatnonzero(~chunk.absent[p])
            means, root = params.means.take(present, axis=1), chunk.root(params, p, present)
            out[own] = kernels.log_gaussians(_present(X, own, present), means, root, kind)
    return out


def entropy_of_missing(params: Mixture, X: Points, w: Array, shares: Array) -> float:
    """Return the sum of w_n times the entropy of the missing values, given the present ones.

    This is what -log p of the missing values would add on average, in nats, if the components
    `shares` (K,) of a batch had the points of each pattern alike.
    """
    groups = patterns(X)
    constant = float(np.log(2.0 * np.pi) + 1.0)
    kind, total = params.covariance_type, 0.0
    for part, chunk in _chunks(params, groups):
        mass = np.array([float(w[own].sum()) for own in groups.rows[part]])
        if kind in ("full", "tied"):
            whole = np.log(np.diagonal(params.root, axis1=-2, axis2=-1)).sum(axis=-1)
            logs = whole - np.log(np.diagonal(chunk.roots, axis1=-2, axis2=-1)).sum(axis=-1)
        else:
            deviations = params.root.reshape(len(params.means), -1)
            logs = chunk.absent @ np.broadcast_to(np.log(deviations), params.means.shape).T
        entropy = (
            0.5 * constant * chunk.absent.sum(axis=1)
            + np.broadcast_to(logs, (len(mass), len(shares))) @ shares
        )
        total += float(mass @ entropy)
    return total


class Conditionals(NamedTuple):
    """The distribution of missing values of points of one pattern: a mixture of Gaussians.

    Parameters
    ----------
    rows : array of shape (n,)
        Rows of the points.
    missing : array of shape (m,)
        Features that the points lack.
    responsibilities : array of shape (n, K)
    means : array of shape (n, K, m)
    covariances : array of shape (K, m, m)
    """

    rows: NDArray[np.intp]
    missing: NDArray[np.intp]
    responsibilities: Array
    means: Array
    covariances: Array

    @property
    def mean(self) -> Array:
        """Expected values, shape (n, m)."""
        return np.asarray(np.einsum("nk,nkm->nm", self.responsibilities, self.means))

    @property
    def covariance(self) -> Array:
        """Covariances of the mixtures, shape (n, m, m)."""
        offset = self.means - self.mean[:, None, :]
        within = np.einsum("nk,kml->nml", self.responsibilities, self.covariances)
        between = np.einsum("nk,nkm,nkl->nml", self.responsibilities, offset, offset)
        return np.asarray(within + between)

    @property
    def variance(self) -> Array:
        """Variances of the mixtures, shape (n, m)."""
        offset = self.means - self.mean[:, None, :]
        within = self.responsibilities @ self.covariances.diagonal(axis1=1, axis2=2)
        return np.asarray(within + np.einsum("nk,nkm->nm", self.responsibilities, offset**2))


def conditionals(params: Mixture, X: Array) -> Iterator[Conditionals]:
    """Yield the distribution of the missing values of all points that have some."""
    (K, D), kind, groups = params.means.shape, params.covariance_type, patterns(X)
    variances = COVARIANCES[kind].variances(params.covariances, K, D)
    step = max(1, _CELLS // (K * D))
    for part, chunk in _chunks(params, groups):
        if len(chunk.roots):
            A, C = _regressions(params, chunk, 0.0)
        for p, own in enumerate(groups.rows[part]):
            missing, present = np.flatnonzero(chunk.absent[p]), np.flatnonzero(~chunk.absent[p])
            if len(chunk.roots):
                slopes = A[p][:, missing[:, None], present]
                covariances = C[p][:, missing[:, None], missing]
            else:
                slopes = np.zeros((1, len(missing), len(present)))
                covariances = variances[:, missing, None] * np.eye(len(missing))
            means, root = params.means.take(present, axis=1), chunk.root(params, p, present)
            covariances = np.broadcast_to(covariances, (K, len(missing), len(missing)))
            for start in range(0, len(own), step):
                rows = own[start : start + step]
                values = _present(X, rows, present)
                joint = params.log_weights + kernels.log_gaussians(values, means, root, kind)
                offset = values[:, None, :] - means
                slopes = np.broadcast_to(slopes, (K, *slopes.shape[1:]))
                expected = params.means[:, missing] + np.einsum("kmo,nko->nkm", slopes, offset)
                yield Conditionals(
                    rows, missing, kernels.normalise(joint)[0], expected, covariances
                )
