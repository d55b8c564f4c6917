"""The batch loop of e-step and m-step: when it stops, and what it returns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose

from streamclust.arrays import Array
from streamclust.fitting.em import InMemory, run_em
from streamclust.models import KMeans, KMeansParams
from streamclust.models.stats import Stats
from tests.support.points import blobs

K = 3


def lloyd(X: Array, C: Array, steps: int) -> tuple[Array, list[float]]:
    """Return the centroids after each of the steps, and J / N before each and after the last."""
    losses = []
    for step in range(steps + 1):
        squares = ((X[:, None] - C) ** 2).sum(axis=2)
        losses.append(float(squares.min(axis=1).mean()))
        if step < steps:
            labels = squares.argmin(axis=1)
            C = np.stack([X[labels == k].mean(axis=0) for k in range(K)])
    return C, losses


def in_memory(X: Array) -> InMemory[KMeansParams]:
    return InMemory(KMeans(K), X, np.ones(len(X)), np.random.default_rng(0))


@pytest.mark.parametrize("tol", [0.0, 1e-3, 0.1, 0.5])
def test_it_stops_after_the_first_step_that_improves_j_by_no_more_than_tol(tol: float) -> None:
    X = np.random.default_rng(0).normal(size=(400, 2))
    _, losses = lloyd(X, X[:K], 60)
    falls = [(before - after) / before for before, after in pairwise(losses)]
    steps = 1 + next(step for step, fall in enumerate(falls) if fall <= tol)
    expected, losses = lloyd(X, X[:K], steps)
    data = in_memory(X)
    run = run_em(data.family, KMeansParams(X[:K]), data, tol=tol)
    assert run.converged
    assert_allclose(run.history, losses, rtol=1e-12)
    assert run.loss == run.history[-1]
    assert f"iterations={steps}, converged=True" in repr(run)
    assert_allclose(run.params.centroids, expected, rtol=1e-12)
    # The statistics are those of the last parameters, not those that made them.
    assert run.stats.objective / len(X) == run.loss


def test_it_stops_at_the_limit_of_steps() -> None:
    X = np.random.default_rng(0).normal(size=(400, 2))
    data = in_memory(X)
    run = run_em(data.family, KMeansParams(X[:K]), data, tol=0.0, max_iter=2)
    assert not run.converged
    assert_allclose(run.history, lloyd(X, X[:K], 2)[1], rtol=1e-12)


class RevivesLate:
    """Points that can revive a component at the second request."""

    def __init__(self, data: InMemory[KMeansParams]) -> None:
        self.data = data
        self.requests = 0

    def e_step(self, params: KMeansParams) -> Stats:
        return self.data.e_step(params)

    def revive(self, stats: Stats) -> Stats:
        self.requests += 1
        return self.data.revive(stats) if self.requests == 2 else stats


def test_it_goes_on_after_a_component_was_revived() -> None:
    # Given a component without points, which can't be revived before the loss stops to improve
    X = blobs(90)
    data = RevivesLate(in_memory(X))
    start = KMeansParams(np.array([X[0], X[1], [1e6, 1e6]]))
    run = run_em(data.data.family, start, data, tol=1.0)
    # Then the loop has a step more, with three components
    assert data.requests == 2
    assert len(run.history) == 3
    assert run.converged
    assert run.stats.all_alive


def test_it_ends_with_a_component_that_can_not_be_revived() -> None:
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 20, axis=0)  # two points that differ, three components
    start = KMeansParams(np.array([X[0], X[-1], [9.0, 9.0]]))
    data = in_memory(X)
    run = run_em(data.family, start, data)
    assert run.converged
    assert run.loss == 0.0
    assert run.stats.alive.tolist() == [True, True, False]
