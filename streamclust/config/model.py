"""Settings of one model: its kind, its streams, and when it commits and publishes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from streamclust.config.anomaly import AnomalySettings
from streamclust.config.learning import (
    CentroidsGiven,
    CoresetSettings,
    DriftSettings,
    ForgettingSettings,
    KMeansInit,
    MixtureGiven,
    MixtureInit,
    NoForgetting,
    WarmUp,
    shape,
)
from streamclust.config.merging import merge
from streamclust.config.section import Section
from streamclust.config.size import AUTO, Interval, Size, SizeRange, bounds
from streamclust.config.trimming import NoTrimming, TrimSettings
from streamclust.config.values import (
    Allowed,
    Count,
    Duration,
    Integer,
    Latest,
    Number,
    PositiveDuration,
    PositiveNumber,
    StartPosition,
    Streams,
    Text,
    UpToADay,
    check_streams,
    distinct,
    one_or_many,
    up_to_a_day,
)
from streamclust.formats.code_fields import SCORE_KINDS
from streamclust.store.model.keys import VALUE_BYTES


class PointsSettings(Section):
    """Format of the points in the entries of a stream."""

    format: Literal["auto", "fields", "json", "float32", "float64"] = Field(
        default="auto",
        description="Format of an entry: named fields, JSON, or raw little-endian numbers. auto "
        "detects the format from the first entry.",
    )
    field: Text | None = Field(
        default=None,
        description="Field of the entry that holds the JSON or the raw numbers. null detects the "
        "field.",
    )
    weight_field: Text | None = Field(
        default=None,
        description="Field of the entry that holds the weight. null: each point has weight 1.",
    )
    features: tuple[Text, ...] = Field(
        default=(),
        description="Names of the features, in order. Empty: the names in the first entry.",
    )
    n_features: Count | None = Field(
        default=None, description="Numbers per point (D). null: as in the first entry."
    )
    missing: Literal["reject", "learn"] = Field(
        default="reject",
        description="Points with missing values: NaN, null, an empty text, or an absent field. "
        "reject: they go to the dead-letter stream. learn: the model learns the values that are "
        "present. With learn, set features, because a first entry that lacks a field can't name "
        "it. After a point with a missing value was learned, the setting can't go back to reject.",
    )

    @field_validator("features")
    @classmethod
    def _features_distinct(cls, features: tuple[str, ...]) -> tuple[str, ...]:
        return distinct("features", features)

    @model_validator(mode="after")
    def _features_counted(self) -> Self:
        if self.features and self.n_features not in (None, len(self.features)):
            raise ValueError(
                f"n_features is {self.n_features} but features names {len(self.features)}; "
                "correct one of them, or remove n_features"
            )
        return self

    @property
    def dimension(self) -> int | None:
        """Return D if the settings determine it, else None."""
        return len(self.features) or self.n_features


_LEAST = 4096
"""Initial size of a batch whose size is auto."""

_MOST = 10_000_000
"""Maximum size of a batch."""


class BatchSettings(Section):
    """Size of a batch, and how long to wait for it."""

    size: Size = Field(
        default=AUTO,
        description="Points per batch. auto: points_learned / 32, clamped to 4,096..65,536, and at "
        "most half_life / 64; a batch grows only while unread entries wait. With a power schedule, "
        "a drift detector or a half-life in event time, auto is always 4,096. At most 10,000,000.",
    )
    linger: Annotated[Duration, AfterValidator(up_to_a_day)] = Field(
        default=0.2,
        description="Maximum wait for a full batch. 0: learn the available points at once. At most "
        "1d.",
    )
    max_entry_bytes: Annotated[Count, Field(ge=1 << 20)] = Field(
        default=1 << 24,
        le=VALUE_BYTES,
        description="Maximum size of an entry in bytes. Larger entries go to the dead-letter "
        "stream. This limits the memory of the worker.",
    )

    @field_validator("size")
    @classmethod
    def _size_held_in_memory(cls, size: object) -> object:
        if isinstance(size, int) and size > _MOST:
            raise ValueError(f"expected at most {_MOST}: a batch is held in memory")
        return size

    @property
    def least(self) -> int:
        """Return the size of a batch that doesn't grow."""
        return self.size if isinstance(self.size, int) else _LEAST


class CommitSettings(Section):
    """When the state is committed: after `points` or `every`, whichever comes first.

    A crash loses no point: what isn't committed is learned again. So `every` is the time that the
    worker may need to catch up.
    """

    points: Count = Field(default=1_000_000, description="Commit the state after this many points.")
    every: Interval = Field(
        default=AUTO,
        description="Commit the state after this much time. auto: after 1 s. For a large state on "
        "a slow feed, auto waits longer, up to 60 s, so that commits write at most 10 kB/s plus "
        "half of the points' bytes. With encode.worker or anomaly.rate, auto is always 1 s.",
    )


class PublishSettings(Section):
    """When a version is published: after `points` or `every`, whichever comes first."""

    points: Count = Field(
        default=1_000_000, description="Publish a version after this many points."
    )
    every: PositiveDuration = Field(
        default=5.0, description="Publish a version after this much time."
    )
    keep: Count = Field(default=100, le=1_000_000, description="Versions stored in :models.")
    keep_bytes: Count | None = Field(
        default=None,
        description="Maximum bytes of the versions stored in :models; at least one version is "
        "stored. null: only `keep` limits them.",
    )

    def versions_to_keep(self, version_bytes: int) -> int:
        """Return how many versions of this size are stored."""
        if self.keep_bytes is None or not version_bytes:
            return self.keep
        return max(1, min(self.keep, self.keep_bytes // version_bytes))


class DeadSettings(Section):
    """The dead-letter stream of points that can't be learned."""

    keep: Count = Field(
        default=10_000,
        le=100_000,  # the maximum of one commit, so that the interval of commits doesn't matter
        description="Entries stored in :dead, each with the reason.",
    )


Score: TypeAlias = Literal[
    "distance", "log_density", "mahalanobis", "scaled_distance", "tail_score", "quantile"
]
Scores: TypeAlias = Annotated[
    tuple[Score, ...],
    BeforeValidator(one_or_many),
    AfterValidator(lambda names: distinct("score", names)),
    Field(min_length=1),
    Allowed(
        "distance | log_density | mahalanobis | scaled_distance | tail_score | quantile, or a list "
        "of them"
    ),
]


class EncodeSettings(Section):
    """What encoders read and write; `encode: true` stands for `encode: {worker: true}`."""

    worker: bool = Field(
        default=False,
        description="Whether the worker writes the codes of the points that it learns, with each "
        "commit. `encode: true` is the short form.",
    )
    streams: tuple[Text, ...] = Field(
        default=(),
        description="Streams that `streamclust encode` reads. Empty: the streams of the model.",
    )
    top: Count = Field(
        default=1,
        le=1000,
        description="Components to report per point, best first. More than 1 adds the field top.",
    )
    score: Scores = Field(
        default=("distance",),
        description="Scores of a point in its code, besides the distance, which each code has. "
        "log_density and mahalanobis (mixtures): the log density, and the Mahalanobis distance to "
        "the component. scaled_distance (K-means with scale): the distance in scaled features. "
        "tail_score: how improbable the value of each feature is by itself, summed over the "
        "features (COPOD). "
        "quantile: the share of the remembered points whose score is less unusual.",
    )
    labels: tuple[Text, ...] = Field(
        default=(),
        description="Fields of an entry to copy to its entry of codes, such as a key. With the "
        "format fields, points.features must name the features.",
    )
    keep: Count = Field(
        default=100_000, le=10**12, description="Approximate number of entries stored in :codes."
    )
    takeover: UpToADay = Field(
        default=10.0,
        description="If an encoder is silent for this long, its entries go to another encoder. At "
        "most 1d.",
    )

    @model_validator(mode="before")
    @classmethod
    def _true_means_worker(cls, data: object) -> object:
        return {"worker": data} if isinstance(data, bool) else data

    @field_validator("streams")
    @classmethod
    def _streams_named(cls, streams: tuple[str, ...]) -> tuple[str, ...]:
        return check_streams(streams)

    @model_validator(mode="after")
    def _worker_reads_its_own(self) -> Self:
        if self.worker and self.streams:
            raise ValueError(
                "worker and streams are both set, but the worker encodes the streams that it "
                "learns; remove one"
            )
        return self

    @field_validator("labels")
    @classmethod
    def _labels_free(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if not labels:
            return labels
        from streamclust.formats.code_fields import CODE_FIELDS

        taken = sorted(set(labels) & set(CODE_FIELDS))
        if taken:
            raise ValueError(
                f"{taken[0]!r} is a reserved field of :codes; rename the field in the feed"
            )
        return distinct("labels", labels)


class RefitSettings(Section):
    """Scheduled refits to the stored points; see `streamclust refit`."""

    every: PositiveDuration | None = Field(
        default=None,
        description="Interval of refits while a worker runs. null: never.",
    )
    last: Latest | None = Field(
        default=None,
        description="Points of a scheduled refit: the most recent, as a duration or a number. "
        "null: all entries that the streams hold.",
    )
    restarts: Integer = Field(
        default=4,
        ge=0,
        le=1000,
        description="Fits from new starts, besides the fit from the live model.",
    )


_NOT_OVERRIDDEN = ("streams", "overrides", "discover", "max_models")
"""Settings of a template as a whole."""


class _Model(Section):
    kind: str
    streams: Streams = Field(
        description="Streams to read: one name, or a list of names (partitions of one feed)."
    )
    start: StartPosition = Field(
        default="earliest",
        description="Where the model starts in a stream that it hasn't read before. In other "
        "streams it continues. After you rename a stream, set this to the last position of the old "
        "name.",
    )
    on_reset: Literal["wait", "restart"] = Field(
        default="wait",
        description="If a stream was deleted and created again with smaller IDs: wait logs this "
        "and reads nothing until the IDs are larger; restart reads from the first entry.",
    )
    trim: TrimSettings = Field(
        default=NoTrimming(),
        description="Which learned entries the worker removes from the streams. It never removes "
        "entries that a consumer group of the stream has not read and acknowledged.",
    )
    points: PointsSettings = Field(
        default=PointsSettings(),
        description="Format of the points. After points were learned, a change of the meaning of "
        "columns or weights is refused (see guarantees.md).",
    )
    batch: BatchSettings = Field(
        default=BatchSettings(), description="Size of a batch, and how long to wait for it."
    )
    commit: CommitSettings = Field(
        default=CommitSettings(),
        description="The state is committed after `points` or `every`, whichever comes first.",
    )
    publish: PublishSettings = Field(
        default=PublishSettings(),
        description="A version is published after `points` or `every`, whichever comes first.",
    )
    dead: DeadSettings = Field(default=DeadSettings(), description="The dead-letter stream.")
    encode: EncodeSettings = Field(
        default=EncodeSettings(), description="What encoders read and write."
    )
    anomaly: AnomalySettings = Field(
        default=AnomalySettings(),
        description="Which points are flagged as anomalies, and what an alert contains.",
    )
    forgetting: ForgettingSettings = Field(
        default=NoForgetting(), description="How old points decay."
    )
    refit: RefitSettings = Field(
        default=RefitSettings(), description="Scheduled refits to the stored points."
    )
    drift: DriftSettings = Field(
        default=DriftSettings(), description="How drift is detected, and the reaction."
    )
    scale: Literal["none", "standard", "robust"] = Field(
        default="none",
        description="Scale of the features, learned in the warm-up. standard: by mean and standard "
        "deviation. robust: by median and quartiles. Published models are in the original units.",
    )
    coreset: CoresetSettings = Field(
        default=CoresetSettings(),
        description="A coreset: a small set of weighted points that stands for all learned points. "
        "The worker reclusters it regularly.",
    )
    seed: Integer = Field(default=0, ge=0, description="Random seed.")
    overrides: Annotated[Mapping[str, ModelSettings], Allowed("keys with settings of a model")] = (
        Field(
            default={},
            description="Only in a template. Settings of single models, by the value of the "
            "placeholder; they override the settings of the template. If the name has several "
            "placeholders, the key is the name of the model.",
        )
    )
    discover: PositiveDuration = Field(
        default=10.0,
        description="Only in a template. How often a worker searches the server for new streams "
        "(SCAN).",
    )
    max_models: Count = Field(
        default=10_000,
        le=1_000_000,
        description="Only in a template. Maximum number of models. The streams of further models "
        "are not read; the log names some of them.",
    )

    @model_validator(mode="before")
    @classmethod
    def _merge_overrides(cls, data: object) -> object:
        """Complete each override by the settings of the template, so that it is checked as one."""
        parts = data.get("overrides") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(parts, dict):
            return data
        own = {key: value for key, value in data.items() if key not in _NOT_OVERRIDDEN[1:]}
        for name, part in parts.items():
            for key in _NOT_OVERRIDDEN if isinstance(part, dict) else ():
                if key in part:
                    raise ValueError(f"overrides.{name}.{key} can't be set for one model")
        merged = {
            name: merge(own, {} if part is None else part, ("models", name))
            for name, part in parts.items()
        }
        return data | {"overrides": merged}

    @field_validator("streams")
    @classmethod
    def _streams_named(cls, streams: tuple[str, ...]) -> tuple[str, ...]:
        return check_streams(streams)

    @model_validator(mode="after")
    def _coreset_fits(self) -> Self:
        points = self.coreset.points
        if points is not None:
            _check_points("coreset.points", points, 2 * points, self.points.dimension)
        return self

    @property
    def _directions(self) -> bool:
        return getattr(self, "metric", "") == "cosine"

    @property
    def remembers_scores(self) -> bool:
        """Whether the model remembers the distribution of its scores, for quantiles."""
        return self.anomaly.rate is not None or "quantile" in self.encode.score

    @property
    def remembers_features(self) -> bool:
        """Whether the model remembers the distribution of each feature, for tail scores."""
        return "tail_score" in self.encode.score or (
            self.remembers_scores and self.anomaly.score == "tail_score"
        )

    @property
    def worker_alerts(self) -> bool:
        """Whether the worker writes alerts."""
        return self.anomaly.rate is not None and self.anomaly.worker

    @model_validator(mode="after")
    def _score_fits(self) -> Self:
        kind = "metric cosine" if self._directions else f"kind {self.kind}"
        has = [name for name in get_args(Score) if SCORE_KINDS.get(name, self.kind) == self.kind]
        if self._directions:
            has.remove("scaled_distance")
        for name in self.encode.score:
            if name not in has:
                raise ValueError(
                    f"encode.score has {name}, which {kind} doesn't have; expected "
                    f"{', '.join(has[:-1])} or {has[-1]}"
                )
        if "scaled_distance" in self.encode.score and self.scale == "none":
            raise ValueError(
                "encode.score has scaled_distance, but scale is none, so that it equals distance; "
                "set scale: standard, or remove scaled_distance"
            )
        return self

    @model_validator(mode="after")
    def _tail_score_fits(self) -> Self:
        anomaly, D = self.anomaly, self.points.dimension
        if "score" in anomaly.model_fields_set and not (
            self.remembers_scores or "rate" in anomaly.model_fields_set
        ):
            raise ValueError(
                f"anomaly.score is {anomaly.score}, which has no effect without anomaly.rate or "
                "quantile in encode.score; add one, or remove anomaly.score"
            )
        if D is not None:
            self.check_features(D)
        return self

    def check_features(self, D: int) -> None:
        """Refuse more features than a tail score can have.

        Raises
        ------
        ValueError
            With the setting and the remedy.
        """
        if not self.remembers_features:
            return
        from streamclust.models.feature_distribution import MAX_FEATURES, TOO_MANY_FEATURES

        if D > MAX_FEATURES:
            setting = "anomaly" if self.anomaly.score == "tail_score" else "encode"
            raise ValueError(
                f"{setting}.score has tail_score, but the points have {D:,} features; "
                f"{TOO_MANY_FEATURES}"
            )

    @model_validator(mode="after")
    def _one_writer_of_alerts(self) -> Self:
        if self.anomaly.rate is not None and self.encode.worker and not self.anomaly.worker:
            raise ValueError(
                "encode.worker is true and anomaly.worker is false, but the worker writes the "
                "alerts of the points that it encodes; remove one"
            )
        return self

    def _check_scale(self, init: object) -> None:
        if self.scale != "none" and not isinstance(init, WarmUp):
            raise ValueError(
                f"scale is {self.scale}, but init has no warm-up to learn the scale; "
                "remove init or scale"
            )


class KMeansSettings(_Model):
    """A model of kind kmeans."""

    kind: Literal["kmeans"] = Field(
        default="kmeans", description="K centroids; each point belongs to the nearest centroid."
    )
    n_clusters: Size = Field(description="Number of clusters (K). auto: K adapts to the stream.")
    n_clusters_range: SizeRange | None = Field(
        default=None, description="Minimum and maximum for n_clusters: auto. null: [2, 50]."
    )
    metric: Literal["euclidean", "cosine"] = Field(
        default="euclidean",
        description="Distance to the centroids. cosine: 1 - cos, so only the direction of a point "
        "counts (spherical K-means); zero vectors go to the dead-letter stream.",
    )
    init: KMeansInit = Field(default=WarmUp(), description="How a new model starts.")

    @property
    def n_components(self) -> object:
        """Return K, or auto, under the name that all kinds share."""
        return self.n_clusters

    @property
    def bounds(self) -> tuple[int | None, int]:
        """Return the minimum K (None if K is fixed) and the maximum K."""
        return bounds("n_clusters", self.n_clusters, self.n_clusters_range)

    @model_validator(mode="after")
    def _state_fits(self) -> Self:
        _check_state("n_clusters", self.bounds[1], self.points.dimension, 3)
        return self

    @model_validator(mode="after")
    def _metric_fits(self) -> Self:
        if self.metric == "cosine" and self.scale != "none":
            raise ValueError(
                f"scale is {self.scale}, but metric is cosine, which makes each point a unit "
                "vector; remove scale or metric"
            )
        if self.metric == "cosine" and self.points.missing == "learn":
            raise ValueError(
                "points.missing is learn, but metric is cosine, and a point with missing values "
                "has no known direction; use metric euclidean, or points.missing: reject"
            )
        return self

    @model_validator(mode="after")
    def _init_fits(self) -> Self:
        self._check_scale(self.init)
        if isinstance(self.init, WarmUp):
            _check_sample(self.init, "n_clusters", self.bounds, self.points.dimension)
        if isinstance(self.init, CentroidsGiven):
            want = (_size_given(self.init.centroids, self.bounds), self.points.dimension)
            _check_shape("init.centroids", self.init.centroids, want)
        return self


class GaussianMixtureSettings(_Model):
    """A model of kind gaussian_mixture."""

    kind: Literal["gaussian_mixture"] = Field(
        default="gaussian_mixture",
        description="Weights, means and covariances; each point belongs to each component in part.",
    )
    n_components: Size = Field(
        description="Number of components (K). auto: K adapts to the stream."
    )
    n_components_range: SizeRange | None = Field(
        default=None, description="Minimum and maximum for n_components: auto. null: [2, 50]."
    )
    covariance_type: Literal["full", "tied", "diag", "spherical"] = Field(
        default="full", description="Form of the covariances."
    )
    reg_covar: PositiveNumber = Field(
        default=1e-6,
        description="Ridge: added to each variance, as a fraction of the variance of the data.",
    )
    outliers: Number = Field(
        default=0.0,
        ge=0.0,
        le=0.5,
        description="Expected share of outliers: points that belong to no component. Above 0, such "
        "points have nearly no influence, and no component is left on a few of them. Recommended "
        "for anomaly scores: 0.01.",
    )
    init: MixtureInit = Field(default=WarmUp(), description="How a new model starts.")

    @model_validator(mode="after")
    def _state_fits(self) -> Self:
        D = self.points.dimension
        second = 2 * (D or 1) if self.covariance_type == "full" else 2
        _check_state("n_components", self.bounds[1], D, 3 + second)
        return self

    @model_validator(mode="after")
    def _init_fits(self) -> Self:
        self._check_scale(self.init)
        if self.scale != "none" and self.covariance_type == "spherical":
            raise ValueError(
                f"scale is {self.scale}, which doesn't keep spherical covariances spherical; "
                "use covariance_type diag"
            )
        if isinstance(self.init, WarmUp):
            _check_sample(self.init, "n_components", self.bounds, self.points.dimension)
        if isinstance(self.init, MixtureGiven):
            self._check_given(self.init)
        return self

    @property
    def bounds(self) -> tuple[int | None, int]:
        """Return the minimum K (None if K is fixed) and the maximum K."""
        return bounds("n_components", self.n_components, self.n_components_range)

    _axes: ClassVar[dict[str, str]] = {"full": "KDD", "tied": "DD", "diag": "KD", "spherical": "K"}

    def _check_given(self, given: MixtureGiven) -> None:
        sizes = {
            "K": _size_given(given.means, self.bounds),
            "D": self.points.dimension or len(given.means[0]),
        }
        _check_shape("init.weights", given.weights, (sizes["K"],))
        _check_shape("init.means", given.means, (sizes["K"], sizes["D"]))
        want = tuple(sizes[axis] for axis in self._axes[self.covariance_type])
        _check_shape("init.covariances", given.covariances, want)


ModelSettings: TypeAlias = Annotated[
    KMeansSettings | GaussianMixtureSettings, Field(discriminator="kind")
]
KMeansSettings.model_rebuild()
GaussianMixtureSettings.model_rebuild()


def _check_sample(init: WarmUp, name: str, sizes: tuple[int | None, int], D: int | None) -> None:
    least, most = sizes
    if init.points is not None:
        _check_points("init.points", init.points, init.points, D)
    if init.points is not None and init.points < most:
        limit = name if least is None else f"the maximum of {name}"
        raise ValueError(f"init.points is {init.points}; expected at least {limit}, {most}")


def _size_given(means: tuple[Any, ...], sizes: tuple[int | None, int]) -> int:
    """Return the number of components that given parameters should have."""
    least, most = sizes
    return most if least is None else min(max(len(means), least), most)


def _check_points(name: str, value: int, held: int, D: int | None) -> None:
    """Refuse `held` points in the state if their numbers and weights are too large to store."""
    size = 8 * (1 + (D or 1)) * held
    if size > VALUE_BYTES:
        most = value * VALUE_BYTES // size
        raise ValueError(
            f"{name} is {value}; expected at most {most}{_features(D)}: the state holds these "
            f"points, and one value in Redis holds {VALUE_BYTES >> 20} MB"
        )


def _features(D: int | None) -> str:
    return f" with {D} feature{'' if D == 1 else 's'}" if D else ""


def _check_state(name: str, K: int, D: int | None, arrays: int) -> None:
    """Refuse a model whose state, `arrays` arrays of K x D numbers, is too large to store.

    If D is unknown, it counts as 1.
    """
    size = 8 * arrays * K * (D or 1)
    if size > VALUE_BYTES:
        raise ValueError(
            f"{name} {K}{_features(D)} makes a state of {size >> 20} MB; expected at most "
            f"{VALUE_BYTES >> 20} MB, the limit of one value in Redis; reduce one of them"
        )


def _check_shape(name: str, value: object, want: tuple[int | None, ...]) -> None:
    got = shape(value)
    if got is None:
        raise ValueError(f"{name} has lists of different lengths; expected equal lengths")
    if len(got) != len(want) or any(w not in (None, g) for w, g in zip(want, got, strict=True)):
        raise ValueError(f"{name} is {_by(got)}; expected {_by(want)}")


def _by(sizes: tuple[int | None, ...]) -> str:
    return " x ".join("D" if size is None else str(size) for size in sizes)
