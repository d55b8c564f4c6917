"""Settings of one model: what it is, what it reads, and when it commits and publishes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, field_validator, model_validator

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
from streamclust.config.section import Section
from streamclust.config.size import AUTO, Size, SizeRange, bounds
from streamclust.config.trimming import NoTrimming, TrimSettings
from streamclust.config.values import (
    Count,
    Duration,
    Integer,
    Latest,
    PositiveDuration,
    PositiveNumber,
    StartPosition,
    Streams,
    Text,
    UpToADay,
    distinct,
    up_to_a_day,
)
from streamclust.store.keys import CODE_FIELDS, VALUE_BYTES


class PointsSettings(Section):
    """How points stand in the entries of a stream."""

    format: Literal["auto", "fields", "json", "float32", "float64"] = Field(
        default="auto",
        description="How an entry holds its points: named fields, JSON, or raw little-endian "
        "numbers; auto looks at the first entry.",
    )
    field: Text | None = Field(
        default=None,
        description="Field of the entry that holds the JSON or the raw numbers; null finds it.",
    )
    weight_field: Text | None = Field(
        default=None, description="Field of the entry that holds the weight; null means weight 1."
    )
    features: tuple[Text, ...] = Field(
        default=(),
        description="Names of the features, in order; empty takes those of the first entry.",
    )
    n_features: Count | None = Field(
        default=None, description="Numbers in a point (D); null takes that of the first entry."
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
                "mend one, or leave n_features out"
            )
        return self

    @property
    def dimension(self) -> int | None:
        """Return D as far as the settings tell it."""
        return len(self.features) or self.n_features


_LEAST = 4096
"""Points of a batch that may grow, at first."""

_MOST = 10_000_000
"""Points of a batch, at most."""


class BatchSettings(Section):
    """When a batch is full."""

    size: Size = Field(
        default=AUTO,
        description="Points that make a batch full. auto takes 4,096, and more where a backlog is "
        "there to fill it: a 32nd of the points learned so far, up to 65,536, but at most a 64th "
        "of a half-life. Where steps, losses or time are counted (a power schedule, a drift "
        "detector, a half-life in event time) it stays at 4,096. At most 10,000,000.",
    )
    linger: Annotated[Duration, AfterValidator(up_to_a_day)] = Field(
        default=0.2,
        description="Longest wait for a batch to fill; 0 learns what is there. At most 1d.",
    )
    max_entry_bytes: Annotated[Count, Field(ge=1 << 20)] = Field(
        default=1 << 24,
        le=VALUE_BYTES,
        description="Largest entry that is read, in bytes; a larger one is refused. It bounds the "
        "worker's memory.",
    )

    @field_validator("size")
    @classmethod
    def _size_held_in_memory(cls, size: object) -> object:
        if isinstance(size, int) and size > _MOST:
            raise ValueError(f"expected at most {_MOST}: a batch is held in memory")
        return size

    @property
    def least(self) -> int:
        """Return the points that make a batch full where it doesn't grow."""
        return self.size if isinstance(self.size, int) else _LEAST


class CommitSettings(Section):
    """When the state is written; whichever comes first."""

    points: Count = Field(default=1_000_000, description="Commit the state after this many points.")
    every: PositiveDuration = Field(
        default=1.0, description="Commit the state after this much time."
    )


class PublishSettings(Section):
    """When a version of the model is published; whichever comes first."""

    points: Count = Field(
        default=1_000_000, description="Publish a version after this many points."
    )
    every: PositiveDuration = Field(
        default=5.0, description="Publish a version after this much time."
    )
    keep: Count = Field(default=100, le=1_000_000, description="Versions kept in :models.")


class DeadSettings(Section):
    """What becomes of points that can't be learned."""

    keep: Count = Field(
        default=10_000,
        le=100_000,  # what one commit can write, so that how often one comes makes no difference
        description="Entries kept in :dead, each with its reason.",
    )


class EncodeSettings(Section):
    """What encoders write of each entry, and where from; `true` stands for `worker: true`."""

    worker: bool = Field(
        default=False,
        description="Whether the worker itself writes the codes of what it learns, with its "
        "commits; `encode: true` says the same.",
    )
    streams: tuple[Text, ...] = Field(
        default=(),
        description="Streams that `streamclust encode` reads; empty means the model's own.",
    )
    top: Count = Field(
        default=1,
        le=1000,
        description="Components told for each point, best first; more than 1 adds top.",
    )
    labels: tuple[Text, ...] = Field(
        default=(),
        description="Fields of an entry that are repeated beside its codes, such as a key. With "
        "named fields, points.features must say which are the numbers.",
    )
    keep: Count = Field(default=100_000, le=10**12, description="Entries kept in :codes, about.")
    takeover: UpToADay = Field(
        default=10.0,
        description="Entries of an encoder without a sign of life for so long go to another. At "
        "most 1d.",
    )

    @model_validator(mode="before")
    @classmethod
    def _true_means_worker(cls, data: object) -> object:
        return {"worker": data} if isinstance(data, bool) else data

    @field_validator("streams")
    @classmethod
    def _streams_distinct(cls, streams: tuple[str, ...]) -> tuple[str, ...]:
        return distinct("streams", streams)

    @model_validator(mode="after")
    def _worker_reads_its_own(self) -> Self:
        if self.worker and self.streams:
            raise ValueError("the worker encodes what it learns; leave out worker or streams")
        return self

    @field_validator("labels")
    @classmethod
    def _labels_free(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        taken = sorted(set(labels) & set(CODE_FIELDS))
        if taken:
            raise ValueError(f"{taken[0]!r} has a meaning in :codes; rename that field of the feed")
        return distinct("labels", labels)


class RefitSettings(Section):
    """Fits of all retained points, beside the stream; see `streamclust refit`."""

    every: PositiveDuration | None = Field(
        default=None,
        description="Refit the model this often while a worker runs; null never does.",
    )
    last: Latest | None = Field(
        default=None,
        description="What a scheduled refit is of: the last so much event time or so many points; "
        "null means all that the streams retain.",
    )
    restarts: Integer = Field(
        default=4,
        ge=0,
        le=1000,
        description="Runs from fresh seeds, besides the one from the live model.",
    )


class _Model(Section):
    kind: str
    streams: Streams = Field(
        description="Streams to read: one name, or a list of names (partitions of one feed)."
    )
    start: StartPosition = Field(
        default="earliest",
        description="Where the reading of a stream begins that the model has not read before; of "
        "another it continues. After a rename, set the last position under the old name.",
    )
    on_reset: Literal["wait", "restart"] = Field(
        default="wait",
        description="When a stream was deleted and begun again with smaller IDs: wait says so and "
        "reads nothing until they are larger; restart reads it from its beginning.",
    )
    trim: TrimSettings = Field(
        default=NoTrimming(),
        description="Which learned entries the worker removes from the streams; never what a "
        "consumer group of the stream has not yet read and acknowledged.",
    )
    points: PointsSettings = Field(
        default=PointsSettings(),
        description="How entries hold points. Once points were learned, a change that gives "
        "columns or weights another meaning is refused (see guarantees.md).",
    )
    batch: BatchSettings = Field(default=BatchSettings(), description="When a batch is full.")
    commit: CommitSettings = Field(
        default=CommitSettings(), description="When the state is written."
    )
    publish: PublishSettings = Field(
        default=PublishSettings(), description="When a version comes out."
    )
    dead: DeadSettings = Field(
        default=DeadSettings(), description="What becomes of refused points."
    )
    encode: EncodeSettings = Field(
        default=EncodeSettings(), description="What encoders write of each entry."
    )
    forgetting: ForgettingSettings = Field(
        default=NoForgetting(), description="How old points lose their weight."
    )
    refit: RefitSettings = Field(
        default=RefitSettings(), description="Fits of all retained points, beside the stream."
    )
    drift: DriftSettings = Field(
        default=DriftSettings(), description="How drift is found, and what is done then."
    )
    scale: Literal["none", "standard", "robust"] = Field(
        default="none",
        description="Bring features to one scale, learned in the warm-up: by mean and standard "
        "deviation, or by median and quartiles; what is published stays in the feed's units.",
    )
    coreset: CoresetSettings = Field(
        default=CoresetSettings(),
        description="Weighted points that stand for the stream, clustered anew now and then.",
    )
    seed: Integer = Field(default=0, ge=0, description="Seed of all random choices.")

    @field_validator("streams")
    @classmethod
    def _streams_distinct(cls, streams: tuple[str, ...]) -> tuple[str, ...]:
        return distinct("streams", streams)

    @model_validator(mode="after")
    def _coreset_fits(self) -> Self:
        kept = self.coreset.points
        if kept is not None:
            _check_points("coreset.points", kept, 2 * kept, self.points.dimension)
        return self

    def _check_scale(self, init: object) -> None:
        if self.scale != "none" and not isinstance(init, WarmUp):
            raise ValueError(
                f"scale is {self.scale}, but there is no warm-up to learn it in; "
                "leave init out, or scale"
            )


class KMeansSettings(_Model):
    """A model of kind kmeans."""

    kind: Literal["kmeans"] = Field(
        default="kmeans", description="K centroids; a point belongs to the nearest."
    )
    n_clusters: Size = Field(
        description="Number of clusters (K) of kmeans; auto lets it adapt to the stream."
    )
    n_clusters_range: SizeRange | None = Field(
        default=None, description="Bounds of n_clusters: auto; null means [2, 50]."
    )
    init: KMeansInit = Field(default=WarmUp(), description="What a new model starts from.")

    @property
    def n_components(self) -> object:
        """Return K, or auto, under the name that all kinds share."""
        return self.n_clusters

    @property
    def bounds(self) -> tuple[int | None, int]:
        """Return the least K, None if it is fixed, and the most."""
        return bounds("n_clusters", self.n_clusters, self.n_clusters_range)

    @model_validator(mode="after")
    def _state_fits(self) -> Self:
        _check_state("n_clusters", self.bounds[1], self.points.dimension, 3)
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
        description="Weights, means and covariances; a point belongs to each in part.",
    )
    n_components: Size = Field(
        description="Number of components (K) of gaussian_mixture; auto lets it adapt to the "
        "stream."
    )
    n_components_range: SizeRange | None = Field(
        default=None, description="Bounds of n_components: auto; null means [2, 50]."
    )
    covariance_type: Literal["full", "tied", "diag", "spherical"] = Field(
        default="full", description="Shape of the covariances of gaussian_mixture."
    )
    reg_covar: PositiveNumber = Field(
        default=1e-6,
        description="Floor of the variances of gaussian_mixture, as a fraction of the data's own.",
    )
    init: MixtureInit = Field(default=WarmUp(), description="What a new model starts from.")

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
                f"scale is {self.scale}, under which spherical covariances don't stay spherical; "
                "take covariance_type diag"
            )
        if isinstance(self.init, WarmUp):
            _check_sample(self.init, "n_components", self.bounds, self.points.dimension)
        if isinstance(self.init, MixtureGiven):
            self._check_given(self.init)
        return self

    @property
    def bounds(self) -> tuple[int | None, int]:
        """Return the least K, None if it is fixed, and the most."""
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


def _check_sample(init: WarmUp, name: str, sizes: tuple[int | None, int], D: int | None) -> None:
    least, most = sizes
    if init.points is not None:
        _check_points("init.points", init.points, init.points, D)
    if init.points is not None and init.points < most:
        what = name if least is None else f"the most {name}"
        raise ValueError(f"init.points is {init.points}; expected at least {what}, {most}")


def _size_given(means: tuple[Any, ...], sizes: tuple[int | None, int]) -> int:
    """Return the number of components that given parameters should have."""
    least, most = sizes
    return most if least is None else min(max(len(means), least), most)


def _check_points(name: str, value: int, held: int, D: int | None) -> None:
    """Refuse to keep so many points in the state: their D numbers and weights fit no server."""
    size = 8 * (1 + (D or 1)) * held
    if size > VALUE_BYTES:
        most = value * VALUE_BYTES // size
        raise ValueError(
            f"{name} is {value}; expected at most {most}{_features(D)}: the state holds these "
            f"points, and one value of the server holds {VALUE_BYTES >> 20} MB"
        )


def _features(D: int | None) -> str:
    return f" with {D} feature{'' if D == 1 else 's'}" if D else ""


def _check_state(name: str, K: int, D: int | None, arrays: int) -> None:
    """Refuse a model whose state, so many arrays of K x D numbers, no server can hold.

    Without a D it is looked at as if there were one feature.
    """
    size = 8 * arrays * K * (D or 1)
    if size > VALUE_BYTES:
        raise ValueError(
            f"{name} {K}{_features(D)} makes a state of {size >> 20} MB; expected at most "
            f"{VALUE_BYTES >> 20} MB, what one value of the server holds: take fewer of either"
        )


def _check_shape(name: str, value: object, want: tuple[int | None, ...]) -> None:
    got = shape(value)
    if got is None:
        raise ValueError(f"{name} is ragged; expected lists of one length")
    if len(got) != len(want) or any(w not in (None, g) for w, g in zip(want, got, strict=True)):
        raise ValueError(f"{name} is {_by(got)}; expected {_by(want)}")


def _by(sizes: tuple[int | None, ...]) -> str:
    return " x ".join("D" if size is None else str(size) for size in sizes)
