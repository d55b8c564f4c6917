"""Kernels with equal identities give equal bits."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from streamclust import kernels
from streamclust.arrays import Array, CovarianceType
from streamclust.models.covariance import COVARIANCES
from tests.support.exhaustive import some
from tests.support.strategies import COVARIANCE_TYPES, random_covariances


def of_each_kernel() -> dict[str, kernels.Identity]:
    found = {}
    for name in kernels.available():
        with kernels.using(name):
            found[name] = kernels.identity()
    return found


def sums(name: str, kind: CovarianceType, D: int) -> list[bytes]:
    """The bits of a mixture's step; some components share points and others lie apart."""
    rng = np.random.default_rng(D)
    means = 3.0 * rng.normal(size=(9, D))
    means[1] = means[0] + 0.1
    X = means[rng.integers(0, 9, 9000)] + rng.normal(size=(9000, D))
    root = COVARIANCES[kind].root(random_covariances(kind, 9, D, rng))
    with kernels.using(name):
        step = kernels.mixture_step(X, rng.random(9000), np.zeros(9), means, root, kind)
    moments: tuple[Array, ...] = (*step[0], np.array(step[1]))
    return [array.tobytes() for array in moments]


def test_all_kernels_have_one_identity_for_kmeans() -> None:
    assert len({found.kmeans for found in of_each_kernel().values()}) == 1


def test_an_identity_names_the_kernels_and_does_not_change() -> None:
    first = of_each_kernel()
    for name, found in first.items():
        assert found.mixture.startswith(name.removesuffix("vnni"))
    assert of_each_kernel() == first


@pytest.mark.parametrize("kind", some(COVARIANCE_TYPES, "tied", "full"))
@pytest.mark.parametrize("D", [3, 16, 21])
def test_mixtures_of_kernels_with_equal_identities_have_equal_bits(
    kind: CovarianceType, D: int
) -> None:
    for (one, own), (other, its) in combinations(of_each_kernel().items(), 2):
        if own.mixture == its.mixture:
            assert sums(one, kind, D) == sums(other, kind, D), (one, other)
