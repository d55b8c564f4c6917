"""Which new component is which old one."""

from __future__ import annotations

import sys
from itertools import permutations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment

from streamclust.fitting.search import search_of
from streamclust.models.matching import assign, match
from tests.support.strategies import FAMILIES, blobs, family_of, laws


@given(seed=st.integers(0, 999), K=st.integers(1, 5))
@laws
def test_it_has_the_least_sum_of_distances_of_all_orders(seed: int, K: int) -> None:
    rng = np.random.default_rng(seed)
    means, onto = rng.normal(size=(2, K, 3))

    def moved(order: object) -> float:
        return float(np.linalg.norm(means[np.asarray(order)] - onto, axis=1).sum())

    best = min(map(moved, permutations(range(K))))
    assert moved(match(means, onto)) == pytest.approx(best)


@given(
    seed=st.integers(0, 999),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    ties=st.booleans(),
)
@laws
def test_an_assignment_is_that_of_scipy_also_among_several_optima(
    seed: int, shape: tuple[int, int], ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    near = 5.0 * (np.arange(shape[1]) != np.arange(shape[0])[:, None])  # often a clear optimum
    noise = rng.integers(0, 3, shape).astype(float) if ties else rng.normal(size=shape)
    cost = rng.permutation(near) + noise
    for found, expected in zip(assign(cost), linear_sum_assignment(cost), strict=True):
        assert_array_equal(found, expected)


def test_components_that_kept_their_places_are_matched_without_scipy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    means = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    assert_array_equal(match(means[[2, 0, 1]] + 0.1, means), [1, 2, 0])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_in_another_order_is_found_again(name: str) -> None:
    rng = np.random.default_rng(1)
    X, _ = blobs(30, rng.normal(size=(4, 3)) * 9.0)
    family = family_of(name, 4)
    params = search_of(family).init(X, np.ones(len(X)), rng)
    order = np.array([2, 0, 3, 1])
    shuffled = family.reorder(params, order)
    assert_array_equal(order[family.match(shuffled, params)], np.arange(4))
    back = family.reorder(shuffled, family.match(shuffled, params))
    for key, value in family.to_arrays(params).items():
        assert_array_equal(family.to_arrays(back)[key], value)
    # and it is the same model, point by point
    assert_allclose(family.score_points(shuffled, X), family.score_points(params, X), rtol=1e-12)


def test_units_of_the_features_do_not_decide_for_a_mixture() -> None:
    # Given two components that differ in a small feature, and noise in one of large units
    rng = np.random.default_rng(0)
    family = family_of("diag", 2)
    X = rng.normal(size=(400, 2)) + np.repeat([[0.0, 0.0], [20.0, 0.0]], 200, axis=0)
    params = search_of(family).init(X * [1.0, 1e6], np.ones(400), rng)
    Y = X + np.array([0.0, 0.3])
    other = search_of(family).init(Y[::-1] * [1.0, 1e6], np.ones(400), np.random.default_rng(3))
    matched = family.reorder(other, family.match(other, params))
    assert_allclose(matched.means[:, 0], params.means[:, 0], atol=1.0)
