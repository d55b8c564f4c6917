"""What is accepted as points and weights, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from streamclust.arrays import as_points, as_sample_weight
from streamclust.errors import DataError


def test_points_become_contiguous_float64() -> None:
    points = as_points(np.asfortranarray(np.arange(6, dtype=np.int32).reshape(3, 2)))
    assert points.dtype == np.float64
    assert points.flags.c_contiguous
    assert points.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


def test_no_points_are_points() -> None:
    assert as_points(np.empty((0, 3)), n_features=3).shape == (0, 3)
    assert as_sample_weight(None, 0).shape == (0,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200, -1e200])
def test_a_value_that_could_poison_a_sum_is_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"X holds .*; expected a magnitude up to 1e\+100"):
        as_points([[0.0, 1.0], [value, 2.0]])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([1.0, 2.0], r"shape \(2,\); expected \(N, D\)"),
        (5.0, r"shape \(\); expected \(N, D\)"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\); expected \(N, D\)"),
        (np.zeros((4, 0)), r"shape \(4, 0\); expected \(N, D\)"),
        ([[1.0], [2.0, 3.0]], "table of numbers"),
        ([["one", "two"]], "table of numbers"),
        ([[None, 1.0j]], "table of numbers"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(X: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_points(X)


def test_another_number_of_features_is_refused_with_both_numbers() -> None:
    with pytest.raises(DataError, match="X has 2 features; expected 3"):
        as_points([[1.0, 2.0]], n_features=3)


def test_without_weights_every_point_counts_one() -> None:
    assert as_sample_weight(None, 3).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("value", [-1.0, -1e-300, np.nan, np.inf, 1e200])
def test_a_weight_that_is_negative_or_not_finite_is_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"from 0 to 1e\+100"):
        as_sample_weight([1.0, value], 2)


@pytest.mark.parametrize(
    ("w", "message"),
    [
        ([1.0, 2.0], r"shape \(2,\); expected \(3,\)"),
        (1.0, r"shape \(\); expected \(3,\)"),
        (["a", "b", "c"], "aren't numbers"),
        ([10**400, 1, 1], "aren't numbers"),
    ],
)
def test_weights_of_another_shape_are_refused(w: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_sample_weight(w, 3)


@pytest.mark.parametrize(
    "X",
    [
        np.array([["2020-01-01"], ["NaT"]], "datetime64[ns]"),
        np.array([[1], [2]], "timedelta64[s]"),
        pd.DataFrame({"a": pd.to_datetime(["2020-01-01", None])}),
        np.array([[1.0 + 2.0j]]),
    ],
)
def test_times_and_complex_numbers_are_refused(X: Any) -> None:
    with pytest.raises(DataError, match=r"X has dtype .*; expected real numbers"):
        as_points(X)
