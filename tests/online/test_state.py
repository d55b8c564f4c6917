"""The parts of a learner's state: clock, counts, warm-up, forgetting."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamclust import KMeans, StreamLearner
from streamclust.online.forgetting import Fall, ForgettingState
from streamclust.online.state import Clock, Counts, LearnerState, WarmUp


def test_an_older_batch_does_not_turn_the_clock_back() -> None:
    clock = Clock().advance(3, 5000.0, steps=1).advance(2, 4000.0, steps=1, held=2.0)
    assert clock == Clock(steps=2, points=5, held=2.0, time_ms=5000.0)
    assert clock.advance(1, None).time_ms == 5000.0


def test_no_time_passes_before_the_first_batch_with_a_time() -> None:
    clock = Clock(time_ms=2000.0)
    assert [Clock().elapsed(5000.0), Clock().elapsed(None), clock.elapsed(None)] == [
        0.0,
        None,
        None,
    ]
    assert clock.elapsed(5000.0) == 3000.0


def test_counts_grow_by_what_happened_in_a_step() -> None:
    quiet = Counts(reclustered=4)
    assert quiet.add(drifted=False, revived=0) is quiet
    assert quiet.add(drifted=True, revived=2) == Counts(drifts=1, revived=2, reclustered=4)
    assert quiet.add(drifted=True, revived=0) == Counts(drifts=1, reclustered=4)
    assert quiet.add(drifted=False, revived=3) == Counts(revived=3, reclustered=4)


def test_a_warm_up_gathers_points_in_order_and_does_not_change_the_batch() -> None:
    batch = np.array([[1.0], [2.0]], np.float32)
    warm_up = WarmUp().add(batch, np.ones(2)).add(np.array([[3.0]]), np.array([0.5]))
    assert warm_up.X.tolist() == [[1.0], [2.0], [3.0]]
    assert warm_up.w.tolist() == [1.0, 1.0, 0.5]
    assert len(warm_up) == 3


def test_a_fall_of_the_mass_is_noted_and_a_rounding_is_none() -> None:
    state = ForgettingState().fall(100, 0.25, drifted=True).fall(120, 1.0 - 1e-12)
    assert state == ForgettingState(0.0, (Fall(100, 0.25, drifted=True),), 1)
    assert state.forget(0.75, 200.0).weight == 50.0
    assert state.forget(1.5, 200.0) is state


def test_only_the_newest_falls_are_stored_but_all_are_counted() -> None:
    state = ForgettingState()
    for number in range(100):
        state = state.fall(number, 0.5)
    assert state.n_falls == 100
    assert [fall.points for fall in state.falls] == list(range(36, 100))


def test_a_state_with_less_mass_than_the_one_before_notes_the_share() -> None:
    def of_mass(*weights: float) -> LearnerState[Any]:
        family, w = KMeans(1), np.array(weights)
        params = family.from_arrays({"centroids": np.zeros((1, 1))})
        stats = family.e_step(params, np.ones((len(w), 1)), w) if len(w) else None
        return LearnerState(stats=stats, clock=Clock(points=7))

    found = of_mass(3.0).fallen_from(of_mass(12.0))
    assert found.forgetting == ForgettingState(0.0, (Fall(7, 0.25),), 1)
    for before in (of_mass(3.0), of_mass(0.0), of_mass()):
        assert of_mass(3.0).fallen_from(before).forgetting == ForgettingState()
    assert of_mass().fallen_from(of_mass(3.0)).forgetting == ForgettingState()


def test_components_have_ids_also_where_k_is_fixed() -> None:
    learner = StreamLearner(KMeans(3), warm_up=10)
    state = learner.init()
    assert state.ids.tolist() == []
    assert repr(state) == "LearnerState(phase='warming', points=0)"
    state, _ = learner.update(state, np.arange(20.0)[:, None])
    assert state.ids.tolist() == [0, 1, 2]
    assert len(state.components.ids) == 0
    assert repr(state) == "LearnerState(K=3, D=1, points=20, steps=0)"
