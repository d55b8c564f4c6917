"""The streaming learner with the metric cosine: lengths don't count, and one pass is enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import HalfLife, KMeans, PowerSchedule, StreamLearner
from streamclust.errors import DataError
from streamclust.fitting.fit import fit
from streamclust.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from streamclust.models.kmeans import KMeansParams
from streamclust.online.drift import Drift
from tests.support.directions import directions, unit
from tests.support.states import same
from tests.support.strategies import learn


def mean_loss(X: Any, centroids: Any) -> float:
    return float((1.0 - (unit(X) @ centroids.T).max(axis=1)).mean())


def subtopics(n: int, K: int, D: int, seed: int = 0) -> Any:
    """Return float32 unit vectors of K unequal clusters in groups, with much noise."""
    rng = np.random.default_rng(seed)
    groups = unit(rng.normal(size=(8, D)))
    centres = unit(groups[rng.integers(8, size=K)] + 0.8 * unit(rng.normal(size=(K, D))))
    owners = rng.choice(K, size=n, p=rng.dirichlet(np.full(K, 2.0)))
    return unit(centres[owners] + 1.2 * unit(rng.normal(size=(n, D)))).astype(np.float32)


def test_one_pass_is_within_one_percent_of_the_best_of_ten_batch_runs() -> None:
    X, family = subtopics(4000, 60, 64), KMeans(20, metric="cosine")
    best = fit(family, X, n_init=10).loss
    state, _ = learn(StreamLearner(family), X, size=1024)
    assert state.params is not None
    assert mean_loss(X, state.params.centroids) < 1.01 * best


@pytest.mark.parametrize("factor", [2.0**-1000, 2.0**1000])
def test_lengths_of_points_change_no_bit(factor: float) -> None:
    X = directions(2000, 4, 5)[0]
    lengths = 2.0 ** np.random.default_rng(0).integers(-9, 9, size=(2000, 1))
    learner = StreamLearner(KMeans(4, metric="cosine"), HalfLife(300), warm_up=100)
    one, _ = learn(learner, X)
    other, _ = learn(learner, X * lengths * factor)
    assert one.params is not None
    assert other.params is not None
    assert_array_equal(other.params.centroids, one.params.centroids)
    assert learner.loss(one) == learner.loss(other)


def test_forgetting_follows_clusters_that_turn_and_finds_the_drift() -> None:
    before, after = directions(3000, 3, 6)[0], -directions(3000, 3, 6, seed=1)[0]
    learner = StreamLearner(
        KMeans(3, metric="cosine"), HalfLife(300), warm_up=100, drift=Drift(on_drift="recluster")
    )
    state, _ = learn(learner, before)
    assert learner.loss(state) < 0.1  # type: ignore[operator]
    state, told = learn(learner, after, state=state)
    assert sum(info.drifted for info in told) == 1
    assert state.params is not None
    assert mean_loss(after, state.params.centroids) < 0.1
    assert_allclose(np.linalg.norm(state.params.centroids, axis=1), 1.0)


@pytest.mark.parametrize(
    ("family", "forgetting"),
    [
        (KMeans(3, metric="cosine"), PowerSchedule(average=True)),
        (KMeans(8, min_clusters=1, metric="cosine"), HalfLife(200)),
    ],
)
def test_it_continues_from_a_checkpoint_to_the_last_bit(family: KMeans, forgetting: Any) -> None:
    X = directions(900, 3, 5)[0]
    learner = StreamLearner(family, forgetting, warm_up=60)
    state, _ = learn(learner, X[:500])
    data = encode_checkpoint(Checkpoint(learner=state), family)
    again = decode_checkpoint(data, family, "state").learner
    one, other = (learn(learner, X[500:], state=each)[0] for each in (state, again))
    assert same(one, other)


def test_the_warm_up_stays_small_with_fewer_directions_than_clusters() -> None:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(2, 30))
    learner = StreamLearner(KMeans(3, metric="cosine"), warm_up=50)
    state, told = learn(learner, few[rng.integers(2, size=500)] * rng.uniform(1, 9, size=(500, 1)))
    assert state.params is None
    assert "2 distinct directions are too few for 3" in told[-1].reason
    assert len(state.warm_up) == 2
    state, _ = learner.update(state, rng.normal(size=(60, 30)))
    assert state.params is not None
    assert state.points == 560


def test_k_that_adapts_finds_new_directions() -> None:
    first, more = directions(3000, 2, 12)[0], directions(6000, 5, 12)[0]
    family = KMeans(20, min_clusters=1, metric="cosine")
    learner = StreamLearner(family, HalfLife(2000), coreset=1500)
    state, _ = learn(learner, first)
    assert len(state.ids) == 2
    state, _ = learn(learner, more, state=state)
    assert state.params is not None
    assert len(state.ids) >= 5
    assert mean_loss(more, state.params.centroids) < 0.06


def test_a_dying_cluster_is_reseeded_on_the_sphere() -> None:
    X, owners = directions(4000, 3, 6)
    learner = StreamLearner(KMeans(4, metric="cosine"), HalfLife(100), coreset=0)
    one_each = unit(np.stack([X[owners == k][0] for k in range(3)]))
    start = KMeansParams(unit(np.vstack([one_each, -one_each.sum(axis=0)])))
    state, told = learn(learner, X, state=learner.init(start, 50.0))
    assert any(info.revived for info in told)
    assert state.params is not None
    assert_allclose(np.linalg.norm(state.params.centroids, axis=1), 1.0)


def test_zero_vectors_and_scales_are_refused() -> None:
    learner = StreamLearner(KMeans(2, metric="cosine"), warm_up=4)
    with pytest.raises(DataError, match="the first at index 1: zero vector"):
        learner.update(learner.init(), [[1.0, 0.0], [0.0, 0.0]])
    state, _ = learner.update(learner.init(), [[1.0, 0.0], [0.0, 0.0]], [1.0, 0.0])
    assert state.points == 1
    with pytest.raises(DataError, match="scale is 'standard'; metric cosine has unit vectors"):
        StreamLearner(KMeans(2, metric="cosine"), scale="standard")
