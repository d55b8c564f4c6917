"""Threads change no bit: the sums of a batch are those of its chunks, in their order."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_array_equal

from streamclust import kernels
from streamclust.arrays import Array, CovarianceType, Points
from streamclust.kernels import CHUNK, twin
from streamclust.models.covariance import COVARIANCES
from tests.support.exhaustive import some
from tests.support.gaps import with_gaps
from tests.support.strategies import COVARIANCE_TYPES, random_covariances

NATIVE = [name for name in kernels.available() if name != "numpy"]


def equal(found: Any, expected: Any) -> None:
    """Compare nested results to the last bit."""
    if isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            equal(one, other)
    else:
        assert_array_equal(found, expected)


def clusters(N: int, K: int, D: int) -> tuple[Array, Array, Array]:
    """Points, weights of which some are 0, and centroids of which some have no points."""
    rng = np.random.default_rng((N, K, D))
    C = 2.0 * rng.normal(size=(K, D))
    C[K // 2 :: 5] += 1e3
    X = C[rng.integers(0, K // 2 + 1, N)] + rng.normal(size=(N, D))
    return X, rng.random(N) * (rng.random(N) > 0.2), C


def mixture(kind: CovarianceType, means: Array) -> tuple[Array, Array, Array, CovarianceType]:
    """Log-weights, means, factors and their kind."""
    K, D = means.shape
    rng = np.random.default_rng((K, D))
    root = COVARIANCES[kind].root(random_covariances(kind, K, D, rng))
    return np.log(rng.dirichlet(np.ones(K))), means, root, kind


SHAPES = {
    "each thread takes whole chunks": (9 * CHUNK + 17, 60, 4, np.float64),
    "few chunks": (2 * CHUNK + 17, 200, 6, np.float64),
    "one chunk": (CHUNK, 300, 7, np.float32),
    "more centroids than points": (700, 1500, 16, np.float32),
}
"""Points, centroids, and features per helper: fewer aren't worth a thread."""


@lru_cache
def kmeans_of_twin(
    name: str, threads: int
) -> tuple[tuple[Points, Array, Array], kernels.ClusterSums]:
    """Arguments that are worth so many threads, and the twin's step."""
    N, K, features, dtype = SHAPES[name]
    X, w, C = clusters(N, K, features * (threads - 1))
    arguments = (X.astype(dtype), w, C)
    return arguments, twin.kmeans_step(*arguments)


@pytest.mark.parametrize("name", SHAPES)
def test_kmeans_has_the_bits_of_the_twin_for_any_number_of_threads(
    native_kernel: str, name: str
) -> None:
    # The split among threads is the same code for each instruction set.
    numbers = (1, 2, 8) if native_kernel == NATIVE[0] else (3,)
    (X, w, C), step = kmeans_of_twin(name, numbers[-1])
    for threads in numbers:
        with kernels.using(native_kernel, threads=threads):
            equal(kernels.kmeans_step(X, w, C), step)
            equal(kernels.kmeans_sums(X, w, C), step[:3])
    for threads in (1, 3) if native_kernel == NATIVE[0] else (3,):
        with kernels.using(native_kernel, threads=threads):
            equal(kernels.assign(X, C), step.assigned)
            sums = kernels.cluster_moments(X, w, step.assigned.labels, C)
            equal(sums, (step.weight, step.first))


def few_and_many_patterns(X: Array) -> Array:
    """Return points of which a third is complete, a third has 1 pattern, and a third has many."""
    many = with_gaps(X, 0.2)
    many[::3] = X[::3]
    many[1::3] = X[1::3]
    many[1::3, 2:5] = np.nan
    return many


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_points_with_gaps_have_the_same_bits_for_any_number_of_threads(
    kind: CovarianceType,
) -> None:
    K, D = 24, 18
    X, w, C = clusters(4 * CHUNK + 17, K, D)
    X = few_and_many_patterns(X)
    patterns, (log_weights, means, root, _) = kernels.find_patterns(X), mixture(kind, C)
    covariances = root @ root.swapaxes(-1, -2) if kind in ("full", "tied") else root**2
    model = kernels.Components(log_weights, means, covariances, root, kind)
    found = []
    for threads in (1, 3):
        with kernels.using(NATIVE[-1], threads=threads):
            found.append(kernels.expected_step(X, w, patterns, model, np.zeros(D)))
    equal(*found)


def test_kmeans_with_gaps_has_the_bits_of_the_twin_for_any_number_of_threads() -> None:
    X, w, C = clusters(2 * CHUNK + 17, 70, 30)
    X = few_and_many_patterns(X)
    gappy = kernels.split_rows(X)[1]

    def step(implementation: Any) -> tuple[Any, ...]:
        assigned = kernels.Assigned(np.zeros(len(X), np.int64), np.zeros(len(X)))
        return implementation.partial_step(X, w, gappy, C, assigned), assigned

    expected = step(twin)
    for threads in (1, 3):
        with kernels.using(NATIVE[-1], threads=threads):
            equal(step(kernels), expected)


def test_distances_have_the_bits_of_the_twin_for_any_number_of_threads(native_kernel: str) -> None:
    X, _, C = clusters(2 * CHUNK + 5, 70, 20)
    expected = twin.squared_distances(X, C)
    for threads in (1, 2, 5):
        with kernels.using(native_kernel, threads=threads):
            equal(kernels.squared_distances(X, C), expected)


@lru_cache
def searches(name: str, threads: int) -> tuple[Any, ...]:
    """The choices of the searches, each from that of the one before it."""
    X, w, _ = clusters(2 * CHUNK + 5, 10, 260)  # each pass is worth two threads
    uniform, draws = (
        np.random.default_rng(0).random(1 + 3 * 4),
        np.random.default_rng(1).random(4),
    )
    with kernels.using(name, threads=threads):
        chosen = kernels.plusplus(X, w, 4, uniform)
        C = kernels.swaps(X, w, X[chosen], draws)
        labels = kernels.assign(X, C).labels
        weight = kernels.cluster_moments(X, w, labels, C)[0] + 1e-3
        return chosen, C, kernels.moves(X, w, labels, weight, C)


def test_searches_have_the_bits_of_the_twin_for_any_number_of_threads(native_kernel: str) -> None:
    for threads in (1, 4) if native_kernel == NATIVE[0] else (2,):
        equal(searches(native_kernel, threads), searches("numpy", 1))


@pytest.mark.parametrize("kind", some(COVARIANCE_TYPES, "tied", "full"))
def test_mixtures_have_the_same_bits_for_any_number_of_threads(
    native_kernel: str, kind: CovarianceType
) -> None:
    X, w, C = clusters(3 * CHUNK + 300, 24, 14)
    model = mixture(kind, C)
    step = kernels.mixture_step(X, w, *model)
    noisy, scores, again = kernels.mixture_step(X, w, *model, -60.0), *np.empty((2, len(X)))
    kernels.mixture_step(X, w, *model, log_density=scores)
    densities = kernels.log_gaussians(X, *model[1:])
    for threads in (2, 3, 8) if native_kernel == NATIVE[0] else (3,):
        with kernels.using(native_kernel, threads=threads):
            equal(kernels.mixture_step(X, w, *model, log_density=again), step)
            assert_array_equal(again, scores)
            equal(kernels.mixture_step(X, w, *model, -60.0), noisy)
            equal(kernels.log_gaussians(X, *model[1:]), densities)


@given(
    name=st.sampled_from(kernels.available()),
    chunks=st.integers(0, 3),
    more=st.sampled_from([-65, -1, 0, 1, 63, 64, 100]),
    K=st.sampled_from([1, 3, 70]),
    threads=st.integers(1, 8),
    zeros=st.sampled_from(["", "first chunk", "all"]),
)
@settings(max_examples=60, deadline=None)
def test_the_sums_of_a_batch_are_those_of_its_chunks_in_their_order(
    name: str, chunks: int, more: int, K: int, threads: int, zeros: str
) -> None:
    N = max(0, chunks * CHUNK + more)
    X, w, C = clusters(N, K, 2)
    w[: {"": 0, "first chunk": CHUNK, "all": N}[zeros]] = 0.0
    model = mixture("diag", C)
    parts = [slice(start, start + CHUNK) for start in range(0, max(N, 1), CHUNK)]
    with kernels.using(name, threads=threads):
        steps = [kernels.kmeans_step(X[part], w[part], C) for part in parts]
        sums = [(step.weight, step.first, step.inertia) for step in steps]
        equal(kernels.kmeans_step(X, w, C)[:3], added(sums))
        moments = [kernels.mixture_step(X[part], w[part], *model) for part in parts]
        whole, log_likelihood = kernels.mixture_step(X, w, *model)
        expected = added([(*part, score) for part, score in moments])
        equal((*whole, log_likelihood), expected)


def added(parts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    return reduce(lambda a, b: tuple(x + y for x, y in zip(a, b, strict=True)), parts)


@pytest.mark.skipif(not NATIVE, reason="threads need the native kernels")
def test_callers_at_the_same_time_share_the_helpers_and_get_their_own_results() -> None:
    tasks = [clusters(3 * CHUNK + n, 40 + n, 24) for n in range(8)]
    expected = [kernels.kmeans_step(*task) for task in tasks]
    with kernels.using(NATIVE[0], threads=3), ThreadPoolExecutor(8) as callers:
        for _ in range(5):
            found = callers.map(lambda task: kernels.kmeans_step(*task), tasks)
            for one, other in zip(found, expected, strict=True):
                equal(one, other)


COUNT = """
import os
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from streamclust import kernels

def step(limit=99):
    with kernels.limit_threads(limit):
        return kernels.kmeans_step(X, np.ones(len(X)), X[:64]).weight.tobytes()

def name_of(task):
    try:
        return open(f"/proc/self/task/{task}/comm").read()
    except OSError:  # it has just ended
        return ""

def helpers():
    return [name_of(task) for task in os.listdir("/proc/self/task")].count("kernels\\n")

X = np.random.default_rng(0).normal(size=(50_000, 16))
"""


def run(script: str, threads: str = "4") -> list[str]:
    """Run in a process of its own; return the lines that it prints."""
    environment = {**os.environ, "STREAMCLUST_THREADS": threads, "STREAMCLUST_KERNELS": NATIVE[0]}
    command = [sys.executable, "-c", COUNT + script]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


linux = pytest.mark.skipif(
    not NATIVE or not Path("/proc/self/task").is_dir(), reason="counts the threads of native code"
)


@linux
def test_helpers_start_when_a_large_task_needs_them_and_never_beyond_the_limit() -> None:
    script = """
kernels.kmeans_step(X[:1000], np.ones(1000), X[:64])
print(helpers())
step(limit=1)
print(helpers())
with ThreadPoolExecutor(16) as callers:
    assert len({step(), *callers.map(lambda _: step(), range(64))}) == 1
print(helpers())
"""
    small, limited, many = map(int, run(script))
    assert (small, limited) == (0, 0)
    assert 1 <= many <= 3


@linux
def test_a_single_thread_starts_no_helper() -> None:
    assert run("step(); print(helpers())", threads="1") == ["0"]


@linux
def test_a_child_after_a_fork_starts_its_own_helpers() -> None:
    script = """
before = step()
assert helpers() == 3
with ThreadPoolExecutor(4) as callers:
    busy = [callers.submit(step) for _ in range(40)]  # forks fall into the middle of tasks
    for _ in range(10):
        child = os.fork()
        if child == 0:
            same = step() == before
            os._exit(helpers() if same else 99)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert {task.result() for task in busy} == {before}
"""
    assert run(script) == ["3"] * 10
