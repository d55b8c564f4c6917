"""Settings of forgetting, drift, coreset and start of a model."""

from __future__ import annotations

from math import fsum, isfinite
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from streamclust.config.inferred import with_kind
from streamclust.config.section import Section
from streamclust.config.values import (
    Allowed,
    Count,
    FilePath,
    Integer,
    Matrix,
    Number,
    PositiveDuration,
    PositiveNumber,
    Vector,
)


class NoForgetting(Section):
    """All points have the same weight."""

    kind: Literal["none"] = Field(default="none", description="All points have the same weight.")


class ForgettingByPoints(Section):
    """The weight of a point halves after `half_life` further points."""

    kind: Literal["points"] = Field(
        default="points", description="Points decay with the number of later points."
    )
    half_life: PositiveNumber = Field(
        description="The weight of a point halves after this many further points (by weight). One "
        "far outlier can hold a centroid for up to 50 half-lives: see docs/internals/outlier.md."
    )


class ForgettingByTime(Section):
    """The weight of a point halves after `half_life` of event time."""

    kind: Literal["time"] = Field(default="time", description="Points decay with event time.")
    half_life: PositiveDuration = Field(
        description="The weight of a point halves after this much time, by the IDs of the entries."
    )


class ForgettingByPower(Section):
    """Robbins-Monro steps (t + t0)^-kappa."""

    kind: Literal["power"] = Field(
        default="power", description="Robbins-Monro steps: step t has the size (t + t0)^-kappa."
    )
    kappa: Number = Field(
        default=0.6,
        gt=0.5,
        le=1,
        description="Exponent. 1 averages all batches; smaller values follow changes faster.",
    )
    t0: Number = Field(default=2.0, ge=0, description="Offset of the step number.")
    hold: Number = Field(
        default=0.0, ge=0, description="Points to learn before the first change of the parameters."
    )
    average: bool = Field(
        default=False,
        description="Whether to publish the average over the steps (Polyak-Ruppert), without the "
        "steps of a rough start. The average is more stable if kappa is small.",
    )


ForgettingSettings: TypeAlias = Annotated[
    NoForgetting | ForgettingByPoints | ForgettingByTime | ForgettingByPower,
    Field(discriminator="kind"),
    with_kind("forgetting"),
]


class DriftSettings(Section):
    """How drift is detected in the scores of the batches, and the reaction."""

    detector: Literal["none", "page_hinkley", "adwin"] = Field(
        default="none",
        description="Drift detector. page_hinkley is fast; adwin limits the probability of false "
        "alarms.",
    )
    on_drift: Literal["announce", "forget", "recluster"] = Field(
        default="announce",
        description="Reaction to drift. Each drift is logged, counted and published (reason "
        "drift). forget also multiplies the weight of old points by 0.01. recluster does the same; "
        "after as many new points as a warm-up needs, it fits these points, and a better fit "
        "replaces the model.",
    )
    threshold: PositiveNumber = Field(
        default=30.0,
        description="Threshold of page_hinkley: the cumulative excess of the score, in standard "
        "deviations of a batch score, at which drift is reported.",
    )
    delta: Number = Field(
        default=0.002, gt=0, lt=1, description="Maximum probability of a false alarm of adwin."
    )

    @model_validator(mode="after")
    def _detector_named(self) -> Self:
        """Refuse keys that have no effect, unless `detector: none` switches them off."""
        if self.model_fields_set and "detector" not in self.model_fields_set:
            raise ValueError(
                f"no effect without a detector: {', '.join(sorted(self.model_fields_set))}; "
                "add detector: page_hinkley, adwin, or none"
            )
        return self


def _nested_numbers(value: object) -> object:
    if isinstance(value, list | tuple) and value:
        return tuple(_nested_numbers(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError("expected finite numbers in lists")
    return float(value)


def shape(value: object) -> tuple[int, ...] | None:
    """Return the shape of nested tuples of numbers, or None if they are ragged."""
    if not isinstance(value, tuple):
        return ()
    inner = {shape(item) for item in value}
    rest = inner.pop() if len(inner) == 1 else None
    return None if rest is None else (len(value), *rest)


Nested = Annotated[
    tuple[object, ...],
    BeforeValidator(_nested_numbers),
    Allowed("numbers in lists: K x D x D (full), D x D (tied), K x D (diag), K (spherical)"),
]


class CoresetSettings(Section):
    """A small set of weighted points that stands for all learned points."""

    points: Annotated[Integer, Field(ge=0)] | None = Field(
        default=None,
        description="Points in the coreset. Recent points are stored besides: at most as many, and "
        "at most 4,096. 0: no coreset. null: the larger of 8,000 and 100 x K, but fewer in many "
        "dimensions and none for a very large K. The state must stay below 512 MB.",
    )
    restarts: Integer = Field(
        default=3,
        ge=0,
        le=1000,
        description="Fits from new starts at each reclustering, besides the fit from the live "
        "model.",
    )


class WarmUp(Section):
    """Start from a fit to the first points of the stream."""

    kind: Literal["warm_up"] = Field(
        default="warm_up",
        description="Fit the first points in one batch, and start from the result.",
    )
    points: Count | None = Field(
        default=None,
        description="Points of the warm-up. null: max(1000, 10 x K). The state must stay below 512 "
        "MB.",
    )
    restarts: Count = Field(
        default=4,
        le=1000,
        description="Fits of the warm-up from different starts; the best one is used.",
    )


class GivenStart(Section):
    """The setting that all starts from known parameters have."""

    weight: PositiveNumber = Field(
        default=1.0, description="Weight of each given component, in points."
    )


class CentroidsGiven(GivenStart):
    """Start K-means from centroids in the settings."""

    kind: Literal["parameters"] = Field(
        default="parameters", description="Start from the given parameters."
    )
    centroids: Matrix = Field(description="Centroids of kmeans: K lists of D numbers.")


class MixtureGiven(GivenStart):
    """Start a mixture from parameters in the settings."""

    kind: Literal["parameters"] = Field(
        default="parameters", description="Start from the given parameters."
    )
    weights: Vector = Field(
        description="Weights of gaussian_mixture: K positive numbers with the sum 1 (within 1e-6)."
    )
    means: Matrix = Field(description="Means of gaussian_mixture: K lists of D numbers.")
    covariances: Nested = Field(
        description="Covariances of gaussian_mixture; the form depends on covariance_type."
    )

    @field_validator("weights")
    @classmethod
    def _a_distribution(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if min(weights) <= 0 or abs(fsum(weights) - 1.0) > 1e-6:
            raise ValueError(
                f"the sum is {fsum(weights):.9g} and the least {min(weights):.9g}; "
                "expected positive numbers with the sum 1 (within 1e-6)"
            )
        return weights


class FileGiven(GivenStart):
    """Start from a published model in a file."""

    kind: Literal["file"] = Field(default="file", description="Start from a model in a file.")
    path: FilePath = Field(
        description="A .safetensors file of a model, relative to the current directory."
    )


KMeansInit: TypeAlias = Annotated[
    WarmUp | CentroidsGiven | FileGiven, Field(discriminator="kind"), with_kind("init")
]
MixtureInit: TypeAlias = Annotated[
    WarmUp | MixtureGiven | FileGiven, Field(discriminator="kind"), with_kind("init")
]
