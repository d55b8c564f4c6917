"""The learner as scikit-learn estimators.

Each call of `partial_fit` is one step of `StreamLearner`. `fit` uses the whole array as the
warm-up sample, so the result equals that of a batch fit, and `partial_fit` can continue from it.
"""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from streamclust._estimator import Estimator, KMeansEstimator, MixtureEstimator
from streamclust.arrays import as_points, as_sample_weight, distinct_points
from streamclust.errors import DataError, MissingExtraError, TooFewPointsError
from streamclust.hyperparameters import as_integer, renamed
from streamclust.models.imputation import impute

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
        "streamclust.sklearn needs scikit-learn: pip install scikit-learn"
    ) from None

if TYPE_CHECKING:
    from numpy.random import RandomState
    from numpy.typing import ArrayLike

    from streamclust.arrays import Array, CovarianceType, Labels, Metric, Missing
    from streamclust.models import Family
    from streamclust.models.scaling import ScalingKind
    from streamclust.online.drift import Drift
    from streamclust.online.forgetting import Forgetting
    from streamclust.online.state import LearnerState

__all__ = ["StreamingGaussianMixture", "StreamingKMeans"]


class _Streaming(Estimator, BaseEstimator):  # type: ignore[misc]
    """Fitting and scoring, for both families."""

    random_state: int | RandomState | None
    _batch: Array | None
    _learned_metric: Metric

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to all points at once: the best of `n_init` runs to convergence.

        The order of the points doesn't matter. Weight 2 counts a point exactly twice; a point of
        weight 0 is ignored.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), optional

        Raises
        ------
        TooFewPointsError
            If there are fewer distinct points than components; it is a DataError and a ValueError.
        """
        points = self._validated(X, reset=True)
        w = as_sample_weight(sample_weight, len(points))
        self._reset()
        learner = replace(self._learner(), warm_up=1)
        distinct_and_weights = distinct_points(points[w > 0.0], w[w > 0.0])
        state, info = learner.update(learner.init(), *distinct_and_weights)
        if state.params is None:
            if info.reason:
                raise TooFewPointsError(info.reason)
            raise DataError("all sample weights are zero; expected at least one above 0")
        self._state, self._batch = state, None
        self.labels_ = self.predict(X)
        return self

    def partial_fit(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Score one batch of a stream, then learn it.

        Parameters
        ----------
        X : array-like of shape (N, D)
        y : Ignored
        sample_weight : array-like of shape (N,), optional
        """
        first = not hasattr(self, "_state")
        points = self._validated(X, reset=first)
        if first:
            self._reset()
        learner = self._learner()
        if self.__dict__.get("_learned_metric", "euclidean") != learner.family.metric:
            raise DataError(
                f"metric is {learner.family.metric!r}, but the first batch had another one; set "
                "it back, or call fit for a new start"
            )
        state = learner.init() if first else self._state
        if state.stats is not None and not _can_continue(learner.family, state):
            raise DataError(
                "the number of components has changed since the first batch; "
                "set it back, or call fit for a new start"
            )
        self._state, _ = learner.update(state, points, as_sample_weight(sample_weight, len(points)))
        self._batch = points.copy() if np.may_share_memory(points, X) else points
        self.__dict__.pop("labels_", None)
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
    def labels_(self) -> Labels:
        """Component of each point of `fit`, or of the latest batch of `partial_fit`, shape (N,).

        They equal those of `predict` under the current parameters. The labels of a batch are
        computed at the first access.
        """
        stored = self.__dict__
        if "labels_" not in stored:
            check_is_fitted(self)
            batch = stored.get("_batch")
            if batch is None:
                raise AttributeError("labels_ isn't stored with the estimator; call predict")
            stored["labels_"] = self._family().predict(self._params, batch)
        labels: Labels = stored["labels_"]
        return labels

    @labels_.setter
    def labels_(self, labels: Labels) -> None:
        self.__dict__["labels_"] = labels

    @property
    def counts_(self) -> Array:
        """Effective number of points of each component after forgetting, shape (K,)."""
        _ = self._params
        stats = self._state.stats
        return self._state_if_started_now().stats.weight if stats is None else stats.weight

    @property
    def ids_(self) -> Labels:
        """Number of each component, shape (K,), in the order of `counts_` and the parameters."""
        _ = self._params
        return (self._state if self._state.params is not None else self._state_if_started_now()).ids

    @property
    def n_samples_seen_(self) -> int:
        """Number of points learned."""
        check_is_fitted(self)
        return self._state.points

    @property
    def prequential_score_(self) -> float:
        """Minus the inertia per point, or the log-likelihood per point.

        Each point is scored before it is learned, and old scores decay like the statistics. The
        score is NaN before the first scored point.
        """
        check_is_fitted(self)
        loss = self._learner().loss(self._state)
        return float("nan") if loss is None else -loss

    @property
    def n_drifts_(self) -> int:
        """Number of detected drifts."""
        check_is_fitted(self)
        return self._state.counts.drifts

    @property
    def _params(self) -> Any:
        check_is_fitted(self)
        learner = self._learner()
        state = self._state if self._state.params is not None else self._state_if_started_now()
        return learner.in_units(state)

    def _state_if_started_now(self) -> Any:
        """Return the state that results if the warm-up ends now."""
        state, info = self._learner().start(self._state)
        if state.params is None:
            raise NotFittedError(f"still warming up: {info.reason}")
        return state

    def _reset(self) -> None:
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        self._seed = as_integer("random_state", seed)
        self.__dict__.pop("_learned_metric", None)
        if (metric := self._family().metric) != "euclidean":
            self._learned_metric = metric

    def _validated(self, X: ArrayLike, *, reset: bool = False) -> Array:
        if self.missing != "learn":
            points: Array = validate_data(self, X, dtype=np.float64, order="C", reset=reset)
            return points
        points = validate_data(
            self, X, dtype=np.float64, order="C", reset=reset, ensure_all_finite="allow-nan"
        )
        return as_points(points, most=self._family().max_magnitude, missing=self.missing)

    def impute(self, X: ArrayLike) -> Array:
        """Return points with expected values in place of the missing ones (NaN), shape (N, D).

        A mixture gives conditional means, K-means the values of the nearest centroid.
        """
        params = self._params
        points = validate_data(
            self, X, dtype=np.float64, order="C", reset=False, ensure_all_finite="allow-nan"
        )
        return impute(self._family(), params, points).X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "learn"
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_state")


def _can_continue(family: Family[Any], state: LearnerState[Any]) -> bool:
    """Return whether a learner of this family can continue from a started state."""
    adapts = family.min_components is not None
    if state.stats is None or adapts != bool(len(state.components.ids)):
        return False
    return adapts or len(state.stats.weight) == family.n_components


@renamed(fade="reassignment_ratio")
class StreamingKMeans(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    ClusterMixin,  # type: ignore[misc]
    KMeansEstimator,
    _Streaming,
):
    """Online K-means: `streamclust.StreamLearner` of `streamclust.KMeans`.

    Parameters
    ----------
    n_clusters : int or 'auto', default=2
        Number of clusters K; with 'auto', K adapts to the data within `n_clusters_range`.
    forgetting : Forgetting, optional
        How old points decay in `partial_fit`, such as ``HalfLife(points=100_000)``. By default
        they don't. `HalfLifeTime` is refused, because there is no event time.
    warm_up : int, optional
        Points that `partial_fit` gathers before the start. Default: max(1000, 10 * K). During the
        warm-up, each call of `predict` clusters the points gathered so far.
    n_init : int, default=4
        Runs on the warm-up sample, or on all points in `fit`; the best run is used.
    reassignment_ratio : float, default=0.1
        See `StreamLearner`.
    random_state : int, RandomState or None, default=0
        The same points in the same batches with the same integer give the same bits.
    coreset : int, optional
        Points of the coreset, which `partial_fit` keeps beside the statistics; 0 for no coreset.
        Default: see `StreamLearner`.
    scale : {'none', 'standard', 'robust'}, default='none'
        Scaling of the features, learned from the warm-up sample or the points of `fit`.
        Attributes are in the original units; the inertia is in scaled units.
    drift : Drift, optional
        How `partial_fit` detects drift, and its reaction. By default drift isn't detected.
    n_clusters_range : tuple of int, default=(2, 50)
        The smallest and the largest K, for 'auto'.
    metric : {'euclidean', 'cosine'}, default='euclidean'
        'cosine': spherical K-means. Distances are 1 - cos, centroids are unit vectors, and zero
        vectors are refused.
    missing : {'reject', 'learn'}, default='reject'
        'learn': NaN is accepted, as a missing value; each point needs one present value. Distances
        are partial distances (`streamclust.models.partial`). Only for the Euclidean metric.

    Attributes
    ----------
    cluster_centers_ : array of shape (K, D)
    counts_ : array of shape (K,)
        Effective number of points of each cluster.
    labels_ : array of shape (N,)
        Labels of the points of `fit`, or of the latest batch of `partial_fit`.
    ids_ : array of shape (K,)
        Cluster numbers, which don't change while K adapts. `ids_[predict(X)]` is the number of
        each point's cluster.
    n_samples_seen_, n_drifts_ : int
    prequential_score_ : float
    n_features_in_ : int
    feature_names_in_ : array of shape (D,)
        Only if the points have feature names.

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
        reassignment_ratio: float = 0.1,
        random_state: int | RandomState | None = 0,
        coreset: int | None = None,
        scale: ScalingKind = "none",
        drift: Drift | None = None,
        n_clusters_range: tuple[int, int] = (2, 50),
        metric: Metric = "euclidean",
        missing: Missing = "reject",
    ) -> None:
        self._store(locals())

    @property
    def cluster_centers_(self) -> Array:
        """Centroids, shape (K, D)."""
        centroids: Array = self._params.centroids
        return centroids

    def transform(self, X: ArrayLike) -> Array:
        """Return each point's distance to each centroid, or 1 - cos, shape (N, K)."""
        params = self._params
        return self._family().distances(params, self._validated(X))

    def score(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return minus the inertia, the sum of squared distances to the nearest centroid.

        With the metric cosine, the sum is of 1 - cos.
        """
        params = self._params
        squared_distances = self._family().score_points(params, self._validated(X))
        return -float(as_sample_weight(sample_weight, len(squared_distances)) @ squared_distances)

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)


@renamed(fade="reassignment_ratio")
class StreamingGaussianMixture(DensityMixin, MixtureEstimator, _Streaming):  # type: ignore[misc]
    """Stepwise EM: `streamclust.StreamLearner` of `streamclust.GaussianMixture`.

    Parameters
    ----------
    n_components : int or 'auto', default=1
        Number of components K; with 'auto', K adapts within `n_components_range`.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='full'
    reg_covar : float, default=1e-6
        Ridge, which is added to the variances, relative to each feature's variance over all data.
    forgetting, warm_up, n_init, reassignment_ratio, random_state, coreset, scale, drift
        See `StreamingKMeans`.
    n_components_range : tuple of int, default=(2, 50)
        The smallest and the largest K, for 'auto'.
    outliers : float, default=0.0
        Expected share of points that belong to no component; see `streamclust.GaussianMixture`.
    missing : {'reject', 'learn'}, default='reject'
        'learn': NaN is accepted, as a missing value; each point needs one present value. Densities
        are those of the present values (`streamclust.models.conditionals`).

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
        reassignment_ratio: float = 0.1,
        random_state: int | RandomState | None = 0,
        coreset: int | None = None,
        scale: ScalingKind = "none",
        drift: Drift | None = None,
        n_components_range: tuple[int, int] = (2, 50),
        outliers: float = 0.0,
        missing: Missing = "reject",
    ) -> None:
        self._store(locals())

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
        """Draw points, shape (n_samples, D), and return each point's component as well.

        With an integer as `random_state`, every call draws the same points.
        """
        params, n = self._params, as_integer("n_samples", n_samples)
        return self._family().sample(params, n, np.random.default_rng(self._seed))
