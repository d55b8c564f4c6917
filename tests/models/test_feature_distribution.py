"""The distribution of each feature: its algebra, and tail scores against COPOD by brute force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal

from streamclust.arrays import Array
from streamclust.errors import DataError
from streamclust.models.feature_distribution import (
    BINS,
    MAX_FEATURES,
    RESOLUTION,
    FeatureDistribution,
    _are_fine,
    _tiles,
)
from tests.support.strategies import floats, laws, matrix

D = 3


def empty_in_known_bins() -> FeatureDistribution:
    nothing = np.zeros(D)
    return FeatureDistribution(
        np.zeros((D, BINS)), nothing, np.array([0.0, 1.0, -2.0]), np.array([1.0, 0.5, 4.0])
    )


@st.composite
def distributions(draw: st.DrawFn) -> FeatureDistribution:
    n = draw(st.integers(1, 8))
    X, w = draw(matrix(n, D)), draw(matrix(n, low=0.25))
    X[draw(st.integers(0, n - 1)), 1] = np.nan
    return empty_in_known_bins().histogram(X, w)


def assert_same(a: FeatureDistribution, b: FeatureDistribution) -> None:
    for name, array in a.arrays.items():
        assert_allclose(array, b.arrays[name], rtol=1e-12, atol=1e-12)


@given(distributions(), distributions(), distributions(), floats(0.01, 2.0))
@laws
def test_masses_are_additive_statistics(
    a: FeatureDistribution, b: FeatureDistribution, c: FeatureDistribution, lam: float
) -> None:
    assert_same(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert_same(a.merge(b), b.merge(a))
    assert_same(a.merge(b).decay(lam), a.decay(lam).merge(b.decay(lam)))
    assert a.decay(0.0).is_empty
    assert a.decay(1e-200).is_empty  # the squares of the weights underflow


def test_points_in_parts_are_the_sum_of_the_parts() -> None:
    X = np.random.default_rng(0).standard_cauchy((300_000, D))  # more than one tile
    known = FeatureDistribution().located(X)
    w = np.ones(len(X))
    whole = known.histogram(X, w)
    assert_same(
        whole, known.histogram(X[:1000], w[:1000]).merge(known.histogram(X[1000:], w[1000:]))
    )
    assert_array_equal(whole.total, 300_000.0)
    assert_array_equal(whole.square, 300_000.0)


SAMPLES: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "symmetric": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.exponential(size=n),
    "skewed to the left": lambda rng, n: 1e6 - 1e3 * rng.gamma(2.0, size=n),
    "heavy tails": lambda rng, n: rng.standard_cauchy(n),
    "integers": lambda rng, n: rng.poisson(2.0, n).astype(float),
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, rng.exponential(size=n)),
    "one value": lambda rng, n: np.full(n, -7.5),
}


def middles(x: Array, reference: float, unit: float) -> Array:
    """Values rounded to their bins, by the definition of the bins."""
    u = np.floor(RESOLUTION * np.arcsinh((x - reference) / unit) + 0.5) / RESOLUTION
    return np.asarray(reference + unit * np.sinh(np.clip(u, -8.0, 8.0)))


def by_brute_force(known: Array, x: Array, reference: float, unit: float) -> Array:
    """The terms of values `x` among the values `known`, all rounded to bins, count by count."""
    near = np.clip((known - reference) / unit, -20.0, 20.0)
    spread = near.std()
    skewness = ((near - near.mean()) ** 3).mean() / spread**3 if spread > 0.0 else 0.0
    terms, n = [], len(known)
    for value in x:
        left = -np.log((np.sum(known <= value) + 1) / (n + 1))
        right = -np.log((np.sum(known >= value) + 1) / (n + 1))
        skewed = min(abs(skewness) / 0.2, 1.0)
        both = (left + right) / 2 + (1.0 - skewed) * abs(left - right) / 2
        terms.append(max(right if skewness > 0.0 else left, both))
    return np.array(terms)


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_score_is_that_of_copod_for_values_rounded_to_bins(kind: str) -> None:
    rng = np.random.default_rng(1)
    X, new = SAMPLES[kind](rng, 500), SAMPLES[kind](rng, 100)
    new[:2] = [1e9, -1e9]
    found = FeatureDistribution().add(X[:, None])
    place = float(found.reference[0]), float(found.unit[0])
    X, new = middles(X, *place), middles(new, *place)
    wanted = by_brute_force(X, new, *place)
    assert_allclose(found.scores(new[:, None]), wanted, rtol=1e-9, atol=1e-9)
    assert wanted[:2].max() > 3.0


@pytest.mark.parametrize("kind", ["symmetric", "skewed", "heavy tails"])
def test_a_value_is_rounded_by_at_most_half_a_bin(kind: str) -> None:
    x = SAMPLES[kind](np.random.default_rng(2), 2000)
    found = FeatureDistribution().add(x[:, None])
    reference, unit = float(found.reference[0]), float(found.unit[0])
    inside = np.abs(x - reference) < 1000.0 * unit
    assert inside.mean() > 0.99
    error = np.abs(middles(x, reference, unit) - x)[inside]
    width = np.hypot(unit, x - reference)[inside] / RESOLUTION
    assert (error < 0.53 * width).all()  # sinh isn't linear within a bin
    # and the values are spread over many bins
    assert np.count_nonzero(found.mass) > 30


def test_the_first_points_are_scored_among_the_others() -> None:
    X = np.random.default_rng(3).exponential(size=(60, 2)) ** 2
    found = FeatureDistribution().first_scores(X, np.ones(60))
    known = FeatureDistribution().located(X)
    for n in range(60):
        others = known.histogram(np.delete(X, n, axis=0), np.ones(59))
        assert found[n] == pytest.approx(others.scores(X[n : n + 1])[0])


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**40])
def test_scaling_and_shifting_the_data_changes_no_score(factor: float) -> None:
    rng = np.random.default_rng(4)
    X = np.round(1024.0 * rng.exponential(size=(2000, 2))) / 1024.0  # exact after a shift
    scores = FeatureDistribution().add(X).scores(X)
    for moved in (factor * X, X + 2.0**20):
        assert_array_equal(FeatureDistribution().add(moved).scores(moved), scores)
    for moved in (0.1 * X, 3600.0 * X - 7e5):  # also with rounding
        assert_allclose(FeatureDistribution().add(moved).scores(moved), scores, rtol=1e-3)
    known = FeatureDistribution().add(X).mapped(np.array([2.0, 4.0]), np.array([1.0, -8.0]))
    assert_array_equal(known.scores(X * [2.0, 4.0] + [1.0, -8.0]), scores)


def test_equal_weights_of_any_size_give_the_same_scores() -> None:
    X = np.random.default_rng(5).normal(size=(500, 2))
    known, light = FeatureDistribution().add(X), np.full(500, 1e-3)
    scores = known.scores(X)
    assert_allclose(FeatureDistribution().add(X, light).scores(X), scores)
    first = FeatureDistribution().first_scores(X, np.ones(500))
    assert_allclose(FeatureDistribution().first_scores(X, light), first)
    assert_allclose(known.decay(1e-6).scores(X), scores)


def test_a_missing_value_counts_like_a_usual_one() -> None:
    X = np.random.default_rng(6).exponential(size=(2000, 2))
    known = FeatureDistribution().add(X)
    gap = np.array([[np.nan, 3.0]])
    terms = known.terms(X)
    assert known.scores(gap)[0] == pytest.approx(terms[:, 0].mean() + known.terms(gap)[0, 1])
    assert np.isnan(known.terms(gap)[0, 0])
    # and only the present values are learned
    with_gaps = np.where(np.arange(2000)[:, None] % 2 == [0, 1], X, np.nan)
    found = FeatureDistribution().add(with_gaps)
    assert_array_equal(found.total, 1000.0)
    assert_allclose(found.scores(X), known.scores(X), atol=1.0)
    # and a feature without any value adds nothing
    never = FeatureDistribution().add(np.column_stack([X[:, 0], np.full(2000, np.nan)]))
    assert_array_equal(never.scores(X), terms[:, 0])


def test_a_far_value_does_not_change_the_side_of_the_skew() -> None:
    x = -np.random.default_rng(7).exponential(size=2000)
    known = FeatureDistribution().add(x[:, None])
    after = known.add(np.array([[1e9]]))
    low = np.array([[-9.0]])
    assert after.scores(low)[0] == pytest.approx(known.scores(low)[0], abs=0.01)


@pytest.mark.parametrize("value", [1e100, -1e100])
def test_values_out_of_range_are_in_the_outermost_bins(value: float) -> None:
    known = FeatureDistribution().add(np.random.default_rng(8).normal(size=(1000, 1)))
    found = known.scores(np.array([[value]]))[0]
    assert found == pytest.approx(np.log(1001), rel=0.3)
    assert known.add(np.array([[value]])).mass[0, [0, -1]].sum() == 1.0


def test_bins_follow_a_feature_that_moves_or_changes_its_unit() -> None:
    rng = np.random.default_rng(9)
    known = FeatureDistribution().add(rng.normal(size=(1000, 3)))
    scale, offset = np.array([1e6, 1e-6, 1.0]), np.array([0.0, 0.0, 1e5])
    for _ in range(20):
        known = known.observe(rng.normal(size=(200, 3)) * scale + offset, np.ones(200), 0.5)
    usual, unusual = ([offset + z * scale] for z in (0.1, 4.0))
    assert (known.terms(np.array(usual)) < 1.5).all()
    assert (known.terms(np.array(unusual)) > 4.0).all()
    assert_allclose(known.medians, offset, atol=0.2 * scale.max())
    assert ((known.medians - offset) / scale < 0.2).all()


def test_points_one_by_one_spread_over_bins_too() -> None:
    x = np.random.default_rng(10).normal(size=(300, 1))
    known = FeatureDistribution()
    for n in range(300):
        known = known.add(x[n : n + 1])
    assert known.total == 300.0
    difference = known.scores(x) - FeatureDistribution().add(x).scores(x)
    assert np.median(np.abs(difference)) < 0.5
    assert np.count_nonzero(known.mass) > 30


def test_a_feature_that_never_varied_makes_any_other_value_an_extreme_one() -> None:
    known = FeatureDistribution().add(np.full((500, 1), 3.0))
    assert known.scores(np.array([[3.0], [3.1], [2.0]])).round(1).tolist() == [0.0, 6.2, 6.2]


def test_a_feature_that_stopped_to_vary_long_ago_is_like_one_that_never_did() -> None:
    known = FeatureDistribution().add(np.random.default_rng(11).normal(size=(500, 1)))
    for _ in range(1200):  # masses of 2^-1200 of the others would underflow
        known = known.observe(np.zeros((100, 1)), np.ones(100), 0.5)
    assert np.count_nonzero(known.mass) == 1
    assert known.scores(np.array([[0.0], [3.0]])).round(1).tolist() == [0.0, 5.7]


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("mass", np.zeros((2, BINS))),
        ("mass", np.full((D, BINS), -1.0)),
        ("square", np.full(D, np.nan)),
        ("unit", np.zeros(D)),
        ("reference", np.zeros(2)),
        ("reference", np.full(D, np.inf)),
    ],
)
def test_arrays_of_no_distribution_are_refused(name: str, array: Array) -> None:
    found = empty_in_known_bins().add(np.ones((2, D)), np.full(2, 0.1))
    assert_same(FeatureDistribution.of(found.arrays, D), found)
    with pytest.raises(DataError, match=r"distribution of (3 )?features"):
        FeatureDistribution.of(replace(found, **{name: array}).arrays, D)


# ---- bins in closed form


def test_a_bin_is_a_sixteenth_wide_in_the_inverse_hyperbolic_sine() -> None:
    known = FeatureDistribution(np.zeros((1, 257)), np.zeros(1), np.array([5.0]), np.array([2.0]))
    u = np.arange(-128, 129) / 16.0
    for shift in (-0.49, 0.0, 0.49):
        X = 5.0 + 2.0 * np.sinh(u + shift / 16.0)
        assert_array_equal(known.histogram(X[:, None], np.arange(257.0)).mass[0], np.arange(257.0))
    assert_allclose(known.histogram(np.array([[9.0]]), np.ones(1)).medians, 9.0, rtol=0.05)


@pytest.mark.parametrize(
    ("low", "high", "fine"), [(1, 9, True), (1, 8, False), (0, 9, False), (247, 255, True),
                              (247, 256, False)],
)  # fmt: skip
def test_bins_are_fine_if_eight_of_them_and_not_the_outermost_hold_the_values(
    low: int, high: int, fine: bool
) -> None:
    assert _are_fine(np.array([low]), np.array([high])).tolist() == [fine]


def located(x: Array) -> tuple[float, float]:
    """Return reference and unit of a new feature of these values."""
    found = FeatureDistribution().located(np.random.default_rng(0).permutation(x)[:, None])
    assert found.is_empty
    return float(found.reference[0]), float(found.unit[0])


def test_the_first_values_give_the_median_and_an_eighth_of_the_range_without_two_tenths() -> None:
    assert located(np.arange(100.0)) == (50.0, 79.0 / 8.0)
    assert located(np.append(np.arange(9.0), np.nan)) == (4.0, 1.0)
    # or of the whole range, if the inner values are equal
    assert located(np.append(np.full(98, 3.0), [2.0, 7.0])) == (3.0, 5.0 / 8.0)
    # and values that are equal, or nearly so, have a small unit
    assert located(np.full(9, 3.0)) == (3.0, 3.0 * 2.0**-40)
    assert located(np.full(9, -3.0)) == (-3.0, 3.0 * 2.0**-40)
    assert located(np.zeros(9)) == (0.0, 2.0**-900)
    assert located(2.0**-899 * np.arange(11.0)) == (5.0 * 2.0**-899, 2.0**-899)
    assert located(2.0**-901 * np.arange(11.0)) == (5.0 * 2.0**-901, 2.0**-900)
    # and a feature without a value has any
    assert located(np.full(9, np.nan)) == (0.0, 1.0)


@pytest.mark.parametrize(("n", "every"), [(2047, 1), (2048, 2), (3072, 3)])
def test_at_least_1024_of_many_points_give_the_bins_at_equal_distances(n: int, every: int) -> None:
    X = np.arange(float(n))[:, None]
    found = FeatureDistribution().located(X)
    assert (found.reference[0], found.unit[0]) == located(X[::every, 0])


def test_bins_move_only_if_known_and_new_values_are_in_too_few() -> None:
    # Given a feature whose values are all at 0 in bins as wide as its new values
    known = FeatureDistribution(np.zeros((1, 257)), np.zeros(1), np.zeros(1), np.ones(1))
    known = known.histogram(np.zeros((4, 1)), np.ones(4))
    # When the new values and the reference are in eight bins Then nothing moves
    wide = np.sinh(np.array([4.0, 8.0]) / 16.0)[:, None]
    assert known.located(wide) is known
    # When they are in seven Then their range without two tenths gives the new bins
    narrow = np.sinh(np.array([3.0, 7.0]) / 16.0)[:, None]
    found = known.located(narrow)
    assert (found.reference[0], found.unit[0]) == (narrow[0, 0], narrow[1, 0] / 8.0)
    assert found.total[0] == 4.0
    assert found.medians[0] == pytest.approx(0.0, abs=found.unit[0] / 4.0)
    # and nothing moves without another value
    for same in (np.zeros((3, 1)), np.full((3, 1), np.nan)):
        assert known.located(same) is known
    # and a tenth of the mass decides which bins count
    mass = np.zeros((1, 257))
    mass[0, [100, 128, 156]] = 1.0, 8.0, 1.0
    assert replace(known, mass=mass).located(narrow) is not known
    spread = replace(known, mass=np.where(mass == 8.0, 7.9, mass))
    assert spread.located(narrow) is spread


def test_a_bin_below_a_share_of_2_to_the_minus_50_is_emptied() -> None:
    mass = np.zeros((1, 257))
    mass[0, :3] = 1.0, 2.0**-49.5, 2.0**-50.5
    known = FeatureDistribution(mass, np.ones(1), np.zeros(1), np.ones(1))
    assert_array_equal(known.decay(0.5).mass[0, :4], [0.5, 2.0**-50.5, 0.0, 0.0])
    assert known.decay(0.5).square[0] == 0.25
    assert known.decay(1.0) is known


def test_a_feature_without_values_takes_the_bins_of_the_others() -> None:
    mass = np.zeros((2, 257))
    mass[1, 128] = 3.0
    here = FeatureDistribution(mass, mass[:, 128], np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    there = FeatureDistribution(mass[::-1], mass[::-1, 128], np.array([5.0, 6.0]), np.full(2, 7.0))
    both = here.merge(there)
    assert (both.reference.tolist(), both.unit.tolist()) == ([5.0, 1.0], [7.0, 2.0])
    assert (both.total.tolist(), both.square.tolist()) == ([3.0, 3.0], [3.0, 3.0])
    assert here.merge(FeatureDistribution()) is here
    assert FeatureDistribution().merge(here) is here


def test_other_bins_get_each_mass_at_its_middle() -> None:
    X = np.array([[-3.0], [0.5], [40.0]])
    known = FeatureDistribution(np.zeros((1, 257)), np.zeros(1), np.array([1.0]), np.array([4.0]))
    known = known.histogram(X, np.array([1.0, 2.0, 3.0]))
    place = np.array([0.25]), np.array([0.5])
    wanted = replace(known, reference=place[0], unit=place[1], mass=np.zeros((1, 257)))
    rounded = middles(X[:, 0], 1.0, 4.0)[:, None]
    wanted = wanted.histogram(rounded, np.array([1.0, 2.0, 3.0]))
    assert_array_equal(known.rebinned(*place).mass, wanted.mass)
    assert_array_equal(known.mass.sum(), 6.0)
    assert known.rebinned(known.reference, known.unit) is known


def test_weighted_points_are_scored_among_the_others_by_the_masses_of_both_tails() -> None:
    x, w = np.array([1.0, 2.0, 3.0, 9.0]), np.array([1.0, 4.0, 2.0, 0.5])
    one = (w @ w) / w.sum()  # the weight of a point
    scores = FeatureDistribution().first_scores(x[:, None], w)
    skewness = FeatureDistribution().add(x[:, None], w)._skewness
    assert skewness[0] > 0.2  # so that the right tail decides
    for n in range(4):
        right = w[x >= x[n]].sum() - w[n]
        left = w[x <= x[n]].sum() - w[n]
        tails = [-np.log((tail + one) / (w.sum() - w[n] + one)) for tail in (left, right)]
        assert scores[n] == pytest.approx(max(tails[1], sum(tails) / 2))


def test_first_scores_of_a_missing_value_are_the_usual_ones() -> None:
    X = np.array([[1.0], [2.0], [5.0], [np.nan]])
    known = FeatureDistribution().add(X)
    usual = known.terms(X[:3]).mean()
    assert FeatureDistribution().first_scores(X, np.ones(4))[3] == pytest.approx(usual)


def test_tiles_have_a_row_or_at_most_262144_values() -> None:
    for shape, sizes in (((10, 0), [10]), ((3, 2**18), [1] * 3), ((5, 2**17), [2, 2, 1]),
                         ((2, 2**19), [1, 1])):  # fmt: skip
        X = np.broadcast_to(0.0, shape)
        assert [len(X[part]) for part in _tiles(X)] == sizes


def test_the_numbers_per_feature_and_their_limit_are_as_documented() -> None:
    assert (BINS, MAX_FEATURES) == (257, 1000)
    assert FeatureDistribution().observe(np.ones((1, 1000)), np.ones(1), 1.0).mass.shape == (
        1000, 257,
    )  # fmt: skip
