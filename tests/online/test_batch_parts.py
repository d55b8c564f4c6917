"""Costly batches: their parts depend on sizes alone, and their sums on nobody who computes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from streamclust import GaussianMixture, KMeans, KMeansParams
from streamclust.engine.batch_step import on_engine
from streamclust.engine.threads import Threads
from streamclust.fitting.search import search_of
from streamclust.models.family import StepOutputs
from streamclust.online.batch_parts import (
    STATS_AND_ASSIGNED,
    e_step_of_batch,
    one_by_one,
    part_rows,
    products,
)
from tests.support.engines import ByBytes, bits
from tests.support.gaps import with_gaps

FAMILIES: list[Any] = [
    KMeans(700),
    GaussianMixture(8),
    GaussianMixture(40, covariance_type="diag"),
    GaussianMixture(8, missing="learn"),
]


@pytest.fixture(params=FAMILIES, ids=["kmeans", "full", "diag", "gaps"])
def case(request: pytest.FixtureRequest) -> tuple[Any, Any, Any, Any]:
    """A family, parameters, and points with weights."""
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(3000, 5)), rng.uniform(0.5, 2.0, size=3000)
    params = search_of(request.param).init(X[:900], w[:900], rng)
    if request.param.missing == "learn":
        X = with_gaps(X, 0.2)
    return request.param, params, X, w


def test_a_cheap_batch_is_one_part_and_a_costly_one_has_at_most_64() -> None:
    assert part_rows(65_536, 64 * 16) == 65_536
    assert part_rows(65_536, 1 << 14) == 16_384
    assert part_rows(65_536, 1 << 30) == 1024
    assert part_rows(3, 1 << 40) == 1


@pytest.mark.parametrize("wanted", [StepOutputs(), StepOutputs(assigned=False, scores=True)])
def test_all_engines_return_the_bits_of_one_thread(
    case: tuple[Any, Any, Any, Any], monkeypatch: pytest.MonkeyPatch, wanted: Any
) -> None:
    family, params, X, w = case
    monkeypatch.setattr("streamclust.online.batch_parts.COSTLY", 1)
    monkeypatch.setattr("streamclust.online.batch_parts._PART", 500 * products(family, params))
    sizes: list[int] = []

    def counted(
        family: Any, params: Any, parts: Any, outputs: StepOutputs = STATS_AND_ASSIGNED
    ) -> Iterable[Any]:
        sizes.append(len(parts))
        return one_by_one(family, params, parts, outputs)

    step = e_step_of_batch(family, params, X, w, counted, wanted)
    assert sizes == [6]
    whole = family.batch_step(params, X, w, wanted)
    np.testing.assert_allclose(step.stats.first, whole.stats.first, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(step.entropy, whole.entropy, rtol=1e-9)
    for engine in (Threads(2), ByBytes()):
        with engine:
            found = e_step_of_batch(family, params, X, w, on_engine(engine), wanted)
        assert bits(found.stats) == bits(step.stats)
        assert found.entropy == step.entropy
        if wanted.assigned:
            assert found.assigned is not None
            assert whole.assigned is not None
            assert_array_equal(found.assigned.labels, whole.assigned.labels)
            assert_array_equal(found.assigned.squared_distances, whole.assigned.squared_distances)
        assert (found.scores is not None) == wanted.scores
        if found.scores is not None and step.scores is not None and whole.scores is not None:
            assert_array_equal(found.scores, step.scores)
            np.testing.assert_allclose(found.scores, whole.scores, rtol=1e-9)


def test_points_that_cost_little_are_not_sent() -> None:
    class Elsewhere(ByBytes):
        remote = True
        maps = 0

        def map(self, *arguments: Any, **_: Any) -> Any:
            self.maps += 1
            return super().map(*arguments)

    X, w, engine = np.random.default_rng(0).normal(size=(2000, 5)), np.ones(2000), Elsewhere()
    for K, maps in ((100, 0), (1000, 1)):
        each = on_engine(engine)
        (step,) = each(KMeans(K), KMeansParams(X[:K]), [(X, w)])
        assert step.stats.count == 2000.0
        assert engine.maps == maps
