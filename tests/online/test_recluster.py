"""When a fit of the coreset starts, and when its answer is due."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamclust import Drift, Forgetting, KMeans, PowerSchedule
from streamclust.models.coreset import Coreset, CoresetState
from streamclust.online.coreset_fit import Pending, Problem, ReclusterState
from streamclust.online.recluster import ReclusterPolicy
from streamclust.online.state import Clock, LearnerState

FAMILY = KMeans(1)
X = np.arange(4.0)[:, None]
W = np.array([1.0, 2.0])
"""Weights of a batch: 1,000 points of the model are two thirds as many of the stream."""


def policy(**changes: Any) -> ReclusterPolicy[Any]:
    settings: dict[str, Any] = {
        **{"family": FAMILY, "forgetting": Forgetting(), "drift": None, "size": 50},
        **{"warm_up_points": 100, "restarts": 1, "reseeds": 1, "seed": 9},
    }
    return ReclusterPolicy(**{**settings, **changes})


def state(learned: int, excess_loss: float = 0.0, core: float = 1000.0) -> LearnerState[Any]:
    """Return a state of 1,000 points, which is fitted again after 400 points."""
    params = FAMILY.from_arrays({"centroids": np.array([[1.0]])})
    return LearnerState(
        params=params,
        stats=FAMILY.e_step(params, X, np.full(4, 250.0)),
        clock=Clock(steps=70, points=7000),
        coreset=CoresetState(core=Coreset(X, np.full(4, core / 4))),
        recluster=ReclusterState(learned, 400.0, 3.0, excess_loss),
    )


@pytest.mark.parametrize(
    ("before", "changes", "due"),
    [
        (state(400), {}, 7067),
        (state(399), {}, None),
        (state(400, core=500.0), {}, 7067),
        (state(400, core=499.0), {}, None),
        (state(400), {"size": 666}, 7067),
        (state(400), {"size": 667}, 7000),
        (state(400), {"forgetting": PowerSchedule(0.7, average=True)}, None),
        (state(51, 50.1), {}, 7000),
        (state(50, 50.1), {}, None),
        (state(51, 50.0), {}, None),
        (state(51, 50.1), {"drift": Drift()}, None),
    ],
)
def test_a_fit_starts_after_enough_points_or_a_rise_of_the_loss(
    before: LearnerState[Any], changes: dict[str, Any], due: int | None
) -> None:
    after = policy(**changes)._start_fit(before, W)
    if due is None:
        assert after is before
        return
    found = after.recluster
    assert (found.learned, found.excess_loss) == (0, 0.0)
    assert (found.interval, found.solved_loss) == (400.0, 3.0)
    assert found.pending is not None
    assert found.pending.due == due
    assert found.pending.problem.seed == (9, 70, 2)
    assert found.pending.problem.live is before.params


def test_only_a_rise_of_the_loss_starts_a_fit_while_another_is_pending() -> None:
    for before, restarts in ((state(400), False), (state(400, 51.0), True)):
        pending: Pending[Any] = Pending(9000, Problem(before.params, before.coreset.points, (1,)))
        waiting = replace(before, recluster=replace(before.recluster, pending=pending))
        after = policy()._start_fit(waiting, W)
        assert (after.recluster.pending is not pending) == restarts


def test_a_fit_waits_for_half_of_the_points_or_half_of_a_warm_up() -> None:
    assert [policy().interval(points) for points in (1000.0, 10.0)] == [500.0, 50.0]


def test_no_coreset_is_stored_if_none_is_wanted() -> None:
    assert [policy(size=size).has_coreset(1) for size in (None, 1, 0)] == [True, True, False]
    stored, nothing = state(0).coreset, CoresetState()
    for before in (stored, nothing):
        after = policy(size=0).remember(before, X, np.ones(4), None, FAMILY.e_step(
            FAMILY.from_arrays({"centroids": np.ones((1, 1))}), X, np.ones(4)), 1)  # fmt: skip
        assert after.is_empty
        assert (after is before) == (before is nothing)
