"""The kernels in C++: a shared library of plain functions, called through ctypes.

The library doesn't depend on Python, so one file works for every version of Python. ctypes lets
other threads run during a call. `hatch_build.py` compiles `src/` once for each target.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.kernels import native_seeding
from streamclust.kernels.results import Assigned, ClusterSums, Moments, Sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from streamclust.arrays import Array, CovarianceType, Labels, Points

SOURCES = Path(__file__).parent / "src"
LIBRARY = Path(__file__).parent / "_native.so"

TARGETS = ("avx512vnni", "avx512", "avx2", "baseline")
"""The fastest first."""

_WORTH_A_THREAD = 1 << 24
"""Number of multiplications below which a thread costs more than it saves."""


_CHUNK = 8192
"""Number of points per partial sum of moments; a multiple of the native tile."""


class UnavailableError(Exception):
    """Raised when the library is missing or doesn't fit."""


def sources_hash() -> str:
    """Return the hash of the C++ sources; the build stores it in the library."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def load() -> ctypes.CDLL:
    """Return the library.

    Raises
    ------
    UnavailableError
        If the library was not built, was built from other sources, or can't be loaded.
    """
    if not LIBRARY.exists():
        raise UnavailableError("not built: no C++ compiler was found at installation")
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.streamclust_sources.restype = ctypes.c_char_p
        built_from = library.streamclust_sources().decode()
    except (OSError, AttributeError) as error:
        raise UnavailableError(f"can't be loaded: {error}") from None
    if built_from != sources_hash():
        raise UnavailableError("built from other sources")
    return library


def compiler(library: ctypes.CDLL) -> str:
    """Return the name and version of the compiler that built the library."""
    library.streamclust_compiler.restype = ctypes.c_char_p
    return str(library.streamclust_compiler().decode())


def supported(library: ctypes.CDLL) -> tuple[str, ...]:
    """Return the built targets that this processor can run, the fastest first."""
    return tuple(
        target
        for target in TARGETS
        if hasattr(library, f"streamclust_supports_{target}")
        and library[f"streamclust_supports_{target}"]()
    )


@dataclass(frozen=True)
class Native(native_seeding.NativeSeeding):
    """One target's kernels.

    Parameters
    ----------
    library : ctypes.CDLL
    name : {'avx512vnni', 'avx512', 'avx2', 'baseline'}
    threads : int, default=1
        The results don't depend on the number of threads.
    """

    library: ctypes.CDLL
    name: str
    threads: int = 1

    @cached_property
    def _functions(self) -> dict[str, Callable[..., int]]:
        functions: dict[str, Callable[..., int]] = {}
        for name, types in _ARGUMENTS.items():
            function = self.library[f"{name}_{self.name}"]
            function.argtypes = types
            functions[name] = function
        return functions

    def _call(self, function: str, *arguments: Any) -> None:
        """Call a function with the addresses of arrays, which must be contiguous."""
        values = [_address(a) if type(a) is np.ndarray else a for a in arguments]
        if self._functions[function](*values):
            raise MemoryError

    def assign(self, X: Points, centroids: Array) -> Assigned:
        """See `streamclust.kernels.assign`."""
        X, C = _points(X, centroids), _doubles(centroids)
        labels, sqdist = np.empty(len(X), dtype=np.int64), np.empty(len(X))

        def part(start: int, end: int) -> None:
            rows = slice(start, end)
            arguments = (X[rows], end - start, C, *C.shape, labels[rows], sqdist[rows])
            self._call("assign", _single(X), *arguments)

        self._parallel_for(part, len(X), C.size)
        return Assigned(labels, sqdist)

    def squared_distances(self, X: Points, C: Array) -> Array:
        """See `streamclust.kernels.squared_distances`."""
        X, C = _points(X, C), _doubles(C)
        out = np.empty((len(X), len(C)))

        def part(start: int, end: int) -> None:
            rows = slice(start, end)
            self._call(
                "squared_distances", _single(X), X[rows], end - start, C, *C.shape, out[rows]
            )

        self._parallel_for(part, len(X), C.size)
        return out

    def cluster_moments(
        self, X: Points, w: Array, labels: Labels, reference: Array
    ) -> tuple[Array, Array]:
        """See `streamclust.kernels.cluster_moments`."""
        X, w, r = _points(X, reference), _weights(w, len(X)), _doubles(reference)
        labels = np.ascontiguousarray(labels, dtype=np.int64)
        if labels.shape != w.shape or (len(w) and not 0 <= labels.min() <= labels.max() < len(r)):
            raise IndexError(f"expected {len(w)} labels from 0 to {len(r) - 1}")
        weight, first = np.zeros(len(r)), np.zeros(r.shape)

        def part(low: int, high: int) -> None:
            arguments = (X, w, labels, len(X), r, r.shape[1], low, high, weight, first)
            self._call("accumulate", _single(X), *arguments)

        # Divided by clusters, not by points, so that each sum is in the order of the points.
        self._parallel_for(part, len(r), X.size // len(r))
        return weight, first

    def kmeans_step(self, X: Points, w: Array, centroids: Array) -> ClusterSums:
        """See `streamclust.kernels.kmeans_step`."""
        if self.threads > 1 and len(X) * centroids.size > _WORTH_A_THREAD:
            return self._shared_step(X, w, centroids)
        X, w, C = _points(X, centroids), _weights(w, len(X)), _doubles(centroids)
        N, (K, D) = len(X), C.shape
        weight, first, inertia = np.zeros(K), np.zeros((K, D)), ctypes.c_double()
        labels, sqdist = np.empty(N, dtype=np.int64), np.empty(N)
        arrays = map(_address, (X, w, C, weight, first, labels, sqdist))
        arguments = _STEP.pack(_single(X), N, K, D, *arrays, ctypes.addressof(inertia))
        self._call("kmeans_step", arguments)
        return ClusterSums(weight, first, inertia.value, Assigned(labels, sqdist))

    def _shared_step(self, X: Points, w: Array, centroids: Array) -> ClusterSums:
        assigned = self.assign(X, centroids)
        weight, first = self.cluster_moments(X, w, assigned.labels, centroids)
        lanes = np.bincount(np.arange(len(X)) % 8, weights=w * assigned.sqdist, minlength=8)
        return ClusterSums(weight, first, sum(lanes.tolist()), assigned)

    def sample(
        self, w: Array, assigned: Assigned, n_clusters: int, size: float, start: float
    ) -> Sampled:
        """See `streamclust.kernels.sample`."""
        labels = np.ascontiguousarray(assigned.labels, dtype=np.int64)
        w, sqdist = _weights(w, len(labels)), _weights(assigned.sqdist, len(labels))
        picked, probability = np.empty(len(w), dtype=np.int64), np.empty(len(w))
        count = np.zeros(1, dtype=np.int64)
        points = (w, labels, sqdist, len(w), n_clusters)
        self._call("sample", *points, size, start, picked, probability, count)
        n = int(count[0])
        if n < 0:
            raise IndexError(f"expected labels from 0 to {n_clusters - 1}")
        return Sampled(picked[:n], probability[:n])

    def log_gaussians(
        self, X: Points, means: Array, cholesky: Array, kind: CovarianceType
    ) -> Array:
        """See `streamclust.kernels.log_gaussians`."""
        X = _points(X, means)
        gaussians = _gaussians(np.zeros(len(means)), means, cholesky, kind)
        out = np.empty((len(X), len(means)))

        def part(start: int, end: int) -> None:
            rows = slice(start, end)
            arguments = (X[rows], end - start, *gaussians, out[rows])
            self._call("log_gaussians", _single(X), *arguments)

        self._parallel_for(part, len(X), cholesky.size)
        return out

    def mixture_step(
        self,
        X: Points,
        w: Array,
        log_weights: Array,
        means: Array,
        cholesky: Array,
        kind: CovarianceType,
    ) -> tuple[Moments, float]:
        """See `streamclust.kernels.mixture_step`."""
        X, w = _points(X, means), _weights(w, len(X))
        gaussians = _gaussians(log_weights, means, cholesky, kind)
        second_shape = means.shape if kind == "spherical" else cholesky.shape

        def part(rows: slice) -> tuple[Array, ...]:
            sums = (
                *(np.zeros(shape) for shape in (len(means), means.shape, second_shape)),
                np.zeros(1),
            )
            x = X[rows]
            self._call("mixture_step", _single(X), x, w[rows], len(x), *gaussians, *sums)
            return sums

        weight, first, second, log_likelihood = self._sum(part, len(X))
        if kind == "spherical":
            second = second.mean(axis=1)
        return Moments(weight, first, second), float(log_likelihood[0])

    def _sum(self, part: Callable[[slice], tuple[Array, ...]], n: int) -> Sequence[Array]:
        """Return the sum of `part` over chunks of 0 .. n, in the order of the chunks."""
        chunks = [slice(start, start + _CHUNK) for start in range(0, max(n, 1), _CHUNK)]
        if self.threads == 1 or len(chunks) == 1:
            return _total(map(part, chunks))
        with ThreadPoolExecutor(self.threads) as pool:
            return _total(pool.map(part, chunks))

    def _parallel_for(self, part: Callable[[int, int], None], n: int, cost: int) -> None:
        """Call `part` for ranges that cover 0 .. n, in threads if the work is worth it."""
        threads = min(self.threads, n, 1 + n * cost // _WORTH_A_THREAD)
        if threads <= 1:
            part(0, n)
            return
        bounds = [n * i // threads for i in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, bounds[:-1], bounds[1:]))


def _total(parts: Iterable[tuple[Array, ...]]) -> Sequence[Array]:
    parts = iter(parts)
    total = next(parts)
    for part in parts:
        for sums, more in zip(total, part, strict=True):
            np.add(sums, more, out=sums)
    return total


def _gaussians(
    log_weights: Array, means: Array, root: Array, kind: CovarianceType
) -> tuple[NDArray[Any] | int, ...]:
    """Return the components as arguments for C; spherical ones as diagonal."""
    K, D = means.shape
    if kind == "spherical":
        root = np.repeat(root[:, None], D, axis=1)
    expected = {"full": (K, D, D), "tied": (D, D)}.get(kind, (K, D))
    if log_weights.shape != (K,) or root.shape != expected:
        raise ValueError(f"factors have shape {root.shape}; expected {expected}")
    matrix, shared = kind in ("full", "tied"), kind == "tied"
    return K, D, matrix, shared, _doubles(log_weights), _doubles(means), _doubles(root)


def _address(a: NDArray[Any], first_byte: Any = ctypes.c_char.from_buffer) -> int:
    try:
        return ctypes.addressof(first_byte(a))
    except (TypeError, ValueError):  # read-only or empty; this takes five times as long
        return int(a.__array_interface__["data"][0])


def _single(X: Points) -> bool:
    return X.dtype == _FLOAT


def _points(X: Points, places: Array) -> Points:
    """Return `X` as C reads it; refuse wrong shapes, which would make C read other memory."""
    if X.ndim != 2 or places.ndim != 2 or X.shape[1] != places.shape[1] or not len(places):
        raise ValueError(f"shapes {X.shape} and {places.shape} don't fit: expected (N, D), (K, D)")
    if _single(X):
        return np.ascontiguousarray(X, dtype=np.float32)
    return np.ascontiguousarray(X, dtype=np.float64)


def _weights(w: Array, n: int) -> Array:
    if w.shape != (n,):
        raise ValueError(f"weights have shape {w.shape}; expected ({n},)")
    return _doubles(w)


def _doubles(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=_DOUBLE)


_FLOAT, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)

_BOOL, _SIZE, _REAL, _ARRAY = ctypes.c_int, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p

_ARGUMENTS: dict[str, Sequence[Any]] = {
    "assign": (_BOOL, _ARRAY, _SIZE, _ARRAY, _SIZE, _SIZE, _ARRAY, _ARRAY),
    "squared_distances": (_BOOL, _ARRAY, _SIZE, _ARRAY, _SIZE, _SIZE, _ARRAY),
    "accumulate": (_BOOL, *3 * (_ARRAY,), _SIZE, _ARRAY, *3 * (_SIZE,), *2 * (_ARRAY,)),
    "log_gaussians": (_BOOL, _ARRAY, *3 * (_SIZE,), *2 * (_BOOL,), *4 * (_ARRAY,)),
    "mixture_step": (_BOOL, *2 * (_ARRAY,), *3 * (_SIZE,), *2 * (_BOOL,), *7 * (_ARRAY,)),
    "sample": (*3 * (_ARRAY,), *2 * (_SIZE,), *2 * (_REAL,), *3 * (_ARRAY,)),
    "kmeans_step": (ctypes.c_char_p,),
    **native_seeding.ARGUMENTS,
}
"""As in src/kernels.cpp."""

_STEP = struct.Struct("12q")
"""The arguments of a K-means step, packed: conversions by ctypes take longer than a small step."""
