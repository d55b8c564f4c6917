"""The learner as river clusterers.

A model has the features of its first point, by name. Other features of later points are ignored.
An absent feature counts as 0, as in river; with ``missing="learn"`` it is a missing value. A point
without any of the features is refused. Each call learns one batch, so `learn_many` is much faster
than `learn_one`, whose batches have one point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw
import numpy as np
from river import base

from streamclust._estimator import Estimator, KMeansEstimator, MixtureEstimator
from streamclust.arrays import are_within, as_points
from streamclust.errors import DataError
from streamclust.hyperparameters import renamed
from streamclust.models.imputation import impute
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable

    from narwhals.typing import IntoDataFrame
    from numpy.typing import ArrayLike

    from streamclust.arrays import Array, CovarianceType, Metric, Missing
    from streamclust.models import Family
    from streamclust.models.scaling import ScalingKind
    from streamclust.online.drift import Drift
    from streamclust.online.forgetting import Forgetting

__all__ = ["StreamingGaussianMixture", "StreamingKMeans"]

_NOT_NUMBERS = (TypeError, ValueError, OverflowError)
"""What NumPy raises for values that aren't numbers."""


class _Streaming(Estimator, base.Clusterer):  # type: ignore[misc]
    """Learning and prediction, for both families."""

    seed: int
    _features: tuple[Hashable, ...] = ()

    @property
    def _seed(self) -> int:  # type: ignore[override]
        return self.seed

    def learn_one(self, x: Mapping[Hashable, float], w: float = 1.0) -> None:
        """Learn a point of weight `w`."""
        features = self._features or _ordered(_mapping(x))
        self._learn(features, self._point(x, features, self._family()), [w])

    def learn_many(self, X: IntoDataFrame, w: ArrayLike | None = None) -> None:
        """Learn a batch: a frame with one column per feature, and weights of shape (N,)."""
        if len(frame := _frame(X)):
            features = self._features or _ordered(frame.columns)
            self._learn(features, self._points(frame, features, self._family()), w)

    def predict_one(self, x: Mapping[Hashable, float]) -> int:
        """Return the point's component; 0 during the warm-up."""
        if not self._features:
            return 0
        family, params = self._family(), self._params
        point = self._point(x, self._features, family)
        return 0 if params is None else int(self._state.ids[family.predict(params, point)[0]])

    def predict_many(self, X: IntoDataFrame) -> Any:
        """Return the components of a frame's points, as a series of the same library and index."""
        frame, params, family = _frame(X), self._params, self._family()
        labels = np.zeros(len(frame), dtype=np.intp)
        if self._features and len(frame):
            points = self._points(frame, self._features, family)
            if params is not None:
                labels = self._state.ids[family.predict(params, points)]
        series = nw.new_series("cluster", labels, backend=frame.implementation)
        index = nw.maybe_get_index(frame)
        return (series if index is None else nw.maybe_set_index(series, index=index)).to_native()

    def impute_one(self, x: Mapping[Hashable, float]) -> dict[Hashable, float]:
        """Return the point with expected values for absent features, None and NaN.

        During the warm-up there are no expected values: only present features are returned.
        """
        params, row = self._params, self._row(x, self._features, np.nan)
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

    def _learn(self, features: tuple[Hashable, ...], X: Array, w: ArrayLike | None) -> None:
        learner = self._learner()
        state = self._state if hasattr(self, "_state") else learner.init()
        self._state, _ = learner.update(state, X, w)
        self._features = features  # only now: a refused first point gives no names

    @property
    def _params(self) -> Any:
        return self._learner().in_units(self._state) if hasattr(self, "_state") else None

    @property
    def _absent(self) -> float:
        return np.nan if self.missing == "learn" else 0.0

    def _point(
        self, x: Mapping[Hashable, float], features: tuple[Hashable, ...], family: Family[Any]
    ) -> Array:
        row = self._row(x, features, self._absent)
        self._check_known("x", features, x.keys())
        return _checked(row, features, family, "")

    def _row(
        self, x: Mapping[Hashable, float], features: tuple[Hashable, ...], absent: float
    ) -> Array:
        x = _mapping(x)
        values = [x.get(name, absent) for name in features]
        try:
            return np.fromiter(values, np.float64, len(values)).reshape(1, -1)
        except _NOT_NUMBERS:
            d = next(d for d, value in enumerate(values) if not _is_number(value))
            most = self._family().max_magnitude
            raise _refusal(features[d], values[d], most) from None

    def _points(
        self, frame: nw.DataFrame[Any], features: tuple[Hashable, ...], family: Family[Any]
    ) -> Array:
        known = dict.fromkeys(frame.columns)  # a set would lose the order, for errors
        self._check_known("X", features, known)
        rows = np.full((len(frame), len(features)), self._absent)
        for d, name in enumerate(features):
            if name in known:
                column = frame.get_column(name).to_numpy()
                if column.dtype.kind in "cmM":  # NumPy makes numbers of them
                    raise _refusal(name, str(column[0]), family.max_magnitude, " in row 0")
                try:
                    rows[:, d] = column
                except _NOT_NUMBERS:
                    values = column.tolist()
                    n = next(n for n, value in enumerate(values) if not _is_number(value))
                    place = f" in row {n}"
                    raise _refusal(name, values[n], family.max_magnitude, place) from None
        return _checked(rows, features, family, " in row {}")

    def _check_known(
        self, what: str, features: tuple[Hashable, ...], names: Collection[Hashable]
    ) -> None:
        """Refuse points without any known feature; if missing values are learned, others do."""
        if self.missing != "learn" and not any(name in names for name in features):
            raise DataError(
                f"{what} has none of the features {_listed(features)}; it has "
                f"{_listed(names) or 'no features'}"
            )


def _checked(rows: Array, features: tuple[Hashable, ...], family: Family[Any], place: str) -> Array:
    """Return points that may be learned or predicted; `place` is where a value is, for errors."""
    most = family.max_magnitude
    if are_within(rows, most):
        return rows
    allowed = np.abs(rows) <= most
    if family.missing == "learn":
        allowed |= np.isnan(rows)
    for n, d in np.argwhere(~allowed)[:1].tolist():
        raise _refusal(features[d], float(rows[n, d]), most, place.format(n))
    return as_points(rows, most=most, missing="learn")


def _refusal(name: Hashable, value: Any, most: float, place: str = "") -> DataError:
    if isinstance(value, float):
        shown = "NaN" if math.isnan(value) else f"{value:g}".replace("inf", "infinity")
    else:  # an int is refused if no float can hold it
        shown = "too large" if isinstance(value, int) else printable(repr(value), 60)
    feature = printable(repr(name), 60)
    return DataError(
        f"feature {feature} is {shown}{place}; expected a number of magnitude up to {most:g}"
    )


def _mapping(x: Any) -> Mapping[Hashable, float]:
    if not isinstance(x, Mapping):
        raise DataError(f"x is a {type(x).__name__}; expected a dict: feature name -> number")
    return x


def _frame(X: IntoDataFrame) -> nw.DataFrame[Any]:
    try:
        return nw.from_native(X, eager_only=True)
    except TypeError:
        expected = "a frame of pandas, polars or pyarrow, with one column per feature"
        raise DataError(f"X is a {type(X).__name__}; expected {expected}") from None
    except nw.exceptions.DuplicateError:
        raise DataError("X has several columns of the same name; expected unique names") from None


def _is_number(value: Any) -> bool:
    try:
        np.fromiter([value], np.float64, 1)
    except _NOT_NUMBERS:
        return False
    return True


def _listed(names: Iterable[Hashable]) -> str:
    return printable(", ".join(map(str, names)), 100)


def _ordered(names: Iterable[Hashable]) -> tuple[Hashable, ...]:
    """Return names in sorted order; names of any type are allowed."""
    ordered = tuple(sorted(names, key=lambda name: (isinstance(name, str), name)))
    if not ordered:
        raise DataError("the first point has no features; expected at least one")
    return ordered


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
        `HalfLifeTime` is refused, because there is no event time.
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
        *,
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
        self._learner()  # refuses what isn't allowed


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
        *,
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
        self._learner()  # refuses what isn't allowed

    def predict_proba_one(self, x: Mapping[Hashable, float]) -> dict[int, float]:
        """Return component -> responsibility; empty during the warm-up."""
        if not self._features:
            return {}
        family, params = self._family(), self._params
        point = self._point(x, self._features, family)
        if params is None:
            return {}
        shares = family.responsibilities(params, point)[0]
        return dict(zip(self._state.ids.tolist(), shares.tolist(), strict=True))

    def score_one(self, x: Mapping[Hashable, float]) -> float:
        """Return the log-likelihood of a point, in nats; NaN during the warm-up."""
        if not self._features:
            return math.nan
        family, params = self._family(), self._params
        point = self._point(x, self._features, family)
        return math.nan if params is None else float(family.score_points(params, point)[0])
