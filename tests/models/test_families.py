"""Laws that hold for K-means and for a mixture of every covariance type."""

from __future__ import annotations

import inspect
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal

from streamclust.errors import DataError
from streamclust.models import Family, GaussianMixture, KMeans
from streamclust.models.family import named_array
from streamclust.models.stats import merge, zero
from tests.support.strategies import (
    COVARIANCE_TYPES,
    FAMILIES,
    Problem,
    assert_same_stats,
    blobs,
    family_of,
    laws,
    problems,
    random_params,
)

families = pytest.mark.parametrize("name", FAMILIES)
VERBS = [
    name for name in vars(Family) if not name.startswith("_") and callable(getattr(Family, name))
]


def problem_of(name: str, K: int = 3, D: int = 2) -> Problem:
    """One fixed problem: blobs, and parameters that are near to them."""
    rng = np.random.default_rng(0)
    X, _ = blobs(30, 8.0 * rng.normal(size=(K, D)))
    family = family_of(name, K)
    return Problem(family, random_params(family, X[:K], rng), X, np.ones(len(X)))


def arguments(verb: Any) -> list[tuple[str, Any]]:
    """Names and kinds of a function's parameters."""
    return [(p.name, p.kind) for p in inspect.signature(verb).parameters.values()]


@pytest.mark.parametrize("verb", VERBS)
def test_both_families_have_the_same_verbs_with_the_same_arguments(verb: str) -> None:
    wanted = arguments(getattr(Family, verb))
    assert arguments(getattr(KMeans, verb)) == wanted
    assert arguments(getattr(GaussianMixture, verb)) == wanted


def test_the_verbs_of_the_algebra_are_among_them() -> None:
    assert {"e_step", "m_step", "revive", "prior_stats", "loss"} <= set(VERBS)


@pytest.mark.parametrize("attribute", ["kind", "objective"])
def test_each_family_has_its_own_name_and_objective(attribute: str) -> None:
    assert getattr(KMeans, attribute) != getattr(GaussianMixture, attribute)


@families
@given(data=st.data())
@laws
def test_the_e_step_of_all_points_is_the_sum_of_the_e_steps_of_any_cut(
    name: str, data: st.DataObject
) -> None:
    p = data.draw(problems(name))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(p.X)), max_size=3)))
    total = zero(p.params.means, p.family.e_step(p.params, p.X, p.w).covariance_type)
    for start, stop in zip([0, *cuts], [*cuts, len(p.X)], strict=True):
        total = merge(total, p.family.e_step(p.params, p.X[start:stop], p.w[start:stop]))
    assert_same_stats(p.family.e_step(p.params, p.X, p.w), total)


@families
@given(data=st.data())
@laws
def test_weight_two_is_the_point_twice_and_weight_zero_no_point(
    name: str, data: st.DataObject
) -> None:
    p = data.draw(problems(name))
    w = data.draw(st.lists(st.integers(0, 3), min_size=len(p.X), max_size=len(p.X)))
    repeated = np.repeat(p.X, w, axis=0)
    assert_same_stats(
        p.family.e_step(p.params, p.X, np.array(w, dtype=float)),
        p.family.e_step(p.params, repeated, np.ones(len(repeated))),
    )


@families
@given(data=st.data())
@laws
def test_the_order_of_the_points_does_not_matter(name: str, data: st.DataObject) -> None:
    p = data.draw(problems(name))
    order = data.draw(st.permutations(range(len(p.X))))
    assert_same_stats(
        p.family.e_step(p.params, p.X, p.w),
        p.family.e_step(p.params, p.X[order], p.w[order]),
    )


@families
@given(data=st.data())
@laws
def test_the_mass_of_the_components_is_the_mass_of_the_points(
    name: str, data: st.DataObject
) -> None:
    p = data.draw(problems(name))
    stats = p.family.e_step(p.params, p.X, p.w)
    assert (stats.weight >= 0.0).all()
    assert_allclose(stats.weight.sum(), p.w.sum(), rtol=1e-12)
    assert stats.count == pytest.approx(p.w.sum())


@families
@given(data=st.data())
@laws
def test_the_objective_is_the_weighted_sum_of_the_scores_of_the_points(
    name: str, data: st.DataObject
) -> None:
    p = data.draw(problems(name))
    scores = p.family.score_points(p.params, p.X)
    assert scores.shape == (len(p.X),)
    objective = p.family.e_step(p.params, p.X, p.w).objective
    assert objective == pytest.approx(float((p.w * scores).sum()), rel=1e-10, abs=1e-10)


@families
@given(data=st.data())
@laws
def test_the_m_step_of_prior_statistics_gives_the_parameters_back(
    name: str, data: st.DataObject
) -> None:
    p = data.draw(problems(name))
    family = p.family if name == "kmeans" else family_of(name, p.family.n_components, reg_covar=0.0)
    weight = data.draw(st.sampled_from([0.01, 1.0, 250.0]))
    stats = family.prior_stats(p.params, weight)
    assert stats.mass == pytest.approx(weight * family.n_components)
    assert (stats.objective, stats.count) == (0.0, 0.0)  # no point was scored
    back = family.m_step(stats, p.params)
    for wanted, got in zip(
        family.to_arrays(p.params).values(), family.to_arrays(back).values(), strict=True
    ):
        assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@families
def test_the_order_of_the_components_does_not_matter(name: str) -> None:
    p, order = problem_of(name, K=4), np.array([2, 0, 3, 1])
    other = p.family.reorder(p.params, order)
    assert_allclose(p.family.score_points(other, p.X), p.family.score_points(p.params, p.X))
    assert_array_equal(order[p.family.predict(other, p.X)], p.family.predict(p.params, p.X))
    back = p.family.to_arrays(p.family.reorder(other, p.family.match(other, p.params)))
    for key, value in p.family.to_arrays(p.params).items():
        assert_array_equal(back[key], value)
    few = p.family.to_arrays(p.family.reorder(p.params, order[:2]))
    assert few.get("weights", np.ones(1)).sum() == pytest.approx(1.0)


@families
def test_the_m_step_of_nothing_keeps_the_parameters(name: str) -> None:
    p = problem_of(name)
    kept = p.family.m_step(p.family.prior_stats(p.params, 0.0), p.params)
    assert_array_equal(kept.means, p.params.means)


@families
def test_a_component_without_mass_keeps_its_place(name: str) -> None:
    p = problem_of(name)
    far = p.params.means.copy()
    far[1] = 1e6
    params = random_params(p.family, far, np.random.default_rng(0))
    moved = p.family.m_step(p.family.e_step(params, p.X, p.w), params)
    assert moved.means[1].tolist() == [1e6, 1e6]
    assert np.isfinite(moved.means).all()


@families
def test_the_e_step_of_no_points_is_zero(name: str) -> None:
    p = problem_of(name)
    stats = p.family.e_step(p.params, p.X[:0], p.w[:0])
    assert_same_stats(stats, zero(p.params.means, stats.covariance_type), tol=0.0)


@families
def test_the_verbs_leave_their_arguments_as_they_were(name: str) -> None:
    p = problem_of(name)
    before = (p.X.tobytes(), p.w.tobytes(), p.params.means.tobytes())
    stats = p.family.e_step(p.params, p.X, p.w)
    masses = stats.weight.tobytes(), stats.first.tobytes()
    p.family.m_step(stats, p.params)
    p.family.revive(stats, [0], p.X, p.w, np.random.default_rng(0))
    assert (p.X.tobytes(), p.w.tobytes(), p.params.means.tobytes()) == before
    assert (stats.weight.tobytes(), stats.first.tobytes()) == masses


@families
def test_a_lower_loss_is_an_improvement_and_a_higher_one_is_none(name: str) -> None:
    family = family_of(name, 2)
    assert family.improvement(3.0, 2.0) > 0.0
    assert family.improvement(2.0, 3.0) < 0.0
    assert family.improvement(0.0, 0.0) == 0.0


@families
@given(data=st.data())
@laws
def test_parameters_survive_being_published_and_read(name: str, data: st.DataObject) -> None:
    p = data.draw(problems(name))
    published = p.family.to_arrays(p.params)
    again = p.family.to_arrays(p.family.from_arrays(published))
    assert list(again) == list(published)
    for key, value in published.items():
        assert_allclose(again[key], value, rtol=1e-15)


@families
def test_learned_parameters_survive_being_published_and_read_to_the_last_bit(name: str) -> None:
    p = problem_of(name, D=5)
    params = p.family.m_step(p.family.e_step(p.params, p.X, p.w), p.params)
    published = p.family.to_arrays(params)
    for key, value in p.family.to_arrays(p.family.from_arrays(published)).items():
        assert_allclose(value, published[key], rtol=0.0 if key != "weights" else 1e-15)


@families
def test_a_missing_array_is_named(name: str) -> None:
    with pytest.raises(DataError, match=r"(centroids|weights) is missing; got nothing"):
        family_of(name, 2).from_arrays({})


@families
def test_arrays_of_another_k_are_refused_with_the_shape_that_is_expected(name: str) -> None:
    p = problem_of(name)
    with pytest.raises(DataError, match=r"has shape \(3(, 2)?,?\); expected \(4(, any)?\)"):
        family_of(name, 4).from_arrays(p.family.to_arrays(p.params))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_array_that_is_not_finite_is_refused_by_name(value: float) -> None:
    with pytest.raises(DataError, match=r"means holds .*; expected finite numbers"):
        named_array({"means": np.array([value])}, "means", (1,))


@pytest.mark.parametrize("K", [0, -1])
@families
def test_a_model_has_at_least_one_component(name: str, K: int) -> None:
    with pytest.raises(DataError, match=rf"is {K}; expected at least 1"):
        family_of(name, K)


def test_the_mixture_says_which_covariance_types_there_are() -> None:
    with pytest.raises(DataError, match="'round'; expected " + ", ".join(COVARIANCE_TYPES)):
        GaussianMixture(2, "round")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1e-6, np.nan])
def test_a_negative_floor_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="reg_covar"):
        GaussianMixture(2, reg_covar=value)
