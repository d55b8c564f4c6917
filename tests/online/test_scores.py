"""The memory of scores: filled before a batch is learned, and correct again soon after a jump."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import (
    Anomaly,
    Drift,
    GaussianMixture,
    HalfLife,
    KMeans,
    StreamLearner,
    fit,
    kernels,
)
from streamclust.arrays import Array
from streamclust.engine.batch_step import on_engine
from streamclust.engine.threads import Threads
from streamclust.errors import DataError
from streamclust.models.family import Wanted
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.models.scores import anomaly_score
from streamclust.online.learner import LearnerState
from streamclust.online.scores import ScoreMemory
from tests.support.gaps import with_gaps
from tests.support.states import same

FAMILIES: list[Any] = [
    KMeans(3),
    KMeans(3, metric="cosine"),
    GaussianMixture(3),
    GaussianMixture(3, "diag"),
]
families = pytest.mark.parametrize("family", FAMILIES, ids=["kmeans", "cosine", "full", "diag"])
PLACES = np.array([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])


def batch(number: int, n: int = 250, seed: int = 0) -> Array:
    """Return points of three blobs."""
    rng = np.random.default_rng((seed, number))
    return np.asarray(PLACES[rng.integers(0, 3, n)] + rng.normal(size=(n, 3)))


def learned(learner: StreamLearner[Any], batches: int = 10) -> LearnerState[Any]:
    state = learner.init()
    for number in range(batches):
        state, _ = learner.update(state, batch(number), time_ms=1000.0 * number)
    return state


@families
def test_a_batch_is_scored_before_it_is_learned(family: Any) -> None:
    learner = StreamLearner(family, HalfLife(2000), warm_up=500, anomaly=Anomaly())
    state = learned(learner, 2)
    assert state.params is not None
    assert state.scores is not None
    X = batch(2)
    after, _ = learner.update(state, X)
    points = family.prepare(X)
    scores = family.batch_step(state.params, points, np.ones(250), Wanted(scores=True)).scores
    assert_allclose(scores, anomaly_score(family, state.params, points), rtol=1e-10)
    assert after.scores is not None
    assert same(after.scores, state.scores.observe(scores, np.ones(250), 2.0 ** (-250 / 2000)))


@pytest.mark.parametrize("missing", ["reject", "learn"])
@pytest.mark.parametrize("anomaly", [Anomaly(), Anomaly(0.5, learn_flagged=False)])
def test_the_densities_of_a_batch_are_computed_in_its_e_step_alone(
    missing: Any, anomaly: Anomaly, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = GaussianMixture(3, missing=missing)
    learner = StreamLearner(family, HalfLife(2000), warm_up=500, anomaly=anomaly)
    state = learned(learner, 2)
    for name in ("log_gaussians", "marginal_log_gaussians", "marginal_log_dets"):
        monkeypatch.delattr(kernels, name)
    X = batch(2)
    if missing == "learn":
        X = with_gaps(X, 0.3)
    after, _ = learner.update(state, X)
    assert after.scores is not None
    assert state.scores is not None
    assert after.scores.usual.total > state.scores.usual.total


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("outliers", [0.0, 0.05])
def test_scores_of_an_e_step_are_those_of_the_points(kind: Any, outliers: float) -> None:
    X, w = batch(0, 400), np.ones(400)
    X[::50] += 100.0
    for missing, points in (("reject", X), ("learn", X), ("learn", with_gaps(X, 0.3))):
        family = GaussianMixture(3, kind, missing=missing, outliers=outliers)
        params = fit(GaussianMixture(3, kind), batch(1)).params
        found = family.batch_step(params, points, w, Wanted(scores=True))
        wanted = anomaly_score(family, params, points)
        assert_allclose(found.scores, wanted, rtol=1e-9, atol=1e-9)
        plain = family.batch_step(params, points, w, Wanted(scores=False))
        assert plain.scores is None
        assert same(plain.stats, found.stats)
        loss = family.comparable_loss(plain.stats, params, points, w)
        if outliers == 0.0:
            other = family.loss(plain.stats) + plain.entropy / 400
            assert other == pytest.approx(loss, rel=1e-9)


@families
def test_a_memory_of_scores_changes_nothing_else(family: Any) -> None:
    learner = StreamLearner(family, HalfLife(2000), warm_up=500)
    without, state = learned(learner), learned(replace(learner, anomaly=Anomaly(0.01)))
    assert without.scores is None
    assert learner.score_distribution(without) is None
    assert same(replace(state, scores=None), without)


def test_the_scores_decay_like_the_statistics() -> None:
    learner = StreamLearner(KMeans(3), HalfLife(600), warm_up=500, anomaly=Anomaly())
    state = learned(learner, 2)
    assert state.scores is not None
    mass = state.scores.usual.total
    assert mass == 500
    for number in range(2, 30):
        state, _ = learner.update(state, batch(number))
        mass = mass * 2.0 ** (-250 / 600) + 250
    assert state.scores is not None
    assert_allclose(state.scores.usual.total, mass)
    assert state.scores.recent.total < mass


def test_weighted_points_have_their_weight_in_the_distribution() -> None:
    learner = StreamLearner(KMeans(3), warm_up=500, anomaly=Anomaly())
    state = learned(learner, 2)
    w = np.random.default_rng(0).choice([0.0, 0.5, 3.0], 250)
    assert state.scores is not None
    after, _ = learner.update(state, batch(2), w)
    assert after.scores is not None
    assert after.scores.usual.total - state.scores.usual.total == w.sum()
    assert after.scores.usual.square - state.scores.usual.square == w @ w


@families
def test_the_bits_do_not_depend_on_threads(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamclust.online.batch_parts.COSTLY", 1)
    monkeypatch.setattr("streamclust.online.batch_parts._PART", 1000)
    learner = StreamLearner(family, HalfLife(2000), warm_up=500, anomaly=Anomaly(0.01))
    alone = learned(learner)
    with Threads(3) as engine:
        assert same(learned(replace(learner, each_part=on_engine(engine))), alone)


@pytest.mark.parametrize("family", [KMeans(3), GaussianMixture(3)], ids=["kmeans", "full"])
@pytest.mark.parametrize("scale", ["none", "standard"])
def test_the_distribution_is_of_scores_under_the_published_parameters(
    family: Any, scale: Any
) -> None:
    learner = StreamLearner(family, warm_up=500, scale=scale, anomaly=Anomaly())
    state = learned(learner, 60)
    known = learner.score_distribution(state)
    assert known is not None
    X = np.concatenate([batch(number, seed=1) for number in range(80)])
    scores = anomaly_score(family, learner.in_units(state), X)
    assert 0.007 < float(np.mean(scores > known.threshold(0.01))) < 0.013


@pytest.mark.parametrize("family", [KMeans(3), GaussianMixture(3)], ids=["kmeans", "full"])
def test_a_power_of_two_scales_the_scores_and_changes_no_quantile(family: Any) -> None:
    learner = StreamLearner(family, HalfLife(2000), warm_up=500, anomaly=Anomaly())
    state = other = learner.init()
    for number in range(10):
        state, _ = learner.update(state, batch(number))
        other, _ = learner.update(other, 1024.0 * batch(number))
    assert state.scores is not None
    assert other.scores is not None
    found, scaled = state.scores.current, other.scores.current
    threshold = found.threshold(0.01)
    expected = threshold + 3 * np.log(1024.0)
    if family.kind == "kmeans":
        expected = 2.0**20 * threshold
        assert_array_equal(found.mass, scaled.mass)
    assert_allclose(scaled.threshold(0.01), expected, rtol=1e-9)


def rates_after_a_jump(
    learner: StreamLearner[Any], rate: float, half_lives: int, by: float
) -> list[float]:
    """Return the shares of flagged points in each half-life of 20,000 points after a jump."""
    rng = np.random.default_rng(3)
    state, shares = learner.init(), []
    for half_life in range(-3, half_lives):
        flagged = 0
        for number in range(40):
            X = batch(number, 500, seed=half_life + 10) + (by if half_life >= 0 else 0.0)
            X = X + 0.1 * rng.normal(size=X.shape)
            if state.params is not None and state.scores is not None:
                scores = anomaly_score(learner.family, state.params, X)
                flagged += int(np.sum(scores > state.scores.current.threshold(rate)))
            state, _ = learner.update(state, X)
        shares.append(flagged / 20_000)
    return shares


@pytest.mark.parametrize(
    "family", [KMeans(3), GaussianMixture(3)], ids=["kmeans", "gaussian_mixture"]
)
@pytest.mark.parametrize("drift", [None, Drift(on_drift="forget")], ids=["none", "forget"])
def test_the_rate_holds_before_a_jump_and_again_after_two_half_lives(
    family: Any, drift: Drift | None
) -> None:
    learner = StreamLearner(family, HalfLife(20_000), drift=drift, anomaly=Anomaly())
    shares = rates_after_a_jump(learner, 0.01, 4, by=5.0)
    assert 0.008 < shares[1] < 0.012
    assert 0.008 < shares[2] < 0.012
    assert shares[3] > 0.012  # the jump
    assert 0.008 < shares[-1] < 0.012


def test_recent_scores_replace_the_others_after_a_jump() -> None:
    rng = np.random.default_rng(0)
    memory, w, lam = ScoreMemory(), np.ones(1000), 2.0**-0.01
    for _ in range(200):
        memory = memory.observe(rng.exponential(size=1000), w, lam)
    assert memory.current is memory.usual
    for _ in range(30):
        memory = memory.observe(10.0 + rng.exponential(size=1000), w, lam)
    assert memory.current.total < 40_000
    assert_allclose(memory.current.threshold(0.01), 10.0 - np.log(0.01), rtol=0.05)


def test_a_burst_of_anomalies_does_not_become_usual_at_once() -> None:
    rng = np.random.default_rng(0)
    memory, w, lam = ScoreMemory(), np.ones(1000), 2.0**-0.01
    for number in range(200):
        scores = rng.exponential(size=1000)
        if number >= 197:
            scores[:10] = 100.0
        memory = memory.observe(scores, w, lam)
    assert memory.current is memory.usual
    assert memory.current.threshold(1e-3) < 50.0


def test_scores_without_forgetting_follow_a_jump_too() -> None:
    rng = np.random.default_rng(0)
    memory, w = ScoreMemory(), np.ones(5000)
    for _ in range(100):
        memory = memory.observe(rng.exponential(size=5000), w, 1.0)
    for _ in range(60):
        memory = memory.observe(10.0 + rng.exponential(size=5000), w, 1.0)
    assert_allclose(memory.current.threshold(0.01), 10.0 - np.log(0.01), rtol=0.05)


@pytest.mark.parametrize("family", [KMeans(3), GaussianMixture(3)], ids=["kmeans", "full"])
def test_after_a_refit_the_scores_are_those_of_the_coreset(family: Any) -> None:
    learner = StreamLearner(family, warm_up=500, anomaly=Anomaly())
    state = learned(learner, 20)
    means = state.params.means + 1.0  # type: ignore[union-attr]
    params = family.from_arrays(
        {
            **family.to_arrays(state.params),
            "centroids" if family.kind == "kmeans" else "means": means,
        }
    )
    core = state.coreset.points
    after = learner.adopt(state, params, family.e_step(params, core.X, core.w))
    assert after.params is not None
    assert after.scores is not None
    expected = ScoreDistribution().add(anomaly_score(family, after.params, core.X), core.w)
    assert same(after.scores.usual, expected)
    assert after.scores.current.threshold(0.01) > state.scores.current.threshold(0.01)  # type: ignore[union-attr]


def test_after_a_drift_that_forgets_the_scores_start_again_in_the_same_bins() -> None:
    drift = Drift(on_drift="forget")
    learner = StreamLearner(KMeans(3), HalfLife(5000), drift=drift, anomaly=Anomaly())
    state, drifted, number = learned(learner, 40), False, 40
    while not drifted and number < 80:
        state, info = learner.update(state, batch(number) + 30.0)
        drifted, number = info.drifted, number + 1
    assert drifted
    assert state.scores is not None
    assert state.scores.usual.is_empty
    assert state.scores.current.threshold(0.1) == np.inf
    after, _ = learner.update(state, batch(number)[:3] + 30.0)
    assert after.scores is not None
    assert (after.scores.usual.total, after.scores.usual.unit) == (3, state.scores.usual.unit)


def test_without_a_coreset_a_refit_keeps_the_scores() -> None:
    learner = StreamLearner(KMeans(3), warm_up=500, coreset=0, anomaly=Anomaly())
    state = learned(learner, 20)
    assert state.params is not None
    assert state.stats is not None
    assert state.scores is not None
    after = learner.adopt(state, state.params, state.stats)
    assert after.scores is not None
    assert after.scores.usual is state.scores.usual


# ---- flagged points that aren't learned


def with_outliers(learner: StreamLearner[Any], batches: int = 60) -> LearnerState[Any]:
    """Learn three blobs with one far point per batch."""
    state = learner.init()
    for number in range(batches):
        X = batch(number)
        if number >= 20:
            X[7] = [300.0, 300.0, 300.0]
        state, _ = learner.update(state, X)
    return state


@pytest.mark.parametrize("family", [KMeans(4), GaussianMixture(4)], ids=["kmeans", "full"])
def test_flagged_points_are_not_learned_if_so_wished(family: Any) -> None:
    learner = StreamLearner(family, HalfLife(5000), anomaly=Anomaly(0.01))
    assert np.abs(with_outliers(learner).params.means).max() > 100.0  # type: ignore[union-attr]
    without = replace(learner, anomaly=Anomaly(0.01, learn_flagged=False))
    state = with_outliers(without)
    assert np.abs(state.params.means).max() < 20.0  # type: ignore[union-attr]
    assert state.points == 60 * 250
    assert np.abs(state.coreset.points.X).max() < 30.0


def test_a_batch_of_flagged_points_changes_only_scores_and_the_clock() -> None:
    anomaly = Anomaly(0.01, learn_flagged=False)
    learner = StreamLearner(KMeans(3), warm_up=500, anomaly=anomaly)
    state = learned(learner)
    after, info = learner.update(state, np.full((3, 3), 500.0))
    assert (info.phase, info.points, info.loss) == ("learning", 3, None)
    assert after.points == state.points + 3
    assert after.scores is not None
    assert state.scores is not None
    assert after.scores.usual.total == state.scores.usual.total + 3
    unchanged = replace(after, scores=state.scores, clock=state.clock)
    assert same(unchanged, state)


def test_points_of_a_new_place_are_learned_once_they_are_more_than_the_rate() -> None:
    anomaly = Anomaly(0.01, learn_flagged=False)
    learner = StreamLearner(KMeans(3), HalfLife(3000), warm_up=500, anomaly=anomaly)
    state = learned(learner)
    for number in range(40):
        state, _ = learner.update(state, batch(number) + 40.0)
    assert state.params is not None
    assert np.sort(state.params.means.min(axis=1))[1] > 30.0  # one has no points


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0.0},
        {"rate": 1.0},
        {"rate": -0.1},
        {"rate": "0.1"},
        {"rate": float("nan")},
        {"learn_flagged": False},
        {"rate": 0.1, "learn_flagged": 1},
    ],
    ids=str,
)
def test_wrong_hyperparameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"rate|learn_flagged"):
        Anomaly(**wrong)


def test_a_learner_takes_an_anomaly_only() -> None:
    with pytest.raises(DataError, match="expected an Anomaly or None"):
        StreamLearner(KMeans(3), anomaly=0.01)  # type: ignore[arg-type]
