"""Gaussian mixtures p(x) = sum_k pi_k N(x | mu_k, Sigma_k), learned by EM on statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from streamclust import kernels
from streamclust.errors import DataError
from streamclust.hyperparameters import as_number, check_choice, store
from streamclust.matching import match
from streamclust.models import mixture_moves
from streamclust.models.covariance import COVARIANCES, Covariance, symmetric
from streamclust.models.em import InMemory, climb
from streamclust.models.family import as_range, named_array
from streamclust.models.kmeans import KMeans
from streamclust.models.reviving import split
from streamclust.models.split_merge import rearrange
from streamclust.stats import Stats, recentre

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streamclust.arrays import Array, Labels, Points
    from streamclust.models.em import Climb, Data
    from streamclust.models.moves import Move, Sample
    from streamclust.scaling import Scaling
    from streamclust.stats import CovarianceType

_SMALLEST_SPREAD = 1e-140
"""Largest range of a feature from which on covariances, and their floors, are normal numbers."""


@dataclass(frozen=True, eq=False)
class MixtureParams:
    """Parameters of a mixture; shapes are scikit-learn's.

    Parameters
    ----------
    weights : array of shape (K,)
        Mixing weights pi_k; they sum to one.
    means : array of shape (K, D)
    covariances : array
        full (K, D, D), tied (D, D), diag (K, D), spherical (K,).
    covariance_type : {'full', 'tied', 'diag', 'spherical'}
    """

    weights: Array
    means: Array
    covariances: Array
    covariance_type: CovarianceType

    @cached_property
    def root(self) -> Array:
        """Lower Cholesky factors of the covariances, or standard deviations."""
        return COVARIANCES[self.covariance_type].root(self.covariances)

    @cached_property
    def log_weights(self) -> Array:
        """Log pi_k; -inf for a component of no weight."""
        out = np.full(len(self.weights), -np.inf)
        np.log(self.weights, out=out, where=self.weights > 0.0)
        return out


@dataclass(frozen=True)
class GaussianMixture:
    """A Gaussian mixture with one of four covariance types (Bishop 2006, section 9.2).

    Parameters
    ----------
    n_components : int
        Number of components K, at least 1.
    fewest : int, optional
        Let K adapt to the stream, from this number to `n_components`; see `streamclust.adapting`.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
    reg_covar : float, default=1e-6
        Added to each variance, in units of that feature's variance over all data, so that a
        change of units changes nothing else. A feature that never varies is given the average
        variance of the features; if nothing varies, 1.
    """

    n_components: int
    covariance_type: CovarianceType = "full"
    reg_covar: float = 1e-6
    fewest: int | None = None

    kind: ClassVar[str] = "gaussian_mixture"
    objective: ClassVar[str] = "log_likelihood"

    def __post_init__(self) -> None:
        n_components, fewest = as_range("n_components", self.n_components, self.fewest)
        check_choice("covariance_type", self.covariance_type, COVARIANCES)
        reg_covar = as_number("reg_covar", self.reg_covar, "a number, at least 0")
        store(self, n_components=n_components, fewest=fewest, reg_covar=reg_covar)

    def with_components(self, K: int) -> GaussianMixture:
        """Return the same mixture with a fixed K."""
        return replace(self, n_components=K, fewest=None)

    def size(self, params: MixtureParams) -> int:
        """Return the number of components."""
        return len(params.weights)

    @property
    def _covariance(self) -> Covariance:
        return COVARIANCES[self.covariance_type]

    def init(self, X: Array, w: Array, rng: np.random.Generator) -> MixtureParams:
        """Return the mixture of the clusters that one run of K-means finds."""
        kmeans = KMeans(self.n_components)
        start = kmeans.init(X, w, rng)
        clusters = climb(kmeans, start, InMemory(kmeans, X, w, rng)).params
        return self.of_labels(X, w, kmeans.predict(clusters, X), clusters.centroids)

    def of_labels(self, X: Array, w: Array, labels: Labels, means: Array) -> MixtureParams:
        """Return the mixture of labelled points; `means` (K, D) where there are none."""
        weighted = np.zeros((len(X), len(means)))
        weighted[np.arange(len(X)), labels] = w
        moments = kernels.mixture_moments(X, weighted, means, self.covariance_type)
        nothing = np.zeros(self._covariance.shape(*means.shape))
        unknown = MixtureParams(np.zeros(len(means)), means, nothing, self.covariance_type)
        return self.m_step(self._stats(moments, means, 0.0, 0.0), unknown)

    def e_step(self, params: MixtureParams, X: Points, w: Array) -> Stats:
        """Return the responsibilities' moments about the means, and the log-likelihood."""
        moments, log_likelihood = kernels.mixture_step(
            X, w, params.log_weights, params.means, params.root, self.covariance_type
        )
        return self._stats(moments, params.means, log_likelihood, float(w.sum()))

    def assigning_e_step(
        self, params: MixtureParams, X: Points, w: Array
    ) -> tuple[Stats, kernels.Assigned]:
        """Return the same, and each point's nearest mean."""
        return self.e_step(params, X, w), kernels.assign(X, params.means)

    def _stats(
        self, moments: kernels.Moments, reference: Array, objective: float, count: float
    ) -> Stats:
        return Stats(*moments, reference, self.covariance_type, objective, count)

    def m_step(self, stats: Stats, params: MixtureParams) -> MixtureParams:
        """Return weights, means and covariances that maximise the expected log-likelihood.

        A component whose points are all but equal, one far point or duplicates, has in no feature
        more variance of its own than the floor. It takes the covariance that the others have on
        average, if they have most of the mass: else it would be the more likely the lower the
        floor is.
        """
        weight = np.where(stats.alive, stats.weight, 0.0)
        total = float(weight.sum())
        if total == 0.0:
            return params
        means = stats.averages(otherwise=params.means)
        second = _second_about(stats, means)
        raw = self._covariance.estimate(second, weight, params.covariances)
        floor = self.reg_covar * self._scale(weight, means, second)
        own = self._covariance.variances(raw, *means.shape)
        equal = (own <= floor).all(axis=1)
        others = float(weight[~equal].sum())
        if others < total < 2.0 * others:
            raw = raw.copy()
            raw[equal] = second[~equal].sum(axis=0) / others
        return MixtureParams(
            weight / total, means, self._covariance.add_floor(raw, floor), self.covariance_type
        )

    def _scale(self, weight: Array, means: Array, second: Array) -> Array:
        """Return each feature's variance over all data, shape (D,); see `reg_covar`."""
        total = weight.sum()
        offset = means - means[weight.argmax()]  # exactly 0 where a feature never varies
        between = offset - (weight @ offset) / total
        spread = self._covariance.inner_variance(second, means.shape[1]) + weight @ between**2
        variance = np.maximum(spread, 0.0) / total
        average = float(variance.mean()) or 1.0
        return np.where(variance > 0.0, variance, average)

    def revive(
        self, stats: Stats, dying: Iterable[int], X: Array, w: Array, rng: np.random.Generator
    ) -> tuple[Stats, tuple[int, ...]]:
        """Split other components in favour of dying ones; see `models.reviving.split`."""
        return split(stats, dying)

    def points_needed(self, n_features: int) -> int:
        """Return how many points a covariance needs, so as not to be singular without its floor."""
        return n_features + 1 if self.covariance_type == "full" else 2

    def products(self, X: Array) -> float:
        """Return how many products of coordinates an e-step of `X`, shape (N, D), takes.

        An exponential counts for 32.
        """
        N, D = X.shape
        wide = D if self.covariance_type in ("full", "tied") else 1
        return float(N * self.n_components * (D * wide + 32))

    def escape(self, params: MixtureParams, X: Array, w: Array) -> MixtureParams | None:
        """Return None: only several components together know a way; see `rearrange`."""
        return None

    def rearrange(
        self,
        run: Climb[MixtureParams],
        data: Data[MixtureParams],
        X: Array,
        w: Array,
        *,
        tol: float,
        max_iter: int,
    ) -> Climb[MixtureParams]:
        """Split and merge components; see `streamclust.models.split_merge.rearrange`."""
        return rearrange(self, run, data, X, w, tol=tol, max_iter=max_iter)

    def search(
        self, params: MixtureParams, X: Array, w: Array, rng: np.random.Generator
    ) -> MixtureParams:
        """Return `params`: no random move is known."""
        return params

    def optimism(self, n: float, n_features: int) -> float:
        """Return p / n nats for p free parameters (Akaike 1973)."""
        shape = self._covariance.shape(self.n_components, n_features)
        covariances = float(np.prod(shape))
        if self.covariance_type in ("full", "tied"):  # they are symmetric
            covariances *= 0.5 * (n_features + 1) / n_features
        return (self.n_components * (n_features + 1) - 1 + covariances) / n

    def excess(self, params: MixtureParams, other: MixtureParams, stats: Stats) -> float:
        """Return sum_k pi_k KL(N_k || N'_k) + KL(pi || pi') to second order, by single features."""
        shape = params.means.shape
        one, two = (self._covariance.variances(p.covariances, *shape) for p in (params, other))
        variance, weight = 0.5 * (one + two), 0.5 * (params.weights + other.weights)
        moved = (params.means - other.means) ** 2 / variance + 0.5 * ((one - two) / variance) ** 2
        shares = (params.weights - other.weights) ** 2
        np.divide(shares, weight, out=shares, where=weight > 0.0)
        return 0.5 * float(weight @ moved.sum(axis=1) + shares.sum())

    def bic(self, params: MixtureParams, points: Sample) -> float:
        """Return the BIC; see `streamclust.models.mixture_moves`."""
        return mixture_moves.bic(self, params, points)

    def splits(self, params: MixtureParams, points: Sample) -> list[Move[MixtureParams]]:
        """Return components cut in two."""
        return mixture_moves.splits(self, params, points)

    def merges(self, params: MixtureParams, points: Sample) -> list[Move[MixtureParams]]:
        """Return pairs of components that become one."""
        return mixture_moves.merges(self, params, points)

    def exchanged(
        self, params: MixtureParams, moves: Sequence[Move[MixtureParams]]
    ) -> MixtureParams:
        """Return the parameters after moves; new components come last."""
        dropped = [k for move in moves for k in move.drop]
        parts = [np.delete(params.weights, dropped), *(move.add.weights for move in moves)]
        means = [np.delete(params.means, dropped, axis=0), *(move.add.means for move in moves)]
        covariances = params.covariances
        if self.covariance_type != "tied":
            kept = np.delete(covariances, dropped, axis=0)
            covariances = np.concatenate([kept, *(move.add.covariances for move in moves)])
        weights = np.concatenate(parts)
        return MixtureParams(
            weights / weights.sum(), np.concatenate(means), covariances, self.covariance_type
        )

    def check_spread(self, X: Array) -> None:
        """Refuse points whose covariances would underflow.

        Raises
        ------
        DataError
            If points differ, but in no feature by more than 1e-140.
        """
        spread = float(np.ptp(X, axis=0).max()) if X.size else 0.0
        if 0.0 < spread < _SMALLEST_SPREAD:
            raise DataError(
                f"the points of a mixture lie within {spread:.3g} of each other; covariances are "
                f"squares of that, and below {_SMALLEST_SPREAD:g} they are too small for float64: "
                "multiply the points by a power of ten"
            )

    def optimum(self, X: Array, w: Array) -> MixtureParams | None:
        """Return None: nobody knows it."""
        return None

    def reorder(self, params: MixtureParams, order: Labels) -> MixtureParams:
        """Return weights, means and covariances in another order."""
        covariances = params.covariances
        if self.covariance_type != "tied":
            covariances = covariances[order]
        weights = params.weights[order]
        if len(order) < len(params.weights):
            weights = weights / weights.sum()
        return MixtureParams(weights, params.means[order], covariances, self.covariance_type)

    def match(self, params: MixtureParams, onto: MixtureParams) -> Labels:
        """Return the order that moves the means of `onto` least, features at equal spread."""
        second = self._covariance.moment(onto.covariances, onto.weights)
        variance = self._covariance.inner_variance(second, onto.means.shape[1])
        return match(params.means, onto.means, np.sqrt(variance))

    def prior_stats(self, params: MixtureParams, weight: float) -> Stats:
        """Return statistics of K times `weight` points, spread as the mixing weights say."""
        mass = weight * len(params.weights) * params.weights
        moments = kernels.Moments(
            mass, np.zeros_like(params.means), self._covariance.moment(params.covariances, mass)
        )
        return self._stats(moments, params.means, 0.0, 0.0)

    def loss(self, stats: Stats) -> float:
        """Return the negative log-likelihood per point, in nats."""
        return -stats.objective / stats.count

    def improvement(self, before: float, after: float) -> float:
        """Return the rise of the log-likelihood per point, in nats."""
        return before - after

    def in_units(self, params: MixtureParams, scaling: Scaling) -> MixtureParams:
        """Return the mixture of x = center + scale z; a mixture moves with the axes exactly.

        Raises
        ------
        DataError
            If the covariances are spherical, which they don't stay.
        """
        covariances = self._covariance.stretched(params.covariances, scaling.scale)
        means = scaling.undo(params.means)
        return MixtureParams(params.weights, means, covariances, self.covariance_type)

    def loss_in_units(self, loss: float, scaling: Scaling) -> float:
        """Return the negative log-likelihood per point x: that of z and the log volume."""
        return loss + scaling.log_volume

    def log_joint(self, params: MixtureParams, X: Array) -> Array:
        """Return log pi_k N(x_n | mu_k, Sigma_k), shape (N, K)."""
        densities = kernels.log_gaussians(X, params.means, params.root, self.covariance_type)
        return params.log_weights + densities

    def responsibilities(self, params: MixtureParams, X: Array) -> Array:
        """Return gamma_nk = p(k | x_n), shape (N, K); each row sums to one."""
        return kernels.normalise(self.log_joint(params, X))[0]

    def predict(self, params: MixtureParams, X: Array) -> Labels:
        """Return the component with the largest responsibility, shape (N,)."""
        return np.asarray(self.log_joint(params, X).argmax(axis=1), dtype=np.intp)

    def score_points(self, params: MixtureParams, X: Array) -> Array:
        """Return log p(x_n), shape (N,), in nats."""
        return kernels.normalise(self.log_joint(params, X))[1]

    def lower_bound(self, params: MixtureParams, X: Array, q: Array) -> float:
        """Return EM's lower bound on the log-likelihood, sum_nk q_nk (log joint_nk - log q_nk).

        It equals the log-likelihood where q is the responsibilities, and lies below it elsewhere
        (Bishop 2006, equation 9.71).
        """
        joint = self.log_joint(params, X)
        used = q > 0.0
        return float(np.sum(q[used] * (joint[used] - np.log(q[used]))))

    def sample(
        self, params: MixtureParams, n: int, rng: np.random.Generator
    ) -> tuple[Array, Labels]:
        """Draw `n` points; return them, shape (n, D), and the components that they came from."""
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
        K = self.n_components if self.fewest is None else None
        weights = named_array(arrays, "weights", (K,))
        means = named_array(arrays, "means", (len(weights), None))
        shape = self._covariance.shape(*means.shape)
        covariances = named_array(arrays, "covariances", shape)
        if (weights < 0.0).any() or abs(float(weights.sum()) - 1.0) > 1e-6:
            raise DataError(f"weights sum to {weights.sum():.9g}; expected 1, none negative")
        if self.covariance_type in ("full", "tied"):
            covariances = symmetric(covariances)
        params = MixtureParams(weights / weights.sum(), means, covariances, self.covariance_type)
        try:
            _ = params.root
        except DataError as error:
            raise DataError(f"covariances: {error}") from None
        return params


def _second_about(stats: Stats, means: Array) -> Array:
    second = recentre(stats, means).second
    if second is None:
        raise DataError("a mixture needs statistics with second moments; these are of K-means")
    return second
