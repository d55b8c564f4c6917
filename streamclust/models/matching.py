"""Matching of new components to old ones, so that component numbers don't change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamclust.arrays import square_unit
from streamclust.kernels import squared_distances

if TYPE_CHECKING:
    from streamclust.arrays import Array, Labels


def predecessors(old: Labels, new: Labels, w: Array, sizes: tuple[int, int]) -> Labels:
    """Return the old component that each new component replaces, from the points of both.

    The assignment maximises the total weight of the points that are in both components of a pair.
    A pair needs at least half of the points of its smaller component in common. So if a component
    was split, its larger part replaces it; if two were merged, the result replaces the heavier one.

    Parameters
    ----------
    old, new : arrays of shape (N,)
        Each point's component in both numberings.
    w : array of shape (N,)
        Weights of the points.
    sizes : tuple of int
        The two numbers of components.

    Returns
    -------
    array of shape (K_new,)
        Numbers of old components, each at most once; -1 for a component without a predecessor.
    """
    K_old, K_new = sizes
    shared = np.bincount(old * K_new + new, w, minlength=K_old * K_new).reshape(sizes)
    lesser = np.minimum(shared.sum(axis=1)[:, None], shared.sum(axis=0))
    rows, columns = assign(np.asarray(-shared, np.float64))
    predecessor = np.full(K_new, -1, dtype=np.intp)
    same = (shared[rows, columns] >= 0.5 * lesser[rows, columns]) & (shared[rows, columns] > 0.0)
    predecessor[columns[same]] = rows[same]
    return predecessor


def match(means: Array, onto: Array, scale: Array | float = 1.0) -> Labels:
    """Return the order of `means` with the least sum of distances to `onto`.

    This is the assignment problem (Kuhn 1955).

    Parameters
    ----------
    means, onto : arrays of shape (K, D)
    scale : array of shape (D,) or float, default=1.0
        Units of the features.

    Returns
    -------
    array of shape (K,)
        ``means[order]`` has the numbers of `onto`.
    """
    onto, means = onto / scale, means / scale
    unit = square_unit(onto, means)
    distance = np.sqrt(squared_distances(onto / unit, means / unit))
    return assign(distance)[1]


def assign(cost: Array) -> tuple[Labels, Labels]:
    """Return rows and columns of the least total cost.

    Usually each row has its least cost in one column, and each in a different one. These columns
    are then the only optimum, and SciPy, whose import takes half a second, isn't needed.

    Parameters
    ----------
    cost : array of shape (n_rows, n_columns)

    Returns
    -------
    tuple of arrays of shape (min(n_rows, n_columns),)
        The same as from ``scipy.optimize.linear_sum_assignment``, if there are several optima too.
    """
    columns = cost.argmin(axis=1)
    least = cost.min(axis=1, keepdims=True)
    unique = np.isfinite(least).all() and np.count_nonzero(cost == least) == len(cost)
    if unique and len(np.unique(columns)) == len(cost):
        return np.arange(len(cost)), columns
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    return rows.astype(np.intp), columns.astype(np.intp)
