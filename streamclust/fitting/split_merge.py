"""Out of a local optimum of EM: two components merge, and the one that is free splits a third.

Moves of split-and-merge EM at a fixed number of components (Ueda, Nakano, Ghahramani & Hinton
2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamclust.fitting.em import Data, EMResult, run_em
from streamclust.models.revive import relocate, widths
from streamclust.models.stats import recentre

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.arrays import Array
    from streamclust.models.gaussian_mixture import GaussianMixture, MixtureParams
    from streamclust.models.stats import Stats

_PAIRS = 5
"""Pairs to merge that are tried, those whose responsibilities are the most alike (C_max)."""

_SPLITS = 2
"""Components to split that are tried with each of them, the widest first."""

_GAIN = 1e-3
"""Nats per point that a move has to gain after EM."""

_EFFORT = 1 << 34
"""Products of coordinates that all moves together may take: seconds."""


_CELLS = 1 << 24
"""Responsibilities that are held at a time: of more points every n-th is looked at."""


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
    """Return a run that goes on from `run` by the best moves that are found, or `run` itself.

    Pairs with like responsibilities merge and wide components split, and after each such move EM
    runs on, until none gains any more. None may gain by a component with fewer points than its
    covariance needs, D + 1 for a full one: there likelihood is no sign of quality. All moves
    together take at most 2^34 products of coordinates.

    Parameters
    ----------
    family : GaussianMixture
    run : EMResult
        Where EM came to rest.
    data : Data
        Sums the e-steps of the points.
    X, w : arrays of shape (N, D) and (N,)
        The points, or a sample of them.
    tol, max_iter : float and int
        Of EM after each move.
    """
    passes = int(_EFFORT / _products(family, X))
    every = -(-len(X) * family.n_components // _CELLS)
    search = _Search(family, data, X[::every], w[::every], tol, max_iter, passes)
    return search.move(run) if family.n_components > 2 else run


def _products(family: GaussianMixture, X: Array) -> float:
    """Return the products of coordinates in an e-step of `X`, (N, D); an exponential counts 32."""
    N, D = X.shape
    wide = D if family.covariance_type in ("full", "tied") else 1
    return float(N * family.n_components * (D * wide + 32))


@dataclass
class _Search:
    """The moves from one run; `passes` counts down those over the points that are left."""

    family: GaussianMixture
    data: Data[MixtureParams]
    X: Array
    w: Array
    tol: float
    max_iter: int
    passes: int

    def move(self, run: EMResult[MixtureParams]) -> EMResult[MixtureParams]:
        """Merge and split as long as that gains."""
        while (better := self._better(run)) is not None:
            run = better
        return run

    def _better(self, run: EMResult[MixtureParams]) -> EMResult[MixtureParams] | None:
        stats, flimsy = _about_means(run.stats), self._flimsy(run)
        for move in _moves(self.family.responsibilities(run.params, self.X), self.w, widths(stats)):
            if self.passes <= 0:
                break
            trial = self._run(self.family.m_step(relocate(stats, *move), run.params))
            if run.loss - trial.loss > _GAIN and self._flimsy(trial) <= flimsy:
                return trial
        return None

    def _run(self, start: MixtureParams) -> EMResult[MixtureParams]:
        most = min(self.max_iter, self.passes)
        run = run_em(self.family, start, self.data, tol=self.tol, max_iter=most)
        self.passes -= len(run.history)
        return run

    def _flimsy(self, run: EMResult[MixtureParams]) -> int:
        """Return how many components live on too few points."""
        points = _points(self.family.responsibilities(run.params, self.X), self.w)
        return int((points < self.family.points_needed(self.X.shape[1])).sum())


def _about_means(stats: Stats) -> Stats:
    return recentre(stats, stats.averages(otherwise=stats.reference))


def _moves(responsibilities: Array, w: Array, width: Array) -> Iterator[tuple[int, int, int]]:
    """Yield (k, into, wide): component k merges into another and takes half of a wide one."""
    overlaps = overlap(responsibilities, w)
    first, second = np.triu_indices(len(width), 1)
    widest = np.argsort(-width, kind="stable").tolist()
    for pair in np.argsort(-overlaps[first, second], kind="stable")[:_PAIRS]:
        into, k = int(first[pair]), int(second[pair])
        others = [wide for wide in widest if wide not in (into, k)]
        for wide in others[:_SPLITS]:
            yield k, into, wide


def overlap(responsibilities: Array, w: Array) -> Array:
    """Return the cosine of each two components' responsibilities, shape (K, K)."""
    product = (w[:, None] * responsibilities).T @ responsibilities
    norm = np.sqrt(np.maximum(product.diagonal(), np.finfo(float).tiny))
    return np.asarray(product / np.outer(norm, norm))


def _points(responsibilities: Array, w: Array) -> Array:
    """Return the number of points of equal say behind each component, (K,) (Kish 1965)."""
    says = w[:, None] * responsibilities
    says /= np.maximum(says.max(axis=0), np.finfo(float).tiny)
    return np.asarray(says.sum(axis=0) ** 2 / np.maximum((says**2).sum(axis=0), 1.0))
