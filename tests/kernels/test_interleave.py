"""Columns that become the rows of a table."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from streamclust import kernels
from streamclust.arrays import Points


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("F", [1, 3, 4, 5, 8, 17])
def test_rows_have_the_numbers_of_the_columns_at_any_size(
    each_kernel: str, F: int, dtype: type[np.float64]
) -> None:
    for N in (0, 1, 7, 8, 9, 100):
        table = np.random.default_rng(F).normal(size=(F, N)).astype(dtype)
        table[0, N // 2 : N // 2 + 1] = np.nan
        out = np.zeros((N, F), dtype)
        kernels.interleave(list(table), out)
        assert_array_equal(out, table.T)


def test_columns_of_other_types_are_converted(each_kernel: str) -> None:
    columns = [np.arange(9), np.arange(18.0)[::2], np.arange(9, dtype=np.float32)]
    out = np.empty((9, 3))
    kernels.interleave(columns, out)
    assert_array_equal(
        out, np.stack([np.arange(9.0), np.arange(0.0, 18.0, 2.0), np.arange(9.0)], 1)
    )


def test_columns_that_do_not_fit_never_reach_the_native_code(native_kernel: str) -> None:
    columns = [np.zeros(4), np.zeros(4)]
    for out in (np.zeros((5, 2)), np.zeros((4, 3)), np.zeros((2, 4)).T, np.zeros((4, 2), np.int64)):
        with pytest.raises(ValueError, match=r"columns|contiguous"):
            kernels.interleave(columns, cast("Points", out))
