"""The batch loop: Lloyd's algorithm and EM are the same loop of e-step and m-step.

A `Data` object computes the sum of the e-steps over all points: `InMemory` from an array, other
classes from chunks of a stream. The loop itself uses statistics only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np

from streamclust.arrays import short_repr

if TYPE_CHECKING:
    from streamclust.arrays import Array
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats

P = TypeVar("P", bound="Params")
P_contra = TypeVar("P_contra", bound="Params", contravariant=True)


class Data(Protocol[P_contra]):
    """All points of a fit, in memory or elsewhere."""

    def e_step(self, params: P_contra) -> Stats:
        """Return the sum of the e-steps over all points."""

    def revive(self, stats: Stats) -> Stats:
        """Revive components without mass; return `stats` itself if none can be revived."""


@dataclass(frozen=True)
class InMemory(Generic[P]):
    """Weighted points in one array of shape (N, D)."""

    family: Family[P]
    X: Array
    w: Array
    rng: np.random.Generator

    def e_step(self, params: P) -> Stats:
        """Return the statistics of all points."""
        return self.family.e_step(params, self.X, self.w)

    def revive(self, stats: Stats) -> Stats:
        """Revive components without mass by `Family.revive`."""
        dying = np.flatnonzero(~stats.alive).tolist()
        return self.family.revive(stats, dying, self.X, self.w, self.rng)[0]


@dataclass(frozen=True, eq=False)
class EMResult(Generic[P]):
    """The result of a run of EM or of Lloyd's algorithm.

    Parameters
    ----------
    params : KMeansParams or MixtureParams
        Parameters after the last m-step.
    stats : Stats
        Statistics of the data under `params`.
    history : tuple of float
        Loss before each m-step and after the last one. It never rises for K-means. For a mixture
        it never rises if reg_covar is 0 and no component shrinks to a point.
    converged : bool
        Whether the loss stopped improving by more than `tol` within `max_iter` iterations.
    """

    params: P
    stats: Stats
    history: tuple[float, ...]
    converged: bool

    def __repr__(self) -> str:
        iterations = len(self.history) - 1
        return short_repr(
            self,
            params=self.params,
            loss=self.loss,
            iterations=iterations,
            converged=self.converged,
        )

    @property
    def loss(self) -> float:
        """J / N, or the negative log-likelihood per point, under `params`."""
        return self.history[-1]


def run_em(
    family: Family[P], params: P, data: Data[P], *, tol: float = 1e-5, max_iter: int = 300
) -> EMResult[P]:
    """Alternate e-step and m-step from `params` until the loss improves by no more than `tol`.

    `tol` is relative to J for K-means, and in nats per point for a mixture. The loop continues
    while a component without mass can be revived.
    """
    stats = data.e_step(params)
    history = [family.loss(stats)]
    converged = False
    while len(history) <= max_iter:
        working = stats if stats.all_alive else data.revive(stats)
        if converged and working is stats:
            break
        params = family.m_step(working, params)
        stats = data.e_step(params)
        history.append(family.loss(stats))
        converged = family.improvement(history[-2], history[-1]) <= tol
    return EMResult(params, stats, tuple(history), converged)
