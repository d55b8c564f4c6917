"""Moments of present values, and scales and variances that follow from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from streamclust.arrays import as_points, distinct_points, square_unit
from streamclust.errors import DataError, TooFewPointsError
from streamclust.models.present import check_features, filled_by_mean, present_mean
from streamclust.models.scaling import learn_scaling
from streamclust.models.spread import Spread, robust_variance
from tests.support.gaps import with_gaps


def table(share: float = 0.4, n: int = 300) -> Any:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4)) * [1.0, 1e-3, 50.0, 2.0] + [0.0, 7.0, 1e6, -3.0]
    return with_gaps(X, share), rng.uniform(0.5, 2.0, n)


def columns(X: Any, w: Any) -> Any:
    """Yield the present values of each feature as points of one dimension."""
    for x in X.T:
        present = ~np.isnan(x)
        yield x[present, None], w[present]


def test_the_mean_of_a_feature_is_that_of_its_present_values() -> None:
    X, w = table()
    wanted = [np.average(x, axis=0, weights=v)[0] for x, v in columns(X, w)]
    assert_allclose(present_mean(X, w), wanted, rtol=1e-12)
    filled = filled_by_mean(X, w)
    assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])
    assert_allclose(filled[np.isnan(X[:, 2]), 2], wanted[2])


@pytest.mark.parametrize("kind", ["standard", "robust"])
def test_scales_and_variances_of_a_feature_are_those_of_its_present_values(kind: Any) -> None:
    X, w = table()
    X[3, 0] = 1e9  # a sentinel value
    found = learn_scaling(kind, X, w)
    each = [learn_scaling(kind, *column) for column in columns(X, w)]
    assert found is not None
    assert_array_equal(found.center, [one.center[0] for one in each if one])
    assert_array_equal(found.scale, [one.scale[0] for one in each if one])
    assert np.isnan(found.apply(X)).sum() == np.isnan(X).sum()
    variances = [robust_variance(*column)[0] for column in columns(X, w)]
    assert_array_equal(robust_variance(X, w), variances)


def test_the_stored_variance_follows_features_with_gaps() -> None:
    X, w = table(0.5, 6400)
    spread = Spread(np.ones(4))
    for start in range(0, len(X), 32):
        spread = spread.observe(X[start : start + 32], w[start : start + 32])
    assert_allclose(spread.variance, [1.0, 1e-6, 2500.0, 4.0], rtol=0.4)
    X[:, 1] = np.nan
    later = spread.observe(X[:32], w[:32])
    for start in range(0, 1024, 32):
        later = later.observe(X[start : start + 32], w[start : start + 32])
    assert later.variance[1] == pytest.approx(spread.variance[1], rel=0.5)


def test_a_feature_without_any_value_is_named_by_its_number() -> None:
    X, _ = table()
    check_features(X)
    X[:, 2] = np.nan
    with pytest.raises(TooFewPointsError, match=r"feature 2 .* missing in all 300 points"):
        check_features(X)
    X[:, 0] = np.nan
    with pytest.raises(TooFewPointsError, match="features 0, 2 "):
        check_features(X)


def test_a_point_without_any_value_is_named_by_its_row() -> None:
    X = [[1.0, None], [None, None], [2.0, 3.0], [np.nan, np.nan]]
    with pytest.raises(
        DataError, match="2 rows of X, the first at index 1: all values are missing"
    ):
        as_points(X, missing="learn")  # type: ignore[arg-type]
    assert np.isnan(as_points(X[::2], missing="learn")).tolist() == [  # type: ignore[arg-type]
        [False, True],
        [False, False],
    ]


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e101])
def test_other_values_than_numbers_are_refused_beside_gaps(bad: float) -> None:
    with pytest.raises(DataError, match=r"X holds .*; expected a magnitude up to 1e\+100"):
        as_points([[1.0, np.nan], [bad, 2.0]], missing="learn")
    with pytest.raises(DataError, match="X holds nan"):
        as_points([[1.0, np.nan]])


def test_masked_values_are_missing() -> None:
    X = np.ma.masked_array([[1, 2], [3, 4]], mask=[[False, True], [False, False]])
    assert_array_equal(as_points(X, missing="learn"), [[1.0, np.nan], [3.0, 4.0]])
    with pytest.raises(DataError, match="X holds nan"):
        as_points(X)


def test_equal_points_have_the_same_gaps() -> None:
    X = np.array([[1.0, np.nan], [np.nan, 1.0], [1.0, np.nan], [1.0, 2.0]])
    distinct, weight = distinct_points(X, np.array([1.0, 2.0, 4.0, 8.0]))
    assert_array_equal(distinct, [[1.0, 2.0], [1.0, np.nan], [np.nan, 1.0]])
    assert weight.tolist() == [8.0, 5.0, 2.0]


def test_gaps_do_not_hide_small_numbers() -> None:
    X = np.array([[1e-200, 3e-200], [2e-200, 5e-200]])
    gaps = np.array([[1e-200, 3e-200], [2e-200, 5e-200], [np.nan, 4e-200]])
    assert square_unit(gaps) == square_unit(X) < 1.0
