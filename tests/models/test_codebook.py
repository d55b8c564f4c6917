"""The health of a codebook, and the map from one version to the next."""

from __future__ import annotations

import numpy as np
import pytest

from streamclust.models.codebook import CodebookHealth, codebook_health, version_map


@pytest.mark.parametrize("K", [1, 3, 100])
def test_the_perplexity_of_equal_codes_is_their_number(K: int) -> None:
    found = codebook_health(np.full(K, 7.0))
    assert found.perplexity == pytest.approx(K)
    assert (found.dead, found.near_dead) == (0, 0)
    assert found.largest_share == pytest.approx(1 / K)


def test_codes_without_mass_change_no_perplexity() -> None:
    found = codebook_health(np.array([4.0, 4.0, 0.0]))
    assert found.perplexity == pytest.approx(2.0)
    assert (found.n_codes, found.dead, found.near_dead, found.largest_share) == (3, 1, 0, 0.5)
    assert codebook_health(np.zeros(4)) == CodebookHealth(4, 0.0, 4, 0, 0.0)


def test_dead_and_near_dead_are_relative_to_the_average() -> None:
    mass = np.array([100.0, 100.0, 100.0, 0.5, 5.0, 50.0])  # the average is 59.25
    for unit in (1e-9, 1.0, 1e9):
        found = codebook_health(unit * mass)
        assert (found.dead, found.near_dead) == (1, 1)


def test_a_map_has_the_flows_the_moved_share_and_the_successors() -> None:
    old = np.array([0, 0, 0, 1, 1, 2, 2, 5])
    new = np.array([0, 0, 1, 1, 2, 3, 3, 5])
    w = np.array([1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 2.0])
    found = version_map(old, new, w)
    assert found.old.tolist() == [0, 0, 1, 1, 2, 5]
    assert found.new.tolist() == [0, 1, 1, 2, 3, 5]
    assert found.share.tolist() == [0.2, 0.1, 0.2, 0.1, 0.2, 0.2]
    assert found.moved == pytest.approx(0.4)
    assert found.successors == {0: 0, 1: 1, 2: 3, 5: 5}


def test_a_tie_keeps_the_number() -> None:
    found = version_map(np.array([4, 4]), np.array([1, 4]), np.ones(2))
    assert found.successors == {4: 4}
    assert version_map(np.empty(0, int), np.empty(0, int), np.empty(0)).moved == 0.0
