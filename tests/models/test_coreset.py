"""Coresets: their algebra, and that costs on them are those on the stream."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose

from streamclust import kernels
from streamclust.arrays import Array
from streamclust.models import KMeans, KMeansParams
from streamclust.models.coreset import (
    CHUNK,
    Coreset,
    CoresetState,
    _by_neighbourhood,
    _inclusion,
    default_size,
    effective_size,
    join,
    reduce_coreset,
    reweigh,
    subsample,
)
from tests.support.strategies import blobs, laws

CENTRES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])


def coreset_of(seed: int, n: int, D: int = 2) -> Coreset:
    """Points with weights of all sizes."""
    rng = np.random.default_rng(seed)
    return Coreset(rng.normal(size=(n, D)), rng.uniform(0.1, 4.0, n))


def same(a: Coreset, b: Coreset) -> bool:
    """Whether two hold the same points with the same weights, to within rounding."""
    return a.X.tolist() == b.X.tolist() and np.allclose(a.w, b.w, rtol=1e-14)


def cost(coreset: Coreset, means: Array) -> float:
    """J of any centroids."""
    return float(coreset.w @ kernels.assign(coreset.X, means).squared_distances)


sizes = st.integers(0, 20)


@given(a=sizes, b=sizes, c=sizes, seed=st.integers(0, 999))
@laws
def test_joining_associates_and_has_a_zero(a: int, b: int, c: int, seed: int) -> None:
    A, B, C = (coreset_of(seed + i, n) for i, n in enumerate((a, b, c)))
    assert same(join(join(A, B), C), join(A, join(B, C)))
    assert same(join(A, Coreset()), A)
    assert same(join(Coreset(), A), A)
    assert join(A, B).mass == pytest.approx(A.mass + B.mass)


@given(n=sizes, m=sizes, seed=st.integers(0, 999), a=st.floats(0.01, 2.0), b=st.floats(0.01, 2.0))
@laws
def test_fading_composes_and_distributes_over_joining(
    n: int, m: int, seed: int, a: float, b: float
) -> None:
    A, B = coreset_of(seed, n), coreset_of(seed + 1, m)
    assert same(reweigh(reweigh(A, a), b), reweigh(A, a * b))
    assert same(reweigh(join(A, B), a), join(reweigh(A, a), reweigh(B, a)))
    assert same(reweigh(A, 1.0), A)


def test_what_has_faded_to_nothing_is_left_out() -> None:
    old, new = coreset_of(0, 5), coreset_of(1, 7)
    assert same(join(reweigh(old, 2.0**-60), new), new)
    around = Coreset(np.zeros((3, 2)), 2.0 ** np.array([0.0, -49.5, -50.5]))
    assert len(reweigh(around, 0.5).w) == 2
    assert len(reweigh(old, 0.0).w) == 0
    assert len(reweigh(reweigh(old, 1e-300), 1e-300).w) == 0


@given(n=st.integers(1, 60), size=st.integers(1, 60), seed=st.integers(0, 10**6))
@laws
def test_condensing_keeps_the_mass_and_no_more_than_size_points(
    n: int, size: int, seed: int
) -> None:
    full = coreset_of(seed, n)
    small = reduce_coreset(full, full.X[:3], size, np.random.default_rng(seed))
    assert len(small.X) == len(small.w) == min(n, size)
    assert small.mass == pytest.approx(full.mass)
    assert (small.w > 0.0).all()
    assert {tuple(x) for x in small.X.tolist()} <= {tuple(x) for x in full.X.tolist()}


@given(n=st.integers(2, 40), size=st.integers(1, 39), seed=st.integers(0, 10**6))
@laws
def test_probabilities_are_proportional_to_the_shares_up_to_one(
    n: int, size: int, seed: int
) -> None:
    share = np.random.default_rng(seed).exponential(size=n) ** 3
    size = min(size, n - 1)
    probability = _inclusion(share, size)
    assert probability.sum() == pytest.approx(size)
    free = probability < 1.0
    tau = probability[free].sum() / share[free].sum()
    assert_allclose(probability, np.minimum(1.0, tau * share), rtol=1e-9)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("K", [3, 257])
def test_neighbours_are_of_one_cluster_and_direction_by_distance(K: int, gaps: bool) -> None:
    # Given ten features, the last two of which vary least
    rng, n = np.random.default_rng(K), 3000
    labels = rng.integers(K, size=n)
    labels[:2] = 0, K - 1
    means = 1e15 * (rng.normal(size=(K, 10)) + np.array([0] * 8 + [900, 900]))
    offset = 1e15 * rng.normal(size=(n, 10)) * np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 1]) ** 2
    X, squared_distances = means[labels] + offset, (offset**2).sum(axis=1)
    if gaps:
        X[::7, 0] = np.nan
    # When the points are put in order
    order = _by_neighbourhood(Coreset(X, np.ones(n)), labels, squared_distances, means)
    # Then it is that of the cluster, the signs of the widest features, and the distance
    assert sorted(order.tolist()) == list(range(n))
    direction = (X[:, :8] > means[labels, :8]) @ (1 << np.arange(8))
    group = (256 * labels + direction)[order]
    assert (np.diff(group) >= 0).all()
    same_group = np.diff(group) == 0
    assert same_group.sum() > 20
    far = squared_distances[order]
    assert (far[1:] >= 0.99 * far[:-1])[same_group].all()


def test_what_fits_stays_as_it_is() -> None:
    full = coreset_of(0, 30)
    assert reduce_coreset(full, full.X[:2], 30, np.random.default_rng(0)) is full


def test_points_that_all_lie_on_centroids_are_condensed_too() -> None:
    X = np.repeat(CENTRES, 100, axis=0)
    small = reduce_coreset(Coreset(X, np.ones(300)), CENTRES, 60, np.random.default_rng(0))
    assert small.mass == pytest.approx(300.0)
    _, mass = np.unique(small.X, axis=0, return_inverse=True)
    assert_allclose(np.bincount(mass.ravel(), weights=small.w), 100.0, rtol=0.06)


def test_a_far_outlier_is_always_kept() -> None:
    X = np.concatenate([blobs(300, CENTRES)[0], [[1e4, 1e4]]])
    for seed in range(20):
        small = reduce_coreset(Coreset(X, np.ones(901)), CENTRES, 50, np.random.default_rng(seed))
        assert [1e4, 1e4] in small.X.tolist()


def test_costs_are_right_on_average_for_any_centroids() -> None:
    X, _ = blobs(400, CENTRES)
    full = Coreset(X, np.random.default_rng(0).uniform(0.5, 2.0, len(X)))
    others = np.random.default_rng(1).normal(4.0, 4.0, size=(5, 3, 2))
    found = np.array(
        [
            [cost(small, means) for means in others]
            for seed in range(60)
            for small in [reduce_coreset(full, CENTRES, 100, np.random.default_rng(seed))]
        ]
    )
    exact = np.array([cost(full, means) for means in others])
    error = found.mean(axis=0) - exact
    assert (np.abs(error) < 4.0 * found.std(axis=0) / np.sqrt(60) + 0.002 * exact).all()
    assert (found.std(axis=0) < 0.04 * exact).all()


def test_merging_and_reducing_for_long_keeps_the_costs() -> None:
    X, _ = blobs(4000, CENTRES, seed=3)
    rng, core = np.random.default_rng(0), Coreset()
    for batch in np.array_split(np.random.default_rng(1).permutation(X), 40):
        core = reduce_coreset(join(core, Coreset(batch, np.ones(len(batch)))), CENTRES, 500, rng)
    assert len(core.X) <= 500
    for means in np.random.default_rng(2).normal(4.0, 4.0, size=(5, 3, 2)):
        assert cost(core, means) == pytest.approx(cost(Coreset(X, np.ones(len(X))), means), rel=0.1)


def test_a_batch_is_thinned_as_the_stream_behind_it_grows() -> None:
    X, _ = blobs(400, CENTRES)
    batch = Coreset(X, np.ones(1200))

    def kept(mass: float, seed: int = 0) -> Coreset:
        assigned = kernels.assign(X, CENTRES)
        return subsample(X, batch.w, assigned, mass, 3, 100, np.random.default_rng(seed))

    assert kept(0.0).mass == pytest.approx(1200.0)
    assert kept(1e6).mass == pytest.approx(1200.0)
    sizes = [len(kept(mass).X) for mass in (0.0, 1200.0, 8400.0, 1e12)]
    assert sizes == pytest.approx([400, 200, 50, 1], rel=0.1)  # less what is kept for certain
    # and what is kept of many batches costs what all of them do, under any centroids
    thinned = [kept(3e4, seed) for seed in range(300)]
    for means in np.random.default_rng(1).normal(4.0, 4.0, size=(3, 3, 2)):
        found = np.mean([cost(each, means) for each in thinned])
        assert found == pytest.approx(cost(batch, means), rel=0.02)


def test_the_same_generator_gives_the_same_points() -> None:
    full = coreset_of(0, 200)
    one, same_, other = (
        reduce_coreset(full, full.X[:4], 50, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert one.X.tobytes() == same_.X.tobytes()
    assert one.X.tobytes() != other.X.tobytes()


def test_other_units_condense_to_the_same_points() -> None:
    full = coreset_of(5, 300)
    here = reduce_coreset(full, full.X[:4], 50, np.random.default_rng(1))
    scaled = Coreset(full.X * 1024.0, full.w)
    there = reduce_coreset(scaled, scaled.X[:4], 50, np.random.default_rng(1))
    assert there.X.tolist() == (here.X * 1024.0).tolist()
    assert_allclose(there.w, here.w, rtol=1e-12)


def test_the_effective_size_is_that_of_the_points_that_still_say_something() -> None:
    X, _ = blobs(1000, CENTRES)
    full = Coreset(X, np.ones(len(X)))
    assert effective_size(full, CENTRES) == pytest.approx(3000.0)
    faded = Coreset(X, 2.0 ** (-np.arange(3000) / 100.0)[::-1])
    assert effective_size(faded, CENTRES) == pytest.approx(2.0 * faded.mass, rel=0.15)
    small = reduce_coreset(full, CENTRES, 300, np.random.default_rng(0))
    assert 240.0 < effective_size(small, CENTRES) <= 300.0


@pytest.mark.parametrize("unit", [1e-6, 1.0])
def test_the_effective_size_is_that_of_the_sensitivities_if_weights_are_uneven(unit: float) -> None:
    # Given points of the same small cost, so that their weights differ much
    X, means = unit * blobs(30, CENTRES)[0], unit * CENTRES
    labels, squared_distances = kernels.assign(X, means)
    w = 1e-3 * unit**2 / squared_distances
    # Then the size follows from s_n = w_n / (K W_k) + w_n d_n / sum_i w_i d_i
    mass, cost = np.bincount(labels, weights=w), w * squared_distances
    s = w / (len(means) * mass[labels]) + cost / cost.sum()
    assert s.sum() ** 2 / (s**2).sum() > 1.5 * w.sum() ** 2 / (w**2).sum()
    assert effective_size(Coreset(X, w), means) == pytest.approx(s.sum() ** 2 / (s**2).sum())


def test_the_default_size_follows_the_components_within_bounds() -> None:
    assert default_size(3, 2) == 8000
    assert default_size(200, 2) == 20_000
    assert default_size(10, 784) == 1337
    assert default_size(500, 3) == 22_369  # what a pass may cost
    assert default_size(4096, 3) == 0
    assert default_size(100, 784) == 0  # 13 points a cluster would say little


def test_a_model_of_too_many_components_for_its_coreset_has_none() -> None:
    assert default_size(31, 1700) == 0  # of 616 points: 19 per component, where 20 are needed
    assert default_size(30, 1700) == 616
    assert default_size(32, 1638) == 640


# ---- the coreset of a stream


def test_a_coreset_is_empty_without_points_of_either_kind() -> None:
    assert CoresetState().is_empty
    assert not CoresetState(core=coreset_of(0, 3)).is_empty
    assert not CoresetState(fresh=coreset_of(0, 3)).is_empty


def test_of_a_batch_late_in_the_stream_a_small_sample_is_remembered() -> None:
    # Given a coreset that stands for 100,000 points, half of them in new points
    X, _ = blobs(400, CENTRES)
    heavy = Coreset(CENTRES, np.full(3, 50_000 / 3))
    family = KMeans(3)
    stats = family.e_step(KMeansParams(CENTRES), X, np.ones(len(X)))
    assigned, rng = kernels.assign(X, CENTRES), np.random.default_rng(0)
    # When a batch of 1,200 points comes, and half of the rest is forgotten
    after = CoresetState(heavy, heavy).remember(X, np.ones(1200), assigned, stats, 500, 0.5, rng)
    # Then its sample is small, weighs as much as the batch, and comes after the new points
    assert_allclose(after.unit * after.core.w, heavy.w / 2)
    assert_allclose(after.unit * after.fresh.w[:3], heavy.w / 2)
    assert 10 < len(after.fresh.w) - 3 < 200
    assert after.unit * after.fresh.w[3:].sum() == pytest.approx(1200, rel=0.4)


def test_a_selection_keeps_the_weights_of_both_parts() -> None:
    core, fresh = coreset_of(0, 9), coreset_of(1, 7)
    state = CoresetState(core, fresh, 0.5)
    X, w = np.concatenate([core.X, fresh.X]), 0.5 * np.concatenate([core.w, fresh.w])
    chosen = X[:, 0] > 0.0
    assert 0 < chosen.sum() < 16
    found = state.select(lambda X: X[:, 0] > 0.0)
    assert same(found.points, Coreset(X[chosen], w[chosen]))
    assert len(found.core.w) == (core.X[:, 0] > 0.0).sum()
    assert CoresetState().select(lambda X: X[:, 0] > 0.0).is_empty


def remembering(state: CoresetState, X: Array, size: int, lam: float = 1.0) -> CoresetState:
    """Return the coreset after a batch of points of weight 1."""
    w = np.ones(len(X))
    stats = KMeans(3).e_step(KMeansParams(CENTRES), X, w)
    rng = np.random.default_rng(0)
    return state.remember(X, w, kernels.assign(X, CENTRES), stats, size, lam, rng)


def test_a_coreset_is_reduced_when_as_many_new_points_have_come() -> None:
    X, state = blobs(20, CENTRES)[0], CoresetState()
    for n in range(1, 5):
        state = remembering(state, X[10 * n : 10 * n + 10], size=50, lam=0.5)
        assert (len(state.core.w), len(state.fresh.w), state.unit) == (0, 10 * n, 0.5**n)
    state = remembering(state, X[:10], size=50, lam=0.5)
    assert (len(state.core.w), len(state.fresh.w), state.unit) == (50, 0, 1.0)
    assert state.points.mass == pytest.approx(10.0 * (2.0 - 0.5**4))


def test_a_large_coreset_is_reduced_when_a_chunk_has_come() -> None:
    X, state = np.zeros((CHUNK, 2)), CoresetState()
    state = remembering(state, X[:-1], size=2 * CHUNK)
    assert (len(state.core.w), len(state.fresh.w)) == (0, 4095)
    state = remembering(state, X[:1], size=2 * CHUNK)
    assert (len(state.core.w), len(state.fresh.w)) == (4096, 0)


def test_weights_far_below_the_smallest_unit_are_multiplied() -> None:
    X, state = blobs(4, CENTRES)[0], CoresetState()
    for n, unit in enumerate((2.0**-90, 2.0**-180, 1.0, 2.0**-90)):
        state = remembering(state, X[2 * n : 2 * n + 2], size=50, lam=2.0**-90)
        assert state.unit == unit
        assert same(state.points, Coreset(X[2 * n : 2 * n + 2], np.ones(2)))
