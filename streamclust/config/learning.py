"""Settings of how a model forgets, and of what it starts from."""

from __future__ import annotations

from math import fsum, isfinite
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator

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
    """Every point counts alike for ever."""

    kind: Literal["none"] = Field(
        default="none", description="Never forget: all points count alike."
    )


class ForgettingByPoints(Section):
    """A point counts half after so many further points."""

    kind: Literal["points"] = Field(default="points", description="Forget as points arrive.")
    half_life: PositiveNumber = Field(
        description="A point counts half after this many further points (by weight). One far "
        "outlier can hold a centroid for up to 50 half-lives; see architecture.md, One far outlier."
    )


class ForgettingByTime(Section):
    """A point counts half after so much event time."""

    kind: Literal["time"] = Field(default="time", description="Forget as event time passes.")
    half_life: PositiveDuration = Field(
        description="A point counts half after this much time, by the IDs of the entries."
    )


class ForgettingByPower(Section):
    """Robbins-Monro steps (t + t0)^-kappa."""

    kind: Literal["power"] = Field(
        default="power", description="Step t moves by (t + t0)^-kappa towards the batch."
    )
    kappa: Number = Field(
        default=0.6, gt=0.5, le=1, description="Exponent; 1 averages all, less follows faster."
    )
    t0: Number = Field(default=2.0, ge=0, description="Steps counted as done before the first.")
    hold: Number = Field(
        default=0.0, ge=0, description="Points learned before the parameters first move."
    )
    average: bool = Field(
        default=False,
        description="Publish the average over all steps but those of a rough start; steadier for a "
        "small kappa.",
    )


ForgettingSettings: TypeAlias = Annotated[
    NoForgetting | ForgettingByPoints | ForgettingByTime | ForgettingByPower,
    Field(discriminator="kind"),
]


class DriftSettings(Section):
    """How drift is found in the score of each batch, and what is done then."""

    detector: Literal["none", "page_hinkley", "adwin"] = Field(
        default="none",
        description="What looks for drift: page_hinkley is quick, adwin has a bound on its false "
        "alarms.",
    )
    on_drift: Literal["announce", "forget", "resolve"] = Field(
        default="announce",
        description="A drift is always logged, counted and published (reason drift); forget also "
        "leaves the past a hundredth of its weight; resolve does that, and fits anew when as many "
        "new points are there as the warm-up takes.",
    )
    threshold: PositiveNumber = Field(
        default=30.0,
        description="Alarm of page_hinkley, in standard deviations of a batch's score summed up.",
    )
    delta: Number = Field(
        default=0.002, gt=0, lt=1, description="Chance of a false alarm of adwin, by its bound."
    )


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
    """Weighted points that stand for the stream, and are clustered anew now and then."""

    points: Annotated[Integer, Field(ge=0)] | None = Field(
        default=None,
        description="Points kept, besides up to as many new ones; 0 keeps none. null means 8,000 "
        "or 100 K, whichever is more, but fewer in many dimensions, and none for a very large K. "
        "The state holds them, in 512 MB.",
    )
    reseeds: Integer = Field(
        default=3,
        ge=0,
        le=1000,
        description="Fresh seedings tried each time, besides the live model.",
    )


class WarmUp(Section):
    """Start from the first points of the stream."""

    kind: Literal["warm_up"] = Field(
        default="warm_up", description="Cluster the first points in one go and start from that."
    )
    points: Count | None = Field(
        default=None,
        description="Points to gather first; null means max(1000, 10 K). The state holds them, in "
        "512 MB.",
    )
    restarts: Count = Field(
        default=4, le=1000, description="Seedings tried on the warm-up; the best one is kept."
    )


class GivenStart(Section):
    """What every start from known parameters has."""

    weight: PositiveNumber = Field(
        default=1.0, description="Points that each given component counts for."
    )


class CentroidsGiven(GivenStart):
    """Start K-means from the centroids that stand in the settings."""

    kind: Literal["parameters"] = Field(
        default="parameters", description="Start from given parameters."
    )
    centroids: Matrix = Field(description="Centroids of kmeans, one list of D numbers each.")


class MixtureGiven(GivenStart):
    """Start a mixture from the parameters that stand in the settings."""

    kind: Literal["parameters"] = Field(
        default="parameters", description="Start from given parameters."
    )
    weights: Vector = Field(
        description="Weights of gaussian_mixture: K positive numbers, their sum 1 within 1e-6."
    )
    means: Matrix = Field(description="Means of gaussian_mixture, one list of D numbers each.")
    covariances: Nested = Field(
        description="Covariances of gaussian_mixture, in the shape of its covariance_type."
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
        description="A .safetensors file of a model; relative to the current directory."
    )


KMeansInit: TypeAlias = Annotated[WarmUp | CentroidsGiven | FileGiven, Field(discriminator="kind")]
MixtureInit: TypeAlias = Annotated[WarmUp | MixtureGiven | FileGiven, Field(discriminator="kind")]
