"""Gaussian mixtures p(x) = sum_k pi_k N(x | mu_k, Sigma_k), learned by EM.

    E-step    gamma_nk = pi_k N(x_n | mu_k, Sigma_k) / sum_j pi_j N(x_n | mu_j, Sigma_j)
              N_k = sum_n gamma_nk
    M-step    pi_k = N_k / N,    mu_k = sum_n gamma_nk x_n / N_k
              Sigma_k = sum_n gamma_nk (x_n - mu_k)(x_n - mu_k)^T / N_k

(Bishop 2006, section 9.2.2). The e-step returns the sums over n as statistics
(`streamclust.models.stats`), with a weight w_n for each point. The m-step uses only these.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, get_args

import numpy as np

from streamclust import kernels
from streamclust.arrays import MAX_MAGNITUDE, Metric, Missing, has_gaps, short_repr
from streamclust.errors import DataError
from streamclust.hyperparameters import as_number, check_choice, renamed, store
from streamclust.models import conditionals, partial
from streamclust.models.background import MAX_OUTLIERS, log_backgrounds
from streamclust.models.covariance import COVARIANCES, Covariance, symmetric
from streamclust.models.family import BatchStep, StepOutputs, as_range, named_array, usable
from streamclust.models.matching import match
from streamclust.models.revive import split
from streamclust.models.spread import positive
from streamclust.models.stats import Stats, recentre

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamclust.arrays import AnyPoints, Array, CovarianceType, Labels, Points

_ROUNDING = 1e-12
"""Smallest ridge relative to a component's own variance, so that a rounded covariance stays
positive definite. It is far below any useful `reg_covar`."""

_SHIFT_ROUNDING = 64.0 * float(np.finfo(np.float64).eps)
"""Rounding error of second moments after the mean has moved, relative to the squared move."""

_MIN_POINTS = 10.0
"""Least number of points from which a covariance is estimated alone."""

_OUTLIERS_RANGE = f"a number from 0 to {MAX_OUTLIERS}"


@dataclass(frozen=True, eq=False)
class MixtureParams:
    """Parameters of a mixture. The shapes are those of scikit-learn.

    Parameters
    ----------
    weights : array of shape (K,)
        Mixing weights pi_k; they sum to one.
    means : array of shape (K, D)
    covariances : array
        full (K, D, D), tied (D, D), diag (K, D), spherical (K,).
    covariance_type : {'full', 'tied', 'diag', 'spherical'}
    spread : array of shape (D,), optional
        The variance of each feature, to which the ridge of the next m-step is relative. Published
        models don't have it.
    """

    weights: Array
    means: Array
    covariances: Array
    covariance_type: CovarianceType
    spread: Array | None = None

    def __repr__(self) -> str:
        size = dict(zip("KD", np.shape(self.means), strict=False))
        return short_repr(self, **size, covariance_type=self.covariance_type)

    @cached_property
    def root(self) -> Array:
        """Lower Cholesky factors of the covariances, or standard deviations."""
        return COVARIANCES[self.covariance_type].root(self.covariances)

    @cached_property
    def log_weights(self) -> Array:
        """Log pi_k; -inf for a component of weight 0."""
        if self.weights.min() > 0.0:
            return np.asarray(np.log(self.weights))
        out = np.full(len(self.weights), -np.inf)
        np.log(self.weights, out=out, where=self.weights > 0.0)
        return out


@renamed(fewest="min_components")
@dataclass(frozen=True)
class GaussianMixture:
    """A Gaussian mixture with one of four covariance types (Bishop 2006, section 9.2).

    Parameters
    ----------
    n_components : int
        Number of components K, at least 1.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
    reg_covar : float, default=1e-6
        Ridge added to each variance, relative to the variance of the feature over all data, so that
        the fit doesn't depend on the units. That variance is robust to a few far points
        (`streamclust.models.spread.robust_variance`). A feature that never varies gets the average
        variance of the features, or 1 if no feature varies.
    min_components : int, optional
        Let K adapt to the stream, between this number and `n_components`; see
        `streamclust.fitting.choose_k`.
    outliers : float, default=0.0
        Expected share of outliers, from 0 to 0.5: points that belong to no component. Above 0, the
        model that is learned has a background for them (`streamclust.models.background`), and each
        component keeps at least as many points as its covariance needs. The log-likelihood in
        `Stats.objective` includes the background; `score_points` and `responsibilities` don't.
    missing : {'reject', 'learn'}, default='reject'
        'learn': NaN is a missing value. The density of a point is the marginal density of its
        present values (Ghahramani & Jordan 1994); see `streamclust.models.conditionals`.

    Raises
    ------
    DataError
        If a value isn't allowed.
    """

    n_components: int
    covariance_type: CovarianceType = "full"
    reg_covar: float = field(default=1e-6, kw_only=True)
    min_components: int | None = field(default=None, kw_only=True)
    outliers: float = field(default=0.0, kw_only=True)
    missing: Missing = field(default="reject", kw_only=True)

    kind: ClassVar[str] = "gaussian_mixture"
    objective: ClassVar[str] = "log_likelihood"
    metric: ClassVar[Metric] = "euclidean"

    def __post_init__(self) -> None:
        n_components, min_components = as_range(
            "components", self.n_components, self.min_components
        )
        check_choice("covariance_type", self.covariance_type, COVARIANCES)
        check_choice("missing", self.missing, get_args(Missing))
        reg_covar = as_number("reg_covar", self.reg_covar, "a number, at least 0")
        outliers = as_number("outliers", self.outliers, _OUTLIERS_RANGE)
        if outliers > MAX_OUTLIERS:
            raise DataError(f"outliers is {outliers:g}; expected {_OUTLIERS_RANGE}")
        store(self, n_components=n_components, min_components=min_components, reg_covar=reg_covar)
        store(self, outliers=outliers)

    @property
    def fewest(self) -> int | None:
        """Old name of `min_components`."""
        return self.min_components

    @property
    def max_magnitude(self) -> float:
        """Largest |x|."""
        return MAX_MAGNITUDE

    def prepare(self, X: AnyPoints) -> AnyPoints:
        """Return the points."""
        return X

    def with_components(self, K: int) -> GaussianMixture:
        """Return the same mixture with a fixed K."""
        return replace(self, n_components=K, min_components=None)

    @property
    def covariance(self) -> Covariance:
        """The functions of the covariance type."""
        return COVARIANCES[self.covariance_type]

    def of_labels(
        self, X: Array, w: Array, labels: Labels, means: Array, spread: Array | None
    ) -> MixtureParams:
        """Return the m-step of hard assignments: gamma_nk is 1 for k = `labels[n]`, else 0.

        A component without points keeps its mean of `means` (K, D). The ridge is relative to
        `spread` (D,), the variance of each feature.
        """
        gamma = np.zeros((len(X), len(means)))
        gamma[np.arange(len(X)), labels] = w
        moments = kernels.mixture_moments(X, gamma, means, self.covariance_type)
        no_covariances = np.zeros(self.covariance.shape(*means.shape))
        before = MixtureParams(
            np.zeros(len(means)), means, no_covariances, self.covariance_type, spread
        )
        return self.m_step(self._stats(moments, means, 0.0, 0.0), before)

    def e_step(self, params: MixtureParams, X: Points, w: Array) -> Stats:
        """Return the sums of gamma_nk, gamma_nk x_n and gamma_nk x_n x_n^T, and the log-likelihood.

        The moments are about the means. For points with missing values, they are expected moments,
        and the log-likelihood is that of the present values; see `streamclust.models.conditionals`.
        If `outliers` is above 0, p(x) includes the background; see `streamclust.models.background`.
        """
        return self.batch_step(params, X, w, StepOutputs(assigned=False)).stats

    def batch_step(
        self, params: MixtureParams, X: Points, w: Array, outputs: StepOutputs
    ) -> BatchStep:
        """Return the statistics of `e_step`, the nearest mean of each point, and the scores."""
        has_missing, count = self._incomplete(X), float(w.sum())
        scores, entropy = None, 0.0
        if has_missing:
            spread = self.spread(params) if self.reg_covar > 0.0 else None
            ridge = 0.0 if spread is None else self.reg_covar * spread
            background = None
            if self.outliers > 0.0:
                background = np.asarray(self.log_background(params, X))
            step = conditionals.e_step(params, X, w, ridge, background, with_scores=outputs.scores)
            moments, log_likelihood, entropy = step[:3]
            if step.log_density is not None and step.entropies is not None:
                scores = step.entropies - step.log_density
        else:
            log_density = np.empty(len(X)) if outputs.scores else None
            moments, log_likelihood = kernels.mixture_step(
                X,
                w,
                params.log_weights,
                params.means,
                params.root,
                self.covariance_type,
                background=float(self.log_background(params, X)),
                log_density=log_density,
            )
            scores = None if log_density is None else -log_density
        if self.outliers > 0.0:
            log_likelihood += count * float(np.log1p(-self.outliers))
        assigned = None
        if outputs.assigned:
            assigned = (partial if has_missing else kernels).assign(X, params.means)
        stats = self._stats(moments, params.means, log_likelihood, count)
        return BatchStep(stats, assigned, scores, entropy)

    def log_background(self, params: MixtureParams, X: Points) -> Array | float:
        """Return the log-density of the background relative to the mixture.

        This is one number, -inf without a background. For points with missing values it is one
        number per point, (N,).
        """
        if self.outliers == 0.0:
            return -np.inf
        variance = np.asarray(self.spread(params))
        return log_backgrounds(self.outliers, variance, X if self._incomplete(X) else None)

    def _incomplete(self, X: Points) -> bool:
        return self.missing == "learn" and has_gaps(X)

    def _stats(
        self, moments: kernels.Moments, reference: Array, objective: float, count: float
    ) -> Stats:
        return Stats(*moments, reference, self.covariance_type, objective, count)

    def m_step(self, stats: Stats, params: MixtureParams) -> MixtureParams:
        """Return weights, means and covariances that maximise the expected log-likelihood.

        A ridge, `reg_covar` times a variance, is added to the variances of each component. The
        variance is `params.spread`, or that of the statistics if `spread` is None. Two exceptions:

        * All variances of a component of nearly equal points (one far point, or duplicates) are
          below the ridge. If the other components have most of the mass, such a component gets
          their average covariance. Otherwise its likelihood would grow without bound for small
          ridges.
        * The rounding error is larger than the ridge if a component is very wide, or its mean has
          moved very far. The ridge is then the possible rounding error, and negative eigenvalues
          are raised to that error too.
        """
        return self.m_step_with_ridge(stats, params, None)

    def m_step_with_ridge(
        self, stats: Stats, params: MixtureParams, share: Array | None
    ) -> MixtureParams:
        """Return the m-step; the ridge of component k is multiplied by `share[k]`, if given."""
        weight = stats.weight
        if not stats.all_alive:
            weight = np.where(stats.alive, weight, 0.0)
        total = float(weight.sum())
        if total == 0.0:
            return params
        means = stats.averages(otherwise=params.means)
        second = second_about(stats, means)
        estimate = self.covariance.estimate(second, weight, params.covariances)
        spread = params.spread
        if spread is None:
            spread = self._variance(weight, means, second)
        ridge = self.reg_covar * spread
        variances = self.covariance.variances(estimate, *means.shape)
        below = variances <= ridge
        if below.any() and (equal := below.all(axis=1)).any():
            others_mass = float(weight[~equal].sum())
            if others_mass < total < 2.0 * others_mass:
                estimate = estimate.copy()
                estimate[equal] = second[~equal].sum(axis=0) / others_mass
        if self.reg_covar > 0.0:
            moved = means - stats.reference
            rounding = np.maximum(
                _ROUNDING * variances, _SHIFT_ROUNDING * means.shape[1] * moved * moved
            )
            if (rounding > ridge).any():
                ridge = np.maximum(ridge, rounding)
        if share is not None and (share != 1.0).any():
            ridge = share[:, None] * ridge
        covariances = self.covariance.add_ridge(estimate, ridge)
        new = MixtureParams(weight / total, means, covariances, self.covariance_type, params.spread)
        if self.reg_covar > 0.0 and not usable(new) and np.isfinite(covariances).all():
            covariances = self.covariance.add_ridge(self.covariance.repaired(estimate), ridge)
            new = replace(new, covariances=covariances)
        return new

    def points_for_shape(self, n_features: int) -> float:
        """Return the number of points from which a component's covariance is estimated alone.

        This is twice `points_needed`, and at least 10: the standard error of the variance of 10
        Gaussian points is 45 %. All components of a tied mixture together need 2 (D + K) points.
        """
        needed: float = self.points_needed(n_features)
        if self.covariance_type == "tied":
            needed = (n_features + self.n_components) / self.n_components
        return max(_MIN_POINTS, 2.0 * needed)

    def spread(self, params: MixtureParams) -> Array | None:
        """Return the variance of each feature, shape (D,), to which the ridge is relative."""
        if params.spread is not None:
            return params.spread
        second = self.covariance.moment(params.covariances, params.weights)
        return self._variance(params.weights, params.means, second)

    def _variance(self, weight: Array, means: Array, second: Array) -> Array:
        """Return the variance of each feature over all data, shape (D,); see `reg_covar`."""
        total = weight.sum()
        offset = means - means[weight.argmax()]  # exactly 0 where a feature never varies
        between = offset - (weight @ offset) / total
        spread = self.covariance.inner_variance(second, means.shape[1]) + weight @ between**2
        return positive(np.maximum(spread, 0.0) / total)

    def revive(
        self, stats: Stats, dying: Iterable[int], X: Array, w: Array, rng: np.random.Generator
    ) -> tuple[Stats, tuple[int, ...]]:
        """Split wide components to replace dying ones; see `streamclust.models.revive.split`."""
        return split(stats, dying)

    def points_needed(self, n_features: int) -> int:
        """Return the least number of points with a nonsingular covariance without a ridge."""
        return n_features + 1 if self.covariance_type == "full" else 2

    def reorder(self, params: MixtureParams, order: Labels) -> MixtureParams:
        """Return weights, means and covariances in another order."""
        covariances = params.covariances
        if self.covariance_type != "tied":
            covariances = covariances[order]
        weights = params.weights[order]
        if len(order) < len(params.weights):
            weights = weights / weights.sum()
        return replace(params, weights=weights, means=params.means[order], covariances=covariances)

    def match(self, params: MixtureParams, onto: MixtureParams) -> Labels:
        """Return the order of `params` nearest to the means of `onto`; features are scaled."""
        second = self.covariance.moment(onto.covariances, onto.weights)
        variance = self.covariance.inner_variance(second, onto.means.shape[1])
        return match(params.means, onto.means, np.sqrt(variance))

    def prior_stats(self, params: MixtureParams, weight: float) -> Stats:
        """Return statistics of K * `weight` points, shared out by the mixing weights."""
        mass = weight * len(params.weights) * params.weights
        moments = kernels.Moments(
            mass, np.zeros_like(params.means), self.covariance.moment(params.covariances, mass)
        )
        return self._stats(moments, params.means, 0.0, 0.0)

    def loss(self, stats: Stats) -> float:
        """Return the negative log-likelihood per point, in nats."""
        return -stats.objective / stats.count

    def improvement(self, before: float, after: float) -> float:
        """Return the rise of the log-likelihood per point, in nats."""
        return before - after

    def log_joint(self, params: MixtureParams, X: Array) -> Array:
        """Return log pi_k N(x_n | mu_k, Sigma_k), shape (N, K)."""
        return params.log_weights + self.log_densities(params, X)

    def log_densities(self, params: MixtureParams, X: Array) -> Array:
        """Return log N(x_n | mu_k, Sigma_k), shape (N, K); missing values are marginalised."""
        if self._incomplete(X):
            return conditionals.log_densities(params, X)
        return kernels.log_gaussians(X, params.means, params.root, self.covariance_type)

    def responsibilities(self, params: MixtureParams, X: Array) -> Array:
        """Return gamma_nk = p(k | x_n), shape (N, K); each row sums to one."""
        return kernels.normalise(self.log_joint(params, X))[0]

    def memberships(self, params: MixtureParams, X: Array) -> Array:
        """Return the responsibilities beside the background, (N, K).

        1 minus the sum of a row is the responsibility of the background.
        """
        return kernels.normalise(self.log_joint(params, X), self.log_background(params, X))[0]

    def predict(self, params: MixtureParams, X: Array) -> Labels:
        """Return the component with the largest responsibility, shape (N,)."""
        return np.asarray(self.log_joint(params, X).argmax(axis=1), dtype=np.intp)

    def score_points(self, params: MixtureParams, X: Array) -> Array:
        """Return log p(x_n), shape (N,), in nats."""
        return kernels.normalise(self.log_joint(params, X))[1]

    def sample(
        self, params: MixtureParams, n: int, rng: np.random.Generator
    ) -> tuple[Array, Labels]:
        """Draw `n` points; return the points, shape (n, D), and the component of each."""
        labels = rng.choice(len(params.weights), size=n, p=params.weights)
        noise = rng.standard_normal((n, params.means.shape[1]))
        root = params.root
        if self.covariance_type == "full":
            offset = np.einsum("nij,nj->ni", root[labels], noise)
        elif self.covariance_type == "tied":
            offset = noise @ root.T
        else:
            offset = noise * root[labels].reshape(n, -1)
        return params.means[labels] + offset, labels

    def to_arrays(self, params: MixtureParams) -> dict[str, Array]:
        """Return {'weights', 'means', 'covariances'}."""
        return {
            "weights": params.weights,
            "means": params.means,
            "covariances": params.covariances,
        }

    def from_arrays(self, arrays: Mapping[str, Array]) -> MixtureParams:
        """Return parameters; weights that sum to one within 1e-6 are normalised.

        Raises
        ------
        DataError
            If a shape is wrong, weights are negative or don't sum to one, or a covariance isn't
            symmetric positive definite.
        """
        K = self.n_components if self.min_components is None else None
        weights = named_array(arrays, "weights", (K,))
        means = named_array(arrays, "means", (len(weights), None))
        shape = self.covariance.shape(*means.shape)
        covariances = named_array(arrays, "covariances", shape)
        if (weights < 0.0).any() or abs(float(weights.sum()) - 1.0) > 1e-6:
            raise DataError(
                f"weights sum to {weights.sum():.9g}, the smallest is {weights.min():.9g}; "
                "expected a sum of 1, none negative"
            )
        if self.covariance_type in ("full", "tied"):
            covariances = symmetric(covariances)
        params = MixtureParams(weights / weights.sum(), means, covariances, self.covariance_type)
        try:
            _ = params.root
        except DataError as error:
            raise DataError(f"covariances: {error}") from None
        return params


def second_about(stats: Stats, means: Array) -> Array:
    """Return the second moments of mixture statistics about `means` (K, D)."""
    second = recentre(stats, means).second
    if second is None:
        raise DataError("a mixture needs statistics with second moments; got statistics of K-means")
    return second
