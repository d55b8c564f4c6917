"""Which version a state is published as, when it is urgent, and why."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from streamclust.formats.model import SWAPS, Model, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.formats.checkpoint import Checkpoint
    from streamclust.online.learner import StreamLearner
    from streamclust.online.state import Counts


class _Change(NamedTuple):
    """A kind of change that gives a version its reason."""

    reason: Reason
    count: Callable[[Counts], int]
    """Returns how often the change has happened."""
    urgent: bool
    """Whether a version is published at once."""


REASONS = (
    _Change("drift", lambda counts: counts.drifts, True),
    _Change("reseed", lambda counts: counts.revived, False),
    _Change("resize", lambda counts: counts.resized, True),
    _Change("resolve", lambda counts: counts.reclustered, False),
)
"""The changes by priority. The first that has happened since the newest version is the reason of
the next version."""


_FEWEST = 1000
"""Least number of new points for a version with another threshold."""

_GROWTH = 0.5
"""New points, relative to those of the newest version, that give a clearly better threshold."""

_WRONG = 2.0
"""A threshold is wrong if the share of points above it, divided by the rate, is at least this."""


def threshold_outdated(learner: StreamLearner[Any], checkpoint: Checkpoint) -> bool:
    """Whether the newest version flags a share of the points that differs from the rate.

    Its threshold is uncertain if it was published after few points, and it is wrong after a jump of
    the data. During a backlog, a million points would be flagged with it before the next version.
    """
    anomaly, new = learner.anomaly, checkpoint.learner.points - checkpoint.published_points
    if anomaly is None or anomaly.rate is None or new < _FEWEST:
        return False
    known = learner.score_distribution(checkpoint.learner)
    if known is None or checkpoint.version == 0:
        return False
    if new >= _GROWTH * checkpoint.published_points:
        return True
    if checkpoint.published_threshold is None:
        return known.is_known
    share = float(known.exceedance([checkpoint.published_threshold])[0])
    return not anomaly.rate / _WRONG <= share <= anomaly.rate * _WRONG


def is_first(checkpoint: Checkpoint) -> bool:
    """Whether the model has parameters and no version yet."""
    return checkpoint.version == 0 and checkpoint.learner.params is not None


def is_urgent(checkpoint: Checkpoint) -> bool:
    """Whether a version must be published now, without a wait for the cadence."""
    return is_first(checkpoint) or any(change.urgent for change in _changes(checkpoint))


def _changes(checkpoint: Checkpoint) -> Iterator[_Change]:
    """Yield the kinds of changes that happened after the newest version, by priority."""
    now, published = checkpoint.learner.counts, checkpoint.published
    return (change for change in REASONS if change.count(now) > change.count(published))


def has_news(checkpoint: Checkpoint) -> bool:
    """Whether the model has learned points since its newest version, or has no version yet."""
    learned = checkpoint.learner.points > checkpoint.published_points
    return checkpoint.learner.params is not None and (learned or is_first(checkpoint))


def reason_of_next(checkpoint: Checkpoint, otherwise: Reason) -> Reason:
    """Return the reason of the next version: that of a swap, the first change, or `otherwise`."""
    if otherwise in SWAPS:
        return otherwise
    if checkpoint.version == 0:
        return "start"
    return next((change.reason for change in _changes(checkpoint)), otherwise)


def next_version(
    name: str, learner: StreamLearner[Any], checkpoint: Checkpoint, otherwise: Reason
) -> tuple[Checkpoint, Model]:
    """Return the checkpoint after the next version is published, and this version.

    Parameters
    ----------
    name : str
        Name of the model.
    learner : StreamLearner
    checkpoint : Checkpoint
    otherwise : str
        The reason, unless `REASONS` has another one; see `reason_of_next`.
    """
    state, family = checkpoint.learner, learner.family
    if state.stats is None:
        raise AssertionError("a model that has parameters has statistics")
    if family.min_components is not None:
        family = family.with_components(len(state.stats.weight))
    scores = learner.score_distribution(state)
    model = Model(
        name=name,
        version=checkpoint.version + 1,
        reason=reason_of_next(checkpoint, otherwise),
        family=family,
        params=learner.in_units(state),
        mass=state.stats.weight,
        position=checkpoint.position,
        points=state.points,
        loss=learner.loss(state),
        time_ms=state.clock.time_ms,
        features=() if checkpoint.layout is None else checkpoint.layout.features,
        ids=state.components.ids,
        layout=checkpoint.layout,
        scale=learner.scale,
        scores=scores,
        feature_distribution=learner.feature_distribution(state),
        anomaly_score="model" if scores is None else learner.anomaly_score,
    )
    version, counts, threshold = model.version, state.counts, None
    rate = None if learner.anomaly is None else learner.anomaly.rate
    if scores is not None and rate is not None:
        found = scores.threshold(rate)
        threshold = found if math.isfinite(found) else None
    after = replace(
        checkpoint,
        version=version,
        published_points=state.points,
        published=counts,
        published_threshold=threshold,
    )
    return after, model
