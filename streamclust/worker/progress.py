"""The progress of a model, as the health key shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamclust.formats.lost import Lost

if TYPE_CHECKING:
    from streamclust.formats.checkpoint import Checkpoint
    from streamclust.online.learner import StreamLearner


@dataclass(frozen=True)
class Progress:
    """The progress of a model, as the health key shows it."""

    phase: str
    points: int
    dead: int
    version: int
    loss: float | None
    lost: Lost
    drifts: int
    gathered: int = 0
    warm_up: int = 0
    missing: int = 0


def progress_of(checkpoint: Checkpoint, learner: StreamLearner[Any]) -> Progress:
    """Return the progress of a model that is in memory."""
    state = checkpoint.learner
    warms_up = state.params is None
    return Progress(
        phase="warming" if warms_up else "learning",
        points=state.points,
        dead=checkpoint.dead,
        version=checkpoint.version,
        loss=learner.loss(state),
        lost=sum(checkpoint.lost.values(), Lost()),
        drifts=state.counts.drifts,
        gathered=len(state.warm_up) if warms_up else 0,
        warm_up=learner.warm_up_points if warms_up else 0,
        missing=checkpoint.missing,
    )
