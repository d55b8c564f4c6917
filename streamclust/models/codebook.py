"""How evenly a codebook is used, and how points move between components of two versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamclust.arrays import short_repr

if TYPE_CHECKING:
    from streamclust.arrays import Array, Labels

_DEAD, _NEAR_DEAD = 0.01, 0.1
"""Masses of dead and of near-dead codes, relative to the average mass of a code."""


@dataclass(frozen=True)
class CodebookHealth:
    """How evenly the codes of a codebook are used.

    Parameters
    ----------
    n_codes : int
    perplexity : float
        exp(entropy) of the shares of the codes, from 1 to K; 0 if no code has mass. K codes that
        are used equally often have perplexity K.
    dead : int
        Codes with less than 1 % of the average mass of a code.
    near_dead : int
        Codes with at least 1 %, but less than 10 % of the average mass.
    largest_share : float
        Share of the code that is used most, from 0 to 1.
    """

    n_codes: int
    perplexity: float
    dead: int
    near_dead: int
    largest_share: float


def codebook_health(mass: Array) -> CodebookHealth:
    """Return the health of a codebook from the effective number of points of each code, (K,).

    Examples
    --------
    >>> import numpy as np
    >>> codebook_health(np.array([50.0, 50.0, 0.0, 1.0])).dead
    1
    """
    K, total = len(mass), float(mass.sum())
    if not total > 0.0:
        return CodebookHealth(K, 0.0, K, 0, 0.0)
    share = mass / total
    used = share[share > 0.0]
    relative = K * share
    return CodebookHealth(
        n_codes=K,
        perplexity=float(np.exp(-(used * np.log(used)).sum())),
        dead=int((relative < _DEAD).sum()),
        near_dead=int(((relative >= _DEAD) & (relative < _NEAR_DEAD)).sum()),
        largest_share=float(share.max()),
    )


@dataclass(frozen=True, eq=False)
class VersionMap:
    """How the points of a sample move from the components of one version to those of another.

    Parameters
    ----------
    old, new : arrays of int, shape (M,)
        Numbers of each pair of components that have points in common, in ascending order.
    share : array of shape (M,)
        Share of all points that are in both components of the pair.
    """

    old: Labels
    new: Labels
    share: Array

    def __repr__(self) -> str:
        return short_repr(self, pairs=len(self.share), moved=self.moved)

    @property
    def moved(self) -> float:
        """Share of the points whose component has another number, from 0 to 1."""
        return float(self.share[self.old != self.new].sum())

    @property
    def successors(self) -> dict[int, int]:
        """Old number -> the new component that has most of its points.

        A component without points in the sample is left out.
        """
        order = np.lexsort((self.old != self.new, -self.share, self.old))
        first = np.unique(self.old[order], return_index=True)[1]
        return dict(
            zip(self.old[order][first].tolist(), self.new[order][first].tolist(), strict=True)
        )


def version_map(old: Labels, new: Labels, w: Array) -> VersionMap:
    """Return the map from the components of points in two versions.

    Parameters
    ----------
    old, new : arrays of shape (N,)
        Number of each point's component.
    w : array of shape (N,)
        Weights of the points.

    Examples
    --------
    >>> import numpy as np
    >>> moves = version_map(np.array([0, 0, 0, 1]), np.array([0, 0, 2, 1]), np.ones(4))
    >>> moves.moved, moves.successors
    (0.25, {0: 0, 1: 1})
    """
    pairs, index = np.unique(np.stack([old, new], axis=1), axis=0, return_inverse=True)
    weight = np.bincount(index.ravel(), weights=w, minlength=len(pairs))
    return VersionMap(pairs[:, 0], pairs[:, 1], weight / (float(weight.sum()) or 1.0))
