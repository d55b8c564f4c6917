"""A background of constant density, for points that belong to no component.

Without a background, a few far points get components of their own, because this raises the
likelihood most. With a share e of outliers, the density that is learned is (Banfield & Raftery
1993; Fraley & Raftery 1998)

    p(x) = (1 - e) sum_k pi_k N(x | mu_k, Sigma_k) + e / V

A point far from all components then has nearly no weight in the statistics. V is the volume of a
box of 10 standard deviations per feature. The standard deviations are robust
(`streamclust.models.spread`), so far points don't change V. The background has the same density
outside of the box, as in Coretto & Hennig 2016. The user sets e, because a model can learn only
e / V. `docs/internals/outlier.md` compares the background with other methods.
"""

from __future__ import annotations

from math import log, log1p
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from streamclust.arrays import Array, Points
    from streamclust.models.stats import Stats

MAX_OUTLIERS = 0.5
"""Largest share of outliers."""

_EXCESS_FACTOR, _EXCESS_POINTS = 10.0, 10.0
"""A batch has too many outliers if it has more than `_EXCESS_FACTOR` * expected number +
`_EXCESS_POINTS`."""

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
        Points with missing values (NaN). V is then the volume for the present features of each
        point, and the result has the shape (N,).
    """
    odds, log_sides = log(outliers) - log1p(-outliers), np.log(_WIDTH * np.sqrt(variance))
    if X is None:
        return odds - float(log_sides.sum())
    return np.asarray(odds - ~np.isnan(X) @ log_sides)


def has_too_many_outliers(outliers: float, stats: Stats, unit: float) -> bool:
    """Return whether a batch has far more outliers than the share `outliers` explains.

    If so, the stream has changed. The background would leave these points without weight, and the
    components would never move to them. So the batch is learned without the background and without
    its farthest points.

    Parameters
    ----------
    outliers : float
    stats : Stats
        Result of the e-step of the batch, with the background.
    unit : float
        Weight of an average point.
    """
    n_outliers = stats.count - stats.mass
    return n_outliers > _EXCESS_FACTOR * outliers * stats.count + _EXCESS_POINTS * unit


def without_farthest(outliers: float, log_density: Array, w: Array) -> Array:
    """Return the weights of a batch, shape (N,), with 0 for the least likely points.

    Their number is `_EXCESS_FACTOR` times the expected number of outliers, but at most N / 4.
    """
    n = int(min(_EXCESS_FACTOR * outliers, 0.25) * len(w))
    weights = w.copy()
    weights[np.argsort(log_density, kind="stable")[:n]] = 0.0
    return weights
