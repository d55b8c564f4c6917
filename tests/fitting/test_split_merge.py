"""Out of EM's local optima, and away from what only the floor of the covariances makes likely."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamclust import Forgetting, GaussianMixture, HalfLife, StreamLearner, fit
from streamclust.arrays import Array, CovarianceType
from streamclust.fitting.em import EMResult, InMemory, run_em
from streamclust.fitting.search import search_of
from streamclust.models.covariance import COVARIANCES
from streamclust.models.gaussian_mixture import MixtureParams
from streamclust.models.revive import relocate
from streamclust.models.stats import recentre
from tests.support.exhaustive import some
from tests.support.strategies import COVARIANCE_TYPES, blobs, learn, mixture_of

kinds = pytest.mark.parametrize("kind", some(COVARIANCE_TYPES, "tied", "full"))
CENTRES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])


def climbed(family: GaussianMixture, start: MixtureParams, X: Array) -> EMResult[MixtureParams]:
    """EM from a start to where it rests."""
    return run_em(family, start, in_memory(family, X), tol=1e-6)


def in_memory(family: GaussianMixture, X: Array) -> InMemory[MixtureParams]:
    """Points of weight one."""
    return InMemory(family, X, np.ones(len(X)), np.random.default_rng(0))


def moved(
    family: GaussianMixture, run: EMResult[MixtureParams], X: Array, w: Array | None = None
) -> EMResult[MixtureParams]:
    """Where the moves lead from there."""
    w = np.ones(len(X)) if w is None else w
    data = InMemory(family, X, w, np.random.default_rng(0))
    return search_of(family).split_merge(run, data, X, w, tol=1e-6, max_iter=100)


@kinds
def test_two_components_on_one_blob_and_one_on_two_are_put_right(kind: CovarianceType) -> None:
    X, _ = blobs(150, CENTRES, seed=1)
    family = mixture_of(kind, 4)
    start = MixtureParams(
        np.full(4, 0.25),
        np.array([[-0.5, 0.0], [0.5, 0.0], [4.5, 4.5], [9.0, 9.0]]),
        search_of(family).init(X, np.ones(len(X)), np.random.default_rng(0)).covariances,
        kind,
    )
    stuck = climbed(family, start, X)
    found = moved(family, stuck, X)
    assert found.loss < stuck.loss - 0.05
    order = np.lexsort(found.params.means.T.round(0))
    assert_allclose(found.params.means[order], CENTRES[np.lexsort(CENTRES.T)], atol=0.5)


@kinds
def test_from_the_best_fit_nothing_moves(kind: CovarianceType) -> None:
    X, _ = blobs(150, CENTRES, seed=2)
    best = fit(mixture_of(kind, 4), X, n_init=2, tol=1e-9)
    assert moved(mixture_of(kind, 4), best, X) is best


@kinds
def test_a_move_keeps_the_totals(kind: CovarianceType) -> None:
    X, _ = blobs(60, CENTRES, seed=3)
    family = mixture_of(kind, 4)
    w = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
    stats = family.e_step(fit(family, X).params, X, w)
    stats = recentre(stats, stats.averages(stats.reference))
    after = relocate(stats, 1, 2, 3)
    origin = np.zeros_like(stats.reference)
    before, later = recentre(stats, origin), recentre(after, origin)
    assert_allclose(later.weight.sum(), before.weight.sum())
    assert_allclose(later.first.sum(axis=0), before.first.sum(axis=0))
    axis = None if kind == "tied" else 0
    assert before.second is not None
    assert later.second is not None
    assert_allclose(later.second.sum(axis=axis), before.second.sum(axis=axis))


def with_duplicates(n: int) -> Array:
    """Two clouds of 400 points, and one far point `n` times."""
    X, _ = blobs(400, CENTRES[:2], seed=4)
    return np.concatenate([X, np.tile([[50.0, 50.0]], (n, 1))])


def assert_none_on_equal_points(params: MixtureParams, X: Array, reg_covar: float) -> None:
    """No covariance is the floor alone: in some feature each has twice as much, or more."""
    D = X.shape[1]
    second = COVARIANCES[params.covariance_type].variances(params.covariances, 3, D)
    assert (second > 2.0 * reg_covar * X.var(axis=0)).any(axis=1).all()


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("n", [1, 30])
def test_no_component_lives_on_equal_points(kind: CovarianceType, n: int) -> None:
    X, family = with_duplicates(n), mixture_of(kind, 3, reg_covar=1e-4)
    assert_none_on_equal_points(fit(family, X).params, X, 1e-4)


def test_a_stream_with_duplicates_leaves_no_component_on_them() -> None:
    X = np.random.default_rng(5).permutation(with_duplicates(30))
    family = GaussianMixture(3, reg_covar=1e-4)
    for forgetting in (Forgetting(), HalfLife(points=100.0)):
        state, _ = learn(StreamLearner(family, forgetting, warm_up=200), X)
        assert state.params is not None
        assert_none_on_equal_points(state.params, X, 1e-4)


def test_duplicates_take_the_width_that_the_others_have_on_average() -> None:
    X = with_duplicates(30)
    owners = np.repeat([0, 1, 2], [400, 400, 30])
    family = GaussianMixture(3, reg_covar=1e-4)
    means = np.array([X[owners == k].mean(axis=0) for k in range(3)])
    exact = family.m_step(
        family.e_step(
            MixtureParams(np.full(3, 1 / 3), means, np.tile(0.01 * np.eye(2), (3, 1, 1)), "full"),
            X,
            np.ones(len(X)),
        ),
        MixtureParams(np.full(3, 1 / 3), means, np.zeros((3, 2, 2)), "full"),
    )
    assert_allclose(exact.covariances[2], exact.covariances[:2].mean(axis=0), rtol=0.02)


def test_tight_clusters_far_apart_stay_apart() -> None:
    X, owners = blobs(100, 1e8 * CENTRES[:3], seed=6)
    found = fit(GaussianMixture(3), X)
    assert sorted(found.stats.weight.round().tolist()) == np.bincount(owners).tolist()


def test_a_narrow_body_with_far_tails_stays_narrow() -> None:
    rng = np.random.default_rng(8)
    X = np.concatenate([rng.normal(0.0, 1e-4, 900), rng.normal(0.0, 10.0, 100)])[:, None]
    found = fit(GaussianMixture(2), X)
    assert found.params.covariances.min() < 1e-3


def test_where_all_points_are_few_places_each_has_its_component() -> None:
    X = np.tile(CENTRES[:3], (50, 1))
    found = fit(GaussianMixture(3, reg_covar=1e-4), X)
    order = np.lexsort(found.params.means.T)
    assert_allclose(found.params.means[order], CENTRES[:3][np.lexsort(CENTRES[:3].T)], atol=1e-6)


@kinds
def test_weight_two_is_the_point_twice_for_moves_too(kind: CovarianceType) -> None:
    X, _ = blobs(60, CENTRES, seed=7)
    family, twice = mixture_of(kind, 4), np.concatenate([X, X])
    start = search_of(family).init(X, np.ones(len(X)), np.random.default_rng(3))
    doubled = run_em(
        family, start, InMemory(family, X, np.full(len(X), 2.0), np.random.default_rng(0))
    )
    heavy = moved(family, doubled, X, np.full(len(X), 2.0))
    many = moved(family, run_em(family, start, in_memory(family, twice)), twice)
    assert heavy.loss == pytest.approx(many.loss, abs=1e-6)
