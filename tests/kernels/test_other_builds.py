"""The kernels by other compilers and for other processors, where there are tools for them.

On Debian: clang, g++-aarch64-linux-gnu and qemu-user.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from streamclust.arrays import CovarianceType
from streamclust.kernels import native, twin
from streamclust.models.covariance import COVARIANCES
from tests.support.strategies import random_covariances

SHAPES = [(1, 2), (2, 7), (3, 33), (5, 8), (9, 2), (16, 33), (33, 7)]
FLAGS = ["-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno", "-pthread", "-w"]
"""What of hatch_build.py's can change a result."""

KINDS: tuple[CovarianceType, ...] = ("full", "tied", "diag")

Case = tuple[bytes, list[Any]]


def kmeans_case(D: int, K: int, single: bool, N: int = 261) -> Case:
    """What the driver is given, and what the twin makes of it."""
    rng = np.random.default_rng((D, K))
    C = 2.0 * rng.normal(size=(K, D))
    X, w = C[rng.integers(0, K, N)] + rng.normal(size=(N, D)), rng.random(N)
    points = X.astype(np.float32) if single else X
    head = np.array([len(X), K, D, single], dtype=np.int64)
    sums = twin.kmeans_step(points, w, C)
    expected = [*sums.assigned, sums.weight, sums.first, np.array([sums.inertia])]
    return b"".join(a.tobytes() for a in (head, X, w, C)), expected


def mixture_case(D: int, K: int, kind: CovarianceType, N: int = 261) -> Case:
    rng = np.random.default_rng((D, K))
    means = 2.0 * rng.normal(size=(K, D))
    X, w = means[rng.integers(0, K, N)] + rng.normal(size=(N, D)), rng.random(N)
    root = np.ascontiguousarray(COVARIANCES[kind].root(random_covariances(kind, K, D, rng)))
    log_weights = np.log(rng.dirichlet(np.ones(K)))
    head = np.array([len(X), K, D, 2 + KINDS.index(kind)], dtype=np.int64)
    background = np.array([rng.choice([-np.inf, -2.0 * D])])
    model, density = (log_weights, means, root, kind), np.empty(N)
    moments, score = twin.mixture_step(
        X, w, *model, background=float(background[0]), log_density=density
    )
    data = b"".join(a.tobytes() for a in (head, X, w, means, log_weights, root, background))
    return data, [*moments, np.array([score]), density]


def searches_case(D: int, K: int, N: int = 261) -> Case:
    rng = np.random.default_rng((D, K))
    X, w = rng.normal(size=(N, D)), rng.random(N)
    uniform, draws = rng.random(1 + 3 * (K - 1)), rng.random(20)
    chosen = twin.plusplus(X, w, K, uniform)
    C = twin.swaps(X, w, X[chosen], draws)
    labels = twin.assign(X, C).labels
    weight = twin.cluster_moments(X, w, labels, C)[0] + 1e-3
    head = np.array([len(X), K, D, 5], dtype=np.int64)
    data = b"".join(a.tobytes() for a in (head, X, w, uniform, draws, labels, weight))
    return data, [chosen, C, *twin.moves(X, w, labels, weight, C)]


def compile_driver(
    compiler: list[str],
    folder: Path,
    more: Sequence[str] = ("-static",),
    sources: Path = native.SOURCES,
) -> Path:
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"{compiler[0]} is not installed")
    files = [sources / "kernels.cpp", sources / "threads.cpp"]
    files.append(Path(__file__).with_name("driver.cpp"))
    flags = [*FLAGS, "-DTARGET=baseline", f"-I{sources}"]
    subprocess.run(
        [*compiler, *flags, *more, *map(str, files), "-o", str(folder / "driver")],
        check=True,
        capture_output=True,
    )
    return folder / "driver"


def run(
    command: list[Any], cases: list[Case], folder: Path, threads: int = 1, callers: int = 1
) -> list[list[Any]]:
    (folder / "cases").write_bytes(b"".join(data for data, _ in cases))
    numbers = [str(threads), str(callers)]
    subprocess.run([*command, folder / "cases", folder / "results", *numbers], check=True)
    data, at = (folder / "results").read_bytes(), 0
    results: list[list[Any]] = []
    for _, expected in cases:
        results.append([])
        for array in expected:
            found = np.frombuffer(data, array.dtype, array.size, at)
            results[-1].append(found.reshape(array.shape))
            at += array.nbytes
    assert at == len(data)
    return results


@pytest.mark.parametrize(
    ("compiler", "emulator"),
    [
        (["clang++"], []),
        (["aarch64-linux-gnu-g++"], ["qemu-aarch64"]),
    ],
    ids=["clang", "neon"],
)
def test_another_build_gives_the_same(
    compiler: list[str], emulator: list[str], tmp_path: Path
) -> None:
    """K-means and its searches bit for bit, mixtures to 1e-12."""
    driver = compile_driver(compiler, tmp_path)
    if emulator and shutil.which(emulator[0]) is None:
        pytest.skip(f"{emulator[0]} is not installed")
    exact = [kmeans_case(D, K, single) for D, K in SHAPES for single in (False, True)]
    exact += [searches_case(D, K) for D, K in SHAPES]
    close = [mixture_case(D, K, kind) for D, K in SHAPES for kind in KINDS]
    results = run([*emulator, driver], [*exact, *close], tmp_path)
    for (_, expected), found in zip(exact, results, strict=False):
        for one, other in zip(found, expected, strict=True):
            assert_array_equal(one, other)
    for (_, expected), found in zip(close, results[len(exact) :], strict=True):
        for one, other in zip(found, expected, strict=True):
            assert_allclose(one, other, rtol=1e-12, atol=1e-12 * (1.0 + np.abs(other).max()))


def sources_that_share_small_tasks(folder: Path) -> Path:
    """Copy the sources; a thread is worth 256 times less work.

    All parts of the searches are shared then, also those that take a million points otherwise, and
    the sanitizer, which makes code ten times slower, has little to do.
    """
    copy = Path(shutil.copytree(native.SOURCES, folder / "sources"))
    header = copy / "threads.hpp"
    least = "WORTH_A_THREAD = 1 << "
    before = header.read_text()
    assert before.count(f"{least}24;") == 1
    header.write_text(before.replace(f"{least}24;", f"{least}16;"))
    return copy


def test_threads_that_share_tasks_write_no_memory_of_each_other(tmp_path: Path) -> None:
    """ThreadSanitizer finds nothing, also while two callers share helpers."""
    sources = sources_that_share_small_tasks(tmp_path)
    try:
        # Without optimization (-O0) it is compiled in half the time.
        driver = compile_driver(["c++"], tmp_path, ("-O0", "-g1", "-fsanitize=thread"), sources)
    except subprocess.CalledProcessError:
        pytest.skip("the compiler has no ThreadSanitizer")
    # Each case is worth three threads or more.
    exact = [kmeans_case(4, 12, single=False, N=20_000)]
    exact.append(kmeans_case(10, 40, single=True, N=9_000))  # few chunks, many centroids
    exact.append(searches_case(4, 6, N=17_000))
    cases = [*exact, mixture_case(3, 4, "full", N=17_000), mixture_case(4, 4, "diag", N=17_000)]
    fixed_addresses = ["setarch", "-R"] if shutil.which("setarch") else []
    results = run([*fixed_addresses, driver], cases, tmp_path, threads=4)
    run([*fixed_addresses, driver], exact[:1], tmp_path, threads=4, callers=2)
    for (_, expected), found in zip(exact, results, strict=False):
        for one, other in zip(found, expected, strict=True):
            assert_array_equal(one, other)
