"""A coreset: weighted points that represent the whole stream, in bounded memory.

    coreset <- reduce_coreset(join(lam * coreset, batch), size)

Any set of centroids has nearly the same cost on the coreset as on the stream, so a fit to the
coreset is nearly a fit to the stream. A point is kept with a probability proportional to its
sensitivity, the largest part of the cost that it can have (Feldman & Langberg 2011; Bachem, Lucic &
Krause 2017), and its weight is divided by this probability. The reduction of a union of coresets is
a coreset again (merge and reduce; Har-Peled & Mazumdar 2004). The bound holds for Gaussian mixtures
too (Lucic, Faulkner, Krause & Feldman 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamclust import kernels
from streamclust.arrays import Array, Labels, Points, has_gaps, short_repr
from streamclust.models import partial

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.models.stats import Stats

CHUNK = 4096
"""Number of new points after which the coreset is reduced again."""

_SIZE = 8000
_SIZE_PER_COMPONENT = 100
_CELLS = 1 << 20
"""Largest M * D of the default size: 8 MiB."""

_MAX_PRODUCTS = 1 << 25
"""Largest M * K * D of the default size: products of coordinates per pass of a fit."""

_MIN_PER_COMPONENT = 20
"""With fewer points per component, a fit of the coreset is a poor fit of the stream."""

_OVERSAMPLING = 4.0
"""Number of points sampled from a batch, divided by the number that the reduction will leave."""

_NEGLIGIBLE = 2.0**-50
"""A point is dropped if its weight is below this share of the largest weight."""

_SMALLEST_UNIT = 2.0**-200
"""Smallest `CoresetState.unit`; below it, the weights themselves are multiplied."""

_SMALLEST = float(np.finfo(np.float64).tiny)

_SIGN_FEATURES = 8
"""Number of features whose signs distinguish directions."""

_SIGN_SAMPLE = 1000
"""Least number of points for the choice of these features."""


@dataclass(frozen=True, eq=False)
class Coreset:
    """Weighted points that represent a stream.

    Parameters
    ----------
    X : array of shape (M, D)
    w : array of shape (M,)
        Weights, in points of the stream.
    """

    X: Array = field(default_factory=lambda: np.empty((0, 0)))
    w: Array = field(default_factory=lambda: np.empty(0))

    def __repr__(self) -> str:
        return short_repr(self, points=len(self.w), mass=self.mass)

    @property
    def mass(self) -> float:
        """Total weight, in points."""
        return float(self.w.sum())

    def select(self, choose: Callable[[Array], NDArray[np.bool_]]) -> Coreset:
        """Return the points (M, D) for which `choose` returns True, (M,)."""
        if not len(self.w):
            return self
        chosen = choose(self.X)
        return Coreset(self.X[chosen], self.w[chosen])


@dataclass(frozen=True, eq=False)
class CoresetState:
    """The coreset of a stream so far, with the parts that change at different times.

    Parameters
    ----------
    core : Coreset
        Result of the last reduction, decayed like the statistics.
    fresh : Coreset
        Samples of the batches since the last reduction.
    unit : float
        Number of points of the stream that weight 1 in `core` and `fresh` stands for. Forgetting
        changes only this number. So between two reductions, points are only appended.
    """

    core: Coreset = field(default_factory=Coreset)
    fresh: Coreset = field(default_factory=Coreset)
    unit: float = 1.0

    @property
    def points(self) -> Coreset:
        """Weighted points that represent the stream so far."""
        return reweigh(join(self.core, self.fresh), self.unit)

    @property
    def is_empty(self) -> bool:
        """Whether there are no points."""
        return not len(self.core.w) and not len(self.fresh.w)

    def select(self, choose: Callable[[Array], NDArray[np.bool_]]) -> CoresetState:
        """Return the coreset of the points (M, D) for which `choose` returns True, (M,)."""
        return CoresetState(self.core.select(choose), self.fresh.select(choose), self.unit)

    def remember(
        self,
        X: Points,
        w: Array,
        assigned: kernels.Assigned,
        stats: Stats,
        size: int,
        lam: float,
        rng: np.random.Generator,
    ) -> CoresetState:
        """Return the coreset decayed by `lam`, with a sample of a batch.

        When there are enough new points, the coreset is reduced to `size` points.

        Parameters
        ----------
        X : array of shape (N, D)
        w : array of shape (N,)
            Positive weights.
        assigned : Assigned
            Cluster and squared distance of each point.
        stats : Stats
            The running statistics.
        size : int
        lam : float
        rng : numpy.random.Generator
        """
        core, fresh, unit = self.core, self.fresh, lam * self.unit
        if unit < _SMALLEST_UNIT:
            core, fresh, unit = reweigh(core, unit), reweigh(fresh, unit), 1.0
        mass, K = unit * (core.mass + fresh.mass), len(stats.weight)
        sample = subsample(X, w, assigned, mass, K, size, rng)
        fresh = join(fresh, reweigh(sample, 1.0 / unit))
        if len(fresh.X) < min(size, CHUNK):
            return CoresetState(core, fresh, unit)
        means = stats.averages(stats.reference)
        return CoresetState(reduce_coreset(reweigh(join(core, fresh), unit), means, size, rng))


def default_size(n_components: int, n_features: int) -> int:
    """Return M = min(max(8000, 100 K), 2^20 / D, 2^25 / (K D)); 0 stands for no coreset.

    The result is 0 if M is below 20 K, that is, 20 points per component.
    """
    size = max(_SIZE, _SIZE_PER_COMPONENT * n_components)
    size = min(size, _CELLS // n_features, _MAX_PRODUCTS // (n_components * n_features))
    return size if size >= _MIN_PER_COMPONENT * n_components else 0


def join(a: Coreset, b: Coreset) -> Coreset:
    """Return a coreset of both streams: the points of `a`, then those of `b`.

    Points whose weight is below 2^-50 of the largest are dropped.
    """
    if not len(a.w) or not len(b.w):
        return b if len(b.w) else a
    return _without_negligible(Coreset(np.concatenate([a.X, b.X]), np.concatenate([a.w, b.w])))


def reweigh(coreset: Coreset, factor: float) -> Coreset:
    """Return the coreset with each weight multiplied by `factor`; weights of 0 are dropped."""
    if factor == 1.0 or not len(coreset.w):
        return coreset
    return _without_negligible(Coreset(coreset.X, factor * coreset.w))


def _without_negligible(coreset: Coreset) -> Coreset:
    rows = coreset.w > _NEGLIGIBLE * coreset.w.max()
    return coreset if rows.all() else Coreset(coreset.X[rows], coreset.w[rows])


def reduce_coreset(coreset: Coreset, means: Array, size: int, rng: np.random.Generator) -> Coreset:
    """Return at most `size` points with the same total weight.

    The sensitivity of a point under `means` is at most its share of the cost plus its share of the
    weight of its cluster (Bachem et al. 2017, lemma 2). The sample is systematic. Each point gets
    an interval on a line, as long as its probability, ordered by cluster and by direction. A grid
    with a random start picks the points whose intervals it hits. So the number of points picked
    from a neighbourhood differs from its expectation by less than one. A point of probability 1
    keeps its weight.

    Parameters
    ----------
    coreset : Coreset
        Points of positive weight.
    means : array of shape (K, D)
        A rough solution, such as the live one.
    size : int
    rng : numpy.random.Generator
    """
    if len(coreset.X) <= size:
        return coreset
    labels, squared_distances = partial.assign(coreset.X, means)
    probability = _inclusion(_sensitivity(coreset.w, labels, squared_distances, len(means)), size)
    order = _by_neighbourhood(coreset, labels, squared_distances, means)
    ticks = np.floor(np.cumsum(probability[order]) + rng.random())
    picked = order[np.flatnonzero(np.diff(ticks, prepend=0.0))]
    if not len(picked):
        picked = order[[probability[order].argmax()]]
    w = coreset.w[picked] / probability[picked]
    return Coreset(coreset.X.take(picked, axis=0), w * (coreset.mass / w.sum()))


def subsample(
    X: Points,
    w: Array,
    assigned: kernels.Assigned,
    mass: float,
    n_clusters: int,
    size: int,
    rng: np.random.Generator,
) -> Coreset:
    """Return a sample of a batch that joins points of total weight `mass`.

    The reduced coreset of `size` points will keep about n = `size` * batch weight / total weight
    points of the batch. The sample has 4 n points, so that the second sampling adds little error.
    For a long stream, nearly all points of a batch are dropped here. The sample is systematic in
    the order of the stream.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        Positive weights.
    assigned : Assigned
        Cluster and squared distance of each point.
    mass : float
    n_clusters : int
    size : int
    rng : numpy.random.Generator
    """
    total = float(w.sum())
    expected = _OVERSAMPLING * size * total / (mass + total)
    if len(X) <= expected:
        return Coreset(np.array(X, np.float64), np.array(w))  # the caller may change the batch
    start = float(rng.random())
    picked, probability = kernels.sample(w, assigned, n_clusters, max(1.0, expected), start)
    weight = w[picked] / probability
    return Coreset(np.asarray(X.take(picked, axis=0), np.float64), weight * (total / weight.sum()))


def effective_size(coreset: Coreset, means: Array) -> float:
    """Return the effective sample size of the coreset (Kish 1965).

    This is the larger value of (sum s)^2 / sum s^2 for two choices of s. The weights are right for
    points of the stream that only decayed. The sensitivities are right after a reduction, which
    makes them equal.
    """
    labels, squared_distances = partial.assign(coreset.X, means)
    shares = (coreset.w, _sensitivity(coreset.w, labels, squared_distances, len(means)))
    return max(float((s / s.max()).sum() ** 2 / ((s / s.max()) ** 2).sum()) for s in shares)


def _sensitivity(w: Array, labels: Labels, squared_distances: Array, K: int) -> Array:
    cluster = np.bincount(labels, weights=w, minlength=K)
    share = w / (cluster[labels] * K)
    cost = w * squared_distances
    total = float(cost.sum())
    return share + cost / total if total > 0.0 else share


def _inclusion(share: Array, size: int) -> Array:
    """Return probabilities min(1, tau share_n) that sum to `size`, which is less than N."""
    descending = np.sort(share)[::-1]
    rest = np.cumsum(descending[::-1])[::-1]
    count = np.arange(len(share))
    fits = (size - count) * descending < rest
    n_certain = int(fits.argmax())
    tau = (size - n_certain) / rest[n_certain]
    return np.asarray(np.minimum(1.0, tau * share))


def _by_neighbourhood(
    coreset: Coreset, labels: Labels, squared_distances: Array, means: Array
) -> Labels:
    """Return the order of the points by cluster, direction from its mean, and distance."""
    # Directions: the signs of the features with the largest deviations, chosen from some points.
    sample = slice(None, None, max(1, len(labels) // _SIGN_SAMPLE))
    offset = coreset.X[sample] - means[labels[sample]]
    if has_gaps(offset):
        offset = partial.filled(offset, np.zeros(offset.shape[1]))
    spread = np.einsum("n,nd,nd->d", coreset.w[sample], offset, offset)
    widest = np.argsort(-spread, kind="stable")[:_SIGN_FEATURES]
    above = np.zeros((len(labels), _SIGN_FEATURES), np.bool_)
    middle = means.take(widest, axis=1).take(labels, axis=0)
    np.greater(coreset.X.take(widest, axis=1), middle, out=above[:, : len(widest)])
    direction = np.packbits(above.ravel(), bitorder="little")  # by rows: slower
    # The upper half of a float32 orders distances, exact to 1 %.
    far = (squared_distances / max(float(squared_distances.max()), _SMALLEST)).astype(np.float32)
    order = _sorted(far.view(np.uint32) >> np.uint32(16), 1 << 16)
    for key, size in ((direction, 1 << _SIGN_FEATURES), (labels, len(means))):
        order = order[_sorted(key[order], size)]
    return order


def _sorted(keys: NDArray[Any], size: int) -> Labels:
    """Return the stable order of integers below `size`, in linear time for short integers."""
    return np.argsort(keys.astype(np.min_scalar_type(size - 1)), kind="stable")
