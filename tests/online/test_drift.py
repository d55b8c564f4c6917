"""Drift: found where there is one, not where there is none, and the same after a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamclust import GaussianMixture, HalfLife, KMeans, StreamLearner, fit
from streamclust.errors import DataError
from streamclust.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from streamclust.online.drift import Drift, DriftState, _Adwin, _PageHinkley
from streamclust.online.state import Counts, WarmUp
from tests.support.exhaustive import combinations
from tests.support.states import same

DETECTORS = ["page_hinkley", "adwin"]
MEANS = np.array([[0.0, 0.0], [8.0, 1.0], [-5.0, 9.0]])


def batch(number: int, moved: float = 0.0, n: int = 100) -> Any:
    rng = np.random.default_rng(number)
    return rng.normal(size=(n, 2)) + MEANS[rng.integers(0, 3, n)] + moved


def watched(policy: Drift, losses: Any, weight: float = 1000.0) -> list[int]:
    """Return the batches at which a drift was found."""
    state, found = DriftState(), []
    for number, loss in enumerate(losses):
        state, drifted = policy.watch(state, float(loss), weight, KMeans(1).improvement)
        found += [number] if drifted else []
    return found


def losses(n: int, jump: float = 1.0, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return jump * (1.0 + 0.03 * rng.normal(size=n))


# ---- the detectors


@pytest.mark.parametrize(
    ("detector", "draw"),
    combinations(
        DETECTORS,
        ["normal", "exponential", "lognormal"],
        always=lambda detector, draw: detector == "page_hinkley" or draw == "lognormal",
    ),
)
def test_no_alarm_where_nothing_changes(detector: Any, draw: str) -> None:
    values = getattr(np.random.default_rng(0), draw)(size=5000)
    values = 20.0 + values if draw == "normal" else values
    assert watched(Drift(detector), values, 1.0) == []


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("jump", [2.0, 100.0])
def test_a_jump_is_found_once_and_soon(detector: Any, jump: float) -> None:
    found = watched(Drift(detector), [*losses(100), *losses(200, jump, 1)])
    assert len(found) == 1
    assert 100 < found[0] < (108 if detector == "page_hinkley" else 150)


@pytest.mark.parametrize("detector", DETECTORS)
def test_what_gets_better_is_no_drift(detector: Any) -> None:
    assert watched(Drift(detector), [*losses(100), *losses(200, 0.2)]) == []


@pytest.mark.parametrize("detector", DETECTORS)
def test_an_odd_batch_is_no_drift(detector: Any) -> None:
    values = losses(400)
    values[[150, 151, 300]] = 1e6
    assert watched(Drift(detector), values) == []


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("odd", [1e18, 1e200])
@pytest.mark.parametrize("place", [0, 1, 5, 9, 50])
def test_an_odd_batch_does_not_say_what_is_usual(detector: Any, odd: float, place: int) -> None:
    values = np.concatenate([losses(100), losses(200, 2.0, 1)])
    values[place] = odd
    (found,) = watched(Drift(detector), values)
    assert 100 < found < (108 if detector == "page_hinkley" else 150)


def test_a_change_that_matters_to_nobody_is_none_however_sure() -> None:
    tiny = [*losses(100), *(1.004 * losses(900, seed=1))]
    assert watched(Drift(), tiny, 1e9) == []


def test_a_lower_threshold_is_quicker() -> None:
    values = [*losses(100), *losses(100, 1.2, 1)]
    assert watched(Drift(threshold=5.0), values)[0] < watched(Drift(), values)[0]


def test_equal_losses_are_no_trouble() -> None:
    assert watched(Drift(), np.zeros(50)) == []
    assert watched(Drift(), np.full(50, 2.0)) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"detector": "none"},
        {"threshold": 0.0},
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": float("nan")},
    ],
)
def test_bad_settings_are_named(bad: Any) -> None:
    with pytest.raises(DataError, match=next(iter(bad))):
        Drift(**bad)


def test_only_an_announced_drift_leaves_the_weight_of_old_points() -> None:
    policies = [Drift(on_drift=each) for each in ("announce", "forget", "recluster")]
    assert [policy.kept for policy in policies] == [1.0, 0.01, 0.01]


def test_page_hinkley_reports_a_sum_above_its_threshold() -> None:
    detector = _PageHinkley(Drift(threshold=10.0), np.array([5.5]).tobytes())
    assert not detector.update(5.0)  # the sum is 10
    assert detector.update(0.625)


def test_adwin_gets_numbers_between_0_and_1_and_a_fall_is_no_drift(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Recorder:
        def __init__(self, **options: float) -> None:
            assert options == {"delta": 0.25, "clock": 1}
            self.numbers: list[float] = []
            self.estimation = 0.5
            self.drift_detected = True

        def update(self, number: float) -> None:
            self.numbers.append(number)
            self.estimation = {0.75: 0.5, 1.0: 0.75}.get(number, 0.25)

    policy = Drift(delta=0.25)
    monkeypatch.setattr("river.drift.ADWIN", Recorder)
    detector = _Adwin(policy, b"")
    found = [_Adwin(policy, b"").update(z) for z in (-1.5, 1.5, 9.0)]
    assert found == [False, False, True]
    for z in (-9.0, -3.0, 0.0, 1.5, 3.0, 9.0):
        detector.update(z)
    assert detector._found.numbers == [0.0, 0.0, 0.5, 0.75, 1.0, 1.0]


# ---- the usual loss


def in_nats(before: float, after: float) -> float:
    """Return an improvement that doesn't depend on the mean."""
    return before - after


def first_ten(losses: Any, weights: Any) -> DriftState:
    state = DriftState()
    for loss, weight in zip(losses, weights, strict=True):
        state, _ = Drift().watch(state, float(loss), float(weight), in_nats)
    return state


@pytest.mark.parametrize(
    ("values", "largest"),
    [
        ([2.0, 1.0, 3.0, 5.0, 4.0, 6.0, 8.0, 7.0, 9.0, 10.0], np.inf),
        ([2.0, 1.0, 3.0, 500.0, 4.0, 6.0, 8.0, 7.0, 9.0, 10.0], 6.5 + 10 * 1.4826 * 3.0),
        ([2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 9.0, 2.0, 2.0, 2.0], 2.0 + 10 * 0.005 * 2.0),
        ([-2.0, -2.0, -2.0, -2.0, -2.0, -2.0, 9.0, -2.0, -2.0, -2.0], -2.0 + 10 * 0.005 * 2.0),
    ],
)
def test_the_first_ten_batches_give_a_mean_and_the_variance_of_one_point(
    values: list[float], largest: float
) -> None:
    weights = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0])
    state = first_ten(values, weights)
    # old batches count less, and odd ones are cut
    cut, faded = np.minimum(values, largest), weights * 0.99 ** np.arange(9, -1, -1)
    assert (state.batches, state.memory) == (10, b"")
    assert state.weight == pytest.approx(faded.sum())
    assert state.mean == pytest.approx(faded @ cut / faded.sum())
    assert state.spread == pytest.approx(
        np.mean(np.diff(cut) ** 2 / (1.0 / weights[1:] + 1.0 / weights[:-1]))
    )
    assert (state.last, state.last_weight) == (cut[-1], 100.0)


@pytest.mark.parametrize("batches", [10, 400])
@pytest.mark.parametrize("deviations", [-20.0, -0.25, 0.25, 2.0, 5.0, 20.0])
def test_a_batch_counts_by_its_deviation_and_an_unusual_one_changes_little(
    deviations: float, batches: int
) -> None:
    before = first_ten([2.0, 1.0, 3.0, 5.0, 4.0, 6.0, 8.0, 7.0, 9.0, 10.0], np.full(10, 50.0))
    before = replace(before, batches=batches)
    unit = np.sqrt(before.spread / 30.0 + 0.005**2)
    loss = before.mean + deviations * unit
    state, drifted = Drift().watch(before, loss, 30.0, in_nats)
    assert not drifted
    sum_of_rises = max(0.0, np.clip(deviations, -10.0, 10.0) - 0.5)
    np.testing.assert_allclose(np.frombuffer(state.memory, "<f8"), [sum_of_rises], rtol=1e-9)
    total = before.weight * 0.99 + 30.0
    moved = np.clip(deviations, -3.0, 3.0) * unit * 30.0 / total
    assert state.mean == pytest.approx(before.mean + moved)
    step = np.clip(loss - before.last, -3.0 * unit, 3.0 * unit)
    variance = step**2 / (1.0 / 30.0 + 1.0 / 50.0)
    share = 0.1 if batches == 10 else 0.01
    assert state.spread == pytest.approx(before.spread + share * (variance - before.spread))
    assert (state.batches, state.last) == (batches + 1, loss)
    assert state.weight == pytest.approx(total)


# ---- the learner


def run(learner: StreamLearner[Any], numbers: Any, state: Any = None, moved: float = 0.0) -> Any:
    state = learner.init() if state is None else state
    found = []
    for number in numbers:
        state, info = learner.update(state, batch(number, moved))
        found += [number] if info.drifted else []
    return state, found


@pytest.mark.parametrize("family", [KMeans(3), GaussianMixture(3, "diag")], ids=["k", "mixture"])
def test_what_is_done_at_a_drift_brings_the_model_back_within_a_half_life(family: Any) -> None:
    # Given models with a half-life of 50 batches, and a jump
    loss = {}
    for on_drift in ("announce", "forget", "recluster"):
        policy: Any = Drift(on_drift=on_drift)
        learner = StreamLearner(family, HalfLife(5000), warm_up=1000, drift=policy, coreset=1000)
        state, found = run(learner, range(100))
        assert found == []
        state, found = run(learner, range(100, 150), state, moved=30.0)
        assert len(found) == 1
        assert found[0] < 110
        assert state.counts.drifts == 1
        # When a half-life has gone
        test, ones = batch(1000, 30.0, 5000), np.ones(5000)
        loss[on_drift] = family.loss(family.e_step(state.params, test, ones))
    # Then the one that was fitted anew is as good as one that never knew another world
    oracle = fit(family, test)
    assert loss["recluster"] < oracle.loss + 0.02 * abs(oracle.loss)
    assert not state.warm_up.gathering
    assert loss["recluster"] <= loss["forget"] < loss["announce"]


@pytest.mark.parametrize(
    "family",
    [
        KMeans(3),
        KMeans(4, min_clusters=2),
        GaussianMixture(3),
        GaussianMixture(4, min_components=2),
    ],
    ids=["k", "adapting k", "mixture", "adapting mixture"],
)
def test_a_fit_since_a_drift_that_fails_or_is_no_better_is_not_adopted(family: Any) -> None:
    # Given a learner that gathers points since a drift
    learner = StreamLearner(family, warm_up=60, drift=Drift(on_drift="recluster"))
    state, _ = run(learner, range(3))
    gathering = replace(state, warm_up=WarmUp(gathering=True))
    ends: dict[str, Any] = {}
    for name, X in (("equal", np.ones((60, 2))), ("moved", batch(9, 30.0, 60))):
        # When it has just enough points Then it doesn't gather any more
        plain, _ = learner.update(state, X)
        after, _ = learner.update(gathering, X)
        assert not after.warm_up.gathering
        ends[name] = (plain.params, after.params, X)
    # Equal points have no fit; the parameters are those of a plain step
    assert same(*ends["equal"][:2])
    # Points elsewhere have one, which is better
    before, fitted, X = ends["moved"]
    plain_loss, loss = (
        family.loss(family.e_step(each, X, np.ones(len(X)))) for each in (before, fitted)
    )
    assert loss < plain_loss


def test_a_drift_replaces_nothing_before_enough_points_are_gathered() -> None:
    learner = StreamLearner(
        KMeans(3), HalfLife(5000), warm_up=300, drift=Drift(on_drift="recluster")
    )
    state, _ = run(learner, range(30))
    for number in range(30, 60):
        state, info = learner.update(state, batch(number, 30.0))
        if info.drifted:
            break
    assert info.drifted
    assert state.warm_up.gathering
    assert not info.reclustered
    assert state.counts.reclustered == 0


@pytest.mark.parametrize("detector", DETECTORS)
def test_units_don_t_matter(detector: Any) -> None:
    learner = StreamLearner(KMeans(3), HalfLife(5000), warm_up=300, drift=Drift(detector))
    ends = []
    for unit in (1.0, 2.0**40):
        state = learner.init()
        for number in range(120):
            state, info = learner.update(state, unit * batch(number, 30.0 * (number > 60)))
            if info.drifted:
                ends.append(number)
    assert len(ends) == 2
    assert ends[0] == ends[1]


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_restart_anywhere_changes_no_bit(detector: Any) -> None:
    policy: Any = Drift(detector, on_drift="recluster")
    learner = StreamLearner(KMeans(3), HalfLife(20000), warm_up=500, drift=policy, coreset=300)
    quiet = restarted = learner.init()
    for number in range(120):
        X = batch(number, 30.0 * (number > 60))
        quiet, _ = learner.update(quiet, X)
        data = encode_checkpoint(Checkpoint(learner=restarted), learner.family)
        restarted = decode_checkpoint(data, learner.family, "here").learner
        restarted, _ = learner.update(restarted, X)
    assert quiet.counts.drifts == 1
    assert same(restarted, quiet)


def test_a_refit_ends_the_suspicion() -> None:
    learner = StreamLearner(KMeans(3), HalfLife(3000), warm_up=300, drift=Drift())
    state, _ = run(learner, range(40))
    state = replace(state, counts=Counts(drifts=2))
    after = learner.adopt(state, state.params, state.stats)
    assert (after.drift, after.counts) == (DriftState(), state.counts)


def test_a_river_whose_adwin_cannot_be_stored_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Drift("adwin")
    monkeypatch.setattr("river.drift.ADWIN", lambda **_: object())
    with pytest.raises(DataError, match=r"detector 'adwin' can't store.*install river"):
        Drift("adwin")
    Drift("page_hinkley")
