"""The kind of the model, the scale of the features and the number of components, from a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from streamclust import kernels
from streamclust.arrays import Array, Metric
from streamclust.engine import ArrayPart, Engine, Inline, Reader
from streamclust.engine.fits import Fit
from streamclust.errors import TooFewPointsError
from streamclust.fitting.moves import FEW_POINTS_PENALTY, Sample
from streamclust.fitting.search import search_of
from streamclust.models import GaussianMixture, KMeans, KMeansParams
from streamclust.models.family import by_kind
from streamclust.models.scaling import learn_scaling

ScaleKind = Literal["none", "standard", "robust"]

_NUMBERS = (*range(1, 13), 14, 16, 20)
"""Numbers of components that are compared."""

_MORE_NUMBERS = (22, 25, 28, 32, 36, 40)
"""Further numbers that are compared if the BIC still falls at the last of `_NUMBERS`."""

_RUNS = 3
"""Number of fits from different starts per number of components; the best fit is used."""

_MAX_AXES = 8
_AXES_VARIANCE = 0.9
"""The comparison uses the first principal axes with this share of the variance. In many dimensions,
noise would decide the BIC of a small sample."""

_CORE = 0.99
"""Share of the sample that is compared, because a far point would get its own component."""

_UNIT = 1e-3
"""Largest |norm - 1| of a unit vector that was written with few digits."""

_UNEQUAL = 5.0
"""Features need a scale if the ratio of the largest to the smallest spread is above this."""

_FAR = 8.0
"""A point is far if its distance from the median is above this, in interquartile ranges."""

_FAR_SHARE = 1e-3
"""A robust scale is proposed if more than this share of the points is far."""

_HEAVY = 3.0
"""A mixture is proposed if the ratio of the variance to that of the middle 99 % of each feature is
above this. Far points would then take the centroids of K-means; a mixture describes them by a few
wide components."""

_MIN_VARIANCE = 1e-6
"""Floor of variances in the BIC, relative to the average variance of all points."""

_MAX_COVARIANCE_FEATURES = 16
"""Largest number of features for full covariances."""


@dataclass(frozen=True)
class Trials:
    """Fits that compare numbers of components.

    Parameters
    ----------
    make : callable
        K -> the family with K components.
    numbers : sequence of int
        The numbers that are compared, ascending.
    points : int
        Largest number of points of the sample.
    bic : callable
        Returns the BIC of parameters on a sample.
    enough : float
        The smallest number that reaches this share of the fall of the BIC is chosen; 1 for the
        number with the lowest BIC. It is below 1 for mixtures, because further components often
        describe the shapes of clusters and not further clusters.
    more : sequence of int
        Further numbers that are compared if the BIC still falls at the last of `numbers`.
    """

    make: Callable[[int], Any]
    numbers: Sequence[int]
    points: int
    bic: Callable[[Any, Sample], float]
    enough: float = 1.0
    more: Sequence[int] = ()


def kmeans_bic(params: KMeansParams, sample: Sample) -> float:
    """Return the lowest BIC of hard-assigned points under three shapes of the clusters.

    The BIC is -2 L + p log n with the classification likelihood L (Celeux & Govaert 1992). Each
    cluster has a covariance: spherical, diagonal or full. With spherical ones alone, a long cluster
    would count as several. With full ones alone, the number of parameters would outweigh the
    difference of two round clusters that overlap.
    """
    (K, D), n = params.centroids.shape, len(sample.X)
    labels = kernels.assign(sample.X, params.centroids).labels
    size = np.bincount(labels, minlength=K)
    if (size < D + 2).any():
        return FEW_POINTS_PENALTY
    least = max(_MIN_VARIANCE * float(sample.X.var(axis=0).mean()), np.finfo(np.float64).tiny)
    groups = (sample.X[labels == k] for k in range(K))
    covariances = np.array([np.cov(X.T, bias=True).reshape(D, D) for X in groups])
    covariances += least * np.eye(D)
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    shapes = (
        (1, D * np.log(variances.mean(axis=1))),
        (D, np.log(variances).sum(axis=1)),
        (D * (D + 1) // 2, np.linalg.slogdet(covariances).logabsdet),
    )
    shares = np.log(size / n) - 0.5 * D * (np.log(2.0 * np.pi) + 1.0)
    return min(
        float(-2.0 * size @ (shares - 0.5 * log_det) + (K - 1 + K * (D + parameters)) * np.log(n))
        for parameters, log_det in shapes
    )


_MIXTURE = partial(GaussianMixture, covariance_type="full")


TRIALS: Mapping[str, Trials] = {
    "kmeans": Trials(KMeans, _NUMBERS, 3000, kmeans_bic, more=_MORE_NUMBERS),
    # A fit with full covariances takes longer.
    "gaussian_mixture": Trials(
        _MIXTURE, range(1, 11), 1000, search_of(_MIXTURE(1)).bic, enough=0.98
    ),
}
"""Kind of a family -> the trials for it."""


@dataclass(frozen=True)
class Size:
    """The proposed number of components.

    Parameters
    ----------
    n_components : int
    lowest : int
        The number at which the BIC is lowest.
    bic : dict of int to float
        Number of components -> BIC.
    points : int
        Number of points that were compared.
    """

    n_components: int
    lowest: int
    bic: Mapping[int, float]
    points: int


def propose_kind(X: Array) -> str:
    """Return 'gaussian_mixture' if a few far points have most of the variance, else 'kmeans'."""
    if X.shape[1] > _MAX_COVARIANCE_FEATURES or len(X) < 20 * X.shape[1]:
        return "kmeans"
    scaling = learn_scaling("standard", X, np.ones(len(X)))
    Z = X if scaling is None else scaling.apply(X)
    bulk = np.clip(Z, *np.percentile(Z, [0.5, 99.5], axis=0))
    is_heavy = Z.var(axis=0).sum() > _HEAVY * bulk.var(axis=0).sum()
    return "gaussian_mixture" if is_heavy else "kmeans"


def propose_metric(X: Array) -> Metric:
    """Return 'cosine' for unit vectors in three or more dimensions, else 'euclidean'."""
    norms = np.linalg.norm(X, axis=1)
    are_units = X.shape[1] > 2 and len(X) and bool((np.abs(norms - 1.0) < _UNIT).all())
    return "cosine" if are_units else "euclidean"


def propose_scale(X: Array) -> ScaleKind:
    """Return the scale for features whose spreads differ, else 'none'.

    The result is 'robust' if some points are far away, unless a feature has equal quartiles.
    """
    low, q1, median, q3, high = np.percentile(X, [1.0, 25.0, 50.0, 75.0, 99.0], axis=0)
    spread = (high - low)[high > low]
    if len(spread) < 2 or spread.max() <= _UNEQUAL * spread.min():
        return "none"
    quartiles = q3 - q1
    if not quartiles.all():
        return "standard"
    far = (np.abs(X - median) > _FAR * quartiles).any(axis=1)
    return "robust" if far.mean() > _FAR_SHARE else "standard"


def propose_size(X: Array, kind: str, scale: ScaleKind, engine: Engine | None = None) -> Size:
    """Return the number of components by the BIC on a sample.

    Parameters
    ----------
    X : array of shape (N, D)
    kind : str
        'kmeans' or 'gaussian_mixture'.
    scale : 'none', 'standard' or 'robust'
    engine : Engine, optional
        Computes the fits, several at the same time if it has several workers.
    """
    trials = by_kind(TRIALS, kind, "TRIALS")
    rng, most = np.random.default_rng(0), trials.points
    X = X if len(X) <= most else X[np.sort(rng.choice(len(X), most, replace=False))]
    Z = _core(_projected(_scaled(X, scale)))
    sample = Sample(Z, np.ones(len(Z)), float(len(Z)))
    engine = engine or Inline()
    bic = _bic_by_number(trials, trials.numbers, sample, engine)
    if bic and _smallest_good(bic, trials.enough) == trials.numbers[-1]:
        bic |= _bic_by_number(trials, trials.more, sample, engine)
    if not bic:
        return Size(1, 1, {}, len(Z))
    chosen, lowest = (_smallest_good(bic, enough) for enough in (trials.enough, 1.0))
    return Size(chosen, lowest, bic, len(Z))


def _bic_by_number(
    trials: Trials, numbers: Sequence[int], sample: Sample, engine: Engine
) -> dict[int, float]:
    """Return the BIC of each number, up to the first number with too few points."""
    numbers = [K for K in numbers if max(len(sample.X) // 10, 1) >= K]
    part, task = ArrayPart(sample.X, sample.w), Fit(trials.make(1), _RUNS, seed=0)
    fits = engine.map(task, Reader(), ((K, part) for K in numbers))
    bic: dict[int, float] = {}
    with suppress(TooFewPointsError):
        for K, fitted in zip(numbers, fits, strict=True):
            bic[K] = trials.bic(fitted.value, sample)
    return bic


def _smallest_good(bic: Mapping[int, float], enough: float) -> int:
    """Return the smallest number that reaches this share of the fall of the BIC from K = 1."""
    fall = bic[1] - min(bic.values())
    return next(K for K, value in bic.items() if bic[1] - value >= enough * fall)


def _scaled(X: Array, scale: ScaleKind) -> Array:
    scaling = learn_scaling(scale, X, np.ones(len(X)))
    Z = X if scaling is None else scaling.apply(X)
    return np.clip(Z, *np.percentile(Z, [0.5, 99.5], axis=0))


def _projected(Z: Array) -> Array:
    """Return the points in their first principal axes."""
    variance, axes = principal_axes(Z)
    total = np.cumsum(variance)
    if not total[-1] > 0.0:
        return Z[:, :1]
    enough = int(np.searchsorted(total, _AXES_VARIANCE * total[-1])) + 1
    return np.ascontiguousarray((Z - Z.mean(axis=0)) @ axes[: min(enough, _MAX_AXES)].T)


def principal_axes(Z: Array) -> tuple[Array, Array]:
    """Return the variances along the principal axes, largest first, and the axes as rows.

    The largest weight of each axis is positive.
    """
    centred = Z - Z.mean(axis=0)
    variance, columns = np.linalg.eigh(centred.T @ centred / len(Z))
    axes = columns[:, ::-1].T
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    return np.maximum(variance[::-1], 0.0), axes * np.sign(largest)[:, None]


def _core(Z: Array) -> Array:
    """Return the points without the farthest ones."""
    spread = Z.std(axis=0)
    distance = np.sum(
        ((Z - np.median(Z, axis=0)) / np.where(spread > 0.0, spread, 1.0)) ** 2, axis=1
    )
    return np.asarray(Z[distance <= np.quantile(distance, _CORE)])
