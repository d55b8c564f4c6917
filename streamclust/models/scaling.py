"""Scaling of the features, z = (x - center) / scale, learned once from a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from streamclust.arrays import (
    MAX_MAGNITUDE,
    SMALL,
    SMALLEST_EXPONENT,
    has_gaps,
    short_repr,
)
from streamclust.models.present import by_feature
from streamclust.models.spread import robust_variance

if TYPE_CHECKING:
    from streamclust.arrays import Array, Points

ScalingKind = Literal["none", "standard", "robust"]

_QUARTILES = 2.0 * 0.6744897501960817
"""Interquartile range of a standard normal."""

_NEARLY = 1.0 - 1e-9
"""If the ratio of two standard deviations is above this, they differ by rounding alone."""

_HEADROOM = 2.0**300
"""Very small points are scaled to 2^-300, so that later points may be much larger."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """A learned scaling.

    Parameters
    ----------
    kind : {'none', 'standard', 'robust'}
        'standard': mean and standard deviation, without far points. 'robust': median and
        interquartile range / 1.349, the standard deviation of a Gaussian with this range. 'none':
        all features have the same scale, a power of two; see `learn_scaling`.
    center, scale : arrays of shape (D,)
        In the original units; `scale` is positive.
    """

    kind: ScalingKind
    center: Array
    scale: Array

    def __repr__(self) -> str:
        return short_repr(self, kind=self.kind, D=len(self.scale))

    def apply(self, X: Points) -> Array:
        """Return points of shape (N, D) in scaled units, clipped to a magnitude of 1e100."""
        scaled = (X - self.center) / self.scale
        return np.clip(scaled, -MAX_MAGNITUDE, MAX_MAGNITUDE)

    def undo(self, Z: Array) -> Array:
        """Return points of shape (N, D) in the original units."""
        return self.center + self.scale * Z

    @property
    def log_volume(self) -> float:
        """Log of |dx / dz|: the density of x is the density of z divided by |dx / dz|."""
        return float(np.log(self.scale).sum())

    def missing_log_volume(self, X: Points, w: Array) -> float:
        """Return the weighted sum of log |dx / dz| over the missing values of points (N, D)."""
        return float((w @ np.isnan(X)) @ np.log(self.scale))


def learn_scaling(kind: ScalingKind, X: Array, w: Array) -> Scaling | None:
    """Return the scaling of weighted points, shapes (N, D) and (N,).

    Missing values are ignored. Special cases:

    * Kind 'none': the result is None. Only points whose magnitude is below 2^-400 (4e-121) are
      divided by a power of two, because the squares of their distances would underflow.
    * A feature with equal quartiles is scaled by its standard deviation.
    * A feature that doesn't vary is scaled by the average scale of the others, or by 1 if no
      feature varies.
    * A feature with points beyond five standard deviations, such as a sentinel value, gets the
      median as its center and a robust standard deviation
      (`streamclust.models.spread.robust_variance`), unless only one point differs from the others.
    """
    largest = np.abs(np.where(np.isnan(X), 0.0, X)).max(axis=0, initial=0.0)
    if kind == "none":
        unit = _power_of_two(largest.max(initial=0.0)) * _HEADROOM
        return None if unit >= 1.0 else Scaling(kind, 0.0 * largest, np.full(X.shape[1], unit))
    unit = _power_of_two(largest)
    X = X / unit
    if has_gaps(X):
        parts = [_center_and_scale(kind, *each) for each in by_feature(X, w)]
        center, scale = (np.concatenate(each) for each in zip(*parts, strict=True))
    else:
        center, scale = _center_and_scale(kind, X, w)
    center, scale = center * unit, scale * unit
    varies = scale > 0.0
    average = float(scale[varies].mean()) if varies.any() else 1.0
    return Scaling(kind, center, np.where(varies, scale, average))


def _center_and_scale(kind: ScalingKind, X: Array, w: Array) -> tuple[Array, Array]:
    """Return center and scale, (D,), of points without gaps; scale 0 if a feature doesn't vary."""
    if not len(X):
        return np.zeros(X.shape[1]), np.zeros(X.shape[1])
    center = np.average(X, axis=0, weights=w)
    deviation = np.sqrt(np.average((X - center) ** 2, axis=0, weights=w))
    deviation[np.ptp(X, axis=0) == 0.0] = 0.0  # the mean of equal numbers may be rounded
    low, middle, high = (_quantile(X, w, q) for q in (0.25, 0.5, 0.75))
    inner = np.sqrt(robust_variance(X, w))
    far = (inner > 0.0) & (inner < _NEARLY * deviation)
    center, deviation = np.where(far, middle, center), np.where(far, inner, deviation)
    scale = deviation
    if kind == "robust":
        center = middle
        scale = np.where(high > low, (high - low) / _QUARTILES, deviation)
    return center, scale


def _power_of_two(magnitude: Array) -> Array:
    """Return the power of two just above a small magnitude, or 1 for other magnitudes."""
    small = (magnitude > 0.0) & (magnitude < SMALL)
    exponent = np.maximum(np.frexp(magnitude)[1], SMALLEST_EXPONENT)
    return np.where(small, np.ldexp(1.0, exponent), 1.0)


def _quantile(X: Array, w: Array, q: float) -> Array:
    """Return the weighted quantile `q` of each feature, (D,)."""
    order = np.argsort(X, axis=0, kind="stable")
    reached = np.cumsum(w[order], axis=0) >= q * w.sum()
    rows = np.take_along_axis(order, reached.argmax(axis=0)[None], axis=0)[0]
    return np.asarray(X[rows, np.arange(X.shape[1])])
