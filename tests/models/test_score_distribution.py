"""The distribution of scores: laws of its algebra, its errors, and the fitted tail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given
from numpy.testing import assert_allclose, assert_array_equal

from streamclust.arrays import Array
from streamclust.errors import DataError
from streamclust.models.score_distribution import RESOLUTION, ScoreDistribution
from tests.support.strategies import floats, laws, matrix

_MOST = 200


@st.composite
def distributions(draw: st.DrawFn) -> ScoreDistribution:
    """Return a distribution in the bins of reference 1 and unit 2, without scores at times."""
    n = draw(st.integers(0, 12))
    empty = ScoreDistribution(reference=1.0, unit=2.0)
    w = draw(matrix(n, low=0.25))
    return empty.add(draw(matrix(n)), w).rebinned(1.0, 2.0)


_KINDS: list[Callable[[np.random.Generator, int], Array]] = [
    lambda rng, n: 1e3 * rng.standard_normal(n),
    lambda rng, n: rng.exponential(size=n),
    lambda rng, n: rng.standard_cauchy(n).clip(-1e6, 1e6),
    lambda rng, n: rng.integers(-3, 4, n).astype(float),
    lambda rng, n: np.full(n, 10.0 * rng.random()),
    lambda rng, n: np.where(rng.random(n) < 0.9, 5.0, 5.0 + 1e-6 * rng.standard_normal(n)),
]


@st.composite
def samples(draw: st.DrawFn, low: int = 40) -> Array:
    """Return scores: with a light or a heavy tail, with ties, or all equal."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return draw(st.sampled_from(_KINDS))(rng, draw(st.integers(low, _MOST)))


def assert_same(a: ScoreDistribution, b: ScoreDistribution, tol: float = 1e-12) -> None:
    assert (a.is_empty, a.reference, a.unit) == (b.is_empty, b.reference, b.unit)
    assert_allclose(a.square, b.square, rtol=tol)
    if not a.is_empty:
        assert a.first == b.first
        assert_allclose(a.mass, b.mass, rtol=tol, atol=tol * a.total)


@given(distributions(), distributions(), distributions())
@laws
def test_merging_is_associative(
    a: ScoreDistribution, b: ScoreDistribution, c: ScoreDistribution
) -> None:
    assert_same(a.merge(b).merge(c), a.merge(b.merge(c)))


@given(distributions(), distributions())
@laws
def test_merging_is_commutative(a: ScoreDistribution, b: ScoreDistribution) -> None:
    assert_same(a.merge(b), b.merge(a))


@given(distributions(), distributions(), floats(0.01, 2.0))
@laws
def test_decay_is_linear(a: ScoreDistribution, b: ScoreDistribution, lam: float) -> None:
    assert_same(a.merge(b).decay(lam), a.decay(lam).merge(b.decay(lam)))
    assert_same(a.decay(lam).decay(0.5), a.decay(0.5 * lam))
    assert a.decay(0.0).is_empty


@given(samples(), st.data())
@laws
def test_scores_added_in_parts_give_the_same_bins(scores: Array, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(scores)))
    empty = ScoreDistribution(reference=3.0, unit=0.5)
    parts = [empty.add(scores[:cut]), empty.add(scores[cut:])]
    same_bins = [each.rebinned(3.0, 0.5) for each in parts]
    whole = same_bins[0].merge(same_bins[1])
    assert whole.total == len(scores)
    assert whole.square == len(scores)


@given(samples())
@laws
def test_an_edge_of_a_bin_is_near_its_scores(scores: Array) -> None:
    found = ScoreDistribution().add(scores)
    place = np.floor(found._bins(scores)) - found.first
    low, high = found._score_at(place), found._score_at(place + 1.0)
    near = np.hypot(found.unit, np.maximum(np.abs(low - found.reference), found.reference * 0.0))
    width = np.maximum(near, np.hypot(found.unit, high - found.reference)) / RESOLUTION
    rounding = 1e-12 * (np.abs(scores) + width)
    assert (low <= scores + rounding).all()
    assert (scores <= high + rounding).all()
    assert (high - low <= width * 1.01).all()


@given(samples(), floats(0.11, 0.95))
@laws
def test_a_threshold_is_in_the_bins_of_the_exact_quantile(scores: Array, rate: float) -> None:
    found = ScoreDistribution().add(np.tile(scores, 3))  # 100 points are the fewest
    descending = np.sort(np.tile(scores, 3))[::-1]
    at = rate * len(descending)
    exact = descending[[int(at), max(int(np.ceil(at)) - 1, 0)]]
    lowest, highest = found._bins(np.sort(exact)) + np.array([-1, 2])
    threshold = found.threshold(rate)
    assert found._score_at(np.array(lowest - found.first)) <= threshold + 1e-9 * abs(threshold)
    assert threshold <= found._score_at(np.array(highest - found.first)) + 1e-9 * abs(threshold)


@given(samples())
@laws
def test_quantiles_rise_with_the_score_from_0_to_1(scores: Array) -> None:
    found = ScoreDistribution().add(scores)
    reach = np.abs(scores).max() + 1.0
    quantiles = found.quantile(np.linspace(-3.0 * reach, 3.0 * reach, 1000))
    assert (np.diff(quantiles) >= -1e-12).all()
    assert quantiles[0] == 0.0
    assert quantiles[-1] <= 1.0
    assert found.quantile([scores.max() + 1e12 * reach])[0] > 1.0 - 1e-3


@given(samples(low=100), floats(1e-6, 0.99))
@laws
def test_the_share_above_a_threshold_is_its_rate(scores: Array, rate: float) -> None:
    found = ScoreDistribution().add(scores)
    assert_allclose(found.exceedance([found.threshold(rate)]), rate, rtol=1e-6)


@given(samples(), st.integers(-60, 60), st.integers(-(2**20), 2**20))
@laws
def test_a_power_of_two_scales_the_distribution_and_a_shift_shifts_it(
    scores: Array, exponent: int, shift: int
) -> None:
    scores = np.round(scores * 1024.0) / 1024.0  # sums are exact
    assume(scores.any())  # else there is no scale
    found = ScoreDistribution().add(scores)
    factor = 2.0**exponent
    other = ScoreDistribution().add(scores * factor)
    assert (other.reference, other.unit) == (found.reference * factor, found.unit * factor)
    assert_array_equal(other.mass, found.mass)
    if np.ptp(scores) == 0.0:
        return  # the scale of the bins is that of the score itself
    moved = ScoreDistribution().add(scores + shift)
    assert (moved.reference, moved.unit) == (found.reference + shift, found.unit)
    assert_array_equal(moved.mass, found.mass)
    assert_array_equal(found.shifted(float(shift)).mass, moved.mass)


def test_bins_follow_scores_that_leave_them() -> None:
    rng = np.random.default_rng(0)
    found = ScoreDistribution().add(rng.exponential(size=1000))
    far = 1e6 + 1e-3 * rng.exponential(size=100_000)
    after = found.decay(1e-3).add(far)
    assert_allclose(after.threshold(0.3), np.quantile(far, 0.7), rtol=0.0, atol=3e-5)


@pytest.mark.parametrize("factor", [1e-200, 1e-9, 1.0, 1e12])
def test_scores_that_come_one_by_one_are_told_apart(factor: float) -> None:
    found = ScoreDistribution()
    scores = factor * np.random.default_rng(0).exponential(size=2000)
    for score in scores:
        found = found.add([score])
    assert_allclose(found.threshold(0.3), np.quantile(scores, 0.7), rtol=0.03)


def test_bins_are_bounded() -> None:
    spread = 10.0 ** np.linspace(-300.0, 300.0, 10_000)
    found = ScoreDistribution(unit=1.0).add(np.concatenate([-spread, spread]))
    assert len(found.mass) <= 2 * 40 * RESOLUTION + 1
    assert found.total == 20_000


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1.7e308, np.nan])
def test_a_score_that_is_no_number_counts_as_an_extreme_one(value: float) -> None:
    rng = np.random.default_rng(0)
    found = ScoreDistribution().add(rng.normal(size=1000)).add([value])
    assert found.total == 1001
    assert np.isfinite(found.threshold(0.1))


def test_equal_scores_have_a_distribution() -> None:
    found = ScoreDistribution().add(np.full(500, 7.0))
    assert found.threshold(0.01) == pytest.approx(7.0, abs=0.05)
    assert found.quantile([6.0, 8.0]).tolist() == [0.0, 1.0]


def test_too_few_scores_give_no_threshold() -> None:
    assert ScoreDistribution().threshold(0.1) == np.inf
    assert ScoreDistribution().quantile([3.0]).tolist() == [0.0]
    assert ScoreDistribution().add(np.arange(99.0)).threshold(0.1) == np.inf


def test_scores_of_weight_0_add_nothing() -> None:
    assert ScoreDistribution().add([1.0, 2.0], [0.0, 0.0]).is_empty


def test_faded_scores_are_dropped() -> None:
    found = ScoreDistribution().add([1e9]).decay(2.0**-60).add(np.arange(100.0))
    assert len(found.mass) < 1000


@pytest.mark.parametrize("far", [1e3, 1e9])
def test_a_far_anomaly_changes_no_usual_threshold(far: float) -> None:
    rates = np.array([0.05, 0.01])
    known = ScoreDistribution().add(np.random.default_rng(0).exponential(size=3000))
    one, some = (known.add(np.full(n, far)).thresholds(rates) for n in (1, 3))
    np.testing.assert_allclose(one, known.thresholds(rates), rtol=0.1)
    np.testing.assert_allclose(some, known.thresholds(rates), rtol=0.25)


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.5])
def test_the_tail_extends_beyond_the_scores(shape: float) -> None:
    """Of 5,000 points, half a point is beyond the threshold of 1e-4."""
    rng = np.random.default_rng(1)
    uniform = rng.random((40, 5000))
    scores = -np.log(uniform) if shape == 0.0 else (uniform**-shape - 1.0) / shape
    thresholds = [ScoreDistribution().add(each).threshold(1e-4) for each in scores]
    rates = np.exp(-np.array(thresholds)) if shape == 0.0 else np.ones(40)
    if shape != 0.0:
        inside = np.maximum(1.0 + shape * np.array(thresholds), 0.0)
        rates = inside ** (-1.0 / shape)
    assert 0.2e-4 < np.median(rates) < 3e-4


@pytest.mark.parametrize(
    "change",
    [
        {"first": 1.5},
        {"first": 10**6},
        {"unit": 0.0},
        {"unit": np.inf},
        {"reference": np.nan},
        {"square": -1.0},
    ],
)
def test_damaged_numbers_are_refused(change: dict[str, Any]) -> None:
    found = ScoreDistribution().add(np.arange(50.0))
    assert_same(ScoreDistribution.of(found.mass, found.numbers), found, tol=0.0)
    with pytest.raises(DataError):
        ScoreDistribution.of(found.mass, found.numbers | change)


@pytest.mark.parametrize("mass", [[-1.0], [np.nan], [[1.0]]])
def test_damaged_masses_are_refused(mass: Any) -> None:
    with pytest.raises(DataError):
        ScoreDistribution.of(np.array(mass), ScoreDistribution().numbers)
