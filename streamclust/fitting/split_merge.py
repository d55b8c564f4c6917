"""Split-and-merge EM: two components merge and a third one is split, to leave a local optimum.

The number of components stays the same (Ueda, Nakano, Ghahramani & Hinton 2000).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamclust.arrays import distinct_points
from streamclust.fitting.em import Data, EMResult, run_em
from streamclust.models.revive import relocate, widths
from streamclust.models.stats import recentre

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from streamclust.arrays import Array
    from streamclust.models.gaussian_mixture import GaussianMixture, MixtureParams

_PAIRS = 5
"""Number of pairs to try to merge: those with the largest overlap (C_max)."""

_SPLITS = 2
"""Number of components to try to split for each pair, the widest first."""

_GAIN = 1e-3
"""Least gain of a move after EM, in nats per point."""

_MIN_SHARE = 0.01
"""Least mass of a component beside a background, relative to the average component."""

_MAX_PRODUCTS = 1 << 34
"""Largest number of products of coordinates for all moves together: a few seconds."""

_CELLS = 1 << 24
"""Largest number of responsibilities in memory; with more points, every n-th point is used."""


def rearrange(
    family: GaussianMixture,
    run: EMResult[MixtureParams],
    data: Data[MixtureParams],
    X: Array,
    w: Array,
    *,
    tol: float,
    max_iter: int,
) -> EMResult[MixtureParams]:
    """Return the run after the best moves found, or `run` itself.

    A move merges a pair with similar responsibilities and splits a wide component; EM continues
    after each move. The search ends when no move gains. A move must not add a component with fewer
    points than its covariance needs (D + 1 for a full one), because the likelihood of such a
    component doesn't measure quality. All moves together take at most 2^34 products of coordinates.

    Parameters
    ----------
    family : GaussianMixture
    run : EMResult
        The result of EM.
    data : Data
        Sums the e-steps of the points.
    X, w : arrays of shape (N, D) and (N,)
        The points, or a sample of them.
    tol, max_iter : float and int
        For EM after each move.
    """
    if family.n_components <= 2:
        return run
    N, D = X.shape
    wide = D if family.covariance_type in ("full", "tied") else 1
    products = N * family.n_components * (D * wide + 32)  # an exponential takes as long as 32
    passes = int(_MAX_PRODUCTS / float(products))
    stride = -(-N * family.n_components // _CELLS)
    X, w = X[::stride], w[::stride]
    better: EMResult[MixtureParams] | None = run
    while better is not None:
        run, better = better, None
        responsibilities = family.memberships(run.params, X)
        n_few = int(has_few_points(family, X, w, responsibilities).sum())
        stats = recentre(run.stats, run.stats.averages(otherwise=run.stats.reference))
        for move in _moves(responsibilities, w, widths(stats)):
            if passes <= 0:
                break
            start, most = family.m_step(relocate(stats, *move), run.params), min(max_iter, passes)
            trial = run_em(family, start, data, tol=tol, max_iter=most)
            passes -= len(trial.history)
            if run.loss - trial.loss <= _GAIN:
                continue
            if has_few_points(family, X, w, family.memberships(trial.params, X)).sum() <= n_few:
                better = trial
                break
    return run


def has_few_points(
    family: GaussianMixture, X: Array, w: Array, memberships: Array
) -> NDArray[np.bool_]:
    """Return which components, (K,), have too few points.

    The effective sample size (Kish 1965) must be at least `points_needed`, so that the covariance
    isn't singular. With a background, it must be at least `points_for_shape`, and the mass at least
    a hundredth of the average mass; otherwise the points are outliers. In a component whose mass is
    at most that of the outliers, equal points count as one point: they are sentinel values.

    Parameters
    ----------
    family : GaussianMixture
    X, w : arrays of shape (N, D) and (N,)
    memberships : array of shape (N, K)
    """
    shares, D = w[:, None] * memberships, X.shape[1]
    mass = shares.sum(axis=0)
    size = _effective_size(shares)
    if family.outliers == 0.0:
        return np.asarray(size < family.points_needed(D))
    needed, total = family.points_for_shape(D), w.sum()
    few = (size < needed) | (mass < _MIN_SHARE * total / len(mass))
    for k in np.flatnonzero(~few & (mass <= family.outliers * total)):
        own = memberships[:, k] > 0.5
        different = distinct_points(X[own], w[own])[1]
        few[k] = not len(different) or _effective_size(different[:, None])[0] < needed
    return np.asarray(few)


def _effective_size(shares: Array) -> Array:
    """Return the effective sample size of each column of weights (N, K), shape (K,)."""
    shares = shares / np.maximum(shares.max(axis=0), np.finfo(float).tiny)
    return np.asarray(shares.sum(axis=0) ** 2 / np.maximum((shares**2).sum(axis=0), 1.0))


def _moves(responsibilities: Array, w: Array, width: Array) -> Iterator[tuple[int, int, int]]:
    """Yield (k, into, wide): component k merges into `into`, then gets half of component `wide`."""
    overlaps = overlap(responsibilities, w)
    first, second = np.triu_indices(len(width), 1)
    widest = np.argsort(-width, kind="stable").tolist()
    for pair in np.argsort(-overlaps[first, second], kind="stable")[:_PAIRS]:
        into, k = int(first[pair]), int(second[pair])
        others = [wide for wide in widest if wide not in (into, k)]
        for wide in others[:_SPLITS]:
            yield k, into, wide


def overlap(responsibilities: Array, w: Array) -> Array:
    """Return the cosine of the responsibilities of each pair of components, shape (K, K)."""
    product = (w[:, None] * responsibilities).T @ responsibilities
    norm = np.sqrt(np.maximum(product.diagonal(), np.finfo(float).tiny))
    return np.asarray(product / np.outer(norm, norm))
