"""The kernels in C++: a shared library of plain functions, called through ctypes.

The library doesn't depend on Python, so one file works for every version of Python. ctypes lets
other threads run during a call. `hatch_build.py` compiles `src/` once for each target.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.kernels import native_gaps, native_seeding
from streamclust.kernels.results import Assigned, ClusterSums, Moments, Sampled, Sums
from streamclust.kernels.stored import StoredPoints, cut_off
from streamclust.kernels.threads import limit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streamclust.arrays import Array, CovarianceType, Labels, Points
    from streamclust.kernels.results import Mixture

SOURCES = Path(__file__).parent / "src"
LIBRARY = Path(__file__).parent / "_native.so"

TARGETS = ("avx512vnni", "avx512", "avx2", "baseline")
"""Instruction sets of the processor, the fastest first."""


class UnavailableError(Exception):
    """Raised when the native library is missing or can't be used."""


@cache
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
        library = _opened(LIBRARY)
        built_from = sources(library)
    except (OSError, AttributeError) as error:
        raise UnavailableError(f"can't be loaded: {error}") from None
    if built_from != sources_hash():
        raise UnavailableError("built from other sources")
    return library


@cache
def _opened(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))


def sources(library: ctypes.CDLL) -> str:
    """Return the hash of the sources that the library was built from."""
    library.streamclust_sources.restype = ctypes.c_char_p
    return str(library.streamclust_sources().decode())


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
class Native(native_seeding.NativeSeeding, native_gaps.NativeGaps):
    """The kernels of one target.

    Parameters
    ----------
    library : ctypes.CDLL
    name : {'avx512vnni', 'avx512', 'avx2', 'baseline'}
    threads : int, default=1
        Maximum number of threads of a call (src/threads.cpp). Results don't depend on it.
    """

    library: ctypes.CDLL
    name: str
    threads: int = 1

    @cached_property
    def _functions(self) -> dict[str, Callable[..., int]]:
        return _functions_of(self.library, self.name)

    def _call(self, function: str, *arguments: Any) -> int:
        """Call a function with the addresses of arrays, which must be contiguous.

        Return the number that the function returns. Raise MemoryError for 1, a lack of memory.
        """
        values = [address_of(a) if type(a) is np.ndarray else a for a in arguments]
        result = self._functions[function](*values)
        if result == 1:
            raise MemoryError
        return result

    def _threads(self) -> int:
        return min(self.threads, limit.get())

    def _points_call(
        self, function: str, X: Points, w: Array | None, C: Array, *results: NDArray[Any] | None
    ) -> float:
        """Call one of the functions that take a `KmeansStep`; return the inertia."""
        inertia = ctypes.c_double()
        addresses = [0 if a is None else address_of(a) for a in (X, w, C, *results)]
        sizes = (_single(X), self._threads(), len(X), *C.shape)
        here = ctypes.addressof(inertia)
        if self._functions[function](_STEP.pack(*sizes, *addresses, here, 0, 0)):
            raise MemoryError
        return inertia.value

    def assign(self, X: Points, centroids: Array) -> Assigned:
        """See `streamclust.kernels.assign`."""
        X, C = _points(X, centroids), _doubles(centroids)
        labels, squared_distances = np.empty(len(X), dtype=np.int64), np.empty(len(X))
        self._points_call("assign", X, None, C, None, None, labels, squared_distances)
        return Assigned(labels, squared_distances)

    def squared_distances(self, X: Points, C: Array) -> Array:
        """See `streamclust.kernels.squared_distances`."""
        X, C = _points(X, C), _doubles(C)
        out = np.empty((len(X), len(C)))
        self._points_call("squared_distances", X, None, C, None, None, None, out)
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
        self._points_call("cluster_sums", X, w, r, weight, first, labels, None)
        return weight, first

    def kmeans_step(self, X: Points, w: Array, centroids: Array) -> ClusterSums:
        """See `streamclust.kernels.kmeans_step`."""
        X, w, C = _points(X, centroids), _weights(w, len(X)), _doubles(centroids)
        weight, first = np.zeros(len(C)), np.zeros(C.shape)
        labels, squared_distances = np.empty(len(X), dtype=np.int64), np.empty(len(X))
        inertia = self._points_call(
            "kmeans_step", X, w, C, weight, first, labels, squared_distances
        )
        return ClusterSums(weight, first, inertia, Assigned(labels, squared_distances))

    def kmeans_sums(self, X: Points | StoredPoints, w: Array, centroids: Array) -> Sums:
        """See `streamclust.kernels.kmeans_sums`."""
        w, C = _weights(w, len(X)), _doubles(centroids)
        weight, first = np.zeros(len(C)), np.zeros(C.shape)
        if isinstance(X, StoredPoints):
            return Sums(weight, first, self._step_of_file(X, w, C, weight, first))
        inertia = self._points_call("kmeans_step", _points(X, C), w, C, weight, first, None, None)
        return Sums(weight, first, inertia)

    def _step_of_file(
        self, X: StoredPoints, w: Array, C: Array, weight: Array, first: Array
    ) -> float:
        """Add the sums of points in a file to `weight` and `first`; return the inertia."""
        if X.shape[1:] != C.shape[1:] or not len(C) or X.dtype not in (_FLOAT, _DOUBLE):
            raise ValueError(f"shapes {X.shape} and {C.shape} don't fit")
        inertia = ctypes.c_double()
        addresses = (0, address_of(w), address_of(C), address_of(weight), address_of(first), 0, 0)
        sizes = (X.dtype == _FLOAT, self._threads(), len(X), *C.shape)
        place = (ctypes.addressof(inertia), X.file.fileno(), X.offset)
        status = self._functions["kmeans_step_of_file"](_STEP.pack(*sizes, *addresses, *place))
        if status == 1:
            raise MemoryError
        if status:
            raise cut_off(X.label)
        return inertia.value

    def interleave(self, columns: Sequence[NDArray[Any]], out: Points) -> None:
        """See `streamclust.kernels.interleave`."""
        if not out.flags.c_contiguous or out.dtype not in (_FLOAT, _DOUBLE):
            raise ValueError("the rows aren't contiguous numbers of float64 or float32")
        if out.shape[1:] != (len(columns),) or any(len(column) != len(out) for column in columns):
            raise ValueError(f"{len(columns)} columns don't fit into shape {out.shape}")
        own = [np.ascontiguousarray(column, out.dtype) for column in columns]
        addresses = np.array([address_of(column) for column in own], np.uintp)
        self._call("interleave", _single(out), addresses, *out.shape, out)

    def sample(
        self, w: Array, assigned: Assigned, n_clusters: int, size: float, start: float
    ) -> Sampled:
        """See `streamclust.kernels.sample`."""
        labels = np.ascontiguousarray(assigned.labels, dtype=np.int64)
        w = _weights(w, len(labels))
        squared_distances = _weights(assigned.squared_distances, len(labels))
        picked, probability = np.empty(len(w), dtype=np.int64), np.empty(len(w))
        count = np.zeros(1, dtype=np.int64)
        points = (w, labels, squared_distances, len(w), n_clusters)
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
        self._call("log_gaussians", _single(X), self._threads(), X, len(X), *gaussians, out)
        return out

    def mixture_step(
        self,
        X: Points,
        w: Array,
        *mixture: *Mixture,
        background: float = -np.inf,
        log_density: Array | None = None,
    ) -> tuple[Moments, float]:
        """See `streamclust.kernels.mixture_step`."""
        log_weights, means, cholesky, kind = mixture
        X, w = _points(X, means), _weights(w, len(X))
        gaussians = _gaussians(log_weights, means, cholesky, kind)
        weight, first, log_likelihood = np.zeros(len(means)), np.zeros(means.shape), np.zeros(1)
        second = np.zeros(means.shape if kind == "spherical" else cholesky.shape)
        if log_density is not None and log_density.shape != (len(X),):
            raise ValueError(f"log_density has shape {log_density.shape}; expected ({len(X)},)")
        sums = (background, weight, first, second, log_likelihood, log_density)
        self._call("mixture_step", _single(X), self._threads(), X, w, len(X), *gaussians, *sums)
        if kind == "spherical":
            second = second.mean(axis=1)
        return Moments(weight, first, second), float(log_likelihood[0])


def _gaussians(
    log_weights: Array, means: Array, root: Array, kind: CovarianceType
) -> tuple[NDArray[Any] | int, ...]:
    """Return the components as arguments for C; spherical covariances become diagonal."""
    K, D = means.shape
    if kind == "spherical":
        root = np.repeat(root[:, None], D, axis=1)
    expected = {"full": (K, D, D), "tied": (D, D)}.get(kind, (K, D))
    if log_weights.shape != (K,) or root.shape != expected:
        raise ValueError(f"factors have shape {root.shape}; expected {expected}")
    matrix, shared = kind in ("full", "tied"), kind == "tied"
    return K, D, matrix, shared, _doubles(log_weights), _doubles(means), _doubles(root)


def address_of(a: NDArray[Any], first_byte: Any = ctypes.c_char.from_buffer) -> int:
    """Return the address of a contiguous array. ``a.ctypes.data`` takes twice as long."""
    try:
        return ctypes.addressof(first_byte(a))
    except (TypeError, ValueError):  # read-only or empty arrays; the next line is five times slower
        return int(a.__array_interface__["data"][0])


def _single(X: Points) -> bool:
    return X.dtype == _FLOAT


def _points(X: Points, places: Array) -> Points:
    """Return `X` as C reads it; refuse wrong shapes, with which C would read other memory."""
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

_POINTS = (ctypes.c_char_p,)

_ARGUMENTS: dict[str, Sequence[Any]] = {
    **dict.fromkeys(("assign", "squared_distances", "cluster_sums", "kmeans_step"), _POINTS),
    "kmeans_step_of_file": _POINTS,
    "log_gaussians": (_BOOL, _SIZE, _ARRAY, *3 * (_SIZE,), *2 * (_BOOL,), *4 * (_ARRAY,)),
    "mixture_step": (
        *(_BOOL, _SIZE, *2 * (_ARRAY,), *3 * (_SIZE,), *2 * (_BOOL,), *3 * (_ARRAY,)),
        *(_REAL, *5 * (_ARRAY,)),
    ),
    "interleave": (_BOOL, _ARRAY, *2 * (_SIZE,), _ARRAY),
    "sample": (*3 * (_ARRAY,), *2 * (_SIZE,), *2 * (_REAL,), *3 * (_ARRAY,)),
    **native_seeding.ARGUMENTS,
    **native_gaps.ARGUMENTS,
}
"""Function -> types of its arguments, as in src/kernels.cpp."""

_STEP = struct.Struct("15q")
"""A `KmeansStep` of src/kmeans.hpp. Conversions by ctypes would take longer than a small step."""


@cache
def _functions_of(library: ctypes.CDLL, target: str) -> dict[str, Callable[..., int]]:
    functions: dict[str, Callable[..., int]] = {}
    for name, types in _ARGUMENTS.items():
        function = library[f"{name}_{target}"]
        function.argtypes = types
        functions[name] = function
    return functions
