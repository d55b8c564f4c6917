"""The learner as river clusterers.

Features go by name: those of the first point are the model's. Later ones are ignored, and one that
a point doesn't have counts as 0, as in river. A batch is what one call brings, so `learn_many` is
much the faster; points that come one by one are batches of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw
import numpy as np
from river import base

from streamclust._estimator import Estimator, sizes
from streamclust.models import GaussianMixture, KMeans
from streamclust.online.forgetting import Forgetting
from streamclust.online.learner import StreamLearner

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from narwhals.typing import IntoDataFrame
    from numpy.typing import ArrayLike

    from streamclust.arrays import Array, CovarianceType
    from streamclust.models import Family
    from streamclust.models.scaling import ScalingKind
    from streamclust.online.drift import Drift

__all__ = ["StreamingGaussianMixture", "StreamingKMeans"]


class _Streaming(Estimator, base.Clusterer):  # type: ignore[misc]
    """Learning and assignment, for both kinds."""

    forgetting: Forgetting | None
    warm_up: int | None
    restarts: int
    fade: float
    seed: int
    coreset: int | None
    scale: ScalingKind
    drift: Drift | None
    _features: tuple[Hashable, ...] = ()

    def _family(self) -> Family[Any]:
        raise NotImplementedError

    def _learner(self) -> StreamLearner[Any]:
        forgetting = Forgetting() if self.forgetting is None else self.forgetting
        return StreamLearner(
            self._family(),
            forgetting,
            self.warm_up,
            self.restarts,
            self.seed,
            self.fade,
            scale=self.scale,
            drift=self.drift,
            coreset=self.coreset,
        )

    def learn_one(self, x: Mapping[Hashable, float], w: float = 1.0) -> None:
        """Learn a point, of weight `w`."""
        if not self._features:
            self._features = _ordered(x)
        self._learn(self._row(x), [w])

    def learn_many(self, X: IntoDataFrame, w: ArrayLike | None = None) -> None:
        """Learn a batch: a frame with a column a feature, and weights of shape (N,)."""
        frame = nw.from_native(X, eager_only=True)
        if not self._features:
            self._features = _ordered(frame.columns)
        self._learn(self._rows(frame), w)

    def predict_one(self, x: Mapping[Hashable, float]) -> int:
        """Return the point's component; 0 as long as the warm-up lasts."""
        params = self._params
        if params is None:
            return 0
        return int(self._state.numbers[self._family().predict(params, self._row(x))[0]])

    def predict_many(self, X: IntoDataFrame) -> Any:
        """Return the components of a frame's points, as a series of the same library and index."""
        frame, params = nw.from_native(X, eager_only=True), self._params
        labels = np.zeros(len(frame), dtype=np.intp)
        if params is not None:
            labels = self._state.numbers[self._family().predict(params, self._rows(frame))]
        series = nw.new_series("cluster", labels, backend=frame.implementation)
        index = nw.maybe_get_index(frame)
        return (series if index is None else nw.maybe_set_index(series, index=index)).to_native()

    @property
    def centers(self) -> dict[int, dict[Hashable, float]]:
        """Component -> feature -> mean; empty as long as the warm-up lasts."""
        params = self._params
        means = [] if params is None else params.means.tolist()
        numbers = self._state.numbers.tolist() if means else []
        each = (dict(zip(self._features, mean, strict=True)) for mean in means)
        return dict(zip(numbers, each, strict=True))

    @property
    def drifts(self) -> int:
        """Drifts found ever."""
        return self._state.drift.drifts if hasattr(self, "_state") else 0

    def _learn(self, X: Array, w: ArrayLike | None) -> None:
        learner = self._learner()
        state = self._state if hasattr(self, "_state") else learner.init()
        self._state, _ = learner.update(state, X, w)

    @property
    def _params(self) -> Any:
        return self._learner().in_units(self._state) if hasattr(self, "_state") else None

    def _row(self, x: Mapping[Hashable, float]) -> Array:
        return np.array([[x.get(name, 0.0) for name in self._features]], dtype=np.float64)

    def _rows(self, frame: nw.DataFrame[Any]) -> Array:
        known = set(frame.columns)
        rows = np.zeros((len(frame), len(self._features)))
        for d, name in enumerate(self._features):
            if name in known:
                rows[:, d] = frame[name].to_numpy()
        return rows


def _ordered(names: Iterable[Hashable]) -> tuple[Hashable, ...]:
    """Return names in an order that doesn't depend on theirs."""
    return tuple(sorted(names, key=lambda name: (isinstance(name, str), name)))


class StreamingKMeans(_Streaming):
    """Online K-means: `streamclust.StreamLearner` of `streamclust.KMeans`.

    Parameters
    ----------
    n_clusters
        Number of clusters K; 'auto' lets it adapt, within `n_clusters_range`. Clusters keep their
        numbers for life then.
    forgetting
        How old points are forgotten, such as ``HalfLife(points=100_000)``. Default: not at all.
    warm_up
        Points gathered before the start. Default: 1,000 or 10 K, whichever is more.
    restarts
        Runs on the warm-up sample; the best is the start.
    fade
        See `streamclust.StreamLearner`.
    seed
        The same points in the same batches with the same seed give the same bits.
    coreset
        Points of the coreset beside the statistics; 0 keeps none. See `streamclust.StreamLearner`.
    scale
        'none', 'standard' or 'robust': features brought to one scale, as the warm-up has it.
    drift
        How drift is found, and what is done then. Default: it isn't looked for.
    n_clusters_range
        The least and the most, for 'auto'.

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
        restarts: int = 4,
        fade: float = 0.1,
        seed: int = 0,
        coreset: int | None = None,
        scale: ScalingKind = "none",
        drift: Drift | None = None,
        n_clusters_range: tuple[int, int] = (2, 50),
    ) -> None:
        self.n_clusters = n_clusters
        self.n_clusters_range = n_clusters_range
        self.forgetting = forgetting
        self.warm_up = warm_up
        self.restarts = restarts
        self.fade = fade
        self.seed = seed
        self.coreset = coreset
        self.scale = scale
        self.drift = drift

    def _family(self) -> KMeans:
        return KMeans(*sizes("n_clusters", self.n_clusters, self.n_clusters_range))


class StreamingGaussianMixture(_Streaming):
    """Stepwise EM: `streamclust.StreamLearner` of `streamclust.GaussianMixture`.

    Parameters
    ----------
    n_components
        Number of components K; 'auto' lets it adapt, within `n_components_range`.
    covariance_type
        'full', 'tied', 'diag' or 'spherical'.
    reg_covar
        Floor of the variances, as a share of each feature's variance over all data.
    forgetting
        As for `StreamingKMeans`.
    warm_up
        As for `StreamingKMeans`.
    restarts
        As for `StreamingKMeans`.
    fade
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
        The least and the most, for 'auto'.

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
        restarts: int = 4,
        fade: float = 0.1,
        seed: int = 0,
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
        self.restarts = restarts
        self.fade = fade
        self.seed = seed
        self.coreset = coreset
        self.scale = scale
        self.drift = drift

    def _family(self) -> GaussianMixture:
        most, fewest = sizes("n_components", self.n_components, self.n_components_range)
        return GaussianMixture(most, self.covariance_type, self.reg_covar, fewest)

    def predict_proba_one(self, x: Mapping[Hashable, float]) -> dict[int, float]:
        """Return component -> responsibility; empty as long as the warm-up lasts."""
        params = self._params
        if params is None:
            return {}
        shares = self._family().responsibilities(params, self._row(x))[0]
        return dict(zip(self._state.numbers.tolist(), shares.tolist(), strict=True))

    def score_one(self, x: Mapping[Hashable, float]) -> float:
        """Return the log-likelihood of a point, in nats; NaN as long as the warm-up lasts."""
        params = self._params
        if params is None:
            return float("nan")
        return float(self._family().score_points(params, self._row(x))[0])
