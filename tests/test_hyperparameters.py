"""Hyperparameters and given parameters: each refusal names the field, what was got and expected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamclust import (
    GaussianMixture,
    HalfLife,
    HalfLifeTime,
    KMeans,
    KMeansParams,
    MixtureParams,
    PowerSchedule,
    StreamLearner,
    fit,
    river,
    sklearn,
)
from streamclust.errors import DataError
from streamclust.fitting.medoids import fit_medoids
from streamclust.online.drift import Drift
from tests.support.strategies import COVARIANCE_TYPES, mixture_of, random_covariances

X = np.arange(12.0).reshape(6, 2)


def learner_with(**options: Any) -> Any:
    return StreamLearner(KMeans(2), **options)


NO_INTEGERS = [1.5, True, "3", None, np.float64(3.0), np.nan, [3]]
INTEGERS: list[tuple[str, Any, int]] = [
    ("n_clusters", KMeans, 1),
    ("n_components", GaussianMixture, 1),
    ("min_clusters", lambda value: KMeans(9, min_clusters=value), 1),
    ("min_components", lambda value: GaussianMixture(9, min_components=value), 1),
    ("warm_up", lambda value: learner_with(warm_up=value), 1),
    ("n_init", lambda value: learner_with(n_init=value), 1),
    ("seed", lambda value: learner_with(seed=value), 0),
    ("coreset", lambda value: learner_with(coreset=value), 0),
    ("reseeds", lambda value: learner_with(reseeds=value), 0),
    ("n_init", lambda value: fit(KMeans(2), X, n_init=value), 1),
    ("max_iter", lambda value: fit(KMeans(2), X, max_iter=value), 1),
    ("seed", lambda value: fit(KMeans(2), X, seed=value), 0),
    ("n_clusters", lambda value: fit_medoids(X, value), 1),
    ("n_clusters", lambda value: sklearn.StreamingKMeans(value).fit(X), 1),
    ("n_init", lambda value: sklearn.StreamingKMeans(2, n_init=value).partial_fit(X), 1),
    ("warm_up", lambda value: sklearn.StreamingKMeans(2, warm_up=value).partial_fit(X), 1),
    ("n_components", lambda value: sklearn.StreamingGaussianMixture(value).fit(X), 1),
    ("n_clusters", lambda value: river.StreamingKMeans(value).learn_one({"x": 1.0}), 1),
    ("seed", lambda value: river.StreamingKMeans(2, seed=value).learn_one({"x": 1.0}), 0),
]
OPTIONAL = ("min_clusters", "min_components", "warm_up", "coreset")


@pytest.mark.parametrize(("name", "make", "least"), INTEGERS)
def test_what_is_no_integer_is_refused_by_name(name: str, make: Any, least: int) -> None:
    make(least + 1)
    make(np.int64(least + 1))
    for value in NO_INTEGERS:
        if value == "3" and name in ("n_clusters", "n_components"):
            continue  # the faces take a text, 'auto'
        if value is None and name in OPTIONAL:
            continue
        if isinstance(value, list) and name == "seed":
            continue  # a seed may have parts
        with pytest.raises(DataError, match=rf"^{name} is .*; expected") as refused:
            make(value)
        assert repr(value) in str(refused.value) or str(value) in str(refused.value)
    with pytest.raises(DataError, match=rf"^{name} is {least - 1}; expected"):
        make(least - 1)


@pytest.mark.parametrize("make", [KMeans, GaussianMixture, river.StreamingKMeans])
def test_a_text_is_no_number_of_components(make: Any) -> None:
    with pytest.raises(DataError, match=r"^n_\w+ is '3'; expected"):
        model = make("3")
        model.learn_one({"x": 1.0})


NUMBERS: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("points", HalfLife, (0, -1.0)),
    ("seconds", HalfLifeTime, (0, -1.0)),
    ("kappa", lambda value: PowerSchedule(kappa=value), (0.5, 1.01, -1)),
    ("t0", lambda value: PowerSchedule(t0=value), (-1,)),
    ("hold", lambda value: PowerSchedule(hold=value), (-0.1,)),
    ("threshold", lambda value: Drift(threshold=value), (0, -1)),
    ("delta", lambda value: Drift(delta=value), (0, 1, 2.0)),
    ("reg_covar", lambda value: GaussianMixture(2, reg_covar=value), (-1e-6,)),
    ("reassignment_ratio", lambda value: learner_with(reassignment_ratio=value), (-0.1, 1.5)),
    ("tol", lambda value: fit(KMeans(2), X, tol=value), (-1e-9,)),
    ("weight", lambda value: learner_with().init(KMeansParams(X[:2]), value), (-1, 1e101)),
]


@pytest.mark.parametrize(("name", "make", "outside"), NUMBERS)
def test_what_is_no_number_is_refused_by_name(
    name: str, make: Any, outside: tuple[Any, ...]
) -> None:
    for value in (0.7, np.float32(0.7), np.float64(0.7)):
        make(value)
    nothing: tuple[Any, ...] = (np.nan, np.inf, -np.inf, True, "0.7", None, [0.7], 10**400)
    for value in (*outside, *nothing):
        with pytest.raises(DataError, match=rf"^{name} .*is .*; expected"):
            make(value)


def test_flags_and_choices_are_refused_by_name() -> None:
    for make, text in (
        (lambda: PowerSchedule(average="no"), "average is 'no'; expected True or False"),  # type: ignore[arg-type]
        (lambda: Drift("cusum"), "detector is 'cusum'; expected page_hinkley, adwin"),  # type: ignore[arg-type]
        (lambda: Drift(on_drift=1), "on_drift is 1; expected announce, forget, recluster"),  # type: ignore[arg-type]
        (lambda: GaussianMixture(2, ["full"]), r"covariance_type is \['full'\]; expected full"),  # type: ignore[arg-type]
        (lambda: learner_with(scale="minmax"), "scale is 'minmax'; expected none, standard"),
        (lambda: learner_with(forgetting=500), "forgetting is 500; expected a Forgetting"),
        (lambda: learner_with(drift="adwin"), "drift is 'adwin'; expected a Drift or None"),
        (lambda: StreamLearner(3), "family is 3; expected a KMeans or a Gaussian"),  # type: ignore[arg-type]
    ):
        with pytest.raises(DataError, match=f"^{text}"):
            make()


@pytest.mark.parametrize("bounds", [(3, 2), (0, 2), (2,), 5, (2.0, 3.0), "23", (True, 3)])
def test_bounds_of_auto_are_refused_by_name(bounds: Any) -> None:
    with pytest.raises(DataError, match=r"^n_clusters_range is .*; expected two integers"):
        sklearn.StreamingKMeans("auto", n_clusters_range=bounds).fit(X)
    with pytest.raises(DataError, match=r"^n_components_range is .*; expected two integers"):
        river.StreamingGaussianMixture("auto", n_components_range=bounds).learn_one({"x": 1.0})


def test_numpy_s_numbers_are_stored_as_python_s_and_saved() -> None:
    given: dict[str, Any] = {"t0": np.int64(2), "hold": np.float64(0), "average": np.bool_(True)}
    policy = PowerSchedule(**{"kappa": np.float32(0.75), **given})
    assert [type(value) for value in vars(policy).values()] == [float, float, float, bool]
    numbers: Any = np.int64(2), np.uint8(2), np.int32(4), np.float32(100.0)
    for K in numbers[:2]:
        assert type(KMeans(K).n_clusters) is int
        model = sklearn.StreamingKMeans(
            K, forgetting=HalfLife(numbers[3]), warm_up=numbers[2], n_init=numbers[0]
        ).partial_fit(X)
        again = type(model).from_bytes(model.to_bytes())
        assert again.cluster_centers_.tolist() == model.cluster_centers_.tolist()


# ---- parameters to start from


def given(name: str) -> tuple[Any, Any]:
    """A learner, and parameters that it takes."""
    if name == "kmeans":
        return StreamLearner(KMeans(3)), KMeansParams(np.arange(6.0).reshape(3, 2))
    kind: Any = name
    covariances = random_covariances(name, 3, 2, np.random.default_rng(0))
    params = MixtureParams(np.full(3, 1 / 3), np.arange(6.0).reshape(3, 2), covariances, kind)
    return StreamLearner(mixture_of(kind, 3)), params


@pytest.mark.parametrize("name", ["kmeans", *COVARIANCE_TYPES])
def test_parameters_that_no_model_can_have_are_refused_by_name(name: str) -> None:
    learner, params = given(name)
    assert learner.init(params).params.means.tolist() == params.means.tolist()
    place = "centroids" if name == "kmeans" else "means"
    for value in (np.nan, np.inf, -np.inf):
        bad = params.means.copy()
        bad[1, 1] = value
        with pytest.raises(DataError, match=f"^{place} holds .*; expected finite numbers"):
            learner.init(replace(params, **{place: bad}))
    for array, text in (
        (np.zeros((2, 2)), r"has shape \(2, 2\); expected \(3, any\)"),
        (np.zeros(3), r"has shape \(3,\); expected \(3, any\)"),
        (np.zeros((3, 0)), r"has shape \(3, 0\); expected at least one number"),
        (np.full((3, 2), 1e101), r"holds 1e\+101; expected a magnitude up to 1e\+100"),
        (np.array([["a", "b"]] * 3), "isn't an array of numbers"),
    ):
        with pytest.raises(DataError, match=rf"{place} {text}|covariances has shape"):
            learner.init(replace(params, **{place: array}))
    with pytest.raises(DataError, match="params is a dict; expected parameters of"):
        learner.init({"centroids": np.zeros((3, 2))})


@pytest.mark.parametrize("name", COVARIANCE_TYPES)
def test_weights_and_covariances_that_are_none_are_refused_by_name(name: str) -> None:
    learner, params = given(name)
    for weights, text in (
        ([0.5, 0.75, -0.25], "weights sum to 1, the smallest is -0.25; expected a sum of 1"),
        ([0.5, 0.6, 0.1], "weights sum to 1.2, the smallest is 0.1; expected a sum of 1"),
        ([0.5, 0.5, 0.0], "weights holds 0; expected positive numbers"),
        ([0.5, np.nan, 0.5], "weights holds nan"),
        ([0.5, 0.5], r"weights has shape \(2,\); expected \(3\)"),
    ):
        with pytest.raises(DataError, match=f"^{text}"):
            learner.init(replace(params, weights=np.array(weights)))
    for factor in (-1.0, 0.0, np.nan):
        with pytest.raises(DataError, match=r"^covariances.*(not positive|nan)"):
            learner.init(replace(params, covariances=factor * params.covariances))
    other: Any = "diag" if name != "diag" else "spherical"
    with pytest.raises(DataError, match=f"^params has covariance_type '{name}'; expected"):
        StreamLearner(mixture_of(other, 3)).init(params)
    with pytest.raises(DataError, match=r"^params is a KMeansParams; expected parameters of gauss"):
        learner.init(KMeansParams(params.means))


def test_parameters_for_a_k_that_adapts_are_within_its_bounds() -> None:
    learner = StreamLearner(KMeans(4, min_clusters=3))
    assert len(learner.init(KMeansParams(X[:3])).ids) == 3
    for K in (2, 5):
        with pytest.raises(DataError, match=f"^params has {K} components; expected 3 to 4"):
            learner.init(KMeansParams(X[:K]))


def test_centroids_in_scales_of_their_own_are_refused() -> None:
    params = KMeansParams(X[:2], np.array([1.0, 2.0]))
    with pytest.raises(DataError, match=r"^params has a scale"):
        StreamLearner(KMeans(2)).init(params)


def test_small_centroids_that_are_given_are_learned_from() -> None:
    centroids = 2.0**-664 * np.array([[0.0, 0.0], [9.0, 9.0]])
    learner = StreamLearner(KMeans(2))
    state, _ = learner.update(learner.init(KMeansParams(centroids)), centroids)
    params = learner.in_units(state)
    assert params is not None
    assert params.centroids.tolist() == centroids.tolist()


@pytest.mark.parametrize("time_ms", [np.nan, np.inf, "noon", 10**400, True])
def test_a_time_that_is_none_is_refused(time_ms: Any) -> None:
    learner = StreamLearner(KMeans(2), HalfLifeTime(9.0))
    with pytest.raises(DataError, match=r"^time_ms is .*; expected a finite number"):
        learner.update(learner.init(), X, time_ms=time_ms)
