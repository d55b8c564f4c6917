"""Components that are born and die: who keeps which number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import HalfLife, KMeans, KMeansParams, StreamLearner
from streamclust.arrays import Labels
from streamclust.fitting.search import search_of
from streamclust.models.coreset import Coreset
from streamclust.models.matching import predecessors
from streamclust.models.stats import Stats
from streamclust.online.components import Components, inherit_ids, numbered_components, to_remove
from streamclust.online.state import LearnerState
from tests.support.strategies import blobs, family_of, laws

families = pytest.mark.parametrize("name", ["kmeans", "full"])
PLACES = 12.0 * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [4.0, 3.0], [9.0, 0.0]])
HALF_LIFE = 1000.0


def adapting(name: str, coreset: int | None = 800) -> StreamLearner[Any]:
    family = family_of(name, 8, least=2)
    return StreamLearner(family, HalfLife(HALF_LIFE), warm_up=300, coreset=coreset)


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
    learner = adapting("kmeans", coreset=None)  # it keeps all points
    state, _, _ = learn(learner, learner.init(), [0, 1, 2, 3], 2000)
    state, _, died = learn(learner, state, [0, 2, 3], 1000)
    assert len(died) == 1
    assert np.linalg.norm(state.coreset.points.X - PLACES[1], axis=1).min() > 6.0
    assert state.stats is not None
    assert state.coreset.points.mass == pytest.approx(state.stats.weight.sum(), rel=1e-9)


def test_without_forgetting_nobody_dies() -> None:
    learner = StreamLearner(KMeans(8, min_clusters=2), warm_up=300, coreset=800)
    state, _, _ = learn(learner, learner.init(), [0, 1, 2, 3], 2000)
    state, born, died = learn(learner, state, [0], 6000)
    assert not born | died
    assert len(state.ids) == 4


def test_never_fewer_than_the_smallest_number_are_left() -> None:
    family = KMeans(8, min_clusters=3)
    learner = StreamLearner(family, HalfLife(HALF_LIFE), warm_up=300, coreset=800)
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
    # and exactly 20 points are enough, and exactly the ratio is not too few
    equal = Components(recent=np.array([38.0, 2.0]))
    assert equal.starved(np.ones(2), 1.0, 0.11).tolist() == [False, True]
    assert equal.starved(np.ones(2), 1.0, 0.1).tolist() == [False, False]
    assert equal.starved(np.ones(2), 1.01, 0.11).tolist() == [False, False]


def of_weights(*weight: float) -> Stats:
    """Statistics of components of these masses, all at 0."""
    zero = np.zeros((len(weight), 1))
    return Stats(np.array(weight), zero, None, zero, None, 0.0, sum(weight))


def test_the_first_peak_of_a_component_that_a_pause_has_emptied_is_its_former_share() -> None:
    # Given shares of 1 / 4 and 3 / 4, and a step that leaves 0.05 points and 1.05 points
    components = Components().with_first_peak(of_weights(1.0, 3.0), of_weights(0.01, 1.0), 2.0)
    assert_allclose(components.peak, [0.25 * 1.01, 1.0])
    # and a hundredth of a point is not nothing
    components = Components().with_first_peak(of_weights(1.0, 3.0), of_weights(0.02, 1.0), 2.0)
    assert_array_equal(components.peak, [0.02, 1.0])
    # and peaks that are known stay, and no share is known of no points
    assert components.with_first_peak(of_weights(1.0, 3.0), of_weights(9.0, 9.0), 1.0) is components
    nothing = Components().with_first_peak(of_weights(0.0, 0.0), of_weights(0.0, 1.0), 1.0)
    assert_array_equal(nothing.peak, [0.0, 1.0])


def test_before_the_first_step_there_are_no_components() -> None:
    nothing = Components()
    sizes = [len(each) for each in (nothing.ids, nothing.recent, nothing.peak)]
    assert (sizes, nothing.next_id, nothing.peak_total) == ([0, 0, 0], 0, 0.0)


def test_a_peak_is_the_largest_mass_since_the_component_was_revived() -> None:
    before = Components(np.arange(3), 7, np.ones(3), np.array([5.0, 1.0, 5.0]), 10.0)
    after = before.with_peak(of_weights(2.0, 3.0, 2.0), revived=(2,))
    assert_array_equal(after.peak, [5.0, 3.0, 2.0])
    assert (after.peak_total, after.next_id) == (10.0, 7)
    assert after.with_peak(of_weights(9.0, 1.0, 1.0), ()).peak_total == 11.0
    assert_array_equal(before.peak, [5.0, 1.0, 5.0])


@pytest.mark.parametrize(("lam", "kept"), [(0.5, 2.0**-6), (1.0, 1.0), (1.5, 1.5)])
def test_recent_masses_decay_six_times_as_fast_but_grow_alike(lam: float, kept: float) -> None:
    found = Components(recent=np.array([8.0, 16.0])).with_recent(np.array([1.0, 2.0]), lam)
    assert_array_equal(found.recent, [1.0 + 8.0 * kept, 2.0 + 16.0 * kept])


def dying(
    weight: list[float], peak: list[float], peak_total: float, unit: float = 1.0
) -> list[Any]:
    """Which components have lost nearly all mass, at a ratio of 0.1."""
    found = Components(peak=np.array(peak), peak_total=peak_total)
    return list(found.dying(of_weights(*weight), unit, 0.1))


def test_a_component_dies_below_a_share_of_its_peak_in_proportion_to_the_total() -> None:
    assert dying([0.9, 99.1], [10.0, 90.0], 100.0) == [True, False]
    assert dying([1.0, 99.0], [10.0, 90.0], 100.0) == [False, False]
    # and where the total has halved, so has what is expected
    assert dying([0.6, 49.4], [10.0, 90.0], 100.0) == [False, False]
    assert dying([0.4, 49.6], [12.0, 90.0], 100.0) == [True, False]
    # and a total above its peak is its own peak
    assert dying([0.9, 199.1], [10.0, 90.0], 100.0) == [True, False]
    # and one that never had mass has none to lose
    assert dying([0.0, 9.0], [0.0, 9.0], 9.0) == [True, False]


def test_a_component_is_judged_after_five_points_were_expected_of_it() -> None:
    assert dying([0.5, 99.5], [5.1, 95.0], 100.0) == [True, False]
    assert dying([0.4, 99.6], [5.0, 95.0], 100.0) == [False, False]
    assert dying([0.5, 99.5], [5.1, 95.0], 100.0, unit=1.1) == [False, False]
    # or, if it has less than a hundredth of a point, after five for each component
    assert dying([0.009, 10.1], [1.0, 9.0], 10.0) == [True, False]
    assert dying([0.01, 10.1], [1.0, 9.0], 10.0) == [False, False]
    assert dying([0.009, 10.1], [1.0, 9.0], 10.0, unit=0.5) == [False, False]
    assert dying([0.0, 9.0], [1.0, 9.0], 10.0) == [False, False]
    assert dying([0.009, 9.99], [1.0, 9.0], 10.0) == [False, False]


def test_what_is_removed_takes_its_mass_from_the_peak_of_the_total() -> None:
    before = Components(np.array([3, 5, 8]), 9, np.array([1.0, 2.0, 3.0]), np.ones(3), 100.0)
    after = before.without(np.array([1]), np.array([10.0, 20.0, 30.0]))
    assert (after.ids.tolist(), after.recent.tolist(), after.peak.tolist()) == (
        [3, 8], [1.0, 3.0], [1.0, 1.0],
    )  # fmt: skip
    assert (after.next_id, after.peak_total) == (9, 80.0)


def test_the_lightest_of_the_dying_are_removed_first() -> None:
    gone, weight = np.array([True, False, True, True]), np.array([3.0, 0.5, 1.0, 2.0])
    for fewest, removed in ((1, [2, 3, 0]), (2, [2, 3]), (3, [2]), (4, []), (5, [])):
        assert to_remove(gone, weight, fewest).tolist() == removed


def test_new_components_come_last_with_their_share_of_the_recent_points() -> None:
    # Given components 4 and 6 at 0 and 10, and new ones at 30, 10 and 0
    family, known = KMeans(3), Components(np.array([4, 6]), 7, np.array([5.0, 15.0]))
    live, new = (KMeansParams(np.array(x)[:, None]) for x in ([0.0, 10.0], [30.0, 10.0, 0.0]))
    masses = of_weights(1.0, 3.0), of_weights(2.0, 1.0, 1.0)
    points = Coreset(np.array([[0.0], [10.0], [11.0], [30.0]]), np.array([1.0, 3.0, 1.0, 2.0]))
    order, found = inherit_ids(family, known, (live, masses[0]), (new, masses[1]), points)
    assert (order.tolist(), found.ids.tolist(), found.next_id) == ([2, 1, 0], [4, 6, 7], 8)
    assert_array_equal(found.recent, [5.0, 15.0, 0.5 * 20.0])
    # and without a coreset, the live means stand for their points
    live_stats = KMeans(2).prior_stats(live, 1.0)
    order, found = inherit_ids(family, known, (live, live_stats), (new, masses[1]), Coreset())
    assert (order.tolist(), found.ids.tolist()) == ([2, 1, 0], [4, 6, 7])
    # and first components have the numbers from 0 on
    start = numbered_components(2)
    assert (start.ids.tolist(), start.next_id, start.recent.tolist()) == ([0, 1], 2, [0.0, 0.0])


def test_a_point_counts_less_the_farther_it_is_from_the_new_mean() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        # Given live and new centroids among points, one of whose features is the same everywhere
        X, w = rng.normal(size=(12, 3)) * [0.3, 0.0, 5.0] + 7.0, rng.uniform(0.5, 2.0, 12)
        old, new = (X[rng.choice(12, K, replace=False)] for K in (3, 4))
        # When a point has the weight 1 / (1 + its mean squared deviation, features at equal spread)
        before, after = (((X[:, None] - m) ** 2).sum(axis=2).argmin(axis=1) for m in (old, new))
        square = (X - new[after]) ** 2
        average = np.average(square, axis=0, weights=w)
        average[1] = 1.0
        shares = w / (1.0 + (square / average).mean(axis=1))
        ancestor = predecessors(before, after, shares, (3, 4))
        # Then components continue their largest part, in the order of their numbers
        known, masses = Components(np.array([2, 5, 8]), 9, np.ones(3)), of_weights(1.0, 2.0, 3.0)
        live, coreset = (KMeansParams(old), masses), Coreset(X, w)
        fit = KMeansParams(new), of_weights(1.0, 2.0, 3.0, 4.0)
        order, found = inherit_ids(KMeans(4), known, live, fit, coreset)
        wanted = sorted((a, k) for k, a in enumerate(ancestor) if a >= 0)
        born = [k for k in range(4) if ancestor[k] < 0]
        assert order.tolist() == [k for _, k in wanted] + born
        numbers = [[2, 5, 8][a] for a, _ in wanted] + list(range(9, 9 + len(born)))
        assert found.ids.tolist() == numbers
        assert found.next_id == 9 + len(born)
