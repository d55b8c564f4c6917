"""Hot deck imputation: each missing value gets the value of a similar point.

The seeding of K-means (k-means++, swaps) needs distances between points. If missing values were
replaced by means, points with gaps would look like clusters between the real ones. So the values
come from a donor: the most similar of the points with the fewest gaps (Andridge & Little 2010).
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
"""Largest number of donors."""

_MAX_DIFFERENCES = 1 << 30
"""Largest number of squared differences: a few seconds. It limits the number of donors."""


def hot_deck(X: Array, w: Array) -> Array:
    """Return points (N, D) without gaps; `X` itself if it has none.

    The donors are the points with the fewest gaps. From points with equally many gaps, donors are
    taken at equal intervals. A point gets its missing values from the nearest donor by partial
    distance. A missing value of a donor is replaced by the mean of the feature.
    """
    if not has_gaps(X):
        return X
    n_donors = max(1, min(_DONORS, _MAX_DIFFERENCES // X.size, len(X)))
    gaps = np.isnan(X).sum(axis=1)
    most = np.partition(gaps, n_donors - 1)[n_donors - 1]
    better, equal = np.flatnonzero(gaps < most), np.flatnonzero(gaps == most)
    n_equal = n_donors - len(better)
    donors = np.concatenate([better, equal[(np.arange(n_equal) * len(equal)) // n_equal]])
    values = filled_by_mean(X, w)[donors]
    return partial.filled_by_nearest(X, values)
