"""Settings of which learned entries are removed from the points' streams."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from streamclust.config.section import Section
from streamclust.config.values import Count, PositiveDuration


class NoTrimming(Section):
    """Leave the streams to whoever writes them."""

    kind: Literal["none"] = Field(
        default="none", description="Remove nothing: others may read the streams too."
    )


class TrimLearned(Section):
    """Remove whatever is learned."""

    kind: Literal["learned"] = Field(
        default="learned", description="Remove entries as soon as they are learned and committed."
    )


class TrimByAge(Section):
    """Remove learned entries that are old."""

    kind: Literal["age"] = Field(
        default="age", description="Remove learned entries after a while, by their IDs."
    )
    age: PositiveDuration = Field(description="How long learned entries are kept.")


class TrimByLength(Section):
    """Remove learned entries of a stream that is long."""

    kind: Literal["length"] = Field(
        default="length", description="Remove learned entries of streams that are too long."
    )
    entries: Count = Field(le=10**12, description="Entries that are kept at least.")


TrimSettings: TypeAlias = Annotated[
    NoTrimming | TrimLearned | TrimByAge | TrimByLength, Field(discriminator="kind")
]
