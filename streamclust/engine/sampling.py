"""Tasks that draw points: rounds of k-means||, and a coreset of all points.

The random numbers of a part depend on the seed and the number of the part. So the drawn points
don't depend on the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from streamclust import kernels
from streamclust.engine.identity import SAME
from streamclust.engine.points import Points, joined
from streamclust.formats.container import Fields
from streamclust.models import partial

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from streamclust.arrays import Array


@dataclass(frozen=True, eq=False)
class Drawn:
    """Points that a round has drawn.

    Parameters
    ----------
    X : array of shape (n, D)
    keys : array of shape (n,)
        Ascending; see `Draw`.
    cost : float
        The sum of w_n d^2(x_n) over all points.
    """

    X: Array
    keys: Array
    cost: float


@dataclass(frozen=True, eq=False)
class Draw:
    """The task: draw points with probability proportional to w_n d^2(x_n), without replacement.

    Each point gets the key e / (w_n d^2(x_n)), where e is exponentially distributed. The points
    with the smallest keys are the sample (Efraimidis & Spirakis 2006). So one pass is enough, and
    samples of two parts can be merged.

    Parameters
    ----------
    centroids : array of shape (K, D)
        d is the distance to the nearest centroid.
    size : int
        Number of points.
    seed : tuple of int
    """

    centroids: Array
    size: int
    seed: tuple[int, ...]

    kind: ClassVar[str] = "draw"
    kernels: ClassVar[str] = SAME

    def run(self, number: int, blocks: Iterable[Points]) -> Drawn:
        """Draw from one part."""
        rng = np.random.default_rng((*self.seed, number))
        drawn = Drawn(np.empty((0, self.centroids.shape[1])), np.empty(0), 0.0)
        for X, w in blocks:
            cost = w * partial.assign(X, self.centroids).squared_distances
            keys = np.full(len(w), np.inf)
            with np.errstate(over="ignore"):  # a cost that is nearly 0 is never drawn
                np.divide(rng.standard_exponential(len(w)), cost, out=keys, where=cost > 0.0)
            first = self._smallest(keys)
            drawn = self.merge(drawn, Drawn(X[first], keys[first], float(cost.sum())))
        return drawn

    def merge(self, a: Drawn, b: Drawn) -> Drawn:
        """Return the points with the smallest keys of both."""
        X, keys = np.concatenate([a.X, b.X]), np.concatenate([a.keys, b.keys])
        first = self._smallest(keys)
        return Drawn(X[first], keys[first], a.cost + b.cost)

    def _smallest(self, keys: Array) -> NDArray[np.intp]:
        order = np.argsort(keys, kind="stable")[: self.size]
        return order[np.isfinite(keys[order])]

    def to_fields(self) -> Fields:
        """Return the centroids, the size and the seed."""
        return Fields({"centroids": self.centroids}, {"size": self.size, "seed": list(self.seed)})

    @classmethod
    def from_fields(cls, fields: Fields) -> Draw:
        """Return the task."""
        values = fields.values
        return cls(fields.arrays["centroids"], values["size"], tuple(values["seed"]))

    def result_to_fields(self, result: Drawn) -> Fields:
        """Return the points, the keys and the cost."""
        return Fields({"X": result.X, "keys": result.keys, "cost": np.array([result.cost])})

    def result_from_fields(self, fields: Fields) -> Drawn:
        """Return the points."""
        arrays = fields.arrays
        return Drawn(arrays["X"], arrays["keys"], float(arrays["cost"][0]))


@dataclass(frozen=True, eq=False)
class Condense:
    """The task: a coreset, to which each block gives a share of its points by their sensitivity.

    A union of coresets is a coreset of the union; see `streamclust.models.coreset`.

    Parameters
    ----------
    centroids : array of shape (K, D)
        A rough solution, which may have more centroids than the model.
    share : float
        Number of points of the coreset, relative to the number of all points.
    seed : tuple of int
    """

    centroids: Array
    share: float
    seed: tuple[int, ...]

    kind: ClassVar[str] = "condense"
    kernels: ClassVar[str] = SAME

    def run(self, number: int, blocks: Iterable[Points]) -> tuple[Points, ...]:
        """Return the points of a part."""
        rng = np.random.default_rng((*self.seed, number))
        found = [self._sampled(block, float(rng.random())) for block in blocks]
        return (joined(found),) if found else ()

    def _sampled(self, block: Points, start: float) -> Points:
        X, w = block
        wanted = max(1.0, self.share * len(w))
        if len(w) <= wanted:
            return Points(np.asarray(X, np.float64), w)
        assigned = partial.assign(X, self.centroids)
        K = len(self.centroids)
        picked, probability = kernels.sample(w, assigned, K, wanted, start)
        weight = w[picked] / probability
        return Points(np.asarray(X[picked], np.float64), weight * (w.sum() / weight.sum()))

    def merge(self, a: tuple[Points, ...], b: tuple[Points, ...]) -> tuple[Points, ...]:
        """Return the points of both."""
        return a + b

    def to_fields(self) -> Fields:
        """Return the centroids, the share and the seed."""
        return Fields({"centroids": self.centroids}, {"share": self.share, "seed": list(self.seed)})

    @classmethod
    def from_fields(cls, fields: Fields) -> Condense:
        """Return the task."""
        values = fields.values
        return cls(fields.arrays["centroids"], values["share"], tuple(values["seed"]))

    def result_to_fields(self, result: tuple[Points, ...]) -> Fields:
        """Return the points in one array."""
        if not result:
            return Fields()
        X, w = joined(list(result))
        return Fields({"X": X, "w": w})

    def result_from_fields(self, fields: Fields) -> tuple[Points, ...]:
        """Return the points."""
        arrays = fields.arrays
        return (Points(arrays["X"], arrays["w"]),) if arrays else ()
