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
from streamclust.models.coreset import Coreset, CoresetState
from streamclust.models.family import StepOutputs
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.models.scores import anomaly_score
from streamclust.online.learner import LearnerState
from streamclust.online.rules import rules_of
from streamclust.online.scores import ScoreMemory, carried, cross_fitted, rebuilt
from tests.support.exhaustive import combinations, some
from tests.support.gaps import with_gaps
from tests.support.states import same
from tests.support.strategies import COVARIANCE_TYPES

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
    scores = family.batch_step(state.params, points, np.ones(250), StepOutputs(scores=True)).scores
    assert_allclose(scores, anomaly_score(family, state.params, points), rtol=1e-10)
    assert after.scores is not None
    observed = state.scores.observe(scores, np.ones(250), 2.0 ** (-250 / 2000))
    moved = carried(observed, family, state.params, after.params, state.coreset)
    assert same(after.scores, moved)
    assert_array_equal(after.scores.usual.mass, observed.usual.mass)


@pytest.mark.parametrize("missing", ["reject", "learn"])
@pytest.mark.parametrize("anomaly", [Anomaly(), Anomaly(0.5, learn_flagged=False)])
def test_the_densities_of_a_batch_are_computed_in_its_e_step_alone(
    missing: Any, anomaly: Anomaly, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = GaussianMixture(3, missing=missing)
    learner = StreamLearner(family, HalfLife(2000), warm_up=500, anomaly=anomaly, coreset=0)
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
    cases: list[tuple[Any, Array]] = [("reject", X), ("learn", X), ("learn", with_gaps(X, 0.3))]
    for missing, points in cases:
        family = GaussianMixture(3, kind, missing=missing, outliers=outliers)
        params = fit(GaussianMixture(3, kind), batch(1)).params
        found = family.batch_step(params, points, w, StepOutputs(scores=True))
        assert found.scores is not None
        wanted = anomaly_score(family, params, points)
        assert_allclose(found.scores, wanted, rtol=1e-9, atol=1e-9)
        plain = family.batch_step(params, points, w, StepOutputs(scores=False))
        assert plain.scores is None
        assert same(plain.stats, found.stats)
        loss = rules_of(family).comparable_loss(plain.stats, params, points, w)
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
    found, scaled = state.scores.usual, other.scores.usual
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
                flagged += int(np.sum(scores > state.scores.usual.threshold(rate)))
            state, _ = learner.update(state, X)
        shares.append(flagged / 20_000)
    return shares


@pytest.mark.parametrize(
    ("family", "drift"),
    combinations(
        [KMeans(3), GaussianMixture(3)],
        [None, Drift(on_drift="forget")],
        always=lambda family, drift: (drift is None) == (family == KMeans(3)),
    ),
)
def test_the_rate_holds_before_a_jump_and_again_after_two_half_lives(
    family: Any, drift: Drift | None
) -> None:
    learner = StreamLearner(family, HalfLife(20_000), drift=drift, anomaly=Anomaly())
    shares = rates_after_a_jump(learner, 0.01, 4, by=5.0)
    assert 0.008 < shares[1] < 0.012
    assert 0.008 < shares[2] < 0.012
    assert shares[3] > 0.012  # the jump
    assert 0.008 < shares[-1] < 0.012


@pytest.mark.parametrize("jump", [1.0, 0.5, 1.5])
def test_the_rate_holds_in_1_000_000_scores_and_after_a_jump_from_two_half_lives_on(
    jump: float,
) -> None:
    """The shares are exact, because the distribution is known: P(s > t) = exp(-t / scale)."""
    rng, rates = np.random.default_rng(0), np.array([1e-2, 1e-3, 1e-4])
    memory, w, half_life, shares = ScoreMemory(), np.ones(2000), 40_000, []
    for number in range(500):
        scale = 1.0 if number < 250 else jump
        shares.append(np.exp(-memory.usual.thresholds(rates) / scale) / rates)
        memory = memory.observe(scale * rng.exponential(size=2000), w, 2.0 ** (-2000 / half_life))
    for start, end in ((20, 250), (290, 500)):
        mean = np.mean(shares[start:end], axis=0)
        assert (np.abs(mean - 1.0) < [0.1, 0.1, 0.25]).all()


@pytest.mark.parametrize(
    ("places", "rate"),
    [
        # no score in the tail any more: the rate 1/10 says it most clearly
        ({"low": 1.0}, 0.1),
        # more scores between the thresholds of 0.03 and 0.003
        ({"low": 0.86, "above 0.1": 0.02, "above 0.03": 0.12}, 0.027),
        # most scores have moved
        ({"low": 0.8, "above 0.1": 0.2}, 0.1),
        # a burst of far anomalies is no difference, nor a share above 0.1 that isn't above 1/8
        ({"low": 0.895, "above 0.1": 0.055, "far": 0.05}, None),
        ({"low": 0.88, "above 0.1": 0.07, "far": 0.05}, None),
    ],
    ids=["low", "band", "moved", "burst", "slightly moved"],
)
def test_the_difference_of_recent_scores_is_in_standard_deviations_of_a_share(
    places: dict[str, float], rate: float | None
) -> None:
    # Given 4,000 usual scores, and 2,000 recent ones of which known shares are in known places
    usual = ScoreDistribution().add(-np.log((np.arange(4000) + 0.5) / 4000))
    rates = np.array([0.1, 0.03, 0.01, 0.003])  # of 2,000 scores, fewer than 4 exceed rarer ones
    t = usual.thresholds(rates)
    at = {
        "low": 0.5 * t[0],
        "above 0.1": 0.5 * (t[0] + t[1]),
        "above 0.03": 0.5 * (t[1] + t[2]),
        "far": 3.0 * t[3],
    }
    scores = np.repeat([at[place] for place in places], [round(2000 * p) for p in places.values()])
    recent = usual.histogram(scores, np.ones(2000))
    # When each share is compared with its rate, by the rules of the docstring
    shares = dict(zip(rates.tolist(), recent.exceedance(t).tolist(), strict=True))
    counted = {each: share for each, share in shares.items() if share < each}
    if shares[0.1] > 0.125:
        counted[0.1] = shares[0.1]
    if shares[0.03] - shares[0.003] > 1.1 * 0.027:
        counted[0.027] = shares[0.03] - shares[0.003]
    found = {
        each: abs(share - each) / np.sqrt(each * (1.0 - each) * (1 / 4000 + 1 / 2000))
        for each, share in counted.items()
    }
    # Then the difference is the largest
    assert max(found, key=found.__getitem__, default=None) == rate
    largest = max(found.values(), default=0.0)
    assert ScoreMemory(usual, recent).difference == pytest.approx(largest)


def test_a_moderate_difference_shortens_the_memory_and_chance_does_not() -> None:
    rng = np.random.default_rng(0)
    memory, w, lam = ScoreMemory(), np.ones(1000), 2.0**-0.01
    for _ in range(300):
        memory = memory.observe(rng.exponential(size=1000), w, lam)
    full = 1000.0 / (1.0 - lam) * (1.0 - lam**300)
    assert memory.usual.total > 0.9 * full
    for _ in range(60):
        memory = memory.observe(0.92 * rng.exponential(size=1000), w, lam)
        assert memory.usual is not memory.recent
        assert not memory.outdated
    assert memory.usual.total < 0.7 * full
    assert_allclose(memory.usual.threshold(1e-3), -0.92 * np.log(1e-3), rtol=0.05)


def test_recent_scores_replace_the_others_after_a_jump() -> None:
    rng = np.random.default_rng(0)
    memory, w, lam = ScoreMemory(), np.ones(1000), 2.0**-0.01
    for _ in range(200):
        memory = memory.observe(rng.exponential(size=1000), w, lam)
    assert memory.usual is not memory.recent
    for _ in range(30):
        memory = memory.observe(10.0 + rng.exponential(size=1000), w, lam)
    assert memory.usual.total < 40_000
    assert_allclose(memory.usual.threshold(0.01), 10.0 - np.log(0.01), rtol=0.05)


def test_no_old_high_scores_stay_in_the_far_tail_after_a_jump_to_low_scores() -> None:
    rng = np.random.default_rng(0)
    memory, w, lam = ScoreMemory(), np.ones(1000), 2.0**-0.01
    for number in range(330):
        scores = rng.exponential(size=1000) * (1.0 if number < 200 else 0.25)
        memory = memory.observe(scores, w, lam)
        if number in (203, 230):
            assert memory.usual is memory.recent
    assert memory.usual.total > 3.0 * memory.recent.total
    assert_allclose(memory.usual.threshold(1e-4), -0.25 * np.log(1e-4), rtol=0.05)


def test_a_burst_of_anomalies_does_not_become_usual_at_once() -> None:
    rng = np.random.default_rng(0)
    memory, w, lam = ScoreMemory(), np.ones(1000), 2.0**-0.01
    for number in range(200):
        scores = rng.exponential(size=1000)
        if number >= 197:
            scores[:10] = 100.0
        memory = memory.observe(scores, w, lam)
    assert memory.usual is not memory.recent
    assert memory.usual.threshold(1e-3) < 50.0


def test_scores_without_forgetting_follow_a_jump_too() -> None:
    rng = np.random.default_rng(0)
    memory, w = ScoreMemory(), np.ones(5000)
    for _ in range(100):
        memory = memory.observe(rng.exponential(size=5000), w, 1.0)
    for _ in range(60):
        memory = memory.observe(10.0 + rng.exponential(size=5000), w, 1.0)
    assert_allclose(memory.usual.threshold(0.01), 10.0 - np.log(0.01), rtol=0.05)


@pytest.mark.parametrize(
    ("half_life", "expected"),
    [
        (np.inf, 50_000.0),
        (3.2e6, 50_000.0),
        (64_000.0, 2000.0),
        (5000.0, 1000.0),
        (500.0, 500.0),
    ],
)
def test_the_half_life_of_recent_scores_is_a_32nd_within_limits(
    half_life: float, expected: float
) -> None:
    scores = np.random.default_rng(0).exponential(size=100)
    before = ScoreMemory().observe(scores, np.full(100, 3.0), 1.0)
    after = before.observe(scores, np.ones(100), 2.0 ** (-100.0 / half_life))
    assert after.recent.total == pytest.approx(300.0 * 2.0 ** (-100.0 / expected) + 100.0)
    assert after.usual.total == pytest.approx(300.0 * 2.0 ** (-100.0 / half_life) + 100.0)


def test_the_memory_moves_by_the_median_and_the_95th_percentile() -> None:
    memory = ScoreMemory().observe(np.random.default_rng(0).exponential(size=99), np.ones(99), 1.0)
    before = np.arange(101.0)
    rng = np.random.default_rng(1)
    for slope, moves in ((1.5, True), (1.99, True), (2.0, False), (0.51, True), (0.5, False)):
        after = np.where(before < 50, 0.0, 1e9)
        after[50:96] = 200.0
        after[95] = 200.0 + slope * 45.0
        found = memory.carried(rng.permutation(before), rng.permutation(after))
        assert (found is not memory) == moves
        for old, new in ((memory.usual, found.usual), (memory.recent, found.recent)):
            if moves:
                assert new.reference == pytest.approx(slope * (old.reference - 50.0) + 200.0)
                assert new.unit == pytest.approx(slope * old.unit)


@pytest.mark.parametrize("share", [0.6, 1.0, 1.5])
def test_a_step_moves_the_scores_of_the_past_as_it_moves_those_of_their_points(
    share: float,
) -> None:
    """All covariances become smaller or larger, so the new scores are linear in the old ones."""
    family = GaussianMixture(3, "spherical")
    params = family.from_arrays(
        {"weights": np.full(3, 1 / 3), "means": PLACES, "covariances": np.ones(3)}
    )
    after = replace(params, covariances=np.full(3, share))
    X = np.concatenate([batch(number) for number in range(80)])
    scores, new = (anomaly_score(family, each, X) for each in (params, after))
    w, sample = np.ones(len(X)), CoresetState(fresh=Coreset(X[::40], np.full(500, 40.0)))
    found = carried(ScoreMemory().observe(scores, w, 1.0), family, params, after, sample)
    rates = np.array([0.5, 0.1, 0.01, 1e-3])
    assert_allclose(
        found.usual.thresholds(rates), ScoreDistribution().add(new).thresholds(rates), rtol=0.01
    )
    if share == 1.0:
        assert found.usual.reference == ScoreDistribution().add(scores).reference


def test_the_scores_of_the_past_stay_without_points_to_move_them_by() -> None:
    rng = np.random.default_rng(0)
    memory = ScoreMemory().observe(rng.exponential(size=1000), np.ones(1000), 1.0)
    few = CoresetState(fresh=Coreset(np.zeros((3, 2)), np.ones(3)))
    family = KMeans(1)
    one, other = (family.from_arrays({"centroids": np.array([[x, 0.0]])}) for x in (0.0, 1.0))
    assert carried(memory, family, one, other, few) is memory
    equal, far = np.zeros(100), rng.exponential(size=100)
    for before, after in ((equal, far), (far, equal), (far, 9.0 * far), (far, np.inf + far)):
        assert memory.carried(before, after) is memory


def test_the_parts_of_a_fit_are_scored_as_new_points() -> None:
    """With one point per part, the centroid is the mean of the n - 1 others."""
    X, family = batch(0, 40), KMeans(1)
    params = family.from_arrays({"centroids": X.mean(axis=0, keepdims=True)})
    found = cross_fitted(family, params, X, np.ones(40), 40)
    assert_allclose(found, anomaly_score(family, params, X) * (40 / 39) ** 2)
    assert_allclose(cross_fitted(family, params, X[:1], np.ones(1), 10), [0.0], atol=200.0)


@pytest.mark.parametrize("covariance_type", some(COVARIANCE_TYPES, "full", "spherical"))
def test_the_first_version_flags_the_rate_of_new_points(covariance_type: Any) -> None:
    """A full mixture has 459 parameters here, and 1,000 points to fit them to."""
    shares = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X, new = (np.tile(batch(seed, n, seed), 6)[:, :16] for n in (1000, 5000))
        X, new = (each + 3.0 * rng.normal(size=each.shape) for each in (X, new))
        learner = StreamLearner(GaussianMixture(3, covariance_type), anomaly=Anomaly())
        state, _ = learner.update(learner.init(), X)
        assert state.scores is not None
        scores = anomaly_score(learner.family, state.params, new)
        shares.append(np.mean(scores > state.scores.usual.threshold(0.01)))
    assert 0.0075 < np.mean(shares) < 0.0125


def test_after_a_fit_of_the_coreset_its_points_count_as_new_points() -> None:
    family = GaussianMixture(3)
    memory, core = ScoreMemory(), CoresetState(fresh=Coreset(batch(0, 100), np.ones(100)))
    params = fit(family, core.fresh.X, seed=0).params
    plain, fitted = (rebuilt(memory, family, params, core, is_fit=each) for each in (False, True))
    assert plain is not None
    assert fitted is not None
    expected = cross_fitted(family, params, core.fresh.X, np.ones(100), 5)
    assert same(fitted.usual, ScoreDistribution().add(expected, np.ones(100)))
    assert fitted.usual.threshold(0.01) > plain.usual.threshold(0.01)


@pytest.mark.parametrize("family", [KMeans(3), GaussianMixture(3)], ids=["kmeans", "full"])
@pytest.mark.parametrize("by", [1.0, 10.0])
def test_after_a_refit_the_thresholds_are_those_of_the_coreset(family: Any, by: float) -> None:
    """A refit near the live model moves the remembered scores; another one replaces them."""
    learner = StreamLearner(family, warm_up=500, anomaly=Anomaly())
    state = learned(learner, 20)
    assert state.params is not None
    assert state.scores is not None
    arrays, name = family.to_arrays(state.params), "means"
    if family.kind == "kmeans":
        name = "centroids"
    params = family.from_arrays({**arrays, name: state.params.means + by})
    core = state.coreset.points
    after = learner.adopt(state, params, family.e_step(params, core.X, core.w))
    assert after.params is not None
    assert after.scores is not None
    expected = ScoreDistribution().add(anomaly_score(family, after.params, core.X), core.w)
    found = after.scores.usual
    assert_array_equal(found.mass, state.scores.usual.mass if by == 1.0 else expected.mass)
    assert after.scores.recent.is_empty
    share = found.exceedance(expected.thresholds(np.array([0.1, 0.03])))
    assert_allclose(share, [0.1, 0.03], rtol=0.25)
    assert found.threshold(0.01) > state.scores.usual.threshold(0.01)


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
    assert state.scores.usual.threshold(0.1) == np.inf
    after, _ = learner.update(state, batch(number)[:3] + 30.0)
    assert after.scores is not None
    assert after.scores.usual.total == 3
    assert_allclose(after.scores.usual.unit, state.scores.usual.unit, rtol=0.05)


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


def with_outliers(learner: StreamLearner[Any], batches: int = 40) -> LearnerState[Any]:
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
    learner = StreamLearner(family, HalfLife(5000), anomaly=Anomaly(0.01), coreset=1000)
    assert np.abs(with_outliers(learner).params.means).max() > 100.0  # type: ignore[union-attr]
    without = replace(learner, anomaly=Anomaly(0.01, learn_flagged=False))
    state = with_outliers(without)
    assert np.abs(state.params.means).max() < 20.0  # type: ignore[union-attr]
    assert state.points == 40 * 250
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
