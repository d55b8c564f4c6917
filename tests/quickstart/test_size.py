"""The proposed number of components, on clusters that are hard to count."""

from __future__ import annotations

import numpy as np
import pytest

from streamclust.arrays import Array
from streamclust.engine import Engine, Inline
from streamclust.engine.threads import Threads
from streamclust.quickstart.size import propose_size
from tests.support.engines import ByBytes

FAR = [[0.0, 0.0], [30.0, 0.0], [0.0, 30.0]]


def clusters(centres: list[list[float]], spread: tuple[float, float] = (1.0, 1.0)) -> Array:
    rng = np.random.default_rng(0)
    z = rng.integers(0, len(centres), 1500)
    return np.array(centres)[z] + rng.normal(size=(1500, 2)) * spread


@pytest.mark.parametrize("distance", [4.0, 5.0])
def test_two_clusters_that_overlap_are_two_however_far_the_others_are(distance: float) -> None:
    found = propose_size(clusters([*FAR, [distance, 0.0]]), "kmeans", "none")
    assert found.n_components == found.lowest == 4


@pytest.mark.parametrize("length", [1.0, 3.0, 6.0])
def test_a_long_cluster_is_one(length: float) -> None:
    found = propose_size(clusters(FAR, (1.0, length)), "kmeans", "none")
    assert found.n_components == 3


@pytest.mark.parametrize("kind", ["kmeans", "gaussian_mixture"])
def test_points_without_clusters_have_one_component(kind: str) -> None:
    X = np.random.default_rng(0).normal(size=(150, 3))
    assert propose_size(X, kind, "none").n_components == 1


def test_equal_points_need_no_variance() -> None:
    X = np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 50, axis=0)
    assert propose_size(X, "kmeans", "none").n_components == 4
    assert propose_size(np.ones((50, 2)), "kmeans", "none").n_components == 1


@pytest.mark.parametrize("kind", ["kmeans", "gaussian_mixture"])
def test_every_engine_compares_the_same_fits(kind: str) -> None:
    X = clusters(FAR)[:50]
    expected = propose_size(X, kind, "none", Inline())
    engines: list[Engine] = [ByBytes(), Threads(2)]
    for engine in engines:
        with engine:
            found = propose_size(X, kind, "none", engine)
        assert list(found.bic.items()) == list(expected.bic.items())
        assert found.n_components == expected.n_components == 3
