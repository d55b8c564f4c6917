"""The algebra of statistics, stated as laws."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal

from streamclust.arrays import Array, CovarianceType
from streamclust.kernels import mixture_moments
from streamclust.models.stats import Stats, decay, merge, recentre, reorder, zero
from tests.support.strategies import (
    COVARIANCE_TYPES,
    assert_same_stats,
    floats,
    laws,
    matrix,
    statistics,
)

K, D = 3, 2
kinds = pytest.mark.parametrize("kind", [None, *COVARIANCE_TYPES])
shares = floats(0.0, 2.0)


def moments_about(reference: Array, X: Array, weighted: Array, kind: CovarianceType) -> Stats:
    """Statistics of points with given responsibilities, straight from the definition."""
    moments = mixture_moments(X, weighted, reference, kind)
    return Stats(*moments, reference, kind, 0.0, float(weighted.sum()))


@kinds
@given(data=st.data())
@laws
def test_merging_is_associative(kind: CovarianceType | None, data: st.DataObject) -> None:
    a, b, c = (data.draw(statistics(kind, K, D)) for _ in range(3))
    assert_same_stats(merge(merge(a, b), c), merge(a, merge(b, c)))


@kinds
@given(data=st.data())
@laws
def test_merging_is_commutative(kind: CovarianceType | None, data: st.DataObject) -> None:
    a, b = data.draw(statistics(kind, K, D)), data.draw(statistics(kind, K, D))
    assert_same_stats(merge(a, b), merge(b, a))


@kinds
@given(data=st.data())
@laws
def test_merging_with_zero_changes_nothing(
    kind: CovarianceType | None, data: st.DataObject
) -> None:
    a, nothing = data.draw(statistics(kind, K, D)), zero(data.draw(matrix(K, D)), kind)
    assert_same_stats(merge(a, nothing), a)
    assert_same_stats(merge(nothing, a), a)


@kinds
@given(data=st.data())
@laws
def test_a_merger_is_about_the_reference_of_its_first_argument(
    kind: CovarianceType | None, data: st.DataObject
) -> None:
    a, b = data.draw(statistics(kind, K, D)), data.draw(statistics(kind, K, D))
    assert merge(a, b).reference is a.reference


@kinds
@given(data=st.data(), a=shares, b=shares)
@laws
def test_forgetting_twice_is_forgetting_by_the_product(
    kind: CovarianceType | None, data: st.DataObject, a: float, b: float
) -> None:
    stats = data.draw(statistics(kind, K, D))
    assert_same_stats(decay(decay(stats, b), a), decay(stats, a * b))


@kinds
@given(data=st.data(), lam=shares)
@laws
def test_forgetting_distributes_over_merging(
    kind: CovarianceType | None, data: st.DataObject, lam: float
) -> None:
    a, b = data.draw(statistics(kind, K, D)), data.draw(statistics(kind, K, D))
    assert_same_stats(decay(merge(a, b), lam), merge(decay(a, lam), decay(b, lam)))


@kinds
@given(data=st.data(), lam=shares)
@laws
def test_forgetting_commutes_with_recentring(
    kind: CovarianceType | None, data: st.DataObject, lam: float
) -> None:
    stats, there = data.draw(statistics(kind, K, D)), data.draw(matrix(K, D))
    assert_same_stats(decay(recentre(stats, there), lam), recentre(decay(stats, lam), there))


@kinds
@given(data=st.data())
@laws
def test_forgetting_all_leaves_zero_and_forgetting_nothing_leaves_all(
    kind: CovarianceType | None, data: st.DataObject
) -> None:
    stats = data.draw(statistics(kind, K, D))
    assert_same_stats(decay(stats, 0.0), zero(stats.reference, kind))
    assert_same_stats(decay(stats, 1.0), stats, tol=0.0)


@kinds
@given(data=st.data())
@laws
def test_recentring_there_and_back_changes_nothing(
    kind: CovarianceType | None, data: st.DataObject
) -> None:
    stats, there = data.draw(statistics(kind, K, D)), data.draw(matrix(K, D))
    assert_same_stats(recentre(recentre(stats, there), stats.reference), stats)


@kinds
@given(data=st.data())
@laws
def test_recentring_by_way_of_another_place_is_recentring_at_once(
    kind: CovarianceType | None, data: st.DataObject
) -> None:
    stats = data.draw(statistics(kind, K, D))
    via, there = data.draw(matrix(K, D)), data.draw(matrix(K, D))
    assert_same_stats(recentre(recentre(stats, via), there), recentre(stats, there))


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@given(data=st.data(), n=st.integers(1, 8))
@laws
def test_recentred_moments_are_those_taken_about_the_new_reference(
    kind: CovarianceType, data: st.DataObject, n: int
) -> None:
    X, weighted = data.draw(matrix(n, D)), data.draw(matrix(n, K, low=0.0))
    here, there = data.draw(matrix(K, D)), data.draw(matrix(K, D))
    moved = recentre(moments_about(here, X, weighted, kind), there)
    assert_same_stats(moments_about(there, X, weighted, kind), moved)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_recentred_matrices_are_symmetric_to_the_last_bit(kind: CovarianceType) -> None:
    rng = np.random.default_rng(0)
    stats = moments_about(
        rng.normal(size=(K, 5)), rng.normal(size=(40, 5)), rng.random((40, K)), kind
    )
    second = recentre(stats, rng.normal(size=(K, 5))).second
    assert second is not None
    assert_array_equal(second, second.swapaxes(-1, -2))


@kinds
@given(data=st.data())
@laws
def test_reordering_keeps_the_named_components_and_a_moment_that_all_share(
    kind: CovarianceType | None, data: st.DataObject
) -> None:
    stats, order = data.draw(statistics(kind, K, D)), np.array([2, 0])
    found = reorder(stats, order)
    assert_array_equal(found.weight, stats.weight[[2, 0]])
    assert_array_equal(found.first, stats.first[[2, 0]])
    assert_array_equal(found.reference, stats.reference[[2, 0]])
    assert (found.objective, found.count) == (stats.objective, stats.count)
    if stats.second is None:
        assert found.second is None
    else:
        expected = stats.second if kind == "tied" else stats.second[[2, 0]]
        assert_array_equal(found.second, expected)


@kinds
def test_the_verbs_leave_their_arguments_as_they_were(kind: CovarianceType | None) -> None:
    places = np.arange(6.0).reshape(K, D)
    a = decay(merge(zero(places, kind), zero(places + 1.0, kind)), 0.5)
    for array in (a.weight, a.first, a.reference):
        array.flags.writeable = False
    if a.second is not None:
        a.second.flags.writeable = False
    merge(a, recentre(decay(a, 0.5), places + 2.0))
    assert_array_equal(a.weight, np.zeros(K))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("full", (K, D, D)), ("tied", (D, D)), ("diag", (K, D)), ("spherical", (K,))],
)
def test_the_second_moment_has_the_shape_of_its_covariance_type(
    kind: CovarianceType, shape: tuple[int, ...]
) -> None:
    second = zero(np.zeros((K, D)), kind).second
    assert second is not None
    assert second.shape == shape


def test_kmeans_statistics_have_no_second_moment() -> None:
    assert zero(np.zeros((K, D)), None).second is None


def test_a_component_without_mass_has_the_average_that_it_is_given() -> None:
    stats = zero(np.zeros((2, 1)), None)
    stats.weight[:] = [2.0, 1e-250]  # the second has faded to less than any real mass
    stats.first[:] = [[3.0], [1e-250]]
    assert stats.alive.tolist() == [True, False]
    assert stats.averages(otherwise=np.array([[7.0], [8.0]])).tolist() == [[1.5], [8.0]]


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_unit_spread_at_a_distance_of_1e8_survives_cutting_merging_and_recentring(
    kind: CovarianceType,
) -> None:
    # Raw moments in float64 have nothing left here: 1e16 + 1 == 1e16.
    X = 1e8 + np.random.default_rng(0).normal(size=(1000, 2))
    centred = X - X.mean(axis=0)
    full = centred.T @ centred
    diagonal = np.diag(full)
    expected = {"full": full[None], "tied": full, "diag": diagonal[None]}
    parts = [
        moments_about(chunk[:1].copy(), chunk, np.ones((len(chunk), 1)), kind)
        for chunk in np.array_split(X, 7)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = merge(total, part)
    second = recentre(total, total.averages(otherwise=total.reference)).second
    assert second is not None
    assert_allclose(second, expected.get(kind, diagonal.mean()), rtol=1e-6, atol=1e-3)
