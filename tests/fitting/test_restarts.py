"""Batch fits: laws of weights and units, and what happens at the edges."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris

from streamclust import KMeans
from streamclust.arrays import Array, Labels
from streamclust.errors import DataError, TooFewPointsError
from streamclust.fitting.em import EMResult, InMemory, run_em
from streamclust.fitting.fit import fit
from streamclust.models import GaussianMixture
from tests.support.exhaustive import combinations, some
from tests.support.strategies import (
    COVARIANCE_TYPES,
    FAMILIES,
    blobs,
    family_of,
    laws,
    mixture_of,
    random_params,
    same_partition,
)

CENTRES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
families = pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "diag", "full"))
mixtures = pytest.mark.parametrize("kind", some(COVARIANCE_TYPES, "tied", "full"))


def labels_of(name: str, X: Array, run: EMResult[Any]) -> Labels:
    """Each point's component."""
    return family_of(name, len(run.params.means)).predict(run.params, X)


@families
def test_clear_clusters_are_found(name: str) -> None:
    X, owners = blobs(60, CENTRES)
    run = fit(family_of(name, 3), X)
    assert run.converged
    assert same_partition(labels_of(name, X, run), owners)


@families
def test_the_best_of_several_runs_is_returned(name: str) -> None:
    X, _ = blobs(10, np.random.default_rng(0).normal(size=(25, 2)), spread=0.3)
    family = family_of(name, 25)
    one, best_of_eight = (fit(family, X, n_init=n).loss for n in (1, 8))
    assert best_of_eight < one


@pytest.mark.parametrize("seed", combinations(range(50), always=lambda seed: seed < 10))
def test_every_seed_finds_the_best_clusters_of_the_iris_data(seed: int) -> None:
    # Lloyd's algorithm alone ends at 78.8556658 more often than not, whatever it starts from.
    run = fit(KMeans(3), load_iris().data, seed=seed)
    assert run.stats.objective == pytest.approx(78.8514414261, abs=1e-9)


@families
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    X, _ = blobs(40, CENTRES)
    one, same = (fit(family_of(name, 4), X, seed=(3, 5)).params for _ in range(2))
    assert one.means.tobytes() == same.means.tobytes()


@families
def test_weight_two_is_the_point_twice_and_weight_zero_no_point(name: str) -> None:
    X, _ = blobs(40, CENTRES)
    w = np.random.default_rng(1).integers(0, 4, len(X))
    weighted = fit(family_of(name, 3), X, w.astype(float))
    repeated = fit(family_of(name, 3), np.repeat(X, w, axis=0))
    for one, other in zip(weighted.history, repeated.history, strict=True):
        assert one == pytest.approx(other, rel=1e-9)
    # Runs that end at the same loss differ in the order of their components.
    means = (np.sort(run.params.means, axis=0) for run in (weighted, repeated))
    assert_allclose(next(means), next(means), rtol=1e-9, atol=1e-9)


@given(data=st.data(), n=st.integers(1, 30), D=st.integers(1, 2), seed=st.integers(0, 99))
@laws
def test_k_distinct_points_are_given_k_distinct_labels(
    data: st.DataObject, n: int, D: int, seed: int
) -> None:
    X = data.draw(arrays(np.float64, (n, D), elements=st.integers(-2, 2).map(float)))
    K = data.draw(st.integers(1, len(np.unique(X, axis=0))))
    run = fit(KMeans(K), X, n_init=1, seed=seed)
    assert set(KMeans(K).predict(run.params, X).tolist()) == set(range(K))


def test_the_loop_does_not_end_while_a_cluster_without_points_could_be_given_some() -> None:
    # Two centroids start at the same place; the third would be settled after one step.
    X = np.array([[0.0], [0.1], [50.0], [1000.0]])
    family, rng = KMeans(4), np.random.default_rng(0)
    start = family.from_arrays({"centroids": np.array([[0.0], [0.0], [50.0], [1000.0]])})
    run = run_em(family, start, InMemory(family, X, np.ones(4), rng), tol=1.0)
    assert sorted(run.params.centroids.ravel().tolist()) == [0.0, 0.1, 50.0, 1000.0]


def test_the_loop_ends_where_there_are_too_few_distinct_points_for_all_clusters() -> None:
    X, family = np.array([[0.0], [1.0]]), KMeans(3)
    start = family.from_arrays({"centroids": np.array([[0.0], [1.0], [7.0]])})
    run = run_em(family, start, InMemory(family, X, np.ones(2), np.random.default_rng(0)))
    assert run.converged
    assert run.history == (0.0, 0.0)
    assert run.params.centroids.ravel().tolist() == [0.0, 1.0, 7.0]


@families
def test_the_history_has_one_loss_more_than_there_were_steps(name: str) -> None:
    X, _ = blobs(50, CENTRES, spread=4.0)
    family = family_of(name, 3)
    start = random_params(family, X[:3], np.random.default_rng(0))
    data = InMemory(family, X, np.ones(len(X)), np.random.default_rng(0))
    run = run_em(family, start, data, tol=0.0, max_iter=4)
    assert len(run.history) == 5
    assert not run.converged
    assert run.loss == run.history[-1] == family.loss(family.e_step(run.params, X, data.w))


@families
@pytest.mark.parametrize(
    ("scale", "shift", "tol"), [(1e-6, 0.0, 1e-9), (1e6, 0.0, 1e-9), (1.0, 1e8, 1e-6)]
)
def test_other_units_or_another_origin_change_nothing_but_units(
    name: str, scale: float, shift: float, tol: float
) -> None:
    X, _ = blobs(80, CENTRES)
    moved = scale * X + shift
    # One run each: of several that end at the same optimum, rounding says which is best.
    here, there = (fit(family_of(name, 3), points, n_init=1) for points in (X, moved))
    assert_array_equal(labels_of(name, moved, there), labels_of(name, X, here))
    assert_allclose((there.params.means - shift) / scale, here.params.means, rtol=tol, atol=tol)
    if name != "kmeans":
        assert_allclose(there.params.weights, here.params.weights, rtol=tol)
        covariances = there.params.covariances / scale**2
        assert_allclose(covariances, here.params.covariances, rtol=tol, atol=tol)


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_features_may_have_wildly_different_units(kind: Any) -> None:
    units = 10.0 ** np.arange(-16, 17, 4)  # nine of them
    X, owners = blobs(100, [[-4.0] * 9, [4.0] * 9])
    family = mixture_of(kind, 2)
    plain, wild = fit(family, X).params, fit(family, X * units).params
    assert same_partition(family.predict(wild, X * units), owners)
    assert_array_equal(family.predict(wild, X * units), family.predict(plain, X))
    assert_allclose(wild.means / units, plain.means, rtol=1e-9, atol=1e-9)
    square = units**2 if kind == "diag" else np.outer(units, units)
    assert_allclose(wild.covariances / square, plain.covariances, rtol=1e-8, atol=1e-9)


@mixtures
def test_unit_spread_far_from_the_origin_is_estimated_to_1e_6(kind: Any) -> None:
    X = 1e8 + np.random.default_rng(0).normal(size=(5000, 2))
    run = fit(GaussianMixture(1, kind, reg_covar=0.0), X, n_init=1)
    full = np.cov(X.T, bias=True)
    expected = {"full": full[None], "tied": full, "diag": np.diag(full)[None]}
    wanted = expected.get(kind, np.array([np.diag(full).mean()]))
    assert_allclose(run.params.covariances, wanted, rtol=1e-6, atol=1e-7)


@families
def test_a_feature_that_never_varies_does_no_harm(name: str) -> None:
    X, owners = blobs(60, CENTRES)
    flat = np.column_stack([X, np.full(len(X), 1234.5), np.zeros(len(X))])
    run = fit(family_of(name, 3), flat)
    assert same_partition(labels_of(name, flat, run), owners)
    assert (run.params.means[:, 2:] == [1234.5, 0.0]).all()
    assert np.isfinite(run.loss)


@families
def test_data_that_never_vary_are_one_component_of_their_own(name: str) -> None:
    run = fit(family_of(name, 1), np.full((20, 2), 3.25))
    assert run.params.means.tolist() == [[3.25, 3.25]]
    if name != "kmeans":
        assert_allclose(np.linalg.det(dense(run.params)), 1e-12)  # reg_covar, in units of 1


def dense(params: Any) -> Array:
    """The first component's covariance as a matrix."""
    D = params.means.shape[1]
    first = params.covariances if params.covariance_type == "tied" else params.covariances[0]
    return np.asarray(first if np.ndim(first) == 2 else np.eye(D) * first)


@families
def test_one_point_is_enough_for_one_component(name: str) -> None:
    run = fit(family_of(name, 1), [[2.0, -1.0]])
    assert run.params.means.tolist() == [[2.0, -1.0]]


@families
def test_as_many_points_as_components_are_enough(name: str) -> None:
    X = np.array([[0.0], [1.0], [5.0]])
    run = fit(family_of(name, 3), X)
    assert_allclose(np.sort(run.params.means.ravel()), [0.0, 1.0, 5.0], atol=1e-6)


@families
def test_points_with_many_duplicates_are_weighted_points(name: str) -> None:
    X = np.repeat([[0.0, 0.0], [1.0, 0.0], [8.0, 1.0], [8.0, 2.0]], 25, axis=0)
    run = fit(family_of(name, 2), X)
    found = run.params.means[np.argsort(run.params.means[:, 0])]
    assert_allclose(found, [[0.5, 0.0], [8.0, 1.5]], atol=1e-3)


@families
def test_too_few_distinct_points_are_an_error_with_both_numbers(name: str) -> None:
    message = "3 distinct points are too few for 4 components"
    with pytest.raises(TooFewPointsError, match=message):
        fit(family_of(name, 4), [[0.0], [1.0], [1.0], [2.0], [0.0]])


@families
@pytest.mark.parametrize(
    ("X", "w"), [(np.empty((0, 2)), None), ([[1.0, 2.0], [3.0, 4.0]], [0.0, 0.0])]
)
def test_no_points_at_all_are_too_few(name: str, X: Any, w: Any) -> None:
    with pytest.raises(TooFewPointsError, match=r"^0 distinct points"):
        fit(family_of(name, 1), X, w)


@families
def test_bad_points_and_bad_weights_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="NaN"):
        fit(family_of(name, 1), [[np.nan]])
    with pytest.raises(DataError, match="sample weights"):
        fit(family_of(name, 1), [[1.0]], [-1.0])


@mixtures
def test_points_without_spread_need_the_floor(kind: Any) -> None:
    with pytest.raises(DataError, match="raise reg_covar"):
        fit(GaussianMixture(1, kind, reg_covar=0.0), [[1.0, 2.0]])


@families
def test_a_huge_outlier_leaves_finite_parameters(name: str) -> None:
    X, _ = blobs(50, CENTRES)
    run = fit(family_of(name, 3), np.concatenate([X, [[1e100, -1e100]]]))
    arrays_out = family_of(name, 3).to_arrays(run.params)
    assert all(np.isfinite(value).all() for value in arrays_out.values())
