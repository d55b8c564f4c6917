"""A coreset: weighted points that stand for the whole stream, in bounded memory.

    coreset <- reduce_coreset(join(decay(coreset, lam), batch), size)

Any set of centroids has nearly the same cost on the coreset as on the stream, so a fit of the one
is nearly a fit of the other. A point is kept with a probability proportional to its sensitivity,
the largest share of the cost that it can have (Feldman & Langberg 2011; Bachem, Lucic & Krause
2017), and its weight grows by the inverse. Condensing a union of coresets gives a coreset again
(merge and reduce; Har-Peled & Mazumdar 2004). The bound holds for Gaussian mixtures too (Lucic,
Faulkner, Krause & Feldman 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust import kernels
from streamclust.arrays import Array, Labels, Points, short_repr

CHUNK = 4096
"""Points gathered, at most, before the coreset is condensed again."""

_SIZE = 8000
_SIZE_PER_COMPONENT = 100
_CELLS = 1 << 20
"""Numbers in a coreset of the default size, at most: 8 MiB."""

_EFFORT = 1 << 25
"""Products of coordinates, M K D a pass, that solving it may take."""

_FEWEST_PER_COMPONENT = 20
"""With fewer points a component, a fit of the coreset says little about the stream."""

_SHARE = 4.0
"""How many times as many points of a batch are remembered as the coreset will have of it."""

_FADED = 2.0**-50
"""Weight, in the largest, below which a point no longer counts."""

_SMALLEST = float(np.finfo(np.float64).tiny)

_STRATA = 8
"""Features whose signs tell directions apart."""

_SOME = 1000
"""Points, at least, by which these features are chosen."""


@dataclass(frozen=True, eq=False)
class Coreset:
    """Weighted points.

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


def default_size(n_components: int, n_features: int) -> int:
    """Return M: 8,000 or 100 K, whichever is more, within bounds; 0 means none.

    M D is at most 2^20 and M K D at most 2^25. None is kept where a component would have fewer
    than 20 points.
    """
    size = max(_SIZE, _SIZE_PER_COMPONENT * n_components)
    size = min(size, _CELLS // n_features, _EFFORT // (n_components * n_features))
    return size if size >= _FEWEST_PER_COMPONENT * n_components else 0


def join(a: Coreset, b: Coreset) -> Coreset:
    """Return a coreset of both streams: the points of `a`, then those of `b`.

    Points that count less than 2^-50 of the heaviest one are left out.
    """
    if not len(a.w) or not len(b.w):
        return b if len(b.w) else a
    return _counting(
        Coreset(np.concatenate([a.X, b.X]), np.concatenate([a.w, b.w])),
    )


def decay(coreset: Coreset, lam: float) -> Coreset:
    """Return the coreset with each weight multiplied by `lam`, as `stats.decay` does."""
    if lam == 1.0 or not len(coreset.w):
        return coreset
    return _counting(Coreset(coreset.X, lam * coreset.w))


def _counting(coreset: Coreset) -> Coreset:
    kept = coreset.w > _FADED * coreset.w.max()
    return coreset if kept.all() else Coreset(coreset.X[kept], coreset.w[kept])


def reduce_coreset(coreset: Coreset, means: Array, size: int, rng: np.random.Generator) -> Coreset:
    """Return at most `size` points with the same total weight.

    The sensitivity of a point, with respect to the cost under `means`, is bounded by its share of
    the cost plus its share of its cluster's weight (Bachem et al. 2017, lemma 2). The sample is
    systematic: points lie on a line, cluster by cluster and direction by direction, each as long as
    its probability, and a grid with a random start picks them. So every neighbourhood has the
    number of points that is due to it, to within one, and a point that is due more than once is
    kept as it is.

    Parameters
    ----------
    coreset : Coreset
        Of positive weights.
    means : array of shape (K, D)
        A rough solution, such as the live one.
    size : int
    rng : numpy.random.Generator
    """
    if len(coreset.X) <= size:
        return coreset
    labels, sqdist = kernels.assign(coreset.X, means)
    probability = _inclusion(_sensitivity(coreset.w, labels, sqdist, len(means)), size)
    order = _by_neighbourhood(coreset, labels, sqdist, means)
    picked = order[_ticked(probability[order], rng)]
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
    """Return what need be remembered of a batch that joins points of weight `mass`.

    A coreset of `size` points will have about `size` times the batch's share of all mass from it;
    four times as many leave little to a second sampling, and of a long stream nearly every point
    can be left out at once. The sample is systematic in the order of the stream.

    Parameters
    ----------
    X : array of shape (N, D)
    w : array of shape (N,)
        Positive weights.
    assigned : Assigned
        Each point's cluster, of `n_clusters`, and its squared distance.
    mass : float
    n_clusters : int
    size : int
    rng : numpy.random.Generator
    """
    total = float(w.sum())
    wanted = _SHARE * size * total / (mass + total)
    if len(X) <= wanted:
        return Coreset(np.asarray(X, np.float64), w)
    start = float(rng.random())
    picked, probability = kernels.sample(w, assigned, n_clusters, max(1.0, wanted), start)
    weight = w[picked] / probability
    return Coreset(np.asarray(X.take(picked, axis=0), np.float64), weight * (total / weight.sum()))


def _ticked(probability: Array, rng: np.random.Generator) -> Labels:
    """Return a systematic sample, at least one: where a grid falls on lengths laid in a row."""
    ticks = np.floor(np.cumsum(probability) + rng.random())
    picked = np.flatnonzero(np.diff(ticks, prepend=0.0))
    return picked if len(picked) else np.array([probability.argmax()])


def effective_size(coreset: Coreset, means: Array) -> float:
    """Return the number of points of equal say that the coreset is as good as.

    That is (sum s)^2 / sum s^2 (Kish 1965) with the weights as s, as for points of the stream that
    only faded, or with the sensitivities, which condensing makes equal: whichever is more.
    """
    labels, sqdist = kernels.assign(coreset.X, means)
    says = (coreset.w, _sensitivity(coreset.w, labels, sqdist, len(means)))
    return max(float((s / s.max()).sum() ** 2 / ((s / s.max()) ** 2).sum()) for s in says)


def _sensitivity(w: Array, labels: Labels, sqdist: Array, K: int) -> Array:
    cluster = np.bincount(labels, weights=w, minlength=K)
    share = w / (cluster[labels] * K)
    cost = w * sqdist
    total = float(cost.sum())
    return share + cost / total if total > 0.0 else share


def _inclusion(share: Array, size: int) -> Array:
    """Return probabilities min(1, tau share_n) with the sum `size`, fewer than there are points."""
    descending = np.sort(share)[::-1]
    rest = np.cumsum(descending[::-1])[::-1]
    sure = np.arange(len(share))
    fits = (size - sure) * descending < rest
    n_sure = int(fits.argmax())
    tau = (size - n_sure) / rest[n_sure]
    return np.asarray(np.minimum(1.0, tau * share))


def _by_neighbourhood(coreset: Coreset, labels: Labels, sqdist: Array, means: Array) -> Labels:
    """Return an order of the points: by cluster, by direction from its mean, by distance."""
    widest = _widest(coreset, labels, means)
    above = np.zeros((len(labels), _STRATA), np.bool_)
    middle = means.take(widest, axis=1).take(labels, axis=0)
    np.greater(coreset.X.take(widest, axis=1), middle, out=above[:, : len(widest)])
    direction = np.packbits(above.ravel(), bitorder="little")  # by rows it would be slower
    order = _sorted(_coarse(sqdist), 1 << 16)
    for key, size in ((direction, 1 << _STRATA), (labels, len(means))):
        order = order[_sorted(key[order], size)]
    return order


def _widest(coreset: Coreset, labels: Labels, means: Array) -> Labels:
    """Return the features in which points lie farthest from their means, as some of them tell."""
    some = slice(None, None, max(1, len(labels) // _SOME))
    offset = coreset.X[some] - means[labels[some]]
    spread = np.einsum("n,nd,nd->d", coreset.w[some], offset, offset)
    return np.argsort(-spread, kind="stable")[:_STRATA]


def _coarse(sqdist: Array) -> NDArray[np.uint16]:
    """Return numbers in the order of the distances, to within a hundredth of each."""
    share = (sqdist / max(float(sqdist.max()), _SMALLEST)).astype(np.float32)
    return (share.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def _sorted(keys: NDArray[Any], size: int) -> Labels:
    """Return the stable order of integers below `size`: of short ones it takes linear time."""
    return np.argsort(keys.astype(np.min_scalar_type(size - 1)), kind="stable")
