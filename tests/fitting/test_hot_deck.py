"""Values of similar points in place of missing ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from streamclust.fitting import hot_deck as module
from streamclust.fitting.hot_deck import hot_deck
from tests.support.gaps import with_gaps
from tests.support.strategies import blobs


def test_complete_points_are_returned_as_they_are() -> None:
    X = np.ones((3, 2))
    assert hot_deck(X, np.ones(3)) is X


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_gaps_get_values_of_the_same_cluster(share: float) -> None:
    X, _ = blobs(200, 20.0 * np.eye(4, 6))
    gaps = with_gaps(X, share)
    filled = hot_deck(gaps, np.ones(len(X)))
    missing = np.isnan(gaps)
    assert_array_equal(filled[~missing], X[~missing])
    assert np.median(np.abs(filled - X)[missing]) < 2.0
    assert np.mean(np.abs(filled - X)[missing] > 10.0) < 0.15


def test_without_complete_points_those_with_the_fewest_gaps_give_their_values() -> None:
    X = np.array([[0.0, 0.0, np.nan], [9.0, np.nan, 9.0], [np.nan, 8.0, np.nan]])
    filled = hot_deck(X, np.ones(3))
    assert not np.isnan(filled).any()
    assert filled[0].tolist() == [0.0, 0.0, 9.0]


def test_many_points_have_fewer_donors(monkeypatch: pytest.MonkeyPatch) -> None:
    X = with_gaps(blobs(100, [[0.0, 0.0], [9.0, 9.0]])[0], 0.3)
    monkeypatch.setattr(module, "_MAX_DIFFERENCES", X.size)
    filled = hot_deck(X, np.ones(len(X)))
    assert len(np.unique(filled[np.isnan(X[:, 0]), 0])) == 1
