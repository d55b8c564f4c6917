"""Components that die are given new work, and no mass is lost by it."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from streamclust import kernels
from streamclust.arrays import Array, CovarianceType
from streamclust.models import KMeans, KMeansParams
from streamclust.models.covariance import COVARIANCES
from streamclust.models.revive import reseed, split
from streamclust.models.stats import Stats, decay, merge, recentre, zero
from tests.support.strategies import (
    COVARIANCE_TYPES,
    REACH,
    floats,
    laws,
    matrix,
    mixture_of,
    random_params,
)

kinds = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def totals(stats: Stats) -> tuple[float, Array, Array | None]:
    """Mass, first and second moment of all components, about the origin."""
    moved = recentre(stats, np.zeros_like(stats.reference))
    second = moved.second
    if second is not None and stats.covariance_type != "tied":
        second = second.sum(axis=0)
    return float(moved.weight.sum()), moved.first.sum(axis=0), second


def assert_same_totals(a: Stats, b: Stats, tol: float = 1e-8) -> None:
    """Nothing was made, and nothing lost."""
    (mass, first, second), (mass_b, first_b, second_b) = totals(a), totals(b)
    room = tol * (1.0 + mass)
    assert mass_b == pytest.approx(mass, abs=room)
    assert_allclose(first_b, first, atol=room * REACH)
    if second is not None and second_b is not None:
        assert_allclose(second_b, second, atol=room * REACH**2)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Stats, Array, Array]:
    """Statistics that hold a batch and an older past, and the batch."""
    K, D, n = draw(st.integers(2, 5)), draw(st.integers(1, 2)), draw(st.integers(1, 15))
    X = draw(arrays(np.float64, (n, D), elements=st.integers(-3, 3).map(float)))
    w = draw(arrays(np.float64, (n,), elements=st.sampled_from([0.001, 0.5, 1.0, 3.0])))
    centroids = draw(matrix(K, D, low=-4.0, high=4.0))
    past = KMeans(K).prior_stats(KMeansParams(centroids), 1.0)
    masses = draw(arrays(np.float64, (K,), elements=st.sampled_from([0.0, 1e-3, 1.0, 50.0])))
    old = Stats(masses, 0.1 * masses[:, None] * np.ones((K, D)), None, past.reference, None, 0, 0)
    batch = KMeans(K).e_step(KMeansParams(centroids), X, w)
    return merge(batch, decay(old, draw(floats(0.0, 1.0)))), X, w


def inertia(X: Array, w: Array, places: Array) -> float:
    """J of a batch."""
    return float((w * kernels.assign(X, places).squared_distances).sum())


def without(stats: Stats, dying: set[int]) -> Stats:
    """The same statistics, without any mass in dying components."""
    weight, first, second = stats.weight.copy(), stats.first.copy(), stats.second
    weight[list(dying)], first[list(dying)] = 0.0, 0.0
    if second is not None and stats.covariance_type != "tied":
        second = second.copy()
        second[list(dying)] = 0.0
    return replace(stats, weight=weight, first=first, second=second)


@given(stream=streams(), data=st.data(), seed=st.integers(0, 99))
@laws
def test_reseeding_keeps_the_mass_and_the_moments_of_the_batch(
    stream: tuple[Stats, Array, Array], data: st.DataObject, seed: int
) -> None:
    stats, X, w = stream
    dying = data.draw(st.sets(st.integers(0, len(stats.weight) - 1)))
    after, revived = reseed(stats, sorted(dying), X, w, np.random.default_rng(seed))
    assert set(revived) <= dying
    assert (after.weight >= 0.0).all()
    assert after.mass == pytest.approx(stats.mass)
    batch = KMeans(len(stats.weight)).e_step(KMeansParams(stats.reference), X, w)
    new = without(stats, dying)
    for k in dying:
        new.weight[k], new.first[k] = batch.weight[k], batch.first[k]
    after, _ = reseed(new, sorted(dying), X, w, np.random.default_rng(seed))
    assert_same_totals(new, after)


@pytest.mark.parametrize("far", [1e9, 1e90])
def test_what_is_left_of_far_points_moves_no_centroid_and_widens_no_component(far: float) -> None:
    X, w = np.array([[-1.0], [1.0], [9.0], [11.0]]), np.ones(4)
    params = KMeansParams(np.array([[0.0], [10.0], [far]]))
    old = replace(KMeans(3).prior_stats(params, 1.0), weight=np.array([0.0, 0.0, 1e-3]))
    stats, revived = reseed(
        merge(KMeans(3).e_step(params, X, w), old), [2], X, w, np.random.default_rng(0)
    )
    assert revived == (2,)
    assert stats.mass == pytest.approx(4.001)
    assert np.abs(stats.averages(stats.reference)).max() < 12.0
    family = mixture_of("diag", 3)
    mixture = random_params(family, params.centroids, np.random.default_rng(0))
    old = replace(family.prior_stats(mixture, 1.0), weight=np.array([0.0, 0.0, 1e-3]))
    stats, revived = split(merge(family.e_step(mixture, X, w), decay(old, 1e-3)), [2])
    assert revived == (2,)
    learned = family.m_step(stats, mixture)
    assert np.abs(learned.means).max() < 12.0
    assert learned.covariances.max() < 30.0


@given(stream=streams(), data=st.data(), seed=st.integers(0, 99))
@laws
def test_reseeding_never_raises_j_and_each_revived_cluster_sits_on_a_point_of_the_batch(
    stream: tuple[Stats, Array, Array], data: st.DataObject, seed: int
) -> None:
    stats, X, w = stream
    dying = data.draw(st.sets(st.integers(0, len(stats.weight) - 1)))
    after, revived = reseed(stats, sorted(dying), X, w, np.random.default_rng(seed))
    before = inertia(X, w, stats.reference)
    assert inertia(X, w, after.reference) <= before * (1.0 + 1e-12)
    assert {tuple(after.reference[k]) for k in revived} <= {tuple(x) for x in X}
    kept = np.setdiff1d(np.arange(len(stats.weight)), revived)
    assert (after.reference[kept] == stats.reference[kept]).all()


def test_a_dead_cluster_takes_over_the_points_that_are_nearer_to_its_new_place() -> None:
    X = np.array([[0.0], [0.0], [10.0], [10.0], [11.0]])
    family = KMeans(2)
    stats = family.e_step(KMeansParams(np.array([[0.0], [99.0]])), X, np.ones(5))
    after, revived = reseed(stats, [1], X, np.ones(5), np.random.default_rng(0))
    assert revived == (1,)
    assert after.weight.tolist() == [2.0, 3.0]
    centroids = family.m_step(after, KMeansParams(stats.reference)).centroids
    assert_allclose(centroids, [[0.0], [31.0 / 3.0]])


def test_no_cluster_is_reseeded_while_every_point_sits_on_a_centroid() -> None:
    X, params = np.array([[0.0], [1.0]]), KMeansParams(np.array([[0.0], [1.0], [5.0]]))
    stats = KMeans(3).e_step(params, X, np.ones(2))
    assert reseed(stats, [2], X, np.ones(2), np.random.default_rng(0)) == (stats, ())


def test_the_only_cluster_is_never_reseeded() -> None:
    X = np.array([[0.0], [1.0]])
    stats = KMeans(1).e_step(KMeansParams(np.zeros((1, 1))), X, np.ones(2))
    assert reseed(stats, [0], X, np.ones(2), np.random.default_rng(0)) == (stats, ())


def test_a_light_cluster_far_from_all_others_is_left_in_peace() -> None:
    # Its point weighs little, but to give the point up would cost more J than is to be won.
    X, w = np.array([[-0.1], [0.1], [1000.0]]), np.array([1.0, 1.0, 0.001])
    stats = KMeans(2).e_step(KMeansParams(np.array([[0.0], [1000.0]])), X, w)
    for seed in range(10):
        assert reseed(stats, [1], X, w, np.random.default_rng(seed)) == (stats, ())


@kinds
@given(data=st.data(), K=st.integers(1, 5), D=st.integers(1, 3), seed=st.integers(0, 10**6))
@laws
def test_splitting_keeps_the_totals_up_to_the_second_moment(
    kind: CovarianceType, data: st.DataObject, K: int, D: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    family = mixture_of(kind, K)
    params = random_params(family, data.draw(matrix(K, D, low=-5.0, high=5.0)), rng)
    stats = family.e_step(params, 3.0 * rng.normal(size=(20, D)), np.ones(20))
    dying = data.draw(st.sets(st.integers(0, K - 1), max_size=K - 1))
    after, revived = split(stats, sorted(dying))
    assert set(revived) <= dying
    assert (after.weight >= 0.0).all()
    assert after.mass == pytest.approx(stats.mass)
    after, _ = split(without(stats, dying), sorted(dying))
    assert_same_totals(without(stats, dying), after)


@kinds
@given(data=st.data(), K=st.integers(2, 5), D=st.integers(1, 3), seed=st.integers(0, 10**6))
@laws
def test_what_is_split_has_positive_definite_covariances(
    kind: CovarianceType, data: st.DataObject, K: int, D: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    family = mixture_of(kind, K)
    params = random_params(family, data.draw(matrix(K, D, low=-5.0, high=5.0)), rng)
    X = rng.integers(-2, 3, size=(12, D)).astype(float)
    dying = data.draw(st.sets(st.integers(0, K - 1), min_size=1, max_size=K - 1))
    stats, _ = split(family.e_step(params, X, np.ones(12)), sorted(dying))
    learned = family.m_step(stats, params)
    assert np.isfinite(learned.root).all()  # a factor exists
    assert_allclose(learned.weights.sum(), 1.0)
    if kind in ("full", "tied"):
        assert np.linalg.eigvalsh(learned.covariances).min() > 0.0
    else:
        assert learned.covariances.min() > 0.0


@kinds
def test_the_halves_lie_on_either_side_of_the_whole(kind: CovarianceType) -> None:
    family = mixture_of(kind, 2)
    X = np.random.default_rng(0).normal(size=(400, 2)) * [5.0, 1.0]
    params = random_params(family, np.array([[0.0, 0.0], [500.0, 0.0]]), np.random.default_rng(0))
    stats, revived = split(family.e_step(params, X, np.ones(400)), [1])
    learned = family.m_step(stats, params)
    assert revived == (1,)
    assert_allclose(learned.weights, [0.5, 0.5])
    assert_allclose(learned.means.mean(axis=0), X.mean(axis=0), atol=1e-9)
    apart = np.abs(learned.means[0] - learned.means[1])
    assert apart.max() > 2.0


def test_the_only_component_is_never_split() -> None:
    family = mixture_of("full", 1)
    params = random_params(family, np.zeros((1, 2)), np.random.default_rng(0))
    stats = family.e_step(params, np.eye(2), np.ones(2))
    after, revived = split(stats, [0])
    assert revived == ()
    assert_same_totals(stats, after)


def test_statistics_without_second_moments_have_nothing_to_split() -> None:
    with pytest.raises(TypeError, match="only a mixture can be split"):
        split(zero(np.zeros((2, 1)), None), [0])


@kinds
def test_components_without_any_mass_are_left_alone(kind: CovarianceType) -> None:
    nothing = zero(np.zeros((2, 2)), kind)
    after, revived = split(nothing, [0, 1])
    assert revived == ()
    assert after.second is not None
    assert after.second.shape == COVARIANCES[kind].shape(2, 2)
    assert not after.weight.any()
