"""Re-solving: now and then the coreset is fitted anew, so that a bad start is not for ever.

The stream's own steps only walk downhill from where the warm-up began. A fit of the coreset, with
other seeds too, sees (nearly) the whole stream at once and can jump. It takes the place of the live
parameters where it is better by more than the optimism of its own, smaller sample explains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from streamclust.batch import settle, starts
from streamclust.coreset import effective_size
from streamclust.errors import TooFewPointsError
from streamclust.models.em import InMemory

if TYPE_CHECKING:
    from streamclust.coreset import Coreset
    from streamclust.models.em import Climb
    from streamclust.models.family import Family

P = TypeVar("P")

_TOL = 1e-4
_MAX_ITER = 50
"""Of each run: the stream goes on from where it ends."""


def resolve(
    family: Family[P], live: P, coreset: Coreset, mass: float, restarts: int, seed: tuple[int, ...]
) -> Climb[P] | None:
    """Return the best fit of the coreset, or None if `live` may well be as good.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    live : KMeansParams or MixtureParams
        One run starts from these, after random moves; the others from fresh seeds.
    coreset : Coreset
        Points of positive weight.
    mass : float
        Number of points behind `live`.
    restarts : int
        Runs from fresh seeds.
    seed : tuple of int
    """
    X, w = coreset.X, coreset.w
    try:
        fresh = tuple(starts(family, X, w, restarts, seed))
    except TooFewPointsError:
        return None
    nearby = family.search(live, X, w, np.random.default_rng((*seed, restarts)))
    runs = []
    for number, start in enumerate((nearby, *fresh), start=1):
        data = InMemory(family, X, w, np.random.default_rng((*seed, restarts + number)))
        runs.append(settle(family, start, data, X, w, tol=_TOL, max_iter=_MAX_ITER))
    best = min(runs, key=lambda run: run.loss)
    gain = family.improvement(family.loss(family.e_step(live, X, w)), best.loss)
    n = effective_size(coreset, best.stats.reference)
    if gain <= _TOL + _optimism(family, X.shape[1], n, mass) or not best.stats.alive.all():
        return None
    return best


def _optimism(family: Family[P], n_features: int, n: float, mass: float) -> float:
    """Return how much better than the live model a fit of `n` points looks without being so.

    The live model has seen those points, and more, `mass` in all: what is left over is the
    difference of the two samples' optimism.
    """
    return max(0.0, family.optimism(n, n_features) - family.optimism(mass, n_features))
