"""Published versions of models: the object, and its bytes in `:models`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from streamclust.arrays import (
    Array,
    Labels,
    Metric,
    Missing,
    as_points,
    as_sample_weight,
    short_repr,
)
from streamclust.errors import DataError, FormatError, StreamclustError
from streamclust.files import write_whole
from streamclust.formats.container import pack, unpack, whole
from streamclust.formats.layout import Layout, check_columns
from streamclust.hyperparameters import deprecated_name
from streamclust.models import FAMILIES, Family
from streamclust.models.attribution import Attribution, attribution, attribution_of_tails
from streamclust.models.codebook import (
    CodebookHealth,
    VersionMap,
    codebook_health,
    version_map,
)
from streamclust.models.family import (
    by_kind,
    from_hyperparameters,
    named_array,
    to_hyperparameters,
)
from streamclust.models.feature_distribution import FeatureDistribution
from streamclust.models.imputation import impute, predict_conditional
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.models.scores import AnomalyScore, Distributions, anomaly_score, tail_score
from streamclust.text import printable
from streamclust.times import local_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import ArrayLike, NDArray

    from streamclust.formats.layout import PointsFormat

FORMAT = "streamclust.model/1"

Reason = Literal[
    "start", "step", "reseed", "resolve", "resize", "drift", "refit", "rollback", "leave"
]
"""Why a version was published: the first version ('start'), at the publishing interval ('step'),
after a component was revived ('reseed'), after a fit of the coreset was accepted ('resolve'), after
the number of components changed ('resize'), after a drift, after a refit or an older version was
accepted ('refit', 'rollback'), or when the worker left the model ('leave')."""

LARGEST_ID = (1 << 31) - 1
"""Largest model ID; see `Keys.id`. A server stores numbers of this size in few bytes."""

SWAPS = ("refit", "rollback")
"""Reasons of versions that come from a proposal."""


@dataclass(frozen=True, eq=False)
class Model:
    """One published version of a model.

    Its methods take points as arrays of shape (N, D). If the features have names, they also take
    data frames of pandas, polars and pyarrow: the columns are found by name, in any order, and
    other columns are ignored.

    Parameters
    ----------
    name : str
    version : int
        1, 2, 3, ...; also the ID of its entry, ``<version>-0``.
    reason : str
        Why it was published; see `Reason`.
    family : KMeans or GaussianMixture
        The model family with its hyperparameters.
    params : KMeansParams or MixtureParams
    mass : array of shape (K,)
        Effective number of points of each component, after forgetting.
    position : dict of str to str
        Points' stream -> ID of the last learned entry.
    points : int
        Total number of points learned.
    loss : float or None
        Prequential loss: inertia per point, or negative log-likelihood per point. Each point is
        scored before it is learned. Old scores decay like the statistics.
    time_ms : float or None
        Event time of the newest point, in milliseconds since the epoch.
    features : tuple of str
        Names of the D features; empty if the features have no names.
    ids : array of int, shape (K,)
        IDs of the components, ascending, if K adapts; else empty. The ID of a component never
        changes.
    layout : Layout or None
        Layout of the learned entries; None if unknown.
    scale : str or None
        The setting `scale` during learning; None if unknown.
    model_id : int
        Distinguishes successive models of the same name; 0 if unknown.
    published_ms : int or None
        Time of publication by the worker's clock, in milliseconds since the epoch. It is stored
        beside the payload, so it is None for a version that was read from a file.
    scores : ScoreDistribution or None
        The distribution of the scores of learned points; None if the model doesn't store it.
    feature_distribution : FeatureDistribution or None
        The distribution of each feature; None if the model doesn't store it.
    anomaly_score : {'model', 'tail_score'}
        Which scores `scores` has; see `anomaly_scores`.
    """

    name: str
    version: int
    reason: str
    family: Family[Any]
    params: Any
    mass: Array
    position: dict[str, str]
    points: int
    loss: float | None
    time_ms: float | None
    features: tuple[str, ...] = ()
    ids: Labels = field(default_factory=lambda: np.empty(0, np.intp))
    layout: Layout | None = None
    scale: str | None = None
    model_id: int = 0
    published_ms: int | None = None
    scores: ScoreDistribution | None = None
    feature_distribution: FeatureDistribution | None = None
    anomaly_score: AnomalyScore = "model"

    def __repr__(self) -> str:
        K, D = self.means.shape
        score = {} if self.score is None else {self.score_name: self.score}
        return short_repr(
            self,
            name=self.name,
            version=self.version,
            kind=self.kind,
            K=K,
            D=D,
            points=self.points,
            **score,
            reason=self.reason,
        )

    def __str__(self) -> str:
        """Return five lines for people."""
        K, D = self.means.shape
        parts = (self.mass / (float(self.mass.sum()) or 1.0))[:_SHOWN].tolist()
        shares = ", ".join(f"{part:.1%}" for part in parts) + ", ..." * (K > _SHOWN)
        shown = ", ".join(printable(name, _SHOWN_NAME) for name in self.features[:_SHOWN])
        names = f": {shown}{', ...' * (D > _SHOWN)}" if shown else ""
        score = "no score yet" if self.score is None else self._score_words
        return "\n".join(
            (
                f"{printable(self.name, _SHOWN_NAME)}, version {self.version} ({self._kind_words}, "
                f"reason: {printable(self.reason, _SHOWN_NAME)})",
                f"published {local_time(self.published_ms)}; "
                f"newest point {local_time(self.time_ms)}",
                f"{self.points:,} points learned; {score}",
                f"{D:,} {'feature' if D == 1 else 'features'}{names}",
                f"{K:,} {'component' if K == 1 else 'components'}, shares {shares}",
            )
        )

    @property
    def _kind_words(self) -> str:
        return self.kind if self.metric == "euclidean" else f"{self.kind}, metric {self.metric}"

    @property
    def _score_words(self) -> str:
        if self.score_name == "log_likelihood":
            return f"log-likelihood {self.score:.6g} nats per point (higher is better)"
        unit = "per point" if self.metric == "euclidean" else "per point, the mean of 1 - cos"
        return f"inertia {self.score:.6g} {unit} (lower is better)"

    @property
    def code_id(self) -> int:
        """The model ID in the codes of this model; 0 if they have none. See `Keys.id`."""
        return self.model_id if self.model_id % 2 else 0

    @property
    def numbers(self) -> Labels:
        """IDs of the components, (K,), in the order of the arrays: `ids`, or 0 to K - 1."""
        return self.ids if len(self.ids) else np.arange(len(self.means))

    @property
    def kind(self) -> str:
        """'kmeans' or 'gaussian_mixture'."""
        return self.family.kind

    @property
    def metric(self) -> Metric:
        """'euclidean' or 'cosine'."""
        return self.family.metric

    @property
    def means(self) -> Array:
        """Centroids, or the components' means, shape (K, D)."""
        means: Array = self.params.means
        return means

    @property
    def shape(self) -> tuple[int, int]:
        """Number of components, and of features."""
        K, D = self.means.shape
        return K, D

    @property
    def score_name(self) -> str:
        """Name of `score`: 'inertia' or 'log_likelihood'."""
        return self.family.objective

    @property
    def score(self) -> float | None:
        """Prequential inertia per point, or log-likelihood per point."""
        if self.loss is None:
            return None
        return self.loss if self.family.objective == "inertia" else -self.loss

    def predict(self, X: ArrayLike) -> Labels:
        """Return the ID of each point's component, shape (N,); see `numbers`."""
        rows = self.family.predict(self.params, self._points(X))
        return self.ids[rows] if len(self.ids) else rows

    def score_samples(self, X: ArrayLike) -> Array:
        """Return the score of each point, shape (N,).

        K-means: the squared distance to the nearest centroid, or 1 - cos for the metric cosine.
        Mixture: the log density.
        """
        return self.family.score_points(self.params, self._points(X))

    def anomaly_scores(self, X: ArrayLike) -> Array:
        """Return the anomaly score of each point, shape (N,); higher is more unusual.

        Mixture: minus the log density. K-means: the squared distance to the nearest centroid, in
        scaled features, or 1 - cos for the metric cosine. With ``anomaly.score: tail_score``:
        `tail_scores`. Otherwise, no setting of the model is needed.
        """
        if self.anomaly_score == "tail_score":
            return self.tail_scores(X)
        return anomaly_score(self.family, self.params, self._points(X))

    def tail_scores(self, X: ArrayLike) -> Array:
        """Return the tail score of each point, shape (N,); higher is more unusual.

        The score is a sum over the features; see `streamclust.models.feature_distribution`. With
        the metric cosine, the features are those of unit vectors.

        Raises
        ------
        DataError
            If the model doesn't store the distribution of each feature; the settings `encode.score`
            and `anomaly.score` make it do so.
        """
        known = self.remembered_for(["tail_score"])
        return tail_score(self.family, self._points(X), known)

    def quantiles(self, X: ArrayLike) -> Array:
        """Return the share of the remembered points with a lower anomaly score, shape (N,).

        Raises
        ------
        DataError
            If the model doesn't store scores; the settings `anomaly.rate` and `encode.score` make
            it do so.
        """
        return self.remembered_scores.quantile(self.anomaly_scores(X))

    def anomalies(self, X: ArrayLike, rate: float = 0.001) -> NDArray[np.bool_]:
        """Return which points have a score above the threshold for `rate`, shape (N,).

        A share `rate` of the remembered points is above the threshold. As long as the model has
        too few scores, no point is.

        Raises
        ------
        DataError
            If the model doesn't store scores, or `rate` isn't between 0 and 1.
        """
        if not 0.0 < rate < 1.0:
            raise DataError(f"rate is {rate}; expected a number between 0 and 1, such as 0.001")
        threshold = self.remembered_scores.threshold(rate)
        return np.asarray(self.anomaly_scores(X) > threshold)

    def attribution(self, X: ArrayLike) -> Attribution:
        """Return the contribution of each feature to the score of each point.

        See `streamclust.models.attribution`. No setting of the model is needed. If `anomaly_score`
        is 'tail_score', these are contributions to the tail score.
        """
        points = self._points(X)
        if self.anomaly_score == "tail_score":
            return attribution_of_tails(self.family, self.remembered_features, points)
        index = self.family.predict(self.params, points)
        return attribution(self.family, self.params, points, index)

    @property
    def remembered_scores(self) -> ScoreDistribution:
        """`scores`, or an error that explains how to get them."""
        if self.scores is None:
            raise DataError(
                f"version {self.version} of {self.name!r} doesn't store scores; set "
                f"models.{self.name}.anomaly.rate, or quantile in encode.score"
            )
        return self.scores

    @property
    def remembered_features(self) -> FeatureDistribution:
        """`feature_distribution`, or an error that explains how to get it."""
        if self.feature_distribution is None:
            raise DataError(
                f"version {self.version} of {self.name!r} doesn't store the distribution of "
                f"each feature; set models.{self.name}.encode.score or anomaly.score to tail_score"
            )
        return self.feature_distribution

    @property
    def remembered(self) -> Distributions:
        """The stored distributions, which some scores of points need."""
        return Distributions(self.scores, self.feature_distribution, self.anomaly_score)

    def remembered_for(self, names: Collection[str]) -> Distributions:
        """Return `remembered`; raise an error if a score of these names needs more."""
        return self.remembered._replace(
            scores=self.remembered_scores if "quantile" in names else self.scores,
            features=self.remembered_features
            if "tail_score" in names
            else self.feature_distribution,
        )

    def _points(self, X: ArrayLike) -> Array:
        family, X = self.family, self._in_order(X)
        return as_points(X, self.means.shape[1], family.max_magnitude, family.missing)

    def _in_order(self, X: ArrayLike) -> ArrayLike:
        """Return the columns of a frame in the order of the features; other points unchanged."""
        if not self.features or isinstance(X, np.ndarray | list | tuple):
            return X
        import narwhals as nw  # only for frames: it takes a while

        frame = nw.from_native(X, eager_only=True, pass_through=True)
        if not isinstance(frame, nw.DataFrame) or not any(
            isinstance(name, str) for name in frame.columns
        ):
            return X
        absent = [name for name in self.features if name not in frame.columns]
        if absent:
            name = printable(absent[0], _SHOWN_NAME)
            raise DataError(f"X has no column {name!r}, which is a feature of the model")
        return frame.select(*self.features).to_numpy()

    def displacement_from(self, other: Model) -> Array:
        """Return the distance between each component here and in another version, shape (K,).

        The distance is Euclidean, in units of the data. If K adapts, components are matched by
        their IDs, and new components have NaN.

        Raises
        ------
        DataError
            If the number of features differs, or if a fixed number of components differs.
        """
        if len(self.ids) and len(other.ids) and other.means.shape[1] == self.means.shape[1]:
            moved = np.full(len(self.ids), np.nan)
            _, rows, other_rows = np.intersect1d(self.ids, other.ids, return_indices=True)
            moved[rows] = np.linalg.norm(self.means[rows] - other.means[other_rows], axis=1)
            return moved
        if other.means.shape != self.means.shape:
            sizes = " and ".join("{} x {}".format(*model.means.shape) for model in (other, self))
            raise DataError(f"versions {other.version} and {self.version} differ in size: {sizes}")
        return np.asarray(np.linalg.norm(self.means - other.means, axis=1))

    def map_from(
        self, other: Model, X: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> VersionMap:
        """Return how points move from the components of another version to those of this one.

        A search index with one list of points per component then moves only the points that change
        their list.

        Parameters
        ----------
        other : Model
        X : array-like of shape (N, D)
            A sample of the points.
        sample_weight : array-like of shape (N,), optional

        Raises
        ------
        DataError
            If the versions differ in the number of features or in the metric, or are of different
            models of this name.
        """
        own_format, other_format = (
            (model.means.shape[1], model.metric, model.kind) for model in (self, other)
        )
        if own_format != other_format or (
            self.model_id and other.model_id and self.model_id != other.model_id
        ):
            raise DataError(
                f"versions {other.version} and {self.version} are of different models; "
                "there is no map between them"
            )
        if not len(self.ids) and len(self.means) != len(other.means):
            raise DataError(
                f"versions {other.version} and {self.version} have {len(other.means)} and "
                f"{len(self.means)} components; there is no map between them"
            )
        points = self._points(X)
        w = as_sample_weight(sample_weight, len(points))
        return version_map(other.predict(points), self.predict(points), w)

    @property
    def codebook_health(self) -> CodebookHealth:
        """How evenly the components are used; see `streamclust.models.codebook`."""
        return codebook_health(self.mass)

    @deprecated_name("score_samples")
    def score_points(self, X: ArrayLike) -> Array:
        """Return `score_samples`, under its old name."""
        return self.score_samples(X)

    @deprecated_name("displacement_from")
    def drift_from(self, other: Model) -> Array:
        """Return `displacement_from`, under its old name."""
        return self.displacement_from(other)

    def accepting(self, missing: Missing) -> Model:
        """Return the model with a family that refuses or learns missing values."""
        if self.family.missing == missing:
            return self
        family: Any = self.family
        return replace(self, family=replace(family, missing=missing))

    def impute(
        self, X: ArrayLike, *, return_variance: bool = False
    ) -> Array | tuple[Array, Array | None]:
        """Return points with expected values in place of the missing ones, which are NaN.

        A mixture gives the conditional mean of a missing value, given the present values of the
        point. K-means gives the value of the nearest centroid.

        Parameters
        ----------
        X : array-like of shape (N, D)
            Each point needs one present value.
        return_variance : bool, default=False
            Return the conditional variances too.

        Returns
        -------
        X : array of shape (N, D)
        variances : array of shape (N, D), or None for K-means
            0 for present values. Only with `return_variance`.

        Raises
        ------
        DataError
            If the points have another D, or values that the model refuses.
        """
        imputed = impute(self.family, self.params, self._in_order(X))
        return (imputed.X, imputed.variances) if return_variance else imputed.X

    def predict_conditional(
        self,
        X: ArrayLike,
        targets: Sequence[int | str],
        *,
        return_covariance: bool = False,
    ) -> Array | tuple[Array, Array]:
        """Return the expected values of some features, given the others: regression by the mixture.

        Parameters
        ----------
        X : array-like of shape (N, D - T)
            The other features, in their order. NaN is a missing value.
        targets : sequence of int or str
            Numbers or names of T features.
        return_covariance : bool, default=False
            Return the conditional covariances too.

        Returns
        -------
        mean : array of shape (N, T)
        covariance : array of shape (N, T, T)
            Only with `return_covariance`.

        Raises
        ------
        DataError
            If the model isn't a mixture, or X or `targets` have other features than the model.
        """
        places = [self._place(target) for target in targets]
        conditional = predict_conditional(self.family, self.params, X, places)
        if return_covariance:
            return conditional.mean, conditional.covariance
        return conditional.mean

    def _place(self, feature: int | str) -> int:
        """Return the number of a feature."""
        if not isinstance(feature, str):
            return int(feature)
        if feature not in self.features:
            known = ", ".join(self.features) or "no names; give numbers"
            raise DataError(f"model {self.name!r} has no feature {feature!r}; it has {known}")
        return self.features.index(feature)

    def replaces(self, before: Model) -> bool:
        """Return whether this version belongs to another model of the same name than `before`.

        `before` is a version that was read earlier. Its model is another one if its keys were
        deleted since, or if the server has lost its newest versions.
        """
        if self.model_id and before.model_id and self.model_id != before.model_id:
            return True
        if self.version == before.version:
            return not np.array_equal(self.means, before.means)
        return self.version < before.version

    def check_settings(
        self, spec: PointsFormat, scale: str, stream: str | None = None
    ) -> Layout | None:
        """Refuse settings of points that contradict those during learning.

        Return the layout of the stream's entries if the model has learned from this stream.

        Parameters
        ----------
        spec : PointsFormat
        scale : str
            The setting of the model.
        stream : str, optional
            Stream of the points. Files, and entries of streams that the model hasn't learned from,
            may have another format, but need the same columns.

        Raises
        ------
        FormatError
            If the settings contradict those during learning.
        """
        where = f"version {self.version} of {self.name!r}"
        learned = self.layout is not None and stream in self.position
        layout = self.layout.under(spec, where) if learned and self.layout is not None else None
        check_columns(self.features, self.means.shape[1], spec, where)
        configured = "cosine" if spec.directions else "euclidean"
        if self.metric != configured:
            raise FormatError(
                f"{where} was learned with metric {self.metric!r}, the config says {configured!r}: "
                "change it back, or give the model a new name"
            )
        if self.scale not in (None, scale):
            raise FormatError(
                f"{where} was learned with scale {self.scale!r}, the config says {scale!r}: "
                "change it back, or give the model a new name"
            )
        return layout

    def to_sklearn(self) -> Any:
        """Return a fitted estimator of scikit-learn with the same `predict`."""
        from streamclust.formats.export import to_sklearn  # imported here: it loads SciPy

        return to_sklearn(self.family, self.params)

    def to_json(self) -> str:
        """Return the summary and the arrays as JSON."""
        from streamclust.formats.export import to_json

        return to_json(self.summary(), self.named_arrays())

    def save(self, path: str | Path, file_format: str | None = None) -> None:
        """Write the model to a file; `init.path` reads .safetensors.

        Parameters
        ----------
        path : str or Path
            Name of a new file; see `streamclust.files.new_file`.
        file_format : {'safetensors', 'npz', 'json', 'faiss', 'onnx'}, optional
            By default, the suffix of the name. A .faiss file is an index of the centroids, and
            needs faiss. A .onnx file is a graph that computes labels and scores, and needs
            skl2onnx; see `streamclust.formats.onnx`.

        Raises
        ------
        DataError
            If the format is unknown, or the file can't be written.
        MissingExtraError
            If the format needs a package that isn't installed.
        """
        from streamclust.formats.export import to_faiss, to_npz
        from streamclust.formats.onnx import to_onnx

        writers: dict[str, Callable[[], bytes]] = {
            ".safetensors": lambda: encode_model(self),
            ".npz": lambda: to_npz(self.summary(), self.named_arrays()),
            ".json": lambda: self.to_json().encode(),
            ".faiss": lambda: to_faiss(self.family, self.params),
            ".onnx": lambda: to_onnx(self.family, self.params, self.numbers, self.summary()),
        }
        suffix = Path(path).suffix.lower() if file_format is None else f".{file_format}"
        if suffix not in writers:
            raise DataError(
                f"can't write {path}: expected a name that ends in {', '.join(writers)}"
            )
        write_whole(path, writers[suffix]())

    def named_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, with `mass`, and with `ids` if K adapts."""
        arrays: dict[str, NDArray[Any]] = {**self.family.to_arrays(self.params), "mass": self.mass}
        return {**arrays, "ids": self.ids} if len(self.ids) else arrays

    def summary(self) -> dict[str, Any]:
        """Return all values except the arrays, for JSON."""
        return {
            "model": self.name,
            "version": self.version,
            "kind": self.kind,
            **({} if self.metric == "euclidean" else {"metric": self.metric}),
            "reason": self.reason,
            "n_components": int(self.means.shape[0]),
            "n_features": int(self.means.shape[1]),
            "points": self.points,
            "effective_weight": float(self.mass.sum()),
            self.score_name: self.score,
            "position": self.position,
            "time_ms": self.time_ms,
            "features": list(self.features),
            "model_id": self.model_id or None,
        }


_SCORES = "scores"
"""Name of the array with the masses of the distribution of scores."""

_FEATURES = "feature_distribution."
"""Start of the names of the arrays of the distribution of each feature."""

_SHOWN, _SHOWN_NAME = 6, 40
"""Number of components and features that `str` shows, and of characters of a name."""


def encode_model(model: Model) -> bytes:
    """Return the safetensors bytes of a version."""
    optional = {
        "layout": None if model.layout is None else model.layout.to_dict(),
        "scale": model.scale,
        "model_id": model.model_id or None,
        "scores": None if model.scores is None else model.scores.numbers,
        "anomaly_score": None if model.anomaly_score == "model" else model.anomaly_score,
    }
    arrays = model.named_arrays()
    if model.scores is not None:
        arrays[_SCORES] = model.scores.mass
    if model.feature_distribution is not None:
        feature_arrays = model.feature_distribution.arrays
        arrays |= {_FEATURES + name: array for name, array in feature_arrays.items()}
    family = to_hyperparameters(model.family)
    meta = {**model.summary(), **optional, "loss": model.loss, "family": family}
    return pack(
        FORMAT,
        arrays,
        {k: v for k, v in meta.items() if v is not None or k not in optional},
    )


def decode_model(data: bytes, where: str) -> Model:
    """Return the version in the bytes of `encode_model`.

    Raises
    ------
    FormatError
        If the bytes aren't a model of this format. The message names `where` (a key or file).
    """
    arrays, meta = unpack(data, FORMAT, where)
    try:
        family = family_of(meta["family"])
        anomaly_score: AnomalyScore = meta.get("anomaly_score", "model")
        if anomaly_score not in get_args(AnomalyScore):
            raise DataError(f"anomaly_score is {anomaly_score!r}")
        return Model(
            name=meta["model"],
            version=whole(meta, "version", least=1),
            reason=meta["reason"],
            family=family,
            params=family.from_arrays(arrays),
            mass=named_array(arrays, "mass", (family.n_components,)),
            position=dict(meta["position"]),
            points=whole(meta, "points"),
            loss=_number_or_none(meta["loss"]),
            time_ms=_number_or_none(meta["time_ms"]),
            features=tuple(map(str, meta["features"])),
            ids=_ids(arrays, family.n_components),
            layout=None if meta.get("layout") is None else Layout.from_dict(meta["layout"]),
            scale=None if meta.get("scale") is None else str(meta["scale"]),
            model_id=whole(meta, "model_id") if meta.get("model_id") is not None else 0,
            scores=None
            if meta.get("scores") is None
            else ScoreDistribution.of(arrays[_SCORES], meta["scores"]),
            feature_distribution=_feature_distribution(arrays, meta),
            anomaly_score=anomaly_score,
        )
    except (LookupError, TypeError, ValueError, ArithmeticError, StreamclustError) as error:
        raise FormatError(f"{where} holds a damaged model: {error!r}; move it away") from None


def _feature_distribution(
    arrays: dict[str, Array], meta: dict[str, Any]
) -> FeatureDistribution | None:
    feature_arrays = {
        name.removeprefix(_FEATURES): array
        for name, array in arrays.items()
        if name.startswith(_FEATURES)
    }
    return (
        FeatureDistribution.of(feature_arrays, whole(meta, "n_features"))
        if feature_arrays
        else None
    )


def _ids(arrays: dict[str, Array], K: int) -> Labels:
    ids = np.asarray(arrays.get("ids", ()), dtype=np.intp)
    if len(ids) and (ids.shape != (K,) or ids.min() < 0 or (np.diff(ids) <= 0).any()):
        raise DataError(f"ids are {ids[:8].tolist()}; expected {K} ascending numbers from 0 on")
    return ids


def _number_or_none(value: Any) -> float | None:
    return None if value is None else float(value)


def family_of(hyper: dict[str, Any]) -> Family[Any]:
    """Return the family from a dict of its kind and its hyperparameters."""
    return from_hyperparameters(by_kind(FAMILIES, hyper["kind"], "FAMILIES"), hyper)
