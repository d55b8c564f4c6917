"""Points to start from, where values are missing: each gap gets the value of a similar point.

The starts of K-means (k-means++, swaps) need distances between points. With the mean of a feature
in each gap, points with gaps would look like clusters between the real ones. So the most similar
of the points with the fewest gaps gives its values (hot deck imputation; Andridge & Little 2010).
Only the first parameters of a run depend on these values. The run itself uses the points with gaps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamclust.arrays import has_gaps
from streamclust.models import partial
from streamclust.models.present import filled_by_mean

if TYPE_CHECKING:
    from streamclust.arrays import Array

_DONORS = 256
"""Number of points that give their values."""

_EFFORT = 1 << 30
"""Largest number of squared differences: a few seconds."""


def hot_deck(X: Array, w: Array) -> Array:
    """Return points (N, D) without gaps; `X` itself if it has none.

    The donors are the points with the fewest gaps; of equally good ones, those at equal intervals.
    The nearest donor by partial distance gives its values. A gap of a donor has the mean of its
    feature. With so many points that the distances would take long, there are fewer donors.
    """
    if not has_gaps(X):
        return X
    number = max(1, min(_DONORS, _EFFORT // X.size, len(X)))
    gaps = np.isnan(X).sum(axis=1)
    most = np.partition(gaps, number - 1)[number - 1]
    better, equal = np.flatnonzero(gaps < most), np.flatnonzero(gaps == most)
    wanted = number - len(better)
    donors = np.concatenate([better, equal[(np.arange(wanted) * len(equal)) // wanted]])
    values = filled_by_mean(X, w)[donors]
    return partial.filled_by_nearest(X, values)
