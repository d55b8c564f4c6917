"""Figures of many models, added up one model at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamclust.store.model.overview import Overview

PHASES = ("failed", "stalled", "damaged", "stopped", "paused", "warming", "learning")
"""The phases of models, those with problems first."""


@dataclass
class Totals:
    """Sums over models.

    Parameters
    ----------
    phases : Counter
        Number of models per phase.
    failed : int
        Models that are failed, stalled or damaged.
    published : int
        Models with a version.
    points, lag, dead, lost, unknown_gaps, drifts, alerts : int
        Sums of the known figures.
    unknown_lags : int
        Models whose lag is unknown.
    largest_lag : int
        Largest lag of one model.
    rate : float
        Points per second.
    """

    phases: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    published: int = 0
    points: int = 0
    lag: int = 0
    unknown_lags: int = 0
    largest_lag: int = 0
    dead: int = 0
    lost: int = 0
    unknown_gaps: int = 0
    drifts: int = 0
    alerts: int = 0
    rate: float = 0.0

    def add(self, row: Overview) -> None:
        """Add the figures of a model."""
        self.phases[row.phase] += 1
        self.failed += row.failed
        self.published += row.model is not None
        self.points += row.points or 0
        self.lag += row.lag or 0
        self.unknown_lags += row.lag is None
        self.largest_lag = max(self.largest_lag, row.lag or 0)
        self.dead += row.dead or 0
        self.alerts += row.alerts or 0
        if row.lost is not None:
            self.lost += row.lost.entries
            self.unknown_gaps += row.lost.unknown
        if row.health is not None:
            self.drifts += row.health.drifts
            self.rate += row.health.rate

    def merge(self, other: Totals) -> None:
        """Add the figures of other models."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            both = max(mine, theirs) if each.name == "largest_lag" else mine + theirs
            setattr(self, each.name, both)

    @property
    def models(self) -> int:
        """Number of models."""
        return self.phases.total()

    def by_phase(self) -> list[tuple[str, int]]:
        """Return the phases that occur and their numbers of models, problems first."""
        known = {phase: place for place, phase in enumerate(PHASES)}
        found: list[Any] = sorted(self.phases.items(), key=lambda item: known.get(item[0], 99))
        return found
