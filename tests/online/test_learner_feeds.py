"""Feeds as they come: in any units, with dull features, outliers, jumps and pauses."""

from __future__ import annotations

from functools import cache
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import HalfLife, HalfLifeTime, StreamLearner
from streamclust.arrays import Array
from streamclust.online.state import LearnerState
from tests.support.exhaustive import some
from tests.support.strategies import (
    COVARIANCE_TYPES,
    FAMILIES,
    blobs,
    family_of,
    laws,
    learn,
    running,
    same_partition,
)

CENTRES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
families = pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "tied", "full"))


def drifting() -> Array:
    X, _ = blobs(150, CENTRES)
    X[300:] += np.linspace(0.0, 5.0, 150)[:, None]
    return X


def learner_of(name: str) -> StreamLearner[Any]:
    family = family_of(name, 3)
    return StreamLearner(family, HalfLife(points=80.0), warm_up=90, n_init=1, coreset=90)


@cache
def as_it_is(name: str) -> LearnerState[Any]:
    """The state after the drifting points in their own units."""
    return learn(learner_of(name), drifting())[0]


@families
@pytest.mark.parametrize(
    ("scale", "shift", "tol"), [(1e-6, 0.0, 1e-9), (1e6, 0.0, 1e-9), (1.0, 1e8, 1e-6)]
)
def test_other_units_or_another_origin_change_nothing_but_units(
    name: str, scale: float, shift: float, tol: float
) -> None:
    X = drifting()
    moved = scale * X + shift
    here, there = as_it_is(name), learn(learner_of(name), moved)[0]
    learner = learner_of(name)
    assert here.params is not None
    assert there.params is not None
    assert_array_equal(
        learner.family.predict(there.params, moved), learner.family.predict(here.params, X)
    )
    assert_allclose(running(there).weight, running(here).weight, rtol=tol)
    assert_allclose((there.params.means - shift) / scale, here.params.means, rtol=tol, atol=tol)
    if name != "kmeans":
        covariances = there.params.covariances / scale**2
        assert_allclose(covariances, here.params.covariances, rtol=tol, atol=tol)


@families
def test_a_feature_that_never_varies_does_no_harm(name: str) -> None:
    X, owners = blobs(100, CENTRES)
    flat = np.column_stack([X, np.full(len(X), 1e6), np.zeros(len(X))])
    learner = StreamLearner(family_of(name, 3), HalfLife(points=60.0), warm_up=90)
    state, _ = learn(learner, flat)
    assert state.params is not None
    assert (state.params.means[:, 2:] == [1e6, 0.0]).all()
    assert same_partition(learner.family.predict(state.params, flat), owners)


@families
def test_a_feature_that_stands_still_for_ages_and_then_jumps_is_learned_again(name: str) -> None:
    # Its variance has faded to 1e-210 of what it was when it moves, and all densities underflow.
    rng = np.random.default_rng(0)
    places = np.tile([[0.0, 0.0], [30.0, 0.0]], (10, 1))
    learner = StreamLearner(family_of(name, 2), HalfLife(points=10.0), warm_up=20, coreset=0)
    state, _ = learner.update(learner.init(), places + rng.normal(size=(20, 2)))
    for _ in range(350):
        noise = rng.normal(size=(20, 2)) * [1.0, 0.0]
        state, _ = learner.update(state, places + noise)
    for _ in range(250):  # full covariances take their time to fall apart again
        state, info = learner.update(state, 5.0 + places + rng.normal(size=(20, 2)))
    assert state.params is not None
    assert info.loss is not None
    assert np.isfinite(info.loss)
    assert_allclose(np.sort(state.params.means[:, 0]), [5.0, 35.0], atol=1.5)
    assert_allclose(state.params.means[:, 1], 5.0, atol=1.5)


@families
def test_an_outlier_as_large_as_can_be_leaves_finite_parameters(name: str) -> None:
    X, _ = blobs(60, CENTRES)
    learner = StreamLearner(family_of(name, 3), HalfLife(points=50.0), warm_up=60)
    state, _ = learn(learner, X)
    state, info = learner.update(state, [[1e100, -1e100]])
    state, _ = learn(learner, X, state=state)
    assert info.loss is not None
    assert np.isfinite(info.loss)
    arrays = learner.family.to_arrays(state.params)
    assert all(np.isfinite(value).all() for value in arrays.values())


@given(seed=st.integers(0, 10**6), K=st.integers(2, 8), far=st.sampled_from([5.0, 100.0]))
@settings(laws, max_examples=8)
def test_when_the_data_jump_all_clusters_are_in_use_again(seed: int, K: int, far: float) -> None:
    rng = np.random.default_rng(seed)
    before, _ = blobs(60, 10.0 * rng.normal(size=(K, 2)), seed=seed, spread=0.5)
    after, _ = blobs(400, far + 10.0 * rng.normal(size=(K, 2)), seed=seed + 1, spread=0.5)
    learner = StreamLearner(family_of("kmeans", K), HalfLife(points=20.0 * K), warm_up=30 * K)
    state, _ = learn(learner, np.concatenate([before, after]), size=5 * K)
    labels = learner.family.predict(state.params, after)
    assert set(labels.tolist()) == set(range(K))


@pytest.mark.parametrize("kind", some(COVARIANCE_TYPES, "diag", "full"))
def test_when_the_data_jump_all_components_are_in_use_again(kind: str) -> None:
    before, _ = blobs(60, CENTRES)
    after, _ = blobs(400, CENTRES[::-1] * [2.0, -1.0] + 100.0)
    learner = StreamLearner(family_of(kind, 3), HalfLife(points=60.0), warm_up=90)
    state, told = learn(learner, np.concatenate([before, after]), size=15)
    assert state.counts.revived == sum(len(info.revived) for info in told) > 0
    assert state.params is not None
    assert state.params.weights.min() > 0.05
    assert (np.abs(state.params.means - 100.0) < 30.0).all()


@families
@pytest.mark.parametrize("size", [1, 30])
def test_a_pause_of_the_feed_kills_no_component(name: str, size: int) -> None:
    # Under a half-life in event time everything has faded when the feed goes on, but evenly.
    X, _ = blobs(60, CENTRES)
    learner = StreamLearner(family_of(name, 3), HalfLifeTime(seconds=60.0), warm_up=90)
    state, time_ms = learner.init(), 0.0
    for start in range(0, len(X), 30):
        state, _ = learner.update(state, X[start : start + 30], time_ms=time_ms)
        time_ms += 1000.0
    assert state.params is not None
    before = state.params.means
    state, info = learner.update(state, X[:size], time_ms=time_ms + 20 * 60_000.0)
    assert info.revived == ()
    assert state.params is not None
    assert_allclose(state.params.means, before, atol=3.0)
