"""scikit-learn's full-batch fits to the same data, for comparison."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from streamclust.demo.plan import N_COLOURS, N_COMPONENTS, REG_COVAR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.arrays import Array
    from streamclust.demo.feeds import Feeds
    from streamclust.demo.plan import Plan
    from streamclust.demo.view import View

_MAX_PASSES = 300


@dataclass(frozen=True, eq=False)
class BatchPalette:
    """scikit-learn's KMeans on all pixels of a picture.

    Parameters
    ----------
    colours : array of shape (K, 3)
    inertia : float
        Per pixel.
    passes : int
        Lloyd iterations, without the passes of the seeding.
    seconds : float
    """

    colours: Array
    inertia: float
    passes: int
    seconds: float


@dataclass(frozen=True)
class BatchMixture:
    """scikit-learn's GaussianMixture on all rows.

    Parameters
    ----------
    log_likelihood : float
        Per point, in nats, in the units of the data.
    passes : int
        EM iterations, without those of the K-means start.
    seconds : float
    """

    log_likelihood: float
    passes: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Baselines:
    """All fits.

    Parameters
    ----------
    palettes : dict of str to BatchPalette
        By the name of the picture.
    mixtures : tuple of BatchMixture
        One per seed.
    """

    palettes: dict[str, BatchPalette]
    mixtures: tuple[BatchMixture, ...]

    @property
    def log_likelihood(self) -> float:
        """Median log-likelihood of the mixtures."""
        return median(mixture.log_likelihood for mixture in self.mixtures)


def fit_baselines(plan: Plan, feeds: Feeds, view: View) -> Baselines:
    """Run all fits, and show each."""
    view.say("For comparison: scikit-learn's full-batch fits to the same points")
    palettes = {}
    for feed in feeds.pixels:
        with view.working(f"KMeans on {len(feed.X):,} pixels of {feed.name}"):
            palettes[feed.name] = batch_palette(feed.X.astype(np.float64), plan.seed)
    mixtures = []
    for number in range(plan.batch_fits):
        which = f"fit {number + 1} of {plan.batch_fits}"
        with view.working(f"GaussianMixture on {len(feeds.shuttle.X):,} readings, {which}"):
            mixtures.append(batch_mixture(feeds.shuttle.X, plan.seed + number))
    return Baselines(palettes, tuple(mixtures))


def batch_palette(X: Array, seed: int) -> BatchPalette:
    """Fit scikit-learn's KMeans once."""
    from sklearn.cluster import KMeans

    started = time.monotonic()
    with _quiet_and_on_one_thread():
        kmeans = KMeans(N_COLOURS, n_init=1, max_iter=_MAX_PASSES, random_state=seed).fit(X)
    seconds = time.monotonic() - started
    return BatchPalette(
        kmeans.cluster_centers_, float(kmeans.inertia_) / len(X), int(kmeans.n_iter_), seconds
    )


def batch_mixture(X: Array, seed: int) -> BatchMixture:
    """Fit scikit-learn's GaussianMixture once.

    scikit-learn's `reg_covar` is in units of the data; that of streamclust is relative to the
    variance of each feature. So the features are standardised before the fit, and the
    log-likelihood is converted back to the units of the data.
    """
    from sklearn.mixture import GaussianMixture

    started = time.monotonic()
    scale = X.std(axis=0)
    Z = (X - X.mean(axis=0)) / scale
    mixture = GaussianMixture(
        N_COMPONENTS, reg_covar=REG_COVAR, max_iter=_MAX_PASSES, random_state=seed
    )
    with _quiet_and_on_one_thread():
        standardised = float(mixture.fit(Z).score(Z))
    log_likelihood = standardised - float(np.log(scale).sum())
    return BatchMixture(log_likelihood, int(mixture.n_iter_), time.monotonic() - started)


@contextmanager
def _quiet_and_on_one_thread() -> Iterator[None]:
    """Hide scikit-learn's warnings, and use one BLAS thread.

    With so few features one thread is faster, especially on a busy machine.
    """
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        yield
