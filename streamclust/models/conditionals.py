r"""Gaussian mixtures and points with gaps: marginal densities and conditional moments.

Of a point x, the values x_o are present and x_m are missing at random. Each component's marginal
density of x_o gives the responsibilities. The e-step adds the expected moments of the whole point,
given x_o (Ghahramani & Jordan 1994; Little & Rubin 2019, section 11.2):

    x^_m = mu_m + B (x_o - mu_o),    B = Sigma_mo Sigma_oo^-1,    x^_o = x_o
    C    = Sigma_mm - B Sigma_om
    first  = sum_n w_n gamma_n (x^_n - mu)
    second = sum_n w_n gamma_n ((x^_n - mu)(x^_n - mu)^T + C)

The points of one missingness pattern share B and C. So their sums follow from the moments of x_o,
which are computed as for complete points, in |o| dimensions: with A = [I; B],

    first = A first_o,    second = A second_oo A^T + weight C.

For patterns of few points, the native kernels don't factor Sigma_oo. With the precision P of a
component, C = P_mm^-1 and B = -C P_mo, the Mahalanobis distance of x^ is that of x_o, and
log det Sigma_oo = log det Sigma + log det P_mm.
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
        About the means.
    log_likelihood : float
        sum_n w_n log p(x_o) of all points, with the background.
    entropy : float
        sum_n w_n times the entropy of the missing values of the point, given the present ones. It
        is the average over the components, by the responsibilities of the point.
    log_density, entropies : arrays of shape (N,), or None
        Of each point; `log_density` is without the background.
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
    floor: Array | float = 0.0,
    background: Array | None = None,
    *,
    each: bool = False,
) -> Step:
    """Return the expected moments about the means, and the log-likelihood of the present values.

    Complete points are summed first, as without gaps; then the patterns in their order.

    Parameters
    ----------
    params : MixtureParams
    X, w : arrays of shape (N, D) and (N,)
        NaN is a missing value.
    floor : array of shape (D,), optional
        The floor in `params.covariances`; see `GaussianMixture.reg_covar`. The m-step adds it
        again, so the expected moments must not have it: a feature that is always missing in a
        component would get it once per step.
    background : array of shape (N,), optional
        Log of a density that is added to p(x_o) of each point; see `streamclust.models.background`.
        It depends on the missingness pattern alone.
    each : bool, default=False
        Return `log_density` and `entropies`.
    """
    patterns, components = kernels.find_patterns(X), _components(params)
    rows, means, kind = patterns.complete, params.means, params.covariance_type
    density, entropies, own = None, None, None
    if each:
        density, entropies, own = np.empty(len(X)), np.zeros(len(X)), np.empty(len(rows))
    noise, constant = None, -np.inf
    if background is not None:
        noise = background[patterns.order[patterns.starts[:-1]]]
        constant = float(background[rows[0]]) if len(rows) else constant
    one, score = kernels.mixture_step(
        X.take(rows, axis=0),
        w[rows],
        params.log_weights,
        means,
        params.root,
        kind,
        constant,
        own,
    )
    scores = None
    if density is not None:
        density[rows] = own
        scores = kernels.PointScores(density, entropies)
    floor = np.broadcast_to(floor, means.shape[1:])
    two = kernels.expected_step(X, w, patterns, components, floor, noise, scores)
    moments = kernels.Moments(*(np.add(a, b, out=a) for a, b in zip(one, two.moments, strict=True)))
    return Step(moments, score + two.log_likelihood, two.entropy, density, entropies)


def log_densities(params: Mixture, X: Points) -> Array:
    """Return log N(x_o | mu_o, Sigma_oo) of each point and component, (N, K)."""
    patterns, kind = kernels.find_patterns(X), params.covariance_type
    rows, out = patterns.complete, np.empty((len(X), len(params.means)))
    out[rows] = kernels.log_gaussians(X.take(rows, axis=0), params.means, params.root, kind)
    kernels.marginal_log_gaussians(X, patterns, _components(params), out)
    return out


def entropies_of_missing(params: Mixture, X: Points, joint: Array | None = None) -> Array:
    """Return the entropy of the missing values of each point, given the present ones, (N,).

    It is the average over the components, by their responsibilities; 0 for a complete point.

    Parameters
    ----------
    params : MixtureParams
    X : array of shape (N, D)
    joint : array of shape (N, K), optional
        log pi_k N(x_o | mu_o, Sigma_oo) of each point, if it is known.
    """
    patterns, found = kernels.find_patterns(X), np.zeros(len(X))
    rows, components = patterns.order, _components(params)
    if joint is None:
        own = params.log_weights + log_densities(params, X.take(rows, axis=0))
    else:
        own = joint.take(rows, axis=0)
    marginal = kernels.marginal_log_dets(patterns.absent, components)
    entropies = entropies_of_patterns(patterns.absent, components, marginal)
    entropies = np.repeat(entropies, np.diff(patterns.starts), axis=0)
    found[rows] = np.einsum("nk,nk->n", kernels.normalise(own)[0], entropies)
    return found


def _components(params: Mixture) -> kernels.Components:
    return kernels.Components(
        params.log_weights,
        params.means,
        params.covariances,
        params.root,
        params.covariance_type,
    )


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
    """Yield the distribution of the missing values of all points that have some."""
    patterns = kernels.find_patterns(X)
    kind, covariances = params.covariance_type, params.covariances
    for part in chunks_of_patterns(patterns.absent, covariances):
        absent = patterns.absent[part]
        roots = marginal_roots(absent, covariances, kind)
        given = None if roots is None else regressions(absent, covariances, roots)
        for p, rows in enumerate(patterns.rows[part]):
            missing, present = np.flatnonzero(absent[p]), np.flatnonzero(~absent[p])
            root = root_of(roots, p, present, covariances, kind)
            if given is None:
                variances = COVARIANCES[kind].variances(covariances, *params.means.shape)
                slopes = np.zeros((1, len(missing), len(present)))
                spread = variances[:, missing, None] * np.eye(len(missing))
            else:
                slopes, spread = (
                    each[p][:, missing[:, None], columns]
                    for each, columns in zip(given, (present, missing), strict=True)
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
        own = rows[start : start + step]
        values = X.take(own, axis=0).take(present, axis=1)
        densities = kernels.log_gaussians(values, means, root, params.covariance_type)
        shares = kernels.normalise(params.log_weights + densities)[0]
        offset = values[:, None, :] - means
        expected = params.means[:, missing] + np.einsum("kmo,nko->nkm", slopes, offset)
        yield Conditionals(own, missing, shares, expected, spread)
