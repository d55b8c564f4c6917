"""Rules of a learner that depend on the family: priors, units, outliers, missing values.

`streamclust.models.family.Family` is the algebra of statistics. The table `RULES` has one class of
rules per family. By default, a rule does nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from streamclust import kernels
from streamclust.arrays import has_gaps
from streamclust.models import conditionals
from streamclust.models.background import has_too_many_outliers, without_farthest
from streamclust.models.family import by_kind
from streamclust.models.gaussian_mixture import GaussianMixture, MixtureParams, second_about
from streamclust.models.kmeans import KMeans, KMeansParams
from streamclust.models.stats import Stats, merge

if TYPE_CHECKING:
    from streamclust.arrays import Array, Points
    from streamclust.models.family import Family, Params
    from streamclust.models.scaling import Scaling

P = TypeVar("P", bound="Params")


class Rules(ABC, Generic[P]):
    """The rules of one family.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    """

    def __init__(self, family: Any) -> None:
        self.family = family

    def points_for_shape(self, n_features: int) -> float:
        """Return the number of points from which a shape is estimated alone; 0 without shapes."""
        return 0.0

    def map_step(self, stats: Stats, params: P, prior: Array) -> P:
        """Return the m-step, with the last parameters as the prior of components with few points.

        `prior` (K,) is the weight of each component together with its prior. By default there is no
        prior: a component without a shape needs only one point.
        """
        found: P = self.family.m_step(stats, params)
        return found

    def spread(self, params: P) -> Array | None:
        """Return the variance of each feature, (D,), that the ridge is relative to, or None."""
        return None

    def with_spread(self, params: P, spread: Array) -> P:
        """Return parameters whose next m-step has a ridge relative to `spread` (D,)."""
        return params

    def if_too_many_outliers(
        self, params: P, X: Points, w: Array, stats: Stats
    ) -> tuple[Family[P], Array] | None:
        """Return how to learn a batch that has too many outliers; None for other batches.

        The results are the family without a background, and weights of the points. `stats` are the
        statistics of the batch.
        """
        return None

    def comparable_loss(
        self, stats: Stats, params: P, X: Points, w: Array, entropy: float | None = None
    ) -> float:
        """Return a loss that is comparable between batches with different missing values.

        `stats` are the statistics of the batch `X`, `w` under `params`, and `entropy` is
        `BatchStep.entropy` of this batch, if it is known. For a mixture, the result is
        `Family.loss` plus the entropy of the missing values per point. For K-means it is
        `Family.loss`, because partial distances are already comparable.
        """
        loss: float = self.family.loss(stats)
        return loss

    @abstractmethod
    def in_units(self, params: P, scaling: Scaling) -> P:
        """Return parameters of scaled points converted to the original units."""

    def scaled(self, params: P, scaling: Scaling | None) -> P:
        """Return parameters in the original units converted to those of scaled points."""
        if scaling is None:
            return params
        center, scale = -scaling.center / scaling.scale, 1.0 / scaling.scale
        return self.in_units(params, replace(scaling, center=center, scale=scale))

    def log_volume(self, scaling: Scaling) -> float:
        """Return the loss in the original units minus the loss of the scaled points.

        For K-means it is 0: its loss stays in scaled units, because otherwise one feature could
        dominate it.
        """
        return 0.0

    def with_missing_volume(self, stats: Stats, scaling: Scaling, X: Points, w: Array) -> Stats:
        """Return the statistics of scaled points, with an objective to which `log_volume` fits.

        `log_volume` is that of all features. So the log volume of the missing values of `X` (N, D)
        is added to the objective of a mixture.
        """
        return stats

    def stats_of_mass(self, params: P, mass: Array) -> Stats:
        """Return statistics whose m-step is `params`, with about the mass (K,) per component."""
        stats: Stats = self.family.prior_stats(params, float(mass.sum()) / len(mass))
        return stats


class KMeansRules(Rules[KMeansParams]):
    """The rules of K-means."""

    family: KMeans

    def in_units(self, params: KMeansParams, scaling: Scaling) -> KMeansParams:
        """Return centroids in the original units, with the scales for distances."""
        return KMeansParams(scaling.undo(params.centroids), scaling.scale)

    def scaled(self, params: KMeansParams, scaling: Scaling | None) -> KMeansParams:
        """Return centroids of scaled points, which have no scales of their own."""
        return KMeansParams(super().scaled(params, scaling).centroids)

    def stats_of_mass(self, params: KMeansParams, mass: Array) -> Stats:
        """Return statistics of exactly this mass; their first moments are 0 for any mass."""
        return replace(super().stats_of_mass(params, mass), weight=mass)


class MixtureRules(Rules[MixtureParams]):
    """The rules of a Gaussian mixture."""

    family: GaussianMixture

    def points_for_shape(self, n_features: int) -> float:
        """Return the number of points from which a covariance is estimated alone."""
        return self.family.points_for_shape(n_features)

    def map_step(self, stats: Stats, params: MixtureParams, prior: Array) -> MixtureParams:
        """Return the maximum a posteriori parameters, with the last parameters as the prior.

        This is the m-step of the statistics and of nu_k additional points of the last parameters,
        where nu_k = max(prior_k - n_k, 0). A component of weight n_k, mean m_k and scatter S_k
        about m_k gets (Gauvain & Lee 1994; the prior is the normal inverse Wishart prior of Fraley
        & Raftery 2007)

            mu_k    = (n_k m_k + nu_k mu'_k) / (n_k + nu_k)
            Sigma_k = (S_k + nu_k Sigma'_k + n_k nu_k / (n_k + nu_k) d d^T) / (n_k + nu_k)

        with d = m_k - mu'_k. The additional points count for the mixing weights too. A component
        with a prior keeps its covariance if the variances of its points about the last mean are at
        most the ridge, as those of duplicates are: such points have no information about a shape.

        Parameters
        ----------
        stats : Stats
        params : MixtureParams
            The last parameters, mu', Sigma' and pi'.
        prior : array of shape (K,)
            Weight of each component together with its prior.
        """
        family, covariance = self.family, self.family.covariance
        nu = prior - stats.weight
        if not (nu > 0.0).any():
            return family.m_step(stats, params)
        nu = np.maximum(nu, 0.0)
        second = covariance.moment(params.covariances, nu)
        last = kernels.Moments(nu, np.zeros_like(params.means), second)
        both = merge(Stats(*last, params.means, family.covariance_type, 0.0, 0.0), stats)
        # The last covariances have their ridge already.
        share = stats.weight / both.weight
        if family.covariance_type == "tied":
            share = np.full(len(nu), stats.mass / both.mass)
        new = family.m_step_with_ridge(both, params, share)
        if family.covariance_type != "tied" and params.spread is not None:
            around_last_means = covariance.estimate(
                second_about(stats, params.means), stats.weight, params.covariances
            )
            ridge = family.reg_covar * params.spread
            keeps_covariance = (
                covariance.variances(around_last_means, *params.means.shape) <= ridge
            ).all(axis=1)
            keeps_covariance &= nu > 0.0
            new.covariances[keeps_covariance] = params.covariances[keeps_covariance]
        weights = stats.weight + max(float(prior.sum()) - stats.mass, 0.0) * params.weights
        return replace(new, weights=weights / weights.sum())

    def spread(self, params: MixtureParams) -> Array | None:
        """Return the variance of each feature, shape (D,), that the ridge is relative to."""
        return self.family.spread(params)

    def with_spread(self, params: MixtureParams, spread: Array) -> MixtureParams:
        """Return parameters whose next m-step has a ridge relative to `spread` (D,)."""
        return params if params.spread is spread else replace(params, spread=spread)

    def if_too_many_outliers(
        self, params: MixtureParams, X: Points, w: Array, stats: Stats
    ) -> tuple[GaussianMixture, Array] | None:
        """Return the mixture without a background, and weights without the farthest points."""
        family, unit = self.family, stats.count / len(w)
        if family.outliers == 0.0 or not has_too_many_outliers(family.outliers, stats, unit):
            return None
        log_density = family.score_points(params, np.asarray(X, np.float64))
        return replace(family, outliers=0.0), without_farthest(family.outliers, log_density, w)

    def comparable_loss(
        self,
        stats: Stats,
        params: MixtureParams,
        X: Points,
        w: Array,
        entropy: float | None = None,
    ) -> float:
        """Return the loss plus the entropy of the missing values under the parameters."""
        if entropy is None:
            missing = self._incomplete(X)
            entropy = float(w @ conditionals.entropies_of_missing(params, X)) if missing else 0.0
        return self.family.loss(stats) + entropy / stats.count

    def _incomplete(self, X: Points) -> bool:
        return self.family.missing == "learn" and has_gaps(X)

    def in_units(self, params: MixtureParams, scaling: Scaling) -> MixtureParams:
        """Return the mixture of x = center + scale z, exactly.

        Raises
        ------
        DataError
            If the covariances are spherical and the scales differ.
        """
        covariances = self.family.covariance.rescale(params.covariances, scaling.scale)
        means = scaling.undo(params.means)
        return MixtureParams(params.weights, means, covariances, self.family.covariance_type)

    def log_volume(self, scaling: Scaling) -> float:
        """Return log |dx / dz|: the density of x is that of z divided by |dx / dz|."""
        return scaling.log_volume

    def with_missing_volume(self, stats: Stats, scaling: Scaling, X: Points, w: Array) -> Stats:
        """Return statistics whose log-likelihood includes the log volume of the missing values."""
        if not self._incomplete(X):
            return stats
        return replace(stats, objective=stats.objective + scaling.missing_log_volume(X, w))


RULES: dict[str, type[Rules[Any]]] = {KMeans.kind: KMeansRules, GaussianMixture.kind: MixtureRules}
"""Kind of a family -> its rules."""


def rules_of(family: Family[P]) -> Rules[P]:
    """Return the rules of a family.

    Raises
    ------
    DataError
        If the table has no rules for the kind of the family.
    """
    return by_kind(RULES, family.kind, "RULES")(family)
