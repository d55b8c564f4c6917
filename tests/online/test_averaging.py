"""Where the Polyak-Ruppert average begins: at the first step, or after those of a rough start."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamclust import GaussianMixture, KMeans, KMeansParams, MixtureParams, PowerSchedule
from streamclust.arrays import Array
from streamclust.fitting.em import EMResult
from streamclust.fitting.fit import fit
from streamclust.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from streamclust.models.family import Family
from streamclust.models.stats import Stats, decay, merge
from streamclust.online.averaging import Averaging, _without_rough_half, averaged
from streamclust.online.learner import StreamLearner
from tests.support.exhaustive import combinations

MIXTURE = GaussianMixture(2)
MEANS = np.array([[2.036, 54.479], [4.290, 79.968]])
COVARIANCES = np.array([[[0.069, 0.435], [0.435, 33.70]], [[0.170, 0.940], [0.940, 36.05]]])
TRUTH = MixtureParams(np.array([0.356, 0.644]), MEANS, COVARIANCES, "full")


def geyser() -> Array:
    """272 points like those of the Old Faithful data."""
    return MIXTURE.sample(TRUTH, 272, np.random.default_rng(7))[0]


def wide(means: list[list[float]]) -> MixtureParams:
    """A start with the covariance of all points."""
    both = np.stack([np.cov(geyser().T)] * 2)
    return MixtureParams(np.full(2, 0.5), np.array(means), both, "full")


def learn(
    family: Family[Any], start: Any, batches: Any, kappa: float = 0.7
) -> tuple[StreamLearner[Any], Any, Stats]:
    """Return the learner, its last state, and the plain mean of the normalised statistics."""
    learner = StreamLearner(family, PowerSchedule(kappa=kappa, average=True), coreset=0)
    state, mean = learner.init(start), None
    for n, batch in enumerate(batches, 1):
        state, _ = learner.update(state, batch)
        assert state.stats is not None
        share = decay(state.stats, 1.0 / state.stats.mass)
        mean = share if mean is None else merge(decay(share, 1 / n), decay(mean, 1 - 1 / n))
    assert mean is not None
    return learner, state, mean


def passes(X: Array, n: int) -> Any:
    """Batches of 10, in another order in each pass."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        yield from np.array_split(X[rng.permutation(len(X))], len(X) // 10)


@cache
def best_of_geyser() -> EMResult[MixtureParams]:
    return fit(MIXTURE, geyser(), tol=1e-12)


def nats(params: Any) -> float:
    """Return the log-likelihood of the geyser below the optimum."""
    X = geyser()
    return best_of_geyser().stats.objective - MIXTURE.e_step(params, X, np.ones(272)).objective


@pytest.mark.parametrize(
    ("means", "kappa"),
    combinations(
        [[[1.0, 40.0], [6.0, 100.0]], [[3.0, 65.0], [4.0, 75.0]]],
        [0.6, 0.7],
        always=lambda means, kappa: (means[0][0] == 1.0) == (kappa == 0.6),
    ),
    ids=str,
)
def test_from_a_rough_start_the_average_is_as_good_as_from_a_good_one(
    means: list[list[float]], kappa: float
) -> None:
    X = geyser()
    learner, state, mean = learn(MIXTURE, wide(means), passes(X, 20), kappa)
    published, whole = nats(learner.published(state)), nats(MIXTURE.m_step(mean, state.params))
    assert published < 0.15
    assert whole > 1.0
    assert state.averaging.rough
    last = []  # steps of one more pass
    for batch in passes(X, 1):
        state, _ = learner.update(state, batch)
        last.append(nats(state.params))
    assert nats(learner.published(state)) < 0.5 * np.mean(last)
    learner, state, mean = learn(MIXTURE, best_of_geyser().params, passes(X, 20), kappa)
    assert nats(learner.published(state)) < 0.1


@pytest.mark.parametrize("seed", combinations(range(4), always=lambda seed: seed == 0))
@pytest.mark.parametrize("name", ["kmeans", "full"])
def test_from_a_good_start_it_is_the_average_of_all_steps(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    X = centres[rng.integers(3, size=6000)] + rng.normal(size=(6000, 2))
    family: Family[Any] = KMeans(3) if name == "kmeans" else GaussianMixture(3)
    start = fit(family, X).params
    _, state, mean = learn(family, start, X.reshape(-1, 10, 2))
    assert state.averaging.averaged == 600
    assert not state.averaging.rough
    assert state.averaging.average is not None
    assert_allclose(state.averaging.average.averages(mean.reference), mean.averages(mean.reference))


def test_rough_centroids_are_left_out_too() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    X = centres[rng.integers(3, size=6000)] + rng.normal(size=(6000, 2))
    best = fit(KMeans(3), X).params.centroids
    learner, state, mean = learn(KMeans(3), KMeansParams(centres + 5.0), X.reshape(-1, 10, 2))

    def error(params: Any) -> float:
        distance = ((params.centroids[:, None] - best) ** 2).sum(axis=2)
        return float(distance.min(axis=1).sum())

    published = error(learner.published(state))
    assert published < 0.2 * error(KMeans(3).m_step(mean, state.params))


@pytest.mark.parametrize(("first", "is_rough"), [(5.0, True), (0.0, False)])
def test_an_average_whose_halves_differ_keeps_the_second_half(first: float, is_rough: bool) -> None:
    # Given 20 steps about one centroid, and 20 about another or the same one
    family, params = KMeans(1), KMeansParams(np.zeros((1, 1)))
    noise = np.random.default_rng(0).normal(size=(1000, 1))
    running = family.e_step(params, noise, np.ones(1000))
    head, tail = (
        decay(family.e_step(params, noise + centre, np.ones(1000)), 1e-3) for centre in (first, 0.0)
    )
    both = merge(decay(head, 0.5), decay(tail, 0.5))
    halves = Averaging(both, 40, weight=4e3, tail=tail, tail_averaged=20, tail_weight=2e3)
    # When they are compared Then only a rough first half is left out
    found = _without_rough_half(family, params, running, halves)
    assert found.average is (tail if is_rough else both)
    assert (found.averaged, found.rough) == ((20, True) if is_rough else (40, False))
    assert found.tail is None


ONE = KMeans(1)


def around(x: float, mass: float = 200.0) -> Stats:
    """Statistics of so many points of variance 1 around `x`."""
    zero = np.zeros((1, 1))
    return Stats(np.array([mass]), zero + mass * x, None, zero, None, mass, mass)


def share(x: float) -> Stats:
    """Normalised statistics of points around `x`."""
    return decay(around(x), 1.0 / 200.0)


def after_step(before: Averaging, x: float, weight: float = 30.0) -> Averaging:
    """The average after a step to a centroid at `x`."""
    return averaged(ONE, before, KMeansParams(np.full((1, 1), x)), around(x), weight, False)


def place(stats: Stats | None) -> float:
    """The centroid of statistics."""
    assert stats is not None
    assert stats.mass == pytest.approx(1.0)
    return float(stats.averages(np.full((1, 1), np.nan))[0, 0])


def test_after_a_good_start_steps_weigh_alike_and_the_tail_begins_at_powers_of_two() -> None:
    xs, weights = 1e-3 * np.random.default_rng(0).normal(size=70), np.arange(1.0, 71.0)
    state = Averaging()
    for n in range(1, 71):
        state = after_step(state, xs[n - 1], weights[n - 1])
        start = 0 if n < 8 else 2 ** (n.bit_length() - 1)
        assert (state.averaged, state.tail_averaged, state.rough) == (n, n - start, False)
        assert place(state.average) == pytest.approx(xs[:n].mean())
        assert (state.weight, state.tail_weight) == (weights[:n].sum(), weights[start:n].sum())
        if n > start:
            assert place(state.tail) == pytest.approx(xs[start:n].mean())


def test_after_a_rough_start_a_step_has_a_weight_in_proportion_to_its_number() -> None:
    xs, t = 1e-3 * np.random.default_rng(0).normal(size=20), np.arange(1.0, 21.0)
    params = KMeansParams(np.zeros((1, 1)))
    state = averaged(ONE, Averaging(), params, around(xs[0]), 30.0, restart=True)
    for n in range(2, 21):
        state = after_step(state, xs[n - 1])
        assert place(state.average) == pytest.approx(np.average(xs[:n], weights=t[:n]))
        assert (state.averaged, state.rough, state.tail) == (n, True, None)


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize(("distance", "restarts"), [(0.99, False), (1.01, True)])
def test_the_average_starts_again_two_standard_deviations_from_the_live_centroid(
    rough: bool, distance: float, restarts: bool
) -> None:
    # Given seven steps at 0, and a standard deviation of 1 / sqrt(2 * 200) = 0.05
    before = Averaging(share(0.0), 7, rough, weight=210.0, tail=share(0.0), tail_averaged=7)
    # When the next step is so far that the average is twice that behind
    x = distance * 2.0 * 0.05 / (1.0 - (2.0 / 9.0 if rough else 1.0 / 8.0))
    after = after_step(before, x)
    # Then the average starts again, or is compared again after the live centroid's memory
    if restarts:
        assert (after.averaged, after.rough, after.next_check) == (1, True, 8)
        assert place(after.average) == pytest.approx(x)
    else:
        assert (after.averaged, after.rough, after.next_check) == (8, rough, 8 + 7)
    # and an earlier step is not compared
    assert after_step(replace(before, averaged=6, next_check=8), 100.0 * x).averaged == 7


def halves(head: float, **changed: Any) -> Averaging:
    """The average of 10 steps at `head`, and of a tail of 30 steps at 0."""
    both = merge(decay(share(head), 0.25), decay(share(0.0), 0.75))
    found = Averaging(both, 40, weight=4e3, tail=share(0.0), tail_averaged=30, tail_weight=1e3)
    return replace(found, next_check=77, **changed)


def compared(before: Averaging, count: float = 200.0) -> Averaging:
    running = replace(around(0.0), count=count)
    return _without_rough_half(ONE, KMeansParams(np.zeros((1, 1))), running, before)


def test_halves_differ_at_two_standard_deviations_of_their_difference() -> None:
    # Given halves of 1,000 and 3,000 points: the variances of their centroids add up
    two_deviations = 2.0 * np.sqrt(1.0 / 1e3 + 1.0 / 3e3)
    near, far = halves(0.99 * two_deviations), halves(1.01 * two_deviations)
    kept = compared(near)
    assert kept.average is near.average
    assert (kept.averaged, kept.rough, kept.next_check, kept.tail) == (40, False, 77, None)
    found = compared(far)
    assert found.average is far.tail
    assert (found.averaged, found.rough, found.next_check) == (30, True, 77)
    # and nothing differs before the first point is scored
    assert compared(far, count=0.0).averaged == 40


@pytest.mark.parametrize(("deviations", "is_rough"), [(0.99, False), (1.01, True)])
def test_halves_of_a_mixture_differ_by_twice_what_six_parameters_cost(
    deviations: float, is_rough: bool
) -> None:
    # Given a component of three means and variances: chance costs 6 / 2 n nats, a mean d^2 / 2
    family, zero = GaussianMixture(1, "diag", reg_covar=0.0), np.zeros((1, 3))
    d = deviations * np.sqrt(4.0 * 6.0 * (1.0 / 1e3 + 1.0 / 3e3))

    def at(x: float) -> Stats:
        first, second = np.array([[x, 0.0, 0.0]]), np.array([[1.0 + x * x, 1.0, 1.0]])
        return Stats(np.ones(1), first, second, zero, "diag", 0.0, 1.0)

    both = merge(decay(at(d), 0.25), decay(at(0.0), 0.75))
    before = Averaging(both, 40, weight=4e3, tail=at(0.0), tail_averaged=30, tail_weight=1e3)
    start = MixtureParams(np.ones(1), zero, np.ones((1, 3)), "diag")
    assert _without_rough_half(family, start, at(0.0), before).rough == is_rough


def test_halves_are_compared_when_the_steps_have_doubled_and_their_weight_is_known() -> None:
    early, short = halves(9.0, averaged=7, tail_averaged=4), halves(9.0, tail_averaged=19)
    assert compared(early) is early
    assert compared(short) is short
    assert compared(halves(9.0, averaged=40, tail_averaged=20)).rough
    unknown = compared(halves(9.0, weight=1e3))
    assert (unknown.averaged, unknown.tail, unknown.tail_averaged) == (40, None, 0)
    assert unknown.tail_weight == 0.0


def test_averages_follow_another_order_of_the_components() -> None:
    zero = np.zeros((3, 1))
    stats = Stats(np.array([1.0, 2.0, 3.0]), zero, None, zero, None, 0.0, 6.0)
    found = Averaging(stats, 5, tail=decay(stats, 2.0)).reorder(np.array([2, 0]))
    assert found.average is not None
    assert found.tail is not None
    assert found.average.weight.tolist() == [3.0, 1.0]
    assert found.tail.weight.tolist() == [6.0, 2.0]
    assert Averaging().reorder(np.array([1, 0])).average is None


def test_a_refit_counts_as_one_step_of_the_average() -> None:
    # Given a refit of more or fewer points, which a learner adopts
    learner, state, _ = learn(MIXTURE, TRUTH, passes(geyser(), 1))
    for size in (40, 200):
        refit = fit(MIXTURE, geyser()[:size])
        after = learner.adopt(state, refit.params, refit.stats)
        assert after.averaging.averaged == 1
        # When it learns a batch
        end, _ = learner.update(after, geyser()[200:210])
        # Then the average is the mean of the two normalised statistics
        assert after.stats is not None
        assert end.stats is not None
        assert end.averaging.average is not None
        both = [decay(each, 0.5 / each.mass) for each in (after.stats, end.stats)]
        assert_allclose(end.averaging.average.weight, both[0].weight + both[1].weight)


@pytest.mark.parametrize("stop", [5, 40, 300])
def test_it_goes_on_from_a_checkpoint_to_the_last_bit(stop: int) -> None:
    batches = list(passes(geyser(), 12))
    learner, whole, _ = learn(MIXTURE, wide([[3.0, 65.0], [4.0, 75.0]]), batches)
    _, state, _ = learn(MIXTURE, wide([[3.0, 65.0], [4.0, 75.0]]), batches[:stop])
    data = encode_checkpoint(Checkpoint(learner=state), MIXTURE)
    state = decode_checkpoint(data, MIXTURE, "the state").learner
    for batch in batches[stop:]:
        state, _ = learner.update(state, batch)
    ends = [learner.published(each) for each in (whole, state)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].covariances.tobytes() == ends[1].covariances.tobytes()
    first, second = (replace(each.averaging, average=None, tail=None) for each in (whole, state))
    assert asdict(first) == asdict(second)


def test_a_state_from_before_goes_on_with_its_average() -> None:
    batches = list(passes(geyser(), 4))
    learner, state, _ = learn(MIXTURE, fit(MIXTURE, geyser()).params, batches[:50])
    older = Averaging(state.averaging.average, state.averaging.averaged)  # without later fields
    state = replace(state, averaging=older)
    for batch in batches[50:]:
        state, _ = learner.update(state, batch)
    assert state.averaging.averaged == len(batches)
