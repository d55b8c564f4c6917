"""Features brought to one scale, z = (x - center) / scale; learned from a sample, then kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from streamclust.arrays import MAX_MAGNITUDE, SMALL, SMALLEST_EXPONENT
from streamclust.models.spread import robust_variance

if TYPE_CHECKING:
    from streamclust.arrays import Array, Points

ScalingKind = Literal["none", "standard", "robust"]

_QUARTILES = 2.0 * 0.6744897501960817
"""Interquartile range of a standard normal."""

_NEARLY = 1.0 - 1e-9
"""Ratio of two standard deviations from which on they differ by rounding alone."""

_HEADROOM = 2.0**300
"""Small points are brought to the inverse of this, so that later ones may be much larger."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """What was learned.

    Parameters
    ----------
    kind : {'none', 'standard', 'robust'}
        How: mean and standard deviation (without far points, see `learn_scaling`), or median and
        interquartile range over 1.349, which is a Gaussian's standard deviation and doesn't look at
        outliers. With 'none', all features have one scale, a power of two: see `learn_scaling`.
    center, scale : arrays of shape (D,)
        In the data's units; `scale` is positive.
    """

    kind: ScalingKind
    center: Array
    scale: Array

    def apply(self, X: Points) -> Array:
        """Return points of shape (N, D) in scaled units, of a magnitude up to 1e100 as ever."""
        scaled = (X - self.center) / self.scale
        return np.clip(scaled, -MAX_MAGNITUDE, MAX_MAGNITUDE)

    def undo(self, Z: Array) -> Array:
        """Return points of shape (N, D) in the data's units."""
        return self.center + self.scale * Z

    @property
    def log_volume(self) -> float:
        """Log of |dx / dz|: a density of x is that of z over this volume."""
        return float(np.log(self.scale).sum())


def learn_scaling(kind: ScalingKind, X: Array, w: Array) -> Scaling | None:
    """Learn from weighted points, shapes (N, D) and (N,); None for kind 'none', as a rule.

    A feature whose quartiles are equal is scaled by its standard deviation; one that doesn't vary
    by the others' average, or by 1 if none does. One sentinel value sets no scale: a feature with
    points beyond five standard deviations has the standard deviation of
    `streamclust.models.spread.robust_variance` and the median for its center, unless only one point
    differs from the others.

    With kind 'none', points whose magnitude is below 2^-400 (4e-121) are divided by a power of two,
    because the squares of their distances underflow.
    """
    largest = np.abs(X).max(axis=0, initial=0.0)
    if kind == "none":
        unit = _power_of_two(largest.max(initial=0.0)) * _HEADROOM
        return None if unit >= 1.0 else Scaling(kind, 0.0 * largest, np.full(X.shape[1], unit))
    unit = _power_of_two(largest)
    X = X / unit
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
    center, scale = center * unit, scale * unit
    varies = scale > 0.0
    usual = float(scale[varies].mean()) if varies.any() else 1.0
    return Scaling(kind, center, np.where(varies, scale, usual))


def _power_of_two(magnitude: Array) -> Array:
    """Return the power of two that brings a small magnitude to 1; 1 for any other."""
    small = (magnitude > 0.0) & (magnitude < SMALL)
    exponent = np.maximum(np.frexp(magnitude)[1], SMALLEST_EXPONENT)
    return np.where(small, np.ldexp(1.0, exponent), 1.0)


def _quantile(X: Array, w: Array, q: float) -> Array:
    """Return the smallest value of each feature up to which a share `q` of the weight lies."""
    order = np.argsort(X, axis=0, kind="stable")
    reached = np.cumsum(w[order], axis=0) >= q * w.sum()
    rows = np.take_along_axis(order, reached.argmax(axis=0)[None], axis=0)[0]
    return np.asarray(X[rows, np.arange(X.shape[1])])
