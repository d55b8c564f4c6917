"""A background of constant density, for points that belong to no component.

A few far points can gain more likelihood than any other use of a component, so without a background
they get components of their own. With a share e of outliers, the density that is learned is

    p(x) = (1 - e) sum_k pi_k N(x | mu_k, Sigma_k) + e / V

(Banfield & Raftery 1993; Fraley & Raftery 1998), and a point far from all components has nearly no
weight in the statistics. V is the volume of a box of 10 standard deviations per feature. The
standard deviations are robust (`streamclust.models.spread`), so far points don't change V. The
density is the same outside of the box too, as in Coretto & Hennig 2016. e is given, because V and e
have an effect only through e / V. `docs/internals/outlier.md` compares it with other cures.
"""

from __future__ import annotations

from math import log, log1p
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from streamclust.arrays import Array, Points
    from streamclust.models.stats import Stats

MOST = 0.5
"""Largest share of outliers."""

_MANY, _SOME = 10.0, 10.0
"""A batch has too many outliers above `_MANY` times the expected number and `_SOME` points."""

_WIDTH = 10.0
"""Length of a side of the box, in standard deviations."""


def log_backgrounds(outliers: float, variance: Array, X: Points | None = None) -> Array | float:
    """Return log e / V - log(1 - e): the background relative to the mixture.

    Parameters
    ----------
    outliers : float
        The share e, above 0.
    variance : array of shape (D,)
        Positive variances of the features.
    X : array of shape (N, D), optional
        Points with missing values, NaN: V is then the volume of each point's present features, and
        the result has the shape (N,).
    """
    odds, log_sides = log(outliers) - log1p(-outliers), np.log(_WIDTH * np.sqrt(variance))
    if X is None:
        return odds - float(log_sides.sum())
    return np.asarray(odds - ~np.isnan(X) @ log_sides)


def too_many(outliers: float, stats: Stats, unit: float) -> bool:
    """Return whether a batch has far more outliers than the share explains.

    Then the stream has changed. If these points stayed without weight, the components would never
    move to them. So the batch is learned without the background and without its farthest points.

    Parameters
    ----------
    outliers : float
    stats : Stats
        Result of the e-step of the batch, with the background.
    unit : float
        Weight of an average point.
    """
    found = stats.count - stats.mass
    return found > _MANY * outliers * stats.count + _SOME * unit


def without_farthest(outliers: float, log_density: Array, w: Array) -> Array:
    """Return the weights of a batch, shape (N,), with 0 for the least likely points.

    These are at most `_MANY` times as many as the expected outliers, and at most a quarter.
    """
    n = int(min(_MANY * outliers, 0.25) * len(w))
    kept = w.copy()
    kept[np.argsort(log_density, kind="stable")[:n]] = 0.0
    return kept
