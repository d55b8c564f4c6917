"""The search for better centroids: what a move costs."""

from __future__ import annotations

import numpy as np
import pytest

from streamclust import KMeans, KMeansParams
from streamclust.fitting.search import search_of


def test_a_move_of_centroids_costs_its_share_of_j() -> None:
    # Given 2 points around each of two centroids, at distance 1: J = 4
    X = np.array([[-1.0], [1.0], [9.0], [11.0]])
    params = KMeansParams(np.array([[0.0], [10.0]]))
    stats = KMeans(2).e_step(params, X, np.ones(4))
    # When one centroid moves by 3 Then J grows by 2 * 9
    moved = KMeansParams(np.array([[0.0], [13.0]]))
    assert search_of(KMeans(2)).excess(params, moved, stats) == pytest.approx(18.0 / 4.0)
    assert search_of(KMeans(2)).excess(params, params, stats) == 0.0
