"""The learner as river clusterers.

A model has the features of its first point, by name. Other features of later points are ignored.
An absent feature counts as 0, as in river; with ``missing="learn"`` it is a missing value. Each
call learns one batch, so `learn_many` is much faster than `learn_one`, whose batches have one
point.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw
import numpy as np
from river import base

from streamclust._estimator import Estimator, KMeansEstimator, MixtureEstimator
from streamclust.hyperparameters import renamed
from streamclust.models.imputation import impute

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from narwhals.typing import IntoDataFrame
    from numpy.typing import ArrayLike

    from streamclust.arrays import Array, CovarianceType, Metric, Missing
    from streamclust.models.scaling import ScalingKind
    from streamclust.online.drift import Drift
    from streamclust.online.forgetting import Forgetting

__all__ = ["StreamingGaussianMixture", "StreamingKMeans"]


class _Streaming(Estimator, base.Clusterer):  # type: ignore[misc]
    """Learning and prediction, for both families."""

    seed: int
    _features: tuple[Hashable, ...] = ()

    @property
    def _seed(self) -> int:  # type: ignore[override]
        return self.seed

    def learn_one(self, x: Mapping[Hashable, float], w: float = 1.0) -> None:
        """Learn a point of weight `w`."""
        if not self._features:
            self._features = _ordered(x)
        self._learn(self._row(x), [w])

    def learn_many(self, X: IntoDataFrame, w: ArrayLike | None = None) -> None:
        """Learn a batch: a frame with one column per feature, and weights of shape (N,)."""
        frame = nw.from_native(X, eager_only=True)
        if not self._features:
            self._features = _ordered(frame.columns)
        self._learn(self._rows(frame), w)

    def predict_one(self, x: Mapping[Hashable, float]) -> int:
        """Return the point's component; 0 during the warm-up."""
        params = self._params
        if params is None:
            return 0
        return int(self._state.ids[self._family().predict(params, self._row(x))[0]])

    def predict_many(self, X: IntoDataFrame) -> Any:
        """Return the components of a frame's points, as a series of the same library and index."""
        frame, params = nw.from_native(X, eager_only=True), self._params
        labels = np.zeros(len(frame), dtype=np.intp)
        if params is not None:
            labels = self._state.ids[self._family().predict(params, self._rows(frame))]
        series = nw.new_series("cluster", labels, backend=frame.implementation)
        index = nw.maybe_get_index(frame)
        return (series if index is None else nw.maybe_set_index(series, index=index)).to_native()

    def impute_one(self, x: Mapping[Hashable, float]) -> dict[Hashable, float]:
        """Return the point with expected values for absent features, None and NaN.

        During the warm-up there are no expected values: only present features are returned.
        """
        params, row = self._params, self._row(x, np.nan)
        if params is not None:
            row = impute(self._family(), params, row).X
        values = zip(self._features, row[0].tolist(), strict=True)
        return {name: value for name, value in values if not math.isnan(value)}

    @property
    def centers(self) -> dict[int, dict[Hashable, float]]:
        """Component -> feature -> mean; empty during the warm-up."""
        params = self._params
        means = [] if params is None else params.means.tolist()
        numbers = self._state.ids.tolist() if means else []
        centroids = (dict(zip(self._features, mean, strict=True)) for mean in means)
        return dict(zip(numbers, centroids, strict=True))

    @property
    def drifts(self) -> int:
        """Number of detected drifts."""
        return self._state.counts.drifts if hasattr(self, "_state") else 0

    def _learn(self, X: Array, w: ArrayLike | None) -> None:
        learner = self._learner()
        state = self._state if hasattr(self, "_state") else learner.init()
        self._state, _ = learner.update(state, X, w)

    @property
    def _params(self) -> Any:
        return self._learner().in_units(self._state) if hasattr(self, "_state") else None

    def _row(self, x: Mapping[Hashable, float], absent: float | None = None) -> Array:
        if absent is None:
            absent = np.nan if self.missing == "learn" else 0.0
        return np.array([[x.get(name, absent) for name in self._features]], dtype=np.float64)

    def _rows(self, frame: nw.DataFrame[Any]) -> Array:
        known = set(frame.columns)
        absent = np.nan if self.missing == "learn" else 0.0
        rows = np.full((len(frame), len(self._features)), absent)
        for d, name in enumerate(self._features):
            if name in known:
                rows[:, d] = frame[name].to_numpy()
        return rows


def _ordered(names: Iterable[Hashable]) -> tuple[Hashable, ...]:
    """Return names in sorted order; names of any type are allowed."""
    return tuple(sorted(names, key=lambda name: (isinstance(name, str), name)))


@renamed(restarts="n_init", fade="reassignment_ratio")
class StreamingKMeans(KMeansEstimator, _Streaming):
    """Online K-means: `streamclust.StreamLearner` of `streamclust.KMeans`.

    Parameters
    ----------
    n_clusters
        Number of clusters K; with 'auto', K adapts within `n_clusters_range`, and the numbers of
        clusters don't change.
    forgetting
        How old points decay, such as ``HalfLife(points=100_000)``. By default they don't.
    warm_up
        Points gathered before the start. Default: max(1000, 10 * K).
    n_init
        Runs on the warm-up sample; the learner starts from the best run.
    reassignment_ratio
        See `streamclust.StreamLearner`.
    seed
        The same points in the same batches with the same seed give the same bits.
    coreset
        Points of the coreset beside the statistics; 0 for no coreset. See
        `streamclust.StreamLearner`.
    scale
        'none', 'standard' or 'robust': scaling of the features, learned from the warm-up sample.
    drift
        How drift is detected, and the reaction. By default drift isn't detected.
    n_clusters_range
        The smallest and the largest K, for 'auto'.
    metric
        'euclidean', or 'cosine' for spherical K-means: distances are 1 - cos, centroids are unit
        vectors, and zero vectors are refused.
    missing
        'learn': absent features, None and NaN are missing values; each point needs one present
        value. With 'reject', an absent feature counts as 0.

    Examples
    --------
    >>> from river import preprocessing, stream
    >>> from streamclust.river import StreamingKMeans
    >>> model = preprocessing.StandardScaler() | StreamingKMeans(2, warm_up=4)
    >>> points = [[0, 0], [1, 0], [10, 9], [11, 9], [0, 1], [10, 8]]
    >>> for x, _ in stream.iter_array(points):
    ...     model.learn_one(x)
    >>> model.predict_one({0: 1, 1: 1}) == model.predict_one({0: 10, 1: 10})
    False

    """

    def __init__(
        self,
        n_clusters: int | Literal["auto"] = 5,
        forgetting: Forgetting | None = None,
        warm_up: int | None = None,
        n_init: int = 4,
        reassignment_ratio: float = 0.1,
        seed: int = 0,
        coreset: int | None = None,
        scale: ScalingKind = "none",
        drift: Drift | None = None,
        n_clusters_range: tuple[int, int] = (2, 50),
        metric: Metric = "euclidean",
        missing: Missing = "reject",
    ) -> None:
        self._store(locals())


@renamed(restarts="n_init", fade="reassignment_ratio")
class StreamingGaussianMixture(MixtureEstimator, _Streaming):
    """Stepwise EM: `streamclust.StreamLearner` of `streamclust.GaussianMixture`.

    Parameters
    ----------
    n_components
        Number of components K; with 'auto', K adapts within `n_components_range`.
    covariance_type
        'full', 'tied', 'diag' or 'spherical'.
    reg_covar
        Ridge, which is added to the variances, relative to each feature's variance over all data.
    forgetting
        As for `StreamingKMeans`.
    warm_up
        As for `StreamingKMeans`.
    n_init
        As for `StreamingKMeans`.
    reassignment_ratio
        As for `StreamingKMeans`.
    seed
        As for `StreamingKMeans`.
    coreset
        As for `StreamingKMeans`.
    scale
        As for `StreamingKMeans`.
    drift
        As for `StreamingKMeans`.
    n_components_range
        The smallest and the largest K, for 'auto'.
    outliers
        Expected share of points that belong to no component; see `streamclust.GaussianMixture`.
    missing
        As for `StreamingKMeans`.

    Examples
    --------
    >>> import numpy as np
    >>> from river import stream
    >>> from streamclust.river import StreamingGaussianMixture
    >>> model = StreamingGaussianMixture(2, warm_up=50)
    >>> points = np.random.default_rng(0).normal([[0.0], [9.0]], size=(100, 2, 1)).reshape(-1, 1)
    >>> for x, _ in stream.iter_array(points):
    ...     model.learn_one(x)
    >>> sorted(model.predict_proba_one({0: 1.0}).values())[-1] > 0.99
    True

    """

    def __init__(
        self,
        n_components: int | Literal["auto"] = 5,
        covariance_type: CovarianceType = "full",
        reg_covar: float = 1e-6,
        forgetting: Forgetting | None = None,
        warm_up: int | None = None,
        n_init: int = 4,
        reassignment_ratio: float = 0.1,
        seed: int = 0,
        coreset: int | None = None,
        scale: ScalingKind = "none",
        drift: Drift | None = None,
        n_components_range: tuple[int, int] = (2, 50),
        outliers: float = 0.0,
        missing: Missing = "reject",
    ) -> None:
        self._store(locals())

    def predict_proba_one(self, x: Mapping[Hashable, float]) -> dict[int, float]:
        """Return component -> responsibility; empty during the warm-up."""
        params = self._params
        if params is None:
            return {}
        shares = self._family().responsibilities(params, self._row(x))[0]
        return dict(zip(self._state.ids.tolist(), shares.tolist(), strict=True))

    def score_one(self, x: Mapping[Hashable, float]) -> float:
        """Return the log-likelihood of a point, in nats; NaN during the warm-up."""
        params = self._params
        if params is None:
            return float("nan")
        return float(self._family().score_points(params, self._row(x))[0])
