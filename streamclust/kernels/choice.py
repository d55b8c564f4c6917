"""The choice of the kernels: by default the fastest ones that this processor can run.

`STREAMCLUST_KERNELS` (numpy, baseline, avx2, avx512 or avx512vnni) selects other kernels; the
number of threads is set in `streamclust.kernels.threads`. The native library is loaded at the first
call. Without the library, NumPy computes, and one warning is given.
"""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from streamclust.errors import ConfigError
from streamclust.kernels import native, twin
from streamclust.kernels.threads import threads_of_process

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streamclust.arrays import Array, CovarianceType, Labels, Points
    from streamclust.kernels.patterns import Patterns
    from streamclust.kernels.results import (
        Assigned,
        ClusterSums,
        Components,
        Expected,
        Mixture,
        Moments,
        PointScores,
        Sampled,
        Sums,
    )
    from streamclust.kernels.stored import StoredPoints

NUMPY = "numpy"

REMEDY = "install a C++ compiler (g++ or clang), then install streamclust again"


class SlowKernelsWarning(RuntimeWarning):
    """Warns once that NumPy computes, because the native kernels can't be used."""


class Kernels(Protocol):
    """The functions that every implementation has; see `streamclust.kernels`.

    The module `twin` and each `Native` are implementations.
    """

    def assign(self, X: Points, centroids: Array) -> Assigned:
        """See `streamclust.kernels.assign`."""

    def squared_distances(self, X: Points, C: Array) -> Array:
        """See `streamclust.kernels.squared_distances`."""

    def cluster_moments(
        self, X: Points, w: Array, labels: Labels, reference: Array
    ) -> tuple[Array, Array]:
        """See `streamclust.kernels.cluster_moments`."""

    def kmeans_step(self, X: Points, w: Array, centroids: Array) -> ClusterSums:
        """See `streamclust.kernels.kmeans_step`."""

    def kmeans_sums(self, X: Points | StoredPoints, w: Array, centroids: Array) -> Sums:
        """See `streamclust.kernels.kmeans_sums`."""

    def interleave(self, columns: Sequence[NDArray[Any]], out: Points) -> None:
        """See `streamclust.kernels.interleave`."""

    def sample(
        self, w: Array, assigned: Assigned, n_clusters: int, size: float, start: float
    ) -> Sampled:
        """See `streamclust.kernels.sample`."""

    def log_gaussians(
        self, X: Points, means: Array, cholesky: Array, kind: CovarianceType
    ) -> Array:
        """See `streamclust.kernels.log_gaussians`."""

    def mixture_step(
        self,
        X: Points,
        w: Array,
        *mixture: *Mixture,
        background: float = ...,
        log_density: Array | None = ...,
    ) -> tuple[Moments, float]:
        """See `streamclust.kernels.mixture_step`."""

    def expected_step(
        self,
        X: Points,
        w: Array,
        patterns: Patterns,
        components: Components,
        ridge: Array,
        background: Array | None = ...,
        scores: PointScores | None = ...,
    ) -> Expected:
        """See `streamclust.kernels.expected_step`."""

    def marginal_log_gaussians(
        self, X: Points, patterns: Patterns, components: Components, out: Array
    ) -> None:
        """See `streamclust.kernels.marginal_log_gaussians`."""

    def marginal_log_dets(self, absent: NDArray[np.bool_], components: Components) -> Array:
        """See `streamclust.kernels.marginal_log_dets`."""

    def find_patterns(self, X: Points) -> Patterns:
        """See `streamclust.kernels.find_patterns`."""

    def split_rows(self, X: Points) -> tuple[Labels, Labels]:
        """See `streamclust.kernels.split_rows`."""

    def partial_step(
        self, X: Points, w: Array | None, rows: Labels, centroids: Array, assigned: Assigned
    ) -> tuple[Array, Array, float]:
        """See `streamclust.kernels.partial_step`."""

    def plusplus(self, X: Array, w: Array, K: int, uniform: Array) -> Labels:
        """See `streamclust.kernels.plusplus`."""

    def swaps(self, X: Array, w: Array, centroids: Array, uniform: Array) -> Array:
        """See `streamclust.kernels.swaps`."""

    def moves(
        self, X: Array, w: Array, labels: Labels, weight: Array, centroids: Array
    ) -> tuple[Array, Labels]:
        """See `streamclust.kernels.moves`."""


_in_use: Kernels | None = None

_reason = ""
"""Why the native kernels can't be used."""


def kernels_in_use() -> Kernels:
    """Return the kernels in use.

    Raises
    ------
    ConfigError
        If `STREAMCLUST_KERNELS` names kernels that don't exist or can't run on this processor, or
        `STREAMCLUST_THREADS` isn't a positive integer.
    """
    if _in_use is None:
        kernels = _load_once()
        if _reason:
            warnings.warn(f"{native_missing()}; {REMEDY}", SlowKernelsWarning, stacklevel=3)
        return kernels
    return _in_use


def _load_once() -> Kernels:
    global _in_use  # noqa: PLW0603
    if _in_use is None:
        _in_use = _choose(os.environ.get("STREAMCLUST_KERNELS", ""), threads_of_process())
    return _in_use


def native_missing() -> str:
    """Return a sentence with the reason why the native kernels can't be used.

    The text is empty if they are in use, or if the user has selected NumPy.
    """
    _load_once()
    words = "NumPy computes, which is several times slower: native kernels are"
    return f"{words} {_reason}" if _reason else ""


def library() -> ctypes.CDLL | None:
    """Return the native library, which also has parsers; None if the NumPy kernels are in use."""
    kernels = kernels_in_use()
    return kernels.library if isinstance(kernels, native.Native) else None


def describe() -> str:
    """Return the name of the kernels in use; for NumPy, also why native kernels can't be used."""
    kernels = _load_once()
    if isinstance(kernels, native.Native):
        return kernels.name
    return f"{NUMPY} ({_reason})" if _reason else NUMPY


def available() -> tuple[str, ...]:
    """Return the names of all kernels that can run on this processor."""
    try:
        return (NUMPY, *native.supported(native.load()))
    except native.UnavailableError:
        return (NUMPY,)


@contextmanager
def using(name: str, threads: int = 1) -> Iterator[None]:
    """Use the kernels `name` within a block, with `threads` threads; for tests and benchmarks."""
    global _in_use  # noqa: PLW0603
    before, _in_use = _in_use, _choose(name, threads)
    try:
        yield
    finally:
        _in_use = before


def _choose(name: str, threads: int) -> Kernels:
    global _reason  # noqa: PLW0603
    _reason = ""
    if name == NUMPY:
        return twin
    try:
        library = native.load()
    except native.UnavailableError as error:
        _reason = str(error)
        if name:
            raise ConfigError(f"STREAMCLUST_KERNELS={name}: native kernels are {error}") from None
        return twin
    names = native.supported(library)
    if name and name not in names:
        raise ConfigError(
            f"STREAMCLUST_KERNELS={name}; expected one of {', '.join((NUMPY, *names))}"
        )
    return native.Native(library, name or names[0], threads)
