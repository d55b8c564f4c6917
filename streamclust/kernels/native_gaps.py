"""Mixtures and points with gaps in C++; see src/gaps.hpp."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.kernels import twin_gaps
from streamclust.kernels.patterns import Patterns
from streamclust.kernels.results import Expected, Moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamclust.arrays import Array, CovarianceType, Labels, Points
    from streamclust.kernels.results import Assigned, Components, Mixture, PointScores

_BOOL, _SIZE, _ARRAY = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p

_COMPONENTS = (*2 * (_SIZE,), *2 * (_BOOL,), *3 * (_ARRAY,))

ARGUMENTS: dict[str, Sequence[Any]] = {
    "expected_step": (
        *(_BOOL, _SIZE, *2 * (_ARRAY,), _SIZE, *3 * (_ARRAY,), *_COMPONENTS),
        *9 * (_ARRAY,),
    ),
    "marginal_log_gaussians": (_BOOL, _ARRAY, _SIZE, *3 * (_ARRAY,), *_COMPONENTS, _ARRAY),
    "marginal_log_dets": (_SIZE, _ARRAY, *_COMPONENTS, _ARRAY),
    "split_rows": (_BOOL, _ARRAY, *2 * (_SIZE,), *3 * (_ARRAY,)),
    "find_patterns": (_BOOL, _ARRAY, *2 * (_SIZE,), *4 * (_ARRAY,)),
    "partial_step": (_BOOL, _SIZE, *3 * (_ARRAY,), *3 * (_SIZE,), *6 * (_ARRAY,)),
}
"""Function -> types of its arguments, as in src/kernels.cpp."""


class NativeGaps:
    """The part of `Native` for points with gaps.

    If the features of a component are nearly linearly dependent, its precision has too few digits.
    NumPy then computes the step.
    """

    _functions: Any

    def _call(self, function: str, *arguments: Any) -> int:
        raise NotImplementedError

    def _threads(self) -> int:
        raise NotImplementedError

    def mixture_step(
        self,
        X: Points,
        w: Array,
        *mixture: *Mixture,
        background: float = ...,
        log_density: Array | None = ...,
    ) -> tuple[Moments, float]:
        """See `streamclust.kernels.mixture_step`."""
        raise NotImplementedError

    def log_gaussians(
        self, X: Points, means: Array, cholesky: Array, kind: CovarianceType
    ) -> Array:
        """See `streamclust.kernels.log_gaussians`."""
        raise NotImplementedError

    def expected_step(
        self,
        X: Points,
        w: Array,
        patterns: Patterns,
        components: Components,
        ridge: Array,
        background: Array | None = None,
        scores: PointScores | None = None,
    ) -> Expected:
        """See `streamclust.kernels.expected_step`."""
        means, kind = components.means, components.kind
        arguments = _components(components)
        X, single, groups = _groups(X, patterns, means)
        w, ridge, covariances = _doubles(w), _doubles(ridge), _doubles(components.covariances)
        if w.shape != (len(X),) or ridge.shape != means.shape[1:]:
            raise ValueError(f"weights have shape {w.shape}; expected ({len(X)},)")
        log_backgrounds = None if background is None else _doubles(background)
        if log_backgrounds is not None and log_backgrounds.shape != (len(patterns),):
            raise ValueError(
                f"background has shape {log_backgrounds.shape}; expected ({len(patterns)},)"
            )
        out = (None, None) if scores is None else _per_point(scores, len(X))
        weight, first, totals = np.zeros(len(means)), np.zeros(means.shape), np.zeros(2)
        second = np.zeros(arguments[-1].shape)
        if kind == "spherical":
            ridge = np.full(X.shape[1], ridge.mean())
        sums = (covariances, ridge, log_backgrounds, weight, first, second, totals, *out)
        points = (single, self._threads(), X, w, *groups)
        if self._call("expected_step", *points, *arguments, *sums):
            complete = twin_gaps.Complete(self.mixture_step, self.log_gaussians)
            return twin_gaps.expected_step(
                complete, X, w, patterns, components, ridge, background, scores
            )
        if kind == "spherical":
            second = second.mean(axis=1)
        log_likelihood, entropy = totals.tolist()
        return Expected(Moments(weight, first, second), log_likelihood, entropy)

    def marginal_log_gaussians(
        self, X: Points, patterns: Patterns, components: Components, out: Array
    ) -> None:
        """See `streamclust.kernels.marginal_log_gaussians`."""
        means = components.means
        arguments = _components(components._replace(log_weights=np.zeros(len(means))))
        X, single, groups = _groups(X, patterns, means)
        if out.shape != (len(X), len(means)) or not out.flags.c_contiguous:
            raise ValueError(f"out has shape {out.shape}; expected ({len(X)}, {len(means)})")
        if self._call("marginal_log_gaussians", single, X, *groups, *arguments, out):
            twin_gaps.marginal_log_gaussians(self.log_gaussians, X, patterns, components, out)

    def marginal_log_dets(self, absent: NDArray[np.bool_], components: Components) -> Array:
        """See `streamclust.kernels.marginal_log_dets`."""
        means, arguments = components.means, _components(components)
        out = np.empty((len(absent), 1 if components.kind == "tied" else len(means)))
        bits = _bytes(absent, means)
        if self._call("marginal_log_dets", len(absent), bits, *arguments, out):
            return twin_gaps.marginal_log_dets(absent, components)
        return out

    def find_patterns(self, X: Points) -> Patterns:
        """See `streamclust.kernels.find_patterns`."""
        X, single = _as_given(X)
        complete, order, starts = np.empty(len(X), np.int64), *np.empty((2, len(X) + 1), np.int64)
        count = np.zeros(2, np.int64)
        self._call("find_patterns", single, X, *X.shape, complete, order, starts, count)
        n, P = count.tolist()
        order, starts = order[: len(X) - n], starts[: P + 1]
        absent = np.isnan(X.take(order.take(starts[:-1]), axis=0))
        return Patterns(complete[:n], absent, order, starts)

    def split_rows(self, X: Points) -> tuple[Labels, Labels]:
        """See `streamclust.kernels.split_rows`."""
        X, single = _as_given(X)
        complete, gappy = np.empty((2, len(X)), np.int64)
        count = np.zeros(1, np.int64)
        self._call("split_rows", single, X, *X.shape, complete, gappy, count)
        n = int(count[0])
        return complete[:n], gappy[: len(X) - n]

    def partial_step(
        self, X: Points, w: Array | None, rows: Labels, centroids: Array, assigned: Assigned
    ) -> tuple[Array, Array, float]:
        """See `streamclust.kernels.partial_step`."""
        (X, single), C = _as_given(X), _doubles(centroids)
        rows = np.ascontiguousarray(rows, np.int64)
        if X.ndim != 2 or X.shape[1] != C.shape[1] or not len(C):
            raise ValueError(f"shapes {X.shape} and {C.shape} don't fit: expected (N, D), (K, D)")
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(X):
            raise ValueError(f"rows are {rows.min()} to {rows.max()}; expected 0 to {len(X) - 1}")
        labels, squared_distances = assigned
        if not labels.shape == squared_distances.shape == (len(X),) or labels.dtype != np.int64:
            raise ValueError(f"labels have shape {labels.shape}; expected ({len(X)},)")
        inertia, weight, first = np.zeros(1), np.zeros(len(C)), np.zeros(C.shape)
        mass = None if w is None else _doubles(w)
        if mass is not None and mass.shape != (len(X),):
            raise ValueError(f"weights have shape {mass.shape}; expected ({len(X)},)")
        sums = (None, None) if mass is None else (weight, first)
        points = (X, mass, rows, len(rows), *C.shape, C)
        step = (single, self._threads(), *points, *sums, labels, squared_distances, inertia)
        self._call("partial_step", *step)
        return weight, first, float(inertia[0])


def _per_point(scores: PointScores, n: int) -> tuple[Array, Array]:
    density, entropy = scores.log_density, scores.entropy
    if entropy is None or not density.shape == entropy.shape == (n,):
        raise ValueError(f"the scores of points have other shapes; expected ({n},)")
    return density, entropy


def _as_given(X: Points) -> tuple[Points, bool]:
    """Return points as C reads them, and whether they are float32."""
    single = X.dtype == np.float32
    if single:
        return np.ascontiguousarray(X, dtype=np.float32), single
    return np.ascontiguousarray(X, dtype=np.float64), single


def _groups(X: Points, patterns: Patterns, means: Array) -> tuple[Points, bool, tuple[Any, ...]]:
    """Return points, whether they are float32, and their patterns as arguments for C."""
    X, single = _as_given(X)
    order = np.ascontiguousarray(patterns.order, np.int64)
    starts = np.ascontiguousarray(patterns.starts, np.int64)
    P = len(patterns.absent)
    fits = X.ndim == 2 and X.shape[1:] == means.shape[1:] and starts.shape == (P + 1,)
    if not fits or (len(order) and not 0 <= order.min() <= order.max() < len(X)):
        raise ValueError("shapes of points, patterns and means don't fit, or a row has no point")
    if starts[0] != 0 or starts[-1] != len(order) or (np.diff(starts) < 0).any():
        raise ValueError("the starts of patterns don't rise from 0 to the number of rows")
    return X, single, (P, order, starts, _bytes(patterns.absent, means))


def _bytes(absent: NDArray[np.bool_], means: Array) -> NDArray[np.uint8]:
    if absent.shape[1:] != means.shape[1:] or absent.all(axis=1).any():
        raise ValueError("patterns have another number of features, or a pattern has no feature")
    return np.ascontiguousarray(absent).view(np.uint8)


def _components(components: Components) -> tuple[Any, ...]:
    """Return the components as arguments for C; spherical covariances become diagonal."""
    log_weights, means, covariances, root, kind = components
    K, D = means.shape
    if kind == "spherical":
        covariances, root = (
            np.repeat(matrices[:, None], D, axis=1) for matrices in (covariances, root)
        )
    expected = {"full": (K, D, D), "tied": (D, D)}.get(kind, (K, D))
    if log_weights.shape != (K,) or not covariances.shape == root.shape == expected or not K:
        raise ValueError(f"covariances have shape {covariances.shape}; expected {expected}")
    arrays = (_doubles(log_weights), _doubles(means), _doubles(root))
    return K, D, kind in ("full", "tied"), kind == "tied", *arrays


def _doubles(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)
