"""Versions with a threshold that is outdated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamclust import Anomaly, HalfLife, KMeans, StreamLearner
from streamclust.formats.checkpoint import Checkpoint
from streamclust.worker.publication import next_version, threshold_outdated


def learned(
    learner: StreamLearner[Any], at: Checkpoint, points: int, shift: float = 0.0
) -> Checkpoint:
    """Return the checkpoint after more points of two clusters."""
    rng, state = np.random.default_rng(at.learner.points), at.learner
    for _ in range(points // 500):
        X = rng.choice([-10.0, 10.0], (500, 1)) + rng.normal(size=(500, 2)) + shift
        state, _ = learner.update(state, X)
    return replace(at, learner=state)


WITH_RATE = StreamLearner(KMeans(2), HalfLife(10_000), warm_up=500, anomaly=Anomaly(0.01))


def published(learner: StreamLearner[Any], points: int) -> Checkpoint:
    at = learned(learner, Checkpoint(), points)
    return next_version("m", learner, at, "step")[0]


def test_a_version_after_few_points_has_a_successor_soon() -> None:
    at = published(WITH_RATE, 2000)
    assert not threshold_outdated(WITH_RATE, at)
    assert not threshold_outdated(WITH_RATE, learned(WITH_RATE, at, 500))
    assert threshold_outdated(WITH_RATE, learned(WITH_RATE, at, 1000))


def test_a_threshold_holds_while_the_feed_stays_as_it_is() -> None:
    at = published(WITH_RATE, 20_000)
    assert at.published_threshold is not None
    for points in (500, 2000, 5000):
        assert not threshold_outdated(WITH_RATE, learned(WITH_RATE, at, points))


def test_a_jump_makes_a_threshold_outdated() -> None:
    at = published(WITH_RATE, 20_000)
    assert not threshold_outdated(WITH_RATE, learned(WITH_RATE, at, 500, shift=3.0))
    assert threshold_outdated(WITH_RATE, learned(WITH_RATE, at, 1000, shift=3.0))


@pytest.mark.parametrize("anomaly", [None, Anomaly()])
def test_without_a_rate_there_is_no_threshold(anomaly: Anomaly | None) -> None:
    learner = replace(WITH_RATE, anomaly=anomaly)
    at = published(learner, 2000)
    assert at.published_threshold is None
    assert not threshold_outdated(learner, learned(learner, at, 2000, shift=30.0))
