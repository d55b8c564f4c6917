"""What each covariance type does: estimates, ridges, factors and halves."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal

from streamclust.arrays import Array, CovarianceType
from streamclust.errors import DataError
from streamclust.kernels import mixture_moments
from streamclust.models.covariance import COVARIANCES, HALF_NORMAL, symmetric
from tests.support.strategies import COVARIANCE_TYPES, laws, random_covariances

kinds = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
W = np.array([5.0, 2.0, 4.0])


def second_of(kind: CovarianceType, D: int, seed: int = 0) -> Array:
    """Second moments of three components of masses `W`."""
    covariances = random_covariances(kind, 3, D, np.random.default_rng(seed))
    return COVARIANCES[kind].moment(covariances, W)


def total(kind: CovarianceType, second: Array, weight: Array, means: Array) -> Array:
    """The second moment of all components about the origin, in the type's shape without K."""
    between = np.einsum("k,ki,kj->ij", weight, means, means)
    if kind in ("full", "tied"):
        return np.asarray(between + (second.sum(axis=0) if kind == "full" else second))
    if kind == "diag":
        return np.asarray(np.diag(between) + second.sum(axis=0))
    return np.asarray(np.diag(between).mean() + second.sum())


@kinds
@pytest.mark.parametrize("D", [1, 2, 4])
def test_the_estimate_is_the_covariance_of_each_component_s_points(
    kind: CovarianceType, D: int
) -> None:
    rng = np.random.default_rng(D)
    X, owners = rng.normal(size=(90, D)), np.repeat([0, 1, 2], 30)
    means = np.stack([X[owners == k].mean(axis=0) for k in range(3)])
    each = np.stack([np.cov(X[owners == k].T, bias=True).reshape(D, D) for k in range(3)])
    variances = np.einsum("kdd->kd", each)
    wanted = {"full": each, "tied": each.mean(0), "diag": variances, "spherical": variances.mean(1)}
    moments = mixture_moments(X, np.eye(3)[owners], means, kind)
    unknown = np.zeros(COVARIANCES[kind].shape(3, D))
    found = COVARIANCES[kind].estimate(moments.second, moments.weight, unknown)
    assert_allclose(found, wanted[kind], rtol=1e-12, atol=1e-14)


@kinds
def test_moments_are_what_the_estimate_undoes(kind: CovarianceType) -> None:
    covariances = random_covariances(kind, 3, 2, np.random.default_rng(0))
    verbs = COVARIANCES[kind]
    assert covariances.shape == verbs.shape(3, 2)
    weight = 0.05 * W  # less than one point in all
    found = verbs.estimate(verbs.moment(covariances, weight), weight, 2.0 * covariances)
    assert_allclose(found, covariances)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_a_component_without_mass_keeps_its_covariance(kind: CovarianceType) -> None:
    before = random_covariances(kind, 3, 2, np.random.default_rng(0))
    weight = np.array([1.0, 0.0, 2.0])
    found = COVARIANCES[kind].estimate(np.zeros_like(before), weight, before)
    assert_array_equal(found[1], before[1])
    assert not found[[0, 2]].any()


def test_the_tied_covariance_stays_where_no_component_has_mass() -> None:
    before = np.eye(2)
    assert COVARIANCES["tied"].estimate(np.zeros((2, 2)), np.zeros(3), before) is before


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_a_variance_that_rounding_made_negative_is_as_large_as_that_rounding(
    kind: CovarianceType,
) -> None:
    second = -1e-20 * np.ones(COVARIANCES[kind].shape(3, 2))
    variances = COVARIANCES[kind].estimate(second, W, second)
    assert_allclose(variances, COVARIANCES[kind].estimate(-second, W, second))
    assert (variances > 0.0).all()


@kinds
def test_an_eigenvalue_that_rounding_made_negative_is_as_large_as_that_rounding(
    kind: CovarianceType,
) -> None:
    unit = np.array([1e-6, 1.0, 1e6])
    damaged = np.array([[-16.0, 0.5, -0.1], [0.5, 1.4, -0.6], [-0.1, -0.6, 1.0]])
    damaged = damaged * np.outer(unit, unit)
    sound = np.outer(unit, unit) * np.eye(3)
    covariances = {
        "full": np.stack([sound, damaged]),
        "tied": damaged,
        "diag": np.diagonal(np.stack([sound, damaged]), axis1=1, axis2=2).copy(),
        "spherical": np.array([1.0, -16.0]),
    }[kind]
    repaired = COVARIANCES[kind].repaired(covariances)
    assert np.isfinite(COVARIANCES[kind].root(repaired)).all()
    if kind != "tied":
        assert (repaired[0] == covariances[0]).all()
    if kind in ("full", "tied"):
        variances = np.diagonal(np.atleast_3d(repaired).reshape(-1, 3, 3)[-1]) / unit**2
        assert (variances < 20.0).all()
        assert variances[0] > 10.0


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_a_repair_only_raises_small_eigenvalues_of_a_matrix_that_has_a_negative_one(
    kind: CovarianceType,
) -> None:
    units = np.outer([0.5, 3.0], [0.5, 3.0])
    sound = units * [[1.0, 0.3], [0.3, 1.0]]
    damaged = units * [[1.0, 1.5], [1.5, 1.0]]  # eigenvalues 2.5 and -0.5 at equal spread
    wanted = units * [[1.5, 1.0], [1.0, 1.5]]  # 2.5 and 0.5
    verbs = COVARIANCES[kind]
    if kind == "tied":
        assert_array_equal(verbs.repaired(sound), sound)
        assert_allclose(verbs.repaired(damaged), wanted, rtol=1e-12)
    else:
        found = verbs.repaired(np.stack([sound, damaged]))
        assert_array_equal(found[0], sound)
        assert_allclose(found[1], wanted, rtol=1e-12)


def test_a_repaired_matrix_is_symmetric_to_the_last_bit() -> None:
    matrices = np.random.default_rng(0).normal(size=(20, 4, 4))
    repaired = COVARIANCES["full"].repaired(matrices + matrices.swapaxes(-1, -2))
    assert_array_equal(repaired, repaired.swapaxes(-1, -2))


@kinds
def test_the_floor_is_added_to_every_variance(kind: CovarianceType) -> None:
    covariances = random_covariances(kind, 3, 2, np.random.default_rng(0))
    added = COVARIANCES[kind].add_ridge(covariances, np.array([1.0, 3.0])) - covariances
    wanted: dict[str, Any] = {
        "full": [[1.0, 0.0], [0.0, 3.0]], "tied": [[1.0, 0.0], [0.0, 3.0]],
        "diag": [1.0, 3.0], "spherical": 2.0,
    }  # fmt: skip
    assert_allclose(added, np.broadcast_to(wanted[kind], added.shape), atol=1e-15)


@kinds
def test_each_component_may_have_a_floor_of_its_own(kind: CovarianceType) -> None:
    covariances = random_covariances(kind, 3, 2, np.random.default_rng(0))
    ridge = np.array([[1.0, 3.0], [2.0, 4.0], [6.0, 8.0]])
    wanted = {
        "full": np.stack([np.diag(row) for row in ridge]), "tied": np.diag([3.0, 5.0]),
        "diag": ridge, "spherical": np.array([2.0, 3.0, 7.0]),
    }  # fmt: skip
    added = COVARIANCES[kind].add_ridge(covariances, ridge) - covariances
    assert_allclose(added, wanted[kind], atol=1e-14)


@kinds
def test_rescaled_covariances_are_those_of_rescaled_points(kind: CovarianceType) -> None:
    rng = np.random.default_rng(0)
    scale = np.full(3, 3.0) if kind == "spherical" else np.array([0.5, 3.0, 7.0])
    X, means = rng.normal(size=(40, 3)), rng.normal(size=(2, 3))
    unknown = np.zeros(COVARIANCES[kind].shape(2, 3))

    def estimate(units: Array) -> Array:
        moments = mixture_moments(X * units, np.full((40, 2), 0.5), means * units, kind)
        return COVARIANCES[kind].estimate(moments.second, moments.weight, unknown)

    found = COVARIANCES[kind].rescale(estimate(np.ones(3)), scale)
    assert_allclose(found, estimate(scale), rtol=1e-12)


def test_spheres_refuse_several_scales() -> None:
    with pytest.raises(DataError, match="use covariance_type 'diag'"):
        COVARIANCES["spherical"].rescale(np.ones(2), np.array([1.0, 1.0, 2.0]))


@kinds
def test_the_inner_variance_sums_over_components_and_keeps_features_apart(
    kind: CovarianceType,
) -> None:
    variances = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    covariances = {
        "full": np.stack([np.diag(row) for row in variances]), "tied": np.diag(variances[0]),
        "diag": variances, "spherical": variances[:, 0],
    }  # fmt: skip
    masses = {"tied": W.sum() * variances[0], "spherical": np.full(2, W @ variances[:, 0])}
    second = COVARIANCES[kind].moment(covariances[kind], W)
    wanted = masses.get(kind, W @ variances)
    assert_allclose(COVARIANCES[kind].inner_variance(second, 2), wanted)


@kinds
@given(D=st.integers(1, 5), seed=st.integers(0, 10**6))
@laws
def test_two_halves_have_the_moments_of_the_whole(kind: CovarianceType, D: int, seed: int) -> None:
    second, before = second_of(kind, D, seed), np.array([5.0, 0.0, 4.0])
    if kind != "tied":
        second[1] = 0.0
    halves, d = COVARIANCES[kind].halve(second, before, D, heavy=0, light=1)
    after, means = np.array([2.5, 2.5, 4.0]), np.stack([d, -d, np.zeros(D)])
    whole = total(kind, second, before, np.zeros((3, D)))
    assert_allclose(total(kind, halves, after, means), whole, rtol=1e-12, atol=1e-12)
    if kind != "tied":
        assert_array_equal(halves[0], halves[1])
        assert_array_equal(halves[2], second[2])


@kinds
@given(D=st.integers(1, 5), seed=st.integers(0, 10**6))
@laws
def test_halves_are_positive_definite_if_the_whole_is(
    kind: CovarianceType, D: int, seed: int
) -> None:
    halves, _ = COVARIANCES[kind].halve(second_of(kind, D, seed), W, D, heavy=0, light=2)
    if kind in ("full", "tied"):
        assert_array_equal(halves, halves.swapaxes(-1, -2))
        assert np.linalg.eigvalsh(halves).min() > 0.0
    else:
        assert halves.min() > 0.0


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_a_component_is_cut_across_its_widest_axis(kind: CovarianceType) -> None:
    variances = np.array([0.01, 0.25, 0.04])
    covariances = {"full": np.stack([np.diag(variances)] * 3), "tied": np.diag(variances)}
    second = COVARIANCES[kind].moment(covariances.get(kind, np.stack([variances] * 3)), W)
    _, d = COVARIANCES[kind].halve(second, W, 3, heavy=0, light=1)
    assert_allclose(d, [0.0, 0.5 * HALF_NORMAL, 0.0], atol=1e-12)


def test_the_axis_of_a_cut_points_to_where_it_is_longest() -> None:
    for seed in range(20):
        second = second_of("full", 3, seed)
        _, d = COVARIANCES["full"].halve(second, W, 3, heavy=0, light=1)
        assert d[np.abs(d).argmax()] > 0.0
        widest = np.linalg.eigvalsh(second[0] / W[0])[-1]
        assert np.linalg.norm(d) == pytest.approx(HALF_NORMAL * np.sqrt(widest))


def test_the_halves_of_a_gaussian_lie_where_its_mean_cuts_it() -> None:
    sample = np.abs(np.random.default_rng(0).normal(size=100_000))
    assert pytest.approx(sample.mean(), abs=4.0 / np.sqrt(100_000)) == HALF_NORMAL


def test_spheres_are_cut_along_each_axis_in_turn() -> None:
    moves = [COVARIANCES["spherical"].halve(0.04 * W, W, 2, 0, light)[1] for light in (0, 1, 2)]
    far = 0.2 * HALF_NORMAL
    assert_allclose(moves, [[far, 0.0], [0.0, far], [far, 0.0]])


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_a_component_whose_variance_is_a_negative_rounding_error_has_no_axis(
    kind: CovarianceType,
) -> None:
    second = -1e-20 * np.ones(COVARIANCES[kind].shape(3, 2))
    assert not COVARIANCES[kind].halve(second, W, 2, heavy=0, light=1)[1].any()


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_rounding_in_the_axis_neither_moves_constant_features_nor_breaks_small_ones(
    kind: CovarianceType,
) -> None:
    # eigh leaves about 1e-16 of the largest unit in features that are constant or far smaller.
    rng = np.random.default_rng(0)
    for _ in range(50):
        D = int(rng.integers(2, 9))
        units = 10.0 ** rng.integers(-12, 13, size=D)
        units[rng.random(D) < 0.3] = 0.0
        X = rng.normal(size=(40, D)) * units
        own = X.T @ X
        second, weight = (np.stack([own] * 2) if kind == "full" else own), np.array([40.0, 40.0])
        halves, d = COVARIANCES[kind].halve(symmetric(second), weight, D, 0, 1)
        assert not d[units == 0.0].any()
        varied = np.flatnonzero(units)
        if len(varied):
            half = (halves[0] if kind == "full" else halves)[np.ix_(varied, varied)]
            scale = np.sqrt(np.diag(half))
            assert np.linalg.eigvalsh(half / np.outer(scale, scale)).min() > 0.0


@kinds
def test_the_widest_component_has_the_largest_mass_times_variance(kind: CovarianceType) -> None:
    D, weight = 2, np.array([10.0, 1.0, 10.0])
    variances = np.array([1.0, 4.0, 2.0])
    wide = {
        "full": variances[:, None, None] * np.eye(D), "tied": np.eye(D),
        "diag": variances[:, None] * np.ones(D), "spherical": variances,
    }  # fmt: skip
    verbs = COVARIANCES[kind]
    inertia = verbs.inertia(verbs.moment(wide[kind], weight), weight)
    assert inertia.shape == (3,)
    if kind == "tied":
        assert inertia[0] == inertia[2] > inertia[1]
    else:
        assert_allclose(inertia / inertia[0], [1.0, 0.4, 2.0])


def test_inertia_is_the_largest_eigenvalue_at_equal_spread_without_constant_features() -> None:
    full = np.zeros((2, 3, 3))
    full[:, :2, :2] = [[[2.0, 1.0], [1.0, 2.0]], [[2.0, 0.0], [0.0, 2.0]]]
    diag = np.array([[3.0, 2.0, 0.0], [1.0, 2.0, 0.0]])
    assert_allclose(COVARIANCES["full"].inertia(full, np.ones(2)), [0.75, 0.5])
    assert_allclose(COVARIANCES["diag"].inertia(diag, np.ones(2)), [0.75, 0.5])


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_which_component_is_widest_does_not_depend_on_units(kind: CovarianceType) -> None:
    second, units = second_of(kind, 3), np.array([1e-9, 1.0, 1e7])
    square = units**2 if kind == "diag" else np.outer(units, units)
    verbs = COVARIANCES[kind]
    assert_allclose(verbs.inertia(second * square, W), verbs.inertia(second, W), rtol=1e-9)


@kinds
def test_roots_are_factors_of_the_covariances(kind: CovarianceType) -> None:
    covariances = random_covariances(kind, 3, 4, np.random.default_rng(0))
    root = COVARIANCES[kind].root(covariances)
    square = root @ root.swapaxes(-1, -2) if kind in ("full", "tied") else root**2
    assert_allclose(square, covariances, rtol=1e-12, atol=1e-12)


@kinds
def test_a_covariance_that_has_no_root_is_an_error_that_names_the_knob(
    kind: CovarianceType,
) -> None:
    with pytest.raises(DataError, match="raise reg_covar"):
        COVARIANCES[kind].root(np.zeros(COVARIANCES[kind].shape(2, 2)))


def test_symmetry_is_measured_in_standard_deviations() -> None:
    almost = np.array([[1e12, 1e-5], [0.0, 1e-12]])  # 1e-5 of a product of deviations of 1
    with pytest.raises(DataError, match="not symmetric"):
        symmetric(almost)
    almost[0, 1] = 1e-10
    assert_array_equal(symmetric(almost), [[1e12, 5e-11], [5e-11, 1e-12]])
    several = np.stack([np.eye(2), almost])
    assert_array_equal(symmetric(several), [np.eye(2), symmetric(almost)])
