"""Tail scores in the learner: scored before learned, decayed, and independent of the parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import GaussianMixture, HalfLife, KMeans, StreamLearner
from streamclust.arrays import Array
from streamclust.errors import DataError
from streamclust.models.feature_distribution import FeatureDistribution
from streamclust.online.drift import Drift
from streamclust.online.learner import LearnerState
from streamclust.online.scores import Anomaly
from tests.support.states import same

FAMILIES = [KMeans(3), GaussianMixture(3), KMeans(3, metric="cosine")]
TAILS = Anomaly(0.01, score="tail_score")


def batch(number: int, n: int = 250) -> Array:
    rng = np.random.default_rng(number)
    return np.asarray(rng.normal(10.0 * rng.integers(1, 4, (n, 1)), 1.0, (n, 2)))


def learned(learner: StreamLearner[Any], batches: int = 6) -> LearnerState[Any]:
    state = learner.init()
    for number in range(batches):
        state, _ = learner.update(state, batch(number))
    return state


def features_of(state: LearnerState[Any]) -> FeatureDistribution:
    assert state.feature_distribution is not None
    return state.feature_distribution


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_a_batch_is_scored_before_it_is_learned(family: Any) -> None:
    learner = StreamLearner(family, HalfLife(2000), warm_up=500, anomaly=TAILS)
    state, X, lam = learned(learner), batch(9), 2.0 ** (-250 / 2000)
    after, _ = learner.update(state, X)
    before, points = features_of(state), np.asarray(family.prepare(X))
    assert state.scores is not None
    assert same(after.scores, state.scores.observe(before.scores(points), np.ones(250), lam))
    assert same(after.feature_distribution, before.observe(points, np.ones(250), lam))
    mass = sum(2.0 ** (-250 * age / 2000) for age in range(5)) * 250 + 500 * lam**5
    assert_allclose(features_of(after).total, mass)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_the_distribution_of_features_changes_nothing_else(family: Any) -> None:
    learner = StreamLearner(family, HalfLife(2000), warm_up=500)
    without, state = learned(learner), learned(replace(learner, anomaly=TAILS))
    assert without.feature_distribution is None
    assert learner.feature_distribution(without) is None
    assert same(replace(state, scores=None, feature_distribution=None), without)
    alone = learned(replace(learner, tail_scores=True))
    assert alone.scores is None
    assert same(alone.feature_distribution, state.feature_distribution)


@pytest.mark.parametrize("rate", [0.03, 0.01])
def test_the_share_of_flagged_points_is_the_rate(rate: float) -> None:
    rng = np.random.default_rng(0)
    learner = StreamLearner(KMeans(1), HalfLife(10_000), coreset=0, anomaly=TAILS)
    state, flagged = learner.init(), []
    for _ in range(60):
        X = rng.exponential(size=(1000, 4))
        known = learner.score_distribution(state)
        if known is not None:
            flagged.append(features_of(state).scores(X) > known.threshold(rate))
        state, _ = learner.update(state, X)
    assert np.mean(flagged) == pytest.approx(rate, rel=0.15)


@pytest.mark.parametrize("scale", ["none", "standard", "robust"])
def test_the_distribution_in_the_original_units_gives_the_same_scores(scale: Any) -> None:
    learner = StreamLearner(GaussianMixture(3), warm_up=500, scale=scale, anomaly=TAILS)
    state, X = learned(learner), batch(9)
    found = learner.feature_distribution(state)
    assert found is not None
    points = X if state.scaling is None else state.scaling.apply(X)
    assert_array_equal(found.scores(X), features_of(state).scores(points))
    assert_allclose(found.medians, np.median(X, axis=0), atol=2.0)
    known = learner.score_distribution(state)
    assert known is not None
    assert np.mean(found.scores(X) > known.threshold(0.1)) == pytest.approx(0.1, abs=0.06)


@pytest.mark.parametrize("start", ["given parameters", "an older state"])
def test_a_learner_without_a_distribution_starts_one(start: str) -> None:
    learner = StreamLearner(KMeans(3), warm_up=500, anomaly=TAILS)
    before = learned(replace(learner, anomaly=Anomaly(0.01)))
    state = learner.init(before.params) if start == "given parameters" else before
    assert learner.score_distribution(state) is None
    state, _ = learner.update(state, batch(7))
    assert_array_equal(features_of(state).total, 250.0)
    assert state.scores is not None
    assert (state.scores.score, state.scores.usual.total) == ("tail_score", 250.0)
    known = learner.score_distribution(state)
    assert known is not None
    # and without the settings, it ends
    state, _ = replace(learner, anomaly=None, tail_scores=False).update(state, batch(8))
    assert (state.scores, state.feature_distribution) == (None, None)


def test_flagged_points_are_not_learned_if_the_setting_says_so() -> None:
    anomaly = replace(TAILS, learn_flagged=False)
    learner = StreamLearner(KMeans(3), warm_up=500, anomaly=anomaly)
    state, X = learned(learner), batch(9)
    X[:3] = 1e4
    after, _ = learner.update(state, X)
    gained = features_of(after).total - features_of(state).total
    assert (gained <= 247.0).all()
    assert (gained > 230.0).all()
    assert after.scores is not None
    assert state.scores is not None
    assert after.scores.usual.total == state.scores.usual.total + 250.0
    # a batch of flagged points alone changes no distribution of features
    alone, _ = learner.update(state, np.full((5, 2), 1e4))
    assert same(alone.feature_distribution, state.feature_distribution)


def test_a_drift_forgets_the_distribution_of_features_too() -> None:
    drift = Drift(on_drift="forget")
    learner = StreamLearner(KMeans(3), HalfLife(5000), drift=drift, anomaly=TAILS)
    state, drifted, number = learned(learner, 40), False, 40
    before = features_of(state).total
    while not drifted and number < 80:
        state, info = learner.update(state, batch(number) + 100.0)
        drifted, number = info.drifted, number + 1
    assert drifted
    assert (features_of(state).total < 0.2 * before).all()
    assert state.scores is not None
    assert state.scores.usual.is_empty


def test_new_parameters_change_no_remembered_tail_score() -> None:
    learner = StreamLearner(KMeans(3), warm_up=500, anomaly=TAILS)
    state = learned(learner)
    assert state.params is not None
    assert state.stats is not None
    after = learner.adopt(state, state.params, state.stats)
    assert same(after.scores, state.scores)
    assert same(after.feature_distribution, state.feature_distribution)


def test_points_with_gaps_are_learned_by_their_values() -> None:
    family = GaussianMixture(2, missing="learn")
    learner = StreamLearner(family, warm_up=500, anomaly=TAILS)
    state, X = learned(learner), batch(9)
    X[::2, 0] = np.nan
    after, _ = learner.update(state, X)
    assert_array_equal(features_of(after).total - features_of(state).total, [125.0, 250.0])


def test_too_many_features_are_refused() -> None:
    learner = StreamLearner(KMeans(2), tail_scores=True)
    with pytest.raises(DataError, match=r"1,001 features; .* limit is 1,000 .* use another score"):
        learner.update(learner.init(), np.zeros((2, 1001)))


@pytest.mark.parametrize("score", ["tail", None, 1])
def test_an_unknown_score_is_refused(score: Any) -> None:
    with pytest.raises(DataError, match="expected model, tail_score"):
        Anomaly(0.1, score=score)
