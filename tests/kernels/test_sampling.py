"""The sample by sensitivity: equal bits from all kernels, and each point at its chance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from streamclust import kernels
from streamclust.arrays import Array
from streamclust.kernels import Assigned, twin
from tests.support.kernel_inputs import NATIVE, each_size, native, needs_native


def batch(n: int, K: int, seed: int = 0) -> tuple[Array, Assigned]:
    """Weights of all sizes, and clusters of which some are empty."""
    rng = np.random.default_rng((n, K, seed))
    labels = rng.integers(0, K, n) // 2
    return rng.uniform(0.1, 4.0, n), Assigned(labels, rng.exponential(size=n) ** 3)


def sensitivity(w: Array, assigned: Assigned) -> Array:
    labels, squared_distances = assigned
    K = labels.max() + 1
    share = w / (np.bincount(labels, weights=w)[labels] * K)
    return np.asarray(share + w * squared_distances / (w @ squared_distances))


@needs_native
@pytest.mark.parametrize("size", [0.01, 1.0, 20.0, 1e4])
def test_all_kernels_draw_the_same_points(size: float) -> None:
    for n, K in ((n, K) for n in (0, *each_size(), 5000) for K in (1, 3, 97)):
        w, (labels, squared_distances) = batch(n, K)
        for unit in (1.0, 1e-200, 1e200):
            arguments = (w, Assigned(labels, unit * squared_distances), K, size, 0.3)
            expected = twin.sample(*arguments)
            for name in NATIVE:
                with native(name):
                    for found, right in zip(kernels.sample(*arguments), expected, strict=True):
                        assert_array_equal(found, right)


def test_each_point_is_drawn_at_its_chance(each_kernel: str) -> None:
    w, assigned = batch(60, 6)
    s = sensitivity(w, assigned)
    chance = np.minimum(1.0, 20.0 * s / s.sum())  # of some points it is certain
    found = np.zeros(60)
    starts = (np.arange(400) + 0.5) / 400.0
    for start in starts:
        picked, probability = kernels.sample(w, assigned, 3, 20.0, start)
        assert len(picked) in (np.floor(chance.sum()), np.ceil(chance.sum()))
        assert_allclose(probability, chance[picked])
        found[picked] += 1.0 / len(starts)
    assert_allclose(found, chance, atol=4e-3)


def test_at_least_the_likeliest_point_is_drawn(each_kernel: str) -> None:
    w, assigned = batch(60, 6)
    picked, probability = kernels.sample(w, assigned, 3, 1e-3, 0.0)
    s = sensitivity(w, assigned)
    assert picked.tolist() == [s.argmax()]
    assert_allclose(probability, 1e-3 * s.max() / s.sum())


def test_points_that_all_lie_on_their_centroids_are_drawn_by_weight(each_kernel: str) -> None:
    assigned = Assigned(np.repeat([0, 2], 50), np.zeros(100))
    picked, probability = kernels.sample(np.ones(100), assigned, 3, 10.0, 0.5)
    assert_allclose(probability, 0.1)
    assert len(picked) == 10


def test_labels_that_name_no_cluster_never_reach_memory(native_kernel: str) -> None:
    for labels in ([0, 3], [0, -1]):
        with pytest.raises(IndexError, match="labels"):
            kernels.sample(np.ones(2), Assigned(np.array(labels), np.ones(2)), 3, 1.0, 0.0)
