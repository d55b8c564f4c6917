"""The orders in which people see models."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Figures(Protocol):
    """The figures of a model that decide its place, as in `Overview`."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def failed(self) -> bool: ...  # noqa: D102

    @property
    def lag(self) -> int | None: ...  # noqa: D102

    @property
    def published_ms(self) -> int | None: ...  # noqa: D102

    @property
    def lost_entries(self) -> int | None: ...  # noqa: D102

    @property
    def dead(self) -> int | None: ...  # noqa: D102

    @property
    def points(self) -> int | None: ...  # noqa: D102

    @property
    def rate(self) -> float | None: ...  # noqa: D102


def _published(row: Figures) -> float:
    return math.inf if row.published_ms is None else row.published_ms


SORTS: dict[str, Callable[[Figures], tuple[Any, ...]]] = {
    "name": lambda row: (),
    "problems": lambda row: (not row.failed, -(row.lag or 0), _published(row)),
    "lag": lambda row: (row.lag is not None, -(row.lag or 0)),
    "lost": lambda row: (-(row.lost_entries or 0),),
    "dead": lambda row: (-(row.dead or 0),),
    "points": lambda row: (-(row.points or 0),),
    "rate": lambda row: (-(row.rate or 0.0),),
    "age": lambda row: (_published(row),),
}
"""The orders of models: the key of each model, of which the smallest comes first."""


def sort_key(sort: str) -> Callable[[Figures], tuple[Any, ...]]:
    """Return the key of a model in an order; the name decides between equal models."""
    key = SORTS[sort]
    return lambda row: (*key(row), row.name)
