"""Mixtures and points with gaps in C++; see src/gaps.hpp."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.kernels.results import Moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamclust.arrays import Array, CovarianceType, Points
    from streamclust.kernels.patterns import Patterns
    from streamclust.kernels.results import Mixture

_BOOL, _SIZE, _ARRAY = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p

_COMPONENTS = (*2 * (_SIZE,), *2 * (_BOOL,), *3 * (_ARRAY,))

ARGUMENTS: dict[str, Sequence[Any]] = {
    "expected_step": (_BOOL, *2 * (_ARRAY,), _SIZE, *3 * (_ARRAY,), *_COMPONENTS, *5 * (_ARRAY,)),
    "marginal_log_gaussians": (_BOOL, _ARRAY, _SIZE, *3 * (_ARRAY,), *_COMPONENTS, _ARRAY),
    "marginal_log_dets": (_SIZE, _ARRAY, *_COMPONENTS, _ARRAY),
}
"""As in src/kernels.cpp."""


class NativeGaps:
    """The part of `Native` for points with gaps."""

    def _call(self, function: str, *arguments: Any) -> None:
        raise NotImplementedError

    def expected_step(
        self, X: Points, w: Array, patterns: Patterns, mixture: Mixture, floor: Array
    ) -> tuple[Moments, float]:
        """See `streamclust.kernels.expected_step`."""
        log_weights, means, covariances, kind = mixture
        components = _components(log_weights, means, covariances, kind)
        X, single, groups = _groups(X, patterns, means)
        w, floor = _doubles(w), _doubles(floor)
        if w.shape != (len(X),) or floor.shape != means.shape[1:]:
            raise ValueError(f"weights have shape {w.shape}; expected ({len(X)},)")
        weight, first, log_likelihood = np.zeros(len(means)), np.zeros(means.shape), np.zeros(1)
        second = np.zeros(components[-1].shape)
        sums = (weight, first, second, log_likelihood)
        self._call("expected_step", single, X, w, *groups, *components, floor, *sums)
        if kind == "spherical":
            second = second.mean(axis=1)
        return Moments(weight, first, second), float(log_likelihood[0])

    def marginal_log_gaussians(
        self,
        X: Points,
        patterns: Patterns,
        means: Array,
        covariances: Array,
        kind: CovarianceType,
        out: Array,
    ) -> None:
        """See `streamclust.kernels.marginal_log_gaussians`."""
        components = _components(np.zeros(len(means)), means, covariances, kind)
        X, single, groups = _groups(X, patterns, means)
        if out.shape != (len(X), len(means)) or not out.flags.c_contiguous:
            raise ValueError(f"out has shape {out.shape}; expected ({len(X)}, {len(means)})")
        self._call("marginal_log_gaussians", single, X, *groups, *components, out)

    def marginal_log_dets(
        self, absent: NDArray[np.bool_], means: Array, covariances: Array, kind: CovarianceType
    ) -> Array:
        """See `streamclust.kernels.marginal_log_dets`."""
        components = _components(np.zeros(len(means)), means, covariances, kind)
        out = np.empty((len(absent), 1 if kind == "tied" else len(means)))
        self._call("marginal_log_dets", len(absent), _bytes(absent, means), *components, out)
        return out


def _groups(X: Points, patterns: Patterns, means: Array) -> tuple[Points, bool, tuple[Any, ...]]:
    """Return points, whether they are float32, and their patterns as arguments for C."""
    single = X.dtype == np.float32
    if single:
        X = np.ascontiguousarray(X, dtype=np.float32)
    else:
        X = np.ascontiguousarray(X, dtype=np.float64)
    order = np.ascontiguousarray(patterns.order, np.int64)
    starts = np.ascontiguousarray(patterns.starts, np.int64)
    P = len(patterns.absent)
    fits = X.ndim == 2 and X.shape[1:] == means.shape[1:] and starts.shape == (P + 1,)
    if not fits or (len(order) and not 0 <= order.min() <= order.max() < len(X)):
        raise ValueError("shapes of points, patterns and means don't fit, or a row isn't a point's")
    if starts[0] != 0 or starts[-1] != len(order) or (np.diff(starts) < 0).any():
        raise ValueError("the starts of patterns don't rise from 0 to the number of rows")
    return X, single, (P, order, starts, _bytes(patterns.absent, means))


def _bytes(absent: NDArray[np.bool_], means: Array) -> NDArray[np.uint8]:
    if absent.shape[1:] != means.shape[1:] or absent.all(axis=1).any():
        raise ValueError("patterns have another number of features, or no present one")
    return np.ascontiguousarray(absent).view(np.uint8)


def _components(
    log_weights: Array, means: Array, covariances: Array, kind: CovarianceType
) -> tuple[Any, ...]:
    """Return the components as arguments for C; spherical ones as diagonal."""
    K, D = means.shape
    if kind == "spherical":
        covariances = np.repeat(covariances[:, None], D, axis=1)
    expected = {"full": (K, D, D), "tied": (D, D)}.get(kind, (K, D))
    if log_weights.shape != (K,) or covariances.shape != expected or not K:
        raise ValueError(f"covariances have shape {covariances.shape}; expected {expected}")
    arrays = (_doubles(log_weights), _doubles(means), _doubles(covariances))
    return K, D, kind in ("full", "tied"), kind == "tied", *arrays


def _doubles(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)
