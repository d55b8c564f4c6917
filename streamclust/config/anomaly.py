"""Settings of anomalies: which points are flagged, and what an alert contains."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from streamclust.config.section import Section
from streamclust.config.values import Allowed, Count

_RATE = "the share of points to flag, such as 0.001 for 1 point in 1,000"


def _rate(value: object) -> object:
    """Return the value; refuse a number that isn't between 0 and 1."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value  # its type is wrong, which the next check reports
    if 0.0 < number < 1.0:
        return value
    if isinstance(value, bool):
        raise ValueError(f"expected {_RATE}")
    if number == 0.0:
        raise ValueError(f"a rate of 0 flags nothing; write null for no alerts, or {_RATE}")
    if number == 1.0:
        raise ValueError(f"a rate of 1 flags all points; write {_RATE}")
    raise ValueError(f"expected more than 0 and less than 1: {_RATE}")


Rate = Annotated[float, BeforeValidator(_rate), Allowed("a number between 0 and 1")]


class AnomalySettings(Section):
    """Which points are flagged as anomalies, and the stream of alerts."""

    rate: Rate | None = Field(
        default=None,
        description="Share of the points to flag as anomalies, such as 0.001: the points with the "
        "most unusual scores. Each flagged point goes to the stream :alerts. null: no alerts.",
    )
    score: Literal["model", "tail_score"] = Field(
        default="model",
        description="Score that decides which points are flagged, and that quantile in "
        "encode.score ranks. model: minus the log density (mixtures), or the squared distance to "
        "the nearest centroid (K-means). tail_score: how improbable the value of each feature is "
        "by itself; use it for anomalies with extreme values of single features.",
    )
    learn_flagged: bool = Field(
        default=True,
        description="Whether the model learns flagged points. true: the model adapts to a change "
        "of the data. false: anomalies don't change the model, but after a change of the data the "
        "model flags the new points for longer.",
    )
    top: Count = Field(
        default=3,
        le=100,
        description="Features in an alert: those with the largest shares of the score.",
    )
    keep: Count = Field(
        default=10_000,
        le=100_000,  # the maximum of one commit, so that the interval of commits doesn't matter
        description="Alerts stored in :alerts.",
    )
    worker: bool = Field(
        default=True,
        description="Whether the worker writes the alerts of the points that it learns, with each "
        "commit. false: `streamclust encode` writes them with the codes. Alerts of encode.streams "
        "are always written by `streamclust encode`.",
    )

    @model_validator(mode="after")
    def _rate_named(self) -> Self:
        """Refuse keys that have no effect, unless `rate: null` switches them off."""
        given = self.model_fields_set - {"score"}  # which encode.score may need
        if given and "rate" not in given:
            raise ValueError(
                f"no effect without a rate: {', '.join(sorted(given))}; add rate: {_RATE}, or null"
            )
        return self
