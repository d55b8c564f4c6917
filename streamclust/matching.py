"""Which new component is which old one: the assignment that moves them least."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamclust.kernels import squared_distances

if TYPE_CHECKING:
    from streamclust.arrays import Array, Labels


def match(means: Array, onto: Array, scale: Array | float = 1.0) -> Labels:
    """Return the order of `means` in which they lie nearest to `onto`, component by component.

    It has the least sum of distances of all orders (the assignment problem; Kuhn 1955).

    Parameters
    ----------
    means, onto : arrays of shape (K, D)
    scale : array of shape (D,) or float, default=1.0
        Units of the features.

    Returns
    -------
    array of shape (K,)
        ``means[order]`` is numbered as `onto` is.
    """
    from scipy.optimize import linear_sum_assignment  # late: it takes long to import

    distance = np.sqrt(squared_distances(onto / scale, means / scale))
    return np.asarray(linear_sum_assignment(distance)[1], dtype=np.intp)
