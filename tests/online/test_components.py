"""Components that are born and die: who keeps which number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from streamclust import HalfLife, KMeans, StreamLearner
from streamclust.arrays import Labels
from streamclust.fitting.search import search_of
from streamclust.models.matching import predecessors
from streamclust.online.components import Components
from streamclust.online.state import LearnerState
from tests.support.strategies import blobs, family_of, laws

families = pytest.mark.parametrize("name", ["kmeans", "full"])
PLACES = 12.0 * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [4.0, 3.0], [9.0, 0.0]])
HALF_LIFE = 1000.0


def adapting(name: str) -> StreamLearner[Any]:
    return StreamLearner(family_of(name, 12, least=2), HalfLife(HALF_LIFE), warm_up=300)


def learn(
    learner: StreamLearner[Any], state: LearnerState[Any], which: list[int], points: int
) -> tuple[LearnerState[Any], set[int], set[int]]:
    """Learn points of some clusters; return the state, and who was born and who died."""
    X, _ = blobs(points // len(which), PLACES[which], seed=state.clock.steps)
    born: set[int] = set()
    died: set[int] = set()
    for batch in np.array_split(X, max(1, len(X) // 100)):
        state, info = learner.update(state, batch)
        born |= set(info.born)
        died |= set(info.died)
    return state, born, died


def places_of(state: LearnerState[Any]) -> dict[int, int]:
    """Each component's number -> the cluster that its mean is nearest to."""
    assert state.params is not None
    distances = np.linalg.norm(state.params.means[:, None] - PLACES, axis=2)
    assert distances.min(axis=1).max() < 3.0
    return dict(zip(state.ids.tolist(), distances.argmin(axis=1).tolist(), strict=True))


@families
def test_survivors_keep_their_numbers_and_none_is_given_twice(name: str) -> None:
    learner = adapting(name)
    state, _, died = learn(learner, learner.init(), [0, 1, 2, 3], 2000)
    at_first = places_of(state)
    assert sorted(at_first) == [0, 1, 2, 3]
    assert sorted(at_first.values()) == [0, 1, 2, 3]
    assert not died
    state, born, died = learn(learner, state, [0, 1, 2, 3, 4], 2000)
    assert (born, died) == ({4}, set())
    assert places_of(state) == {**at_first, 4: 4}
    gone = next(number for number, place in at_first.items() if place == 1)
    state, born, died = learn(learner, state, [0, 2, 3, 4], 2000)
    assert (born, died) == (set(), {gone})
    rest = {number: place for number, place in at_first.items() if number != gone}
    assert places_of(state) == {**rest, 4: 4}
    state, born, died = learn(learner, state, [0, 2, 3, 4, 5], 2000)
    assert (born, died) == ({5}, set())
    assert places_of(state) == {**rest, 4: 4, 5: 5}
    assert state.counts.resized == 3


def test_what_the_dead_had_is_forgotten() -> None:
    learner = adapting("kmeans")
    state, _, _ = learn(learner, learner.init(), [0, 1, 2, 3], 2000)
    state, _, died = learn(learner, state, [0, 2, 3], 1000)
    assert len(died) == 1
    assert np.linalg.norm(state.coreset.points.X - PLACES[1], axis=1).min() > 6.0
    assert state.stats is not None
    assert state.coreset.points.mass == pytest.approx(state.stats.weight.sum(), rel=1e-9)


def test_without_forgetting_nobody_dies() -> None:
    learner = StreamLearner(KMeans(12, min_clusters=2), warm_up=300)
    state, _, _ = learn(learner, learner.init(), [0, 1, 2, 3], 2000)
    state, born, died = learn(learner, state, [0], 6000)
    assert not born | died
    assert len(state.ids) == 4


def test_never_fewer_than_the_smallest_number_are_left() -> None:
    learner = StreamLearner(KMeans(12, min_clusters=3), HalfLife(HALF_LIFE), warm_up=300)
    state, _, _ = learn(learner, learner.init(), [0, 1, 2, 3], 2000)
    state, _, _ = learn(learner, state, [0], 4000)
    assert len(state.ids) == 3


@families
def test_a_refit_with_another_number_of_components_is_taken_over(name: str) -> None:
    learner = adapting(name)
    state, _, _ = learn(learner, learner.init(), [0, 1, 2, 3], 2000)
    before = places_of(state)
    X, _ = blobs(500, PLACES[[5, 3, 2, 0, 4]], seed=9)
    family = learner.family.with_components(5)
    params = search_of(family).init(X, np.ones(len(X)), np.random.default_rng(0))
    after = places_of(learner.adopt(state, params, family.e_step(params, X, np.ones(len(X)))))
    assert {n: p for n, p in after.items() if n < 4} == {n: p for n, p in before.items() if p != 1}
    assert {p for n, p in after.items() if n >= 4} == {4, 5}


def test_a_fixed_number_of_components_has_no_ids() -> None:
    state, _ = StreamLearner(KMeans(3), warm_up=30).update(LearnerState(), blobs(20, PLACES[:3])[0])
    assert len(state.components.ids) == len(state.components.recent) == 0
    assert state.ids.tolist() == [0, 1, 2]


def test_the_larger_part_of_a_component_goes_on() -> None:
    old, new = np.repeat([0, 1, 1], [50, 60, 40]), np.repeat([2, 0, 1], [50, 60, 40])
    assert predecessors(old, new, np.ones(150), (2, 3)).tolist() == [1, -1, 0]


def test_of_two_that_merge_the_heavier_goes_on() -> None:
    old, new = np.repeat([0, 1, 2], [50, 60, 40]), np.repeat([0, 0, 1], [50, 60, 40])
    assert predecessors(old, new, np.ones(150), (3, 2)).tolist() == [1, 2]


def test_who_has_no_points_of_the_old_ones_is_new() -> None:
    old, new = np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])
    assert predecessors(old, new, np.array([1.0, 1.0, 1.0, 0.0]), (2, 3)).tolist() == [0, -1, -1]


@laws
@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_another_order_is_recognised(K: int, random: Any) -> None:
    old: Labels = np.repeat(np.arange(K), 3)
    order = np.array(random.sample(range(K), K))
    found = predecessors(old, order[old], np.ones(3 * K), (K, K))
    assert_array_equal(found[order], np.arange(K))


def test_absence_takes_points_that_were_expected() -> None:
    weight = np.array([1000.0, 1000.0, 10.0])
    many, few = (Components(recent=n * np.array([100.0, 5.0, 0.0])) for n in (1.0, 0.1))
    assert many.starved(weight, 1.0, 0.1).tolist() == [False, True, False]
    assert not few.starved(weight, 1.0, 0.1).any()
