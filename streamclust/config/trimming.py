"""Settings of the removal of learned entries from the streams."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from streamclust.config.inferred import with_kind
from streamclust.config.section import Section
from streamclust.config.values import Count, PositiveDuration


class NoTrimming(Section):
    """Remove no entries."""

    kind: Literal["none"] = Field(default="none", description="Remove nothing.")


class TrimLearned(Section):
    """Remove entries after they are learned."""

    kind: Literal["learned"] = Field(
        default="learned", description="Remove entries as soon as they are learned and committed."
    )


class TrimByAge(Section):
    """Remove old learned entries."""

    kind: Literal["age"] = Field(
        default="age", description="Remove learned entries older than `age`, by their IDs."
    )
    age: PositiveDuration = Field(description="Minimum age of the entries to remove.")


class TrimByLength(Section):
    """Remove learned entries of a stream that is too long."""

    kind: Literal["length"] = Field(
        default="length", description="Remove learned entries if a stream has more than `entries`."
    )
    entries: Count = Field(le=10**12, description="Minimum number of entries to keep.")


TrimSettings: TypeAlias = Annotated[
    NoTrimming | TrimLearned | TrimByAge | TrimByLength,
    Field(discriminator="kind"),
    with_kind("trim"),
]
