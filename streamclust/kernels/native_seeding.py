"""The searches for seeds of K-means in C++, one call per search; see src/seeding.hpp."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.arrays import Array, Labels

_SIZE, _ARRAY = ctypes.c_int64, ctypes.c_void_p

ARGUMENTS: dict[str, Sequence[Any]] = {
    "plusplus": (_SIZE, *2 * (_ARRAY,), *4 * (_SIZE,), *3 * (_ARRAY,)),
    "swaps": (_SIZE, *2 * (_ARRAY,), *2 * (_SIZE,), _ARRAY, _SIZE, _ARRAY, _SIZE),
    "moves": (_SIZE, *3 * (_ARRAY,), _SIZE, _ARRAY, *2 * (_SIZE,), *3 * (_ARRAY,)),
}
"""Function -> types of its arguments, as in src/kernels.cpp. The first argument is the maximum
number of threads."""


class NativeSeeding:
    """The part of `Native` for seeding."""

    def _call(self, function: str, *arguments: Any) -> int:
        raise NotImplementedError

    def _threads(self) -> int:
        raise NotImplementedError

    def plusplus(self, X: Array, w: Array, K: int, uniform: Array) -> Labels:
        """See `streamclust.kernels.plusplus`."""
        X, w, uniform = _doubles(X), _doubles(w), _doubles(uniform)
        trials = (len(uniform) - 1) // (K - 1) if K > 1 else 1
        _check(X.ndim == 2 and w.shape == (len(X),) and K > 0 and trials > 0 and len(uniform) > 0)
        chosen, count = np.empty(K, dtype=np.int64), np.zeros(1, dtype=np.int64)
        self._call("plusplus", self._threads(), X, w, *X.shape, K, trials, uniform, chosen, count)
        return chosen[: count[0]]

    def swaps(self, X: Array, w: Array, centroids: Array, uniform: Array) -> Array:
        """See `streamclust.kernels.swaps`."""
        X, w, uniform = _doubles(X), _doubles(w), _doubles(uniform)
        C = np.array(centroids, dtype=np.float64, order="C")
        _check(_fit(X, w, C) and uniform.ndim == 1)
        self._call("swaps", self._threads(), X, w, *X.shape, C, len(C), uniform, len(uniform))
        return C

    def moves(
        self, X: Array, w: Array, labels: Labels, weight: Array, centroids: Array
    ) -> tuple[Array, Labels]:
        """See `streamclust.kernels.moves`."""
        X, w, weight, C = map(_doubles, (X, w, weight, centroids))
        labels = np.ascontiguousarray(labels, dtype=np.int64)
        _check(_fit(X, w, C) and labels.shape == w.shape and weight.shape == (len(C),))
        _check(not len(w) or bool(0 <= labels.min() <= labels.max() < len(C)))
        gain, target = np.empty(len(X)), np.empty(len(X), dtype=np.int64)
        self._call(
            "moves", self._threads(), X, w, labels, len(X), C, *C.shape, weight, gain, target
        )
        return gain, target


def _fit(X: Array, w: Array, C: Array) -> bool:
    return (
        X.ndim == C.ndim == 2
        and X.shape[1:] == C.shape[1:]
        and w.shape == X.shape[:1]
        and len(C) > 0
    )


def _check(fits: bool) -> None:
    """Refuse arguments with which native code would read or write other memory."""
    if not fits:
        raise ValueError(
            "shapes of points, weights and centroids don't fit, or a label isn't a cluster"
        )


def _doubles(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)
