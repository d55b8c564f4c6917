"""K-means against scikit-learn's Lloyd, Spark's update rule, and its own promises."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from numpy.typing import ArrayLike
from sklearn.cluster import KMeans as SklearnKMeans

from streamclust import HalfLife, StreamLearner
from streamclust.arrays import MAX_MAGNITUDE, Array
from streamclust.errors import DataError
from streamclust.fitting.em import InMemory, run_em
from streamclust.models import GaussianMixture, KMeans, KMeansParams, MixtureParams
from streamclust.models.family import StepOutputs
from streamclust.models.stats import Stats, decay, merge
from tests.support.exhaustive import some
from tests.support.strategies import blobs, floats, laws, matrix, weights


def lloyd(X: Array, start: Array, steps: int, w: Array | None = None) -> tuple[Array, float]:
    """Centroids and J after at most so many steps."""
    w = np.ones(len(X)) if w is None else w
    family = KMeans(len(start))
    data = InMemory(family, X, w, np.random.default_rng(0))
    run = run_em(family, KMeansParams(start), data, tol=0.0, max_iter=steps)
    return run.params.centroids, run.stats.objective


@pytest.mark.parametrize("steps", some([1, 2, 3, 5, 10, 100], 1, 3, 100))
@pytest.mark.parametrize("D", some([1, 2, 16], 1, 16))
def test_lloyd_s_algorithm_takes_the_steps_of_scikit_learn(steps: int, D: int) -> None:
    rng = np.random.default_rng(D)
    X, w = rng.normal(size=(400, D)), rng.random(400)
    start = X[:6].copy()
    theirs = SklearnKMeans(6, init=start, n_init=1, max_iter=steps, tol=0, algorithm="lloyd")
    theirs.fit(X, sample_weight=w)
    centroids, J = lloyd(X, start, steps, w)
    assert_allclose(centroids, theirs.cluster_centers_, rtol=1e-9, atol=1e-9)
    assert pytest.approx(theirs.inertia_, rel=1e-9) == J


@given(data=st.data(), n=st.integers(1, 25), D=st.integers(1, 2), K=st.integers(1, 6))
@laws
def test_j_never_rises_also_where_clusters_run_empty_and_are_given_new_places(
    data: st.DataObject, n: int, D: int, K: int
) -> None:
    X = data.draw(arrays(np.float64, (n, D), elements=st.integers(-3, 3).map(float)))
    w = data.draw(weights(n)) + 1e-3
    start = data.draw(matrix(K, D, low=-4.0, high=4.0))
    family = KMeans(K)
    memory = InMemory(family, X, w, np.random.default_rng(0))
    history = run_em(family, KMeansParams(start), memory, tol=0.0, max_iter=30).history
    assert all(after <= before + 1e-12 for before, after in pairwise(history))


def spark(
    c: Array, n: Array, a: float, batch: ArrayLike, w: ArrayLike | None = None
) -> tuple[Array, Array]:
    """One update by merging a batch with the decayed statistics; centres and weights after it."""
    K = len(c)
    family, params = KMeans(K), KMeansParams(c)
    running = Stats(n, np.zeros_like(c), None, c, None, 0.0, 0.0)
    X = np.asarray(batch, dtype=np.float64)
    stats = merge(
        family.e_step(params, X, np.ones(len(X)) if w is None else np.asarray(w)),
        decay(running, a),
    )
    return family.m_step(stats, params).centroids, stats.weight


def test_the_update_rule_is_that_of_spark_s_streaming_k_means() -> None:
    """The example of Spark's own tests: c' = (c n a + x m) / (n a + m), n' = n a + m."""
    c, n = np.array([[0.0, 0.0], [1.0, 1.0]]), np.ones(2)
    batch = [[-0.1, -0.1], [0.1, 0.1], [0.9, 0.9], [1.1, 1.1]]
    c, n = spark(c, n, 1.0, batch)
    assert_allclose(c, [[0.0, 0.0], [1.0, 1.0]], atol=1e-15)
    assert n.tolist() == [3.0, 3.0]
    c, n = spark(c, n, 0.0, [[1.5, 1.5], [0.2, 0.2]])
    assert_allclose(c, [[0.2, 0.2], [1.5, 1.5]], rtol=1e-15)
    assert n.tolist() == [1.0, 1.0]


@given(
    c=matrix(1, 2),
    n=floats(0.01, 1e3),
    a=floats(0.0, 2.0),
    X=matrix(4, 2),
    w=arrays(np.float64, (4,), elements=floats(0.01, 10.0)),
)
@laws
def test_the_update_rule_holds_for_any_numbers(
    c: Array, n: float, a: float, X: Array, w: Array
) -> None:
    m = w.sum()
    x = (w[:, None] * X).sum(axis=0) / m
    centre, weight = spark(c, np.array([n]), a, X, w)
    assert_allclose(weight, n * a + m, rtol=1e-12)
    assert_allclose(centre[0], (c[0] * n * a + x * m) / (n * a + m), rtol=1e-9, atol=1e-9)


def test_without_forgetting_a_stream_gives_macqueen_s_running_means() -> None:
    X, owners = blobs(50, [[0.0], [100.0]])
    learner = StreamLearner(KMeans(2))
    state = learner.init(KMeansParams(np.array([[0.0], [100.0]])), weight=1e-12)
    for x in X:
        state, _ = learner.update(state, x[None])
    assert state.params is not None
    means = [[X[owners == k].mean()] for k in range(2)]
    assert_allclose(state.params.centroids, means, rtol=1e-9)


def test_a_half_life_weighs_points_by_their_age() -> None:
    x = np.random.default_rng(0).normal(size=40)
    learner = StreamLearner(KMeans(1), HalfLife(points=5.0))
    state = learner.init(KMeansParams(np.zeros((1, 1))), weight=0.0)
    for value in x:
        state, _ = learner.update(state, [[value]])
    assert state.params is not None
    age = 2.0 ** (-np.arange(40)[::-1] / 5.0)
    assert state.params.centroids[0, 0] == pytest.approx((age @ x) / age.sum(), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_is_the_mixture_of_equal_spheres_whose_variance_goes_to_zero(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, centroids = rng.normal(size=(300, 3)), rng.normal(size=(7, 3))
    mixture = GaussianMixture(7, "spherical")
    tight = MixtureParams(np.full(7, 1.0 / 7.0), centroids, np.full(7, 1e-8), "spherical")
    assert (mixture.predict(tight, X) == KMeans(7).predict(KMeansParams(centroids), X)).all()
    hard = mixture.responsibilities(tight, X)
    assert_allclose(hard.max(axis=1), 1.0, atol=1e-9)
    kmeans, params, w = KMeans(7), KMeansParams(centroids), np.ones(300)
    soft = mixture.m_step(mixture.e_step(tight, X, w), tight).means
    assert_allclose(soft, kmeans.m_step(kmeans.e_step(params, X, w), params).means, atol=1e-9)


def test_a_point_is_scored_by_its_squared_distance() -> None:
    family, params = KMeans(2), KMeansParams(np.array([[0.0, 0.0], [10.0, 0.0]]))
    X = np.array([[3.0, 4.0], [10.0, 1.0]])
    assert family.score_points(params, X).tolist() == [25.0, 1.0]
    assert family.predict(params, X).tolist() == [0, 1]
    assert family.loss(family.e_step(params, X, np.ones(2))) == 13.0


def test_improvement_is_a_share_of_j() -> None:
    assert KMeans(1).improvement(10.0, 9.0) == pytest.approx(0.1)


def test_centroids_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"centroids has shape \(2,\); expected \(2, any\)"):
        KMeans(2).from_arrays({"centroids": np.zeros(2)})


def test_scaled_distances_are_those_of_scaled_points_also_far_from_the_origin() -> None:
    scale, far = np.array([2.0, 0.5]), np.array([1e6, -1e6])
    params = KMeansParams(np.array([[0.0, 0.0], [4.0, 1.0]]) + far, scale)
    X = np.array([[2.0, 0.0], [4.0, 2.0]]) + far
    found = KMeans(2).squared_distances(params, X)
    assert_allclose(found, [[1.0, 5.0], [20.0, 4.0]], rtol=1e-9)
    assert_allclose(KMeans(2).score_points(params, X), [1.0, 4.0], rtol=1e-9)


@pytest.mark.parametrize("unit", [2.0**-399, 2.0**-401, 2.0**-530])
def test_points_whose_squares_underflow_have_the_sums_and_distances_of_larger_ones(
    unit: float,
) -> None:
    rng = np.random.default_rng(0)
    X, C, w = rng.normal(size=(60, 3)), rng.normal(size=(4, 3)), rng.uniform(0.5, 2.0, 60)
    family, large, small = KMeans(4), KMeansParams(C), KMeansParams(unit * C)
    wanted = family.batch_step(large, X, w, StepOutputs(scores=True))
    found = family.batch_step(small, unit * X, w, StepOutputs(scores=True))
    for stats in (found.stats, family.e_step(small, unit * X, w)):
        assert_allclose(stats.weight, wanted.stats.weight, rtol=1e-14)
        assert_allclose(stats.first, unit * wanted.stats.first, rtol=1e-12, atol=1e-14 * unit)
        assert stats.objective == pytest.approx(unit**2 * wanted.stats.objective, rel=1e-9)
    assert found.assigned is not None
    assert wanted.assigned is not None
    assert found.assigned.labels.tolist() == wanted.assigned.labels.tolist()
    assert found.scores is not None
    smallest = 2.0**-1074
    assert_allclose(
        found.scores, unit**2 * wanted.assigned.squared_distances, rtol=1e-12, atol=smallest
    )
    distances = family.distances(small, unit * X)
    assert_allclose(distances, unit * family.distances(large, X), rtol=1e-12)
    square = family.squared_distances(small, unit * X)
    assert_allclose(square, unit**2 * family.squared_distances(large, X), rtol=1e-9, atol=smallest)
    nearest = family.nearest(small, unit * X)
    assert_allclose(nearest.squared_distances, square.min(axis=1), rtol=1e-12, atol=smallest)
    assert nearest.labels.tolist() == wanted.assigned.labels.tolist()


def test_a_model_with_scales_survives_being_published_and_read() -> None:
    family, arrays = KMeans(2), {"centroids": np.eye(2), "scale": np.array([0.5, 3.0])}
    params = family.from_arrays(arrays)
    assert sorted(family.to_arrays(params)) == ["centroids", "scale"]
    assert params.scale is not None
    assert params.scale.tolist() == [0.5, 3.0]
    assert family.distances(params, np.zeros((1, 2))).tolist() == [[2.0, 1.0 / 3.0]]
    assert family.reorder(params, np.array([1, 0])).scale is params.scale
    for scale in ([0.0, 1.0], [-1.0, 1.0]):
        with pytest.raises(DataError, match="expected positive numbers"):
            family.from_arrays({**arrays, "scale": np.array(scale)})


def test_an_adapting_model_is_read_with_any_number_of_centroids() -> None:
    params = KMeans(5, min_clusters=2).from_arrays({"centroids": np.zeros((3, 2))})
    assert params.centroids.shape == (3, 2)
    fixed = KMeans(5, min_clusters=2).with_components(3)
    assert (fixed.n_components, fixed.fewest) == (3, None)


def test_the_metric_cosine_needs_all_values_of_a_point() -> None:
    with pytest.raises(DataError, match="needs all values of a point"):
        KMeans(2, metric="cosine", missing="learn")
    assert KMeans(2, missing="learn").missing == "learn"
    assert KMeans(2, metric="cosine").missing == "reject"
    assert KMeans(2, metric="cosine").max_magnitude == np.finfo(np.float64).max
    assert KMeans(2).max_magnitude == MAX_MAGNITUDE


def test_each_feature_has_its_scale_also_with_more_centroids_than_features() -> None:
    family, far = KMeans(3), 1e8
    centroids = far + np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 8.0]])
    params = family.from_arrays({"centroids": centroids, "scale": np.array([2.0, 4.0])})
    found = family.distances(params, far + np.array([[2.0, 4.0]]))
    assert_allclose(found, np.full((1, 3), np.sqrt(2.0)))
    with pytest.raises(DataError, match="scale"):
        family.from_arrays({"centroids": centroids, "scale": np.ones(3)})


def test_the_first_centroid_without_a_direction_is_named() -> None:
    centroids = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    with pytest.raises(DataError, match="centroid 1 is a zero vector"):
        KMeans(3, metric="cosine").from_arrays({"centroids": centroids})


def test_only_the_number_of_clusters_may_have_no_name() -> None:
    with pytest.raises(TypeError, match="positional"):
        KMeans(3, 1)  # type: ignore[call-arg]
