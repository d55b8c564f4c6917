"""The learner as scikit-learn estimators.

`partial_fit` is one step of `StreamLearner`, one call a batch; `fit` is a learner whose warm-up is
the whole array, so it ends where a batch fit does, and `partial_fit` can go on from there.
"""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from streamclust._estimator import Estimator, sizes
from streamclust.arrays import as_sample_weight, distinct_points
from streamclust.errors import DataError, MissingExtraError
from streamclust.hyperparameters import as_integer
from streamclust.models import GaussianMixture, KMeans
from streamclust.online.forgetting import Forgetting
from streamclust.online.learner import StreamLearner

try:
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        ClusterMixin,
        DensityMixin,
        TransformerMixin,
    )
    from sklearn.exceptions import NotFittedError
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise MissingExtraError(
        "streamclust.sklearn needs scikit-learn: pip install 'streamclust[sklearn]'"
    ) from None

if TYPE_CHECKING:
    from numpy.random import RandomState
    from numpy.typing import ArrayLike

    from streamclust.arrays import Array, CovarianceType, Labels
    from streamclust.models import Family
    from streamclust.models.scaling import ScalingKind
    from streamclust.online.drift import Drift
    from streamclust.online.state import LearnerState

__all__ = ["StreamingGaussianMixture", "StreamingKMeans"]


class _Streaming(Estimator, BaseEstimator):  # type: ignore[misc]
    """Fitting, for both kinds."""

    forgetting: Forgetting | None
    warm_up: int | None
    n_init: int
    fade: float
    random_state: int | RandomState | None
    coreset: int | None
    scale: ScalingKind
    drift: Drift | None

    def _family(self) -> Family[Any]:
        raise NotImplementedError

    def _learner(self) -> StreamLearner[Any]:
        forgetting = Forgetting() if self.forgetting is None else self.forgetting
        return StreamLearner(
            self._family(),
            forgetting,
            self.warm_up,
            as_integer("n_init", self.n_init, 1),
            self._seed,
            self.fade,
            scale=self.scale,
            drift=self.drift,
            coreset=self.coreset,
        )

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to all points at once: the best of `n_init` runs to convergence.

        The order of the points doesn't matter, weight 2 is exactly the point twice, and weight 0
        no point.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), optional

        Raises
        ------
        DataError
            A ValueError: if there are fewer distinct points than components.
        """
        points = self._validated(X, reset=True)
        w = as_sample_weight(sample_weight, len(points))
        self._begin()
        everything = replace(self._learner(), warm_up=1)
        distinct = distinct_points(points[w > 0.0], w[w > 0.0])
        state, info = everything.update(everything.init(), *distinct)
        if state.params is None:
            raise DataError(info.reason or "all sample weights are zero; expected some above")
        self._state = state
        self.labels_ = self.predict(X)
        return self

    def partial_fit(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn one batch of a stream; score it first.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), optional
        """
        first = not hasattr(self, "_state")
        points = self._validated(X, reset=first)
        if first:
            self._begin()
        learner = self._learner()
        state = learner.init() if first else self._state
        if state.stats is not None and not _fits(learner.family, state):
            raise DataError("the number of components has changed since the first batch; fit anew")
        self._state, _ = learner.update(state, points, as_sample_weight(sample_weight, len(points)))
        if hasattr(self, "labels_"):
            del self.labels_  # they were of other points
        return self

    def fit_predict(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Labels:
        """Fit, and return each point's component, shape (N,)."""
        return self.fit(X, y, sample_weight).labels_

    def predict(self, X: ArrayLike) -> Labels:
        """Return each point's component, shape (N,)."""
        params = self._params
        return self._family().predict(params, self._validated(X))

    @property
    def counts_(self) -> Array:
        """Effective number of points behind each component after forgetting, shape (K,)."""
        _ = self._params
        stats = self._state.stats
        return self._provisional().stats.weight if stats is None else stats.weight

    @property
    def ids_(self) -> Labels:
        """Numbers of the components, (K,), in the order of the other arrays."""
        _ = self._params
        return (self._state if self._state.params is not None else self._provisional()).numbers

    @property
    def n_samples_seen_(self) -> int:
        """Points learned ever."""
        check_is_fitted(self)
        return self._state.points

    @property
    def prequential_score_(self) -> float:
        """Minus the inertia, or the log-likelihood, per point, each scored before it was learned.

        Forgets as the statistics do; NaN before the first such point.
        """
        check_is_fitted(self)
        loss = self._learner().loss(self._state)
        return float("nan") if loss is None else -loss

    @property
    def n_drifts_(self) -> int:
        """Drifts found ever."""
        check_is_fitted(self)
        return self._state.drift.drifts

    @property
    def _params(self) -> Any:
        check_is_fitted(self)
        learner = self._learner()
        state = self._state if self._state.params is not None else self._provisional()
        return learner.in_units(state)

    def _provisional(self) -> Any:
        """Return the state that the warm-up would end in if it ended now."""
        state, info = self._learner().start(self._state)
        if state.params is None:
            raise NotFittedError(f"still warming up: {info.reason}")
        return state

    def _begin(self) -> None:
        given = self.random_state
        if not isinstance(given, Integral):
            given = check_random_state(given).randint(2**31 - 1)
        self._seed = as_integer("random_state", given)

    def _validated(self, X: ArrayLike, *, reset: bool = False) -> Array:
        points: Array = validate_data(self, X, dtype=np.float64, order="C", reset=reset)
        return points

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_state")


def _fits(family: Family[Any], state: LearnerState[Any]) -> bool:
    """Whether a learner of this family can go on from a state that has begun."""
    adapts = family.fewest is not None
    if state.stats is None or adapts != bool(len(state.ids)):
        return False
    return adapts or len(state.stats.weight) == family.n_components


class StreamingKMeans(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    ClusterMixin,  # type: ignore[misc]
    _Streaming,
):
    """Online K-means: `streamclust.StreamLearner` of `streamclust.KMeans`.

    Parameters
    ----------
    n_clusters : int or 'auto', default=2
        Number of clusters K; 'auto' lets it adapt to the data, within `n_clusters_range`.
    forgetting : Forgetting, optional
        How `partial_fit` forgets old points, such as ``HalfLife(points=100_000)``. Default: not.
    warm_up : int, optional
        Points that `partial_fit` gathers before it starts. Default: 1,000 or 10 K, whichever is
        more. Until then predictions are of the points so far, clustered anew at each call.
    n_init : int, default=4
        Runs on the warm-up sample, or on all points in `fit`; the best is kept.
    fade : float, default=0.1
        See `StreamLearner`.
    random_state : int, RandomState or None, default=0
        The same points in the same batches with the same integer give the same bits.
    coreset : int, optional
        Points of the coreset, which `partial_fit` keeps beside the statistics; 0 keeps none.
        Default: see `StreamLearner`.
    scale : {'none', 'standard', 'robust'}, default='none'
        Bring all features to one scale, as the warm-up sample has it, or the points of `fit`.
        Attributes are in the data's units, inertia in scaled ones.
    drift : Drift, optional
        How `partial_fit` finds drift, and what is done then. Default: it isn't looked for.
    n_clusters_range : tuple of int, default=(2, 50)
        The least and the most, for 'auto'.

    Attributes
    ----------
    cluster_centers_ : array of shape (K, D)
    counts_ : array of shape (K,)
        Effective number of points of each cluster.
    labels_ : array of shape (N,)
        Of the points of `fit`; not after `partial_fit`.
    ids_ : array of shape (K,)
        Numbers that clusters keep for life while K adapts; `ids_[predict(X)]` are those of points.
    n_samples_seen_, n_drifts_ : int
    prequential_score_ : float
    n_features_in_ : int
    feature_names_in_ : array of shape (D,)
        If the points came with names.

    Examples
    --------
    >>> import numpy as np
    >>> from streamclust.sklearn import StreamingKMeans
    >>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> kmeans = StreamingKMeans(2).fit(X)
    >>> kmeans.cluster_centers_[kmeans.predict([[2.0], [9.0]])].ravel().tolist()
    [0.5, 10.5]
    """

    def __init__(
        self,
        n_clusters: int | Literal["auto"] = 2,
        *,
        forgetting: Forgetting | None = None,
        warm_up: int | None = None,
        n_init: int = 4,
        fade: float = 0.1,
        random_state: int | RandomState | None = 0,
        coreset: int | None = None,
        scale: ScalingKind = "none",
        drift: Drift | None = None,
        n_clusters_range: tuple[int, int] = (2, 50),
    ) -> None:
        self.n_clusters = n_clusters
        self.n_clusters_range = n_clusters_range
        self.forgetting = forgetting
        self.warm_up = warm_up
        self.n_init = n_init
        self.fade = fade
        self.random_state = random_state
        self.coreset = coreset
        self.scale = scale
        self.drift = drift

    def _family(self) -> KMeans:
        return KMeans(*sizes("n_clusters", self.n_clusters, self.n_clusters_range))

    @property
    def cluster_centers_(self) -> Array:
        """Centroids, shape (K, D)."""
        centroids: Array = self._params.centroids
        return centroids

    def transform(self, X: ArrayLike) -> Array:
        """Return each point's distance to each centroid, shape (N, K)."""
        params = self._params
        return self._family().distances(params, self._validated(X))

    def score(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return minus the inertia, the sum of squared distances to the nearest centroid."""
        params = self._params
        sqdist = self._family().score_points(params, self._validated(X))
        return -float(as_sample_weight(sample_weight, len(sqdist)) @ sqdist)

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)


class StreamingGaussianMixture(DensityMixin, _Streaming):  # type: ignore[misc]
    """Stepwise EM: `streamclust.StreamLearner` of `streamclust.GaussianMixture`.

    Parameters
    ----------
    n_components : int or 'auto', default=1
        Number of components K; 'auto' lets it adapt, within `n_components_range`.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
    reg_covar : float, default=1e-6
        Floor of the variances, as a share of each feature's variance over all data.
    forgetting, warm_up, n_init, fade, random_state, coreset, scale, drift
        See `StreamingKMeans`.
    n_components_range : tuple of int, default=(2, 50)
        The least and the most, for 'auto'.

    Attributes
    ----------
    weights_ : array of shape (K,)
    means_ : array of shape (K, D)
    covariances_ : array
        full (K, D, D), tied (D, D), diag (K, D), spherical (K,).
    counts_, labels_, ids_, n_samples_seen_, n_drifts_, prequential_score_
        See `StreamingKMeans`.
    n_features_in_, feature_names_in_
        See `StreamingKMeans`.

    Examples
    --------
    >>> import numpy as np
    >>> from streamclust.sklearn import StreamingGaussianMixture
    >>> X = np.random.default_rng(0).normal([[0.0], [9.0]], size=(2, 500)).reshape(-1, 1)
    >>> mixture = StreamingGaussianMixture(2).fit(X)
    >>> sorted(mixture.means_.ravel().round().astype(int).tolist())
    [0, 9]
    """

    def __init__(
        self,
        n_components: int | Literal["auto"] = 1,
        *,
        covariance_type: CovarianceType = "full",
        reg_covar: float = 1e-6,
        forgetting: Forgetting | None = None,
        warm_up: int | None = None,
        n_init: int = 4,
        fade: float = 0.1,
        random_state: int | RandomState | None = 0,
        coreset: int | None = None,
        scale: ScalingKind = "none",
        drift: Drift | None = None,
        n_components_range: tuple[int, int] = (2, 50),
    ) -> None:
        self.n_components = n_components
        self.n_components_range = n_components_range
        self.covariance_type = covariance_type
        self.reg_covar = reg_covar
        self.forgetting = forgetting
        self.warm_up = warm_up
        self.n_init = n_init
        self.fade = fade
        self.random_state = random_state
        self.coreset = coreset
        self.scale = scale
        self.drift = drift

    def _family(self) -> GaussianMixture:
        most, fewest = sizes("n_components", self.n_components, self.n_components_range)
        return GaussianMixture(most, self.covariance_type, self.reg_covar, fewest)

    @property
    def weights_(self) -> Array:
        """Mixing weights, shape (K,)."""
        weights: Array = self._params.weights
        return weights

    @property
    def means_(self) -> Array:
        """Means, shape (K, D)."""
        means: Array = self._params.means
        return means

    @property
    def covariances_(self) -> Array:
        """Covariances, in the shape of the covariance type."""
        covariances: Array = self._params.covariances
        return covariances

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return each component's responsibility for each point, shape (N, K)."""
        params = self._params
        return self._family().responsibilities(params, self._validated(X))

    def score_samples(self, X: ArrayLike) -> Array:
        """Return the log-likelihood of each point, shape (N,), in nats."""
        params = self._params
        return self._family().score_points(params, self._validated(X))

    def score(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the average log-likelihood per point, in nats."""
        points = self.score_samples(X)
        return float(np.average(points, weights=as_sample_weight(sample_weight, len(points))))

    def sample(self, n_samples: int = 1) -> tuple[Array, Labels]:
        """Draw points, shape (n_samples, D), and the components that they came from.

        With an integer as `random_state` every call draws the same points.
        """
        params = self._params
        return self._family().sample(params, n_samples, np.random.default_rng(self._seed))
