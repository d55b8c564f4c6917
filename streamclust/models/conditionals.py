r"""Gaussian mixtures and points with gaps: marginal densities and conditional moments.

The values x_o of a point x are present; its values x_m are missing at random. The responsibilities
follow from each component's marginal density of x_o. The e-step adds the expected moments of the
whole point, given x_o (Ghahramani & Jordan 1994; Little & Rubin 2019, section 11.2):

    x^_m = mu_m + B (x_o - mu_o),    B = Sigma_mo Sigma_oo^-1,    x^_o = x_o
    C    = Sigma_mm - B Sigma_om
    first  = sum_n w_n gamma_n (x^_n - mu)
    second = sum_n w_n gamma_n ((x^_n - mu)(x^_n - mu)^T + C)

All points of one missingness pattern have the same B and C. So their sums follow from the moments
of x_o, which are computed as for complete points, in |o| dimensions: with A = [I; B],

    first = A first_o,    second = A second_oo A^T + weight C.

For patterns of few points, the native kernels don't factor Sigma_oo. They use the precision P of a
component: C = P_mm^-1, B = -C P_mo, and log det Sigma_oo = log det Sigma + log det P_mm. The
Mahalanobis distance of x^ equals that of x_o.
`docs/internals/missing.md` has the sources and the limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from streamclust import kernels
from streamclust.kernels.twin_gaps import (
    chunks_of_patterns,
    entropies_of_patterns,
    marginal_roots,
    regressions,
    root_of,
)
from streamclust.models.covariance import COVARIANCES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.arrays import Array, CovarianceType, Labels, Points

_CELLS = 1 << 20
"""Largest number of conditional means in memory: 8 MiB."""


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


class Step(NamedTuple):
    """The e-step of points with gaps.

    Attributes
    ----------
    moments : Moments
        Expected moments about the means.
    log_likelihood : float
        sum_n w_n log p(x_o), with the background.
    entropy : float
        sum_n w_n h_n. h_n is the entropy of the missing values of point n, given its present
        values: the average over the components, weighted by the responsibilities. The background,
        if there is one, counts as a component without entropy.
    log_density, entropies : arrays of shape (N,), or None
        log p(x_o) without the background, and h_n, of each point.
    """

    moments: kernels.Moments
    log_likelihood: float
    entropy: float
    log_density: Array | None
    entropies: Array | None


def e_step(
    params: Mixture,
    X: Points,
    w: Array,
    ridge: Array | float = 0.0,
    background: Array | None = None,
    *,
    with_scores: bool = False,
) -> Step:
    """Return the expected moments about the means, and the log-likelihood of the present values.

    The complete points are summed first, then the patterns in their order.

    Parameters
    ----------
    params : MixtureParams
    X, w : arrays of shape (N, D) and (N,)
        NaN is a missing value.
    ridge : array of shape (D,), optional
        The ridge that `params.covariances` include; see `GaussianMixture.reg_covar`. The expected
        moments must not include it, because each m-step adds it again.
    background : array of shape (N,), optional
        Log of the density that is added to p(x_o) of each point; see
        `streamclust.models.background`. Points of one pattern have the same value.
    with_scores : bool, default=False
        Whether to return `log_density` and `entropies`.
    """
    patterns, components = kernels.find_patterns(X), _components(params)
    rows, means, kind = patterns.complete, params.means, params.covariance_type
    density, entropies, complete_density = None, None, None
    if with_scores:
        density, entropies = np.empty(len(X)), np.zeros(len(X))
        complete_density = np.empty(len(rows))
    pattern_background, constant = None, -np.inf
    if background is not None:
        pattern_background = background[patterns.order[patterns.starts[:-1]]]
        constant = float(background[rows[0]]) if len(rows) else constant
    complete_moments, score = kernels.mixture_step(
        X.take(rows, axis=0),
        w[rows],
        params.log_weights,
        means,
        params.root,
        kind,
        constant,
        complete_density,
    )
    scores = None
    if density is not None:
        density[rows] = complete_density
        scores = kernels.PointScores(density, entropies)
    ridge = np.broadcast_to(ridge, means.shape[1:])
    with_gaps = kernels.expected_step(X, w, patterns, components, ridge, pattern_background, scores)
    moments = kernels.Moments(
        *(np.add(a, b, out=a) for a, b in zip(complete_moments, with_gaps.moments, strict=True))
    )
    return Step(moments, score + with_gaps.log_likelihood, with_gaps.entropy, density, entropies)


def log_densities(params: Mixture, X: Points) -> Array:
    """Return log N(x_o | mu_o, Sigma_oo) for each point and component, (N, K)."""
    patterns, kind = kernels.find_patterns(X), params.covariance_type
    rows, out = patterns.complete, np.empty((len(X), len(params.means)))
    out[rows] = kernels.log_gaussians(X.take(rows, axis=0), params.means, params.root, kind)
    kernels.marginal_log_gaussians(X, patterns, _components(params), out)
    return out


def entropies_of_missing(params: Mixture, X: Points, joint: Array | None = None) -> Array:
    """Return the entropy of the missing values of each point, given its present values, (N,).

    This is the average over the components, weighted by the responsibilities; 0 for a complete
    point.

    Parameters
    ----------
    params : MixtureParams
    X : array of shape (N, D)
    joint : array of shape (N, K), optional
        log pi_k N(x_o | mu_o, Sigma_oo) of each point, if it is already computed.
    """
    patterns, entropy_per_point = kernels.find_patterns(X), np.zeros(len(X))
    rows, components = patterns.order, _components(params)
    if joint is None:
        joint_in_order = params.log_weights + log_densities(params, X.take(rows, axis=0))
    else:
        joint_in_order = joint.take(rows, axis=0)
    marginal = kernels.marginal_log_dets(patterns.absent, components)
    entropies = entropies_of_patterns(patterns.absent, components, marginal)
    entropies = np.repeat(entropies, np.diff(patterns.starts), axis=0)
    entropy_per_point[rows] = np.einsum("nk,nk->n", kernels.normalise(joint_in_order)[0], entropies)
    return entropy_per_point


def _components(params: Mixture) -> kernels.Components:
    return kernels.Components(
        params.log_weights,
        params.means,
        params.covariances,
        params.root,
        params.covariance_type,
    )


class Conditionals(NamedTuple):
    """The distribution of the missing values of points of one pattern: a mixture of Gaussians.

    Parameters
    ----------
    rows : array of shape (n,)
        Rows of the points in X.
    missing : array of shape (m,)
        Numbers of the missing features.
    responsibilities : array of shape (n, K)
    means : array of shape (n, K, m)
    covariances : array of shape (K, m, m)
    """

    rows: Labels
    missing: Labels
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
    """Yield the distribution of the missing values, for all points that lack a value."""
    patterns = kernels.find_patterns(X)
    kind, covariances = params.covariance_type, params.covariances
    for part in chunks_of_patterns(patterns.absent, covariances):
        absent = patterns.absent[part]
        roots = marginal_roots(absent, covariances, kind)
        slopes_and_spreads = None if roots is None else regressions(absent, covariances, roots)
        for p, rows in enumerate(patterns.rows[part]):
            missing, present = np.flatnonzero(absent[p]), np.flatnonzero(~absent[p])
            root = root_of(roots, p, present, covariances, kind)
            if slopes_and_spreads is None:
                variances = COVARIANCES[kind].variances(covariances, *params.means.shape)
                slopes = np.zeros((1, len(missing), len(present)))
                spread = variances[:, missing, None] * np.eye(len(missing))
            else:
                slopes, spread = (
                    matrices[p][:, missing[:, None], columns]
                    for matrices, columns in zip(
                        slopes_and_spreads, (present, missing), strict=True
                    )
                )
            yield from _of_pattern(params, X, rows, (missing, present), root, slopes, spread)


def _of_pattern(
    params: Mixture,
    X: Array,
    rows: Labels,
    features: tuple[Labels, Labels],
    root: Array,
    slopes: Array,
    spread: Array,
) -> Iterator[Conditionals]:
    """Yield the conditionals of the points of one pattern; B and C are `slopes` and `spread`."""
    (K, D), (missing, present) = params.means.shape, features
    slopes = np.broadcast_to(slopes, (K, *slopes.shape[1:]))
    spread = np.broadcast_to(spread, (K, *spread.shape[1:]))
    means, step = params.means.take(present, axis=1), max(1, _CELLS // (K * D))
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        values = X.take(chunk, axis=0).take(present, axis=1)
        densities = kernels.log_gaussians(values, means, root, params.covariance_type)
        shares = kernels.normalise(params.log_weights + densities)[0]
        offset = values[:, None, :] - means
        expected = params.means[:, missing] + np.einsum("kmo,nko->nkm", slopes, offset)
        yield Conditionals(chunk, missing, shares, expected, spread)
