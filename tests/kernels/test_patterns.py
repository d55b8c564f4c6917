"""Points by the features that they have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamclust.kernels import find_patterns, twin
from tests.support.gaps import with_gaps


@pytest.mark.parametrize("D", [1, 7, 8, 9, 63, 64, 65, 200])
def test_each_point_has_the_pattern_of_its_gaps_and_rows_ascend(D: int) -> None:
    rng = np.random.default_rng(D)
    few = with_gaps(rng.normal(size=(5, D)), 0.6)
    X = few[rng.integers(5, size=60)]
    found = find_patterns(X)
    rows = np.concatenate([found.complete, *found.rows])
    assert sorted(rows.tolist()) == list(range(60))
    assert not np.isnan(X[found.complete]).any()
    for absent, own in zip(found.absent, found.rows, strict=True):
        assert absent.any()
        assert (np.isnan(X[own]) == absent).all()
        assert (np.diff(own) > 0).all()
    assert len(np.unique(found.absent, axis=0)) == len(found.absent)


@pytest.mark.parametrize("D", [1, 7, 8, 9, 63, 64, 65, 200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_kernels_find_the_same_patterns_in_the_same_order(
    native_kernel: str, D: int, dtype: Any
) -> None:
    X = with_gaps(np.zeros((300, D)), 0.3).astype(dtype)[np.arange(400) % 300]
    found, wanted = find_patterns(X), twin.find_patterns(X)
    for name in ("complete", "absent", "order", "starts"):
        assert getattr(found, name).tolist() == getattr(wanted, name).tolist()


def test_the_order_of_patterns_depends_on_the_patterns_alone() -> None:
    X = with_gaps(np.zeros((200, 6)), 0.4)
    again = find_patterns(np.random.default_rng(0).permutation(X))
    assert find_patterns(X).absent.tolist() == again.absent.tolist()


@pytest.mark.parametrize("X", [np.zeros((3, 2)), np.zeros((0, 2))])
def test_complete_points_have_no_pattern(X: Any) -> None:
    found = find_patterns(X)
    assert found.complete.tolist() == list(range(len(X)))
    assert not found.rows
