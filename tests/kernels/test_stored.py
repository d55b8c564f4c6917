"""Sums of points that a kernel reads from a file by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from streamclust import kernels
from streamclust.errors import DataError
from streamclust.kernels import CHUNK, StoredPoints


def stored(path: Path, X: np.ndarray) -> StoredPoints:
    """Write points after 24 other bytes, and return them as stored points."""
    path.write_bytes(bytes(24) + X.tobytes())
    return StoredPoints(path.open("rb"), 24, X.shape, X.dtype, "the file")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("N", [1, 100, CHUNK, 5 * CHUNK + 7])
def test_the_bits_are_those_of_points_in_memory(
    each_kernel: str, N: int, dtype: type[np.float64], tmp_path: Path
) -> None:
    rng = np.random.default_rng(N)
    X, w, C = rng.normal(size=(N, 7)).astype(dtype), rng.random(N), rng.normal(size=(80, 7))
    expected = kernels.kmeans_sums(X, w, C)
    found = stored(tmp_path / "points", X)
    with found.file:
        assert_array_equal(found.read(), X)
        for threads in (1, 3):
            with kernels.using(each_kernel, threads=threads):
                sums = kernels.kmeans_sums(found, w, C)
            for a, b in zip(sums, expected, strict=True):
                assert_array_equal(a, b)


def test_a_file_that_is_cut_off_is_an_error(each_kernel: str, tmp_path: Path) -> None:
    X = np.ones((2 * CHUNK, 2))
    found = stored(tmp_path / "points", X)
    with (tmp_path / "points").open("r+b") as file:
        file.truncate(24 + 8 * CHUNK)
    with found.file, pytest.raises(DataError, match="the file was cut off while it was read"):
        kernels.kmeans_sums(found, np.ones(len(X)), X[:3])


def test_shapes_that_do_not_fit_never_reach_the_native_code(
    native_kernel: str, tmp_path: Path
) -> None:
    found = stored(tmp_path / "points", np.ones((9, 2)))
    with found.file:
        for w, C in ((9, (4, 3)), (8, (4, 2)), (9, (0, 2))):
            with pytest.raises(ValueError, match="shape"):
                kernels.kmeans_sums(found, np.zeros(w), np.zeros(C))
