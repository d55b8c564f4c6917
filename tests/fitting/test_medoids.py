"""K-medoids: points of the data, and the best of them where all choices can be tried."""

from __future__ import annotations

import sys
from itertools import combinations

import numpy as np
import pytest

from streamclust import KMeans
from streamclust.errors import DataError, MissingExtraError, TooFewPointsError
from streamclust.fitting import medoids
from streamclust.fitting.fit import fit
from streamclust.fitting.medoids import fit_medoids, mean_distance


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_best_of_all_choices_of_few_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, w = rng.normal(size=(14, 2)), np.ones(14)
    found = fit_medoids(X, 3, n_init=8, seed=seed)
    assert {tuple(row) for row in found.tolist()} <= {tuple(row) for row in X.tolist()}
    best = min(mean_distance(X, w, X[list(choice)]) for choice in combinations(range(14), 3))
    assert mean_distance(X, w, found) == pytest.approx(best)


def test_an_outlier_pulls_a_centroid_and_no_medoid() -> None:
    X = np.array([[-1.0], [0.0], [1.0], [100.0]])
    assert fit(KMeans(1), X).params.centroids.tolist() == [[25.0]]
    assert fit_medoids(X, 1)[0, 0] in (0.0, 1.0)


def test_the_same_seed_gives_the_same_medoids() -> None:
    X = np.random.default_rng(0).normal(size=(300, 2))
    assert (fit_medoids(X, 5, seed=3) == fit_medoids(X, 5, seed=3)).all()


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooFewPointsError, match=r"^1 distinct points are too few for 2"):
        fit_medoids(np.ones((5, 2)), 2)
    monkeypatch.setattr(medoids, "MAX_POINTS", 50)
    with pytest.raises(DataError, match="at most 50 points; got 51: choose fewer"):
        fit_medoids(np.ones((51, 2)), 2)


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "kmedoids", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*kmedoids"):
        fit_medoids(np.zeros((9, 2)), 2)
