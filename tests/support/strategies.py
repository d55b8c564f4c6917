"""Points, parameters and statistics to state laws about, and how two statistics are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from numpy.typing import ArrayLike

from streamclust.arrays import Array, CovarianceType, Labels, Points
from streamclust.errors import DataError
from streamclust.models import Family, GaussianMixture, KMeans
from streamclust.models.stats import Stats, recentre
from streamclust.online.learner import Info, LearnerState, StreamLearner
from tests.support.exhaustive import examples

COVARIANCE_TYPES: tuple[CovarianceType, ...] = ("full", "tied", "diag", "spherical")
FAMILIES = ("kmeans", *COVARIANCE_TYPES)
"""Both families, the mixture in each of its four types."""

REACH = 10.0
"""Largest |coordinate| of the points and centres that are drawn."""

laws = examples(45, part=5)


@dataclass(frozen=True)
class Problem:
    """A family with parameters, and weighted points to learn from."""

    family: Family[Any]
    params: Any
    X: Array
    w: Array


def family_of(name: str, K: int, least: int | None = None, **options: Any) -> Family[Any]:
    """Return K-means, or a mixture of the covariance type `name`; with `least`, K adapts."""
    if name == "kmeans":
        return KMeans(K, min_clusters=least, **options)
    kinds = {kind: kind for kind in COVARIANCE_TYPES}
    kind = kinds[name]  # type: ignore[index]
    return GaussianMixture(K, kind, min_components=least, **options)


def mixture_of(name: CovarianceType, K: int, **options: Any) -> GaussianMixture:
    """Return a mixture, with all that a mixture can do."""
    return GaussianMixture(K, name, **options)


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    """Return finite numbers without subnormals."""
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


def matrix(*shape: int, low: float = -REACH, high: float = REACH) -> st.SearchStrategy[Array]:
    """Return arrays of a shape, element by element."""
    return arrays(np.float64, shape, elements=floats(low, high))


def weights(n: int) -> st.SearchStrategy[Array]:
    """Return sample weights: none, fractions and several."""
    return arrays(np.float64, (n,), elements=st.sampled_from([0.0, 0.25, 1.0, 1.0, 2.0, 3.5]))


def random_covariances(kind: str, K: int, D: int, rng: np.random.Generator) -> Array:
    """Return well-conditioned covariances of a type."""
    if kind == "spherical":
        return rng.uniform(0.5, 2.0, K)
    if kind == "diag":
        return rng.uniform(0.5, 2.0, (K, D))
    shape = (D, D) if kind == "tied" else (K, D, D)
    root = rng.normal(size=shape)
    return np.asarray(root @ np.swapaxes(root, -1, -2) / D + 0.5 * np.eye(D))


def random_params(family: Family[Any], means: Array, rng: np.random.Generator) -> Any:
    """Return parameters of a family with the given means, the rest at random."""
    K, D = means.shape
    if isinstance(family, GaussianMixture):
        share = rng.uniform(0.2, 1.0, size=(K,))
        return family.from_arrays(
            {
                "weights": share / share.sum(),
                "means": means,
                "covariances": random_covariances(family.covariance_type, K, D, rng),
            }
        )
    return family.from_arrays({"centroids": means})


@st.composite
def problems(draw: st.DrawFn, name: str, min_points: int = 1) -> Problem:
    """Return a problem of the family `name`: up to 12 points, 4 components, 3 features."""
    K, D = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    n = draw(st.integers(min_points, 12))
    family = family_of(name, K)
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    params = random_params(family, draw(matrix(K, D)), rng)
    return Problem(family, params, draw(matrix(n, D)), draw(weights(n)))


@st.composite
def statistics(draw: st.DrawFn, kind: CovarianceType | None, K: int, D: int) -> Stats:
    """Return statistics of any content, with zeros: the laws of merging and forgetting are linear.

    One seed is drawn for all elements. To draw each element takes most of the time of a law.
    """
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))

    def matrix(*shape: int, low: float = -REACH) -> Array:
        return rng.uniform(low, REACH, shape) * (rng.random(shape) < 0.8)

    shapes = {"full": (K, D, D), "tied": (D, D), "diag": (K, D), "spherical": (K,)}
    second = None if kind is None else matrix(*shapes[kind], low=0.0)
    if second is not None and kind in ("full", "tied"):
        second = second + second.swapaxes(-1, -2)
    return Stats(
        weight=matrix(K, low=0.0),
        first=matrix(K, D),
        second=second,
        reference=matrix(K, D),
        covariance_type=kind,
        objective=draw(floats(-REACH, REACH)),
        count=draw(floats(0.0, REACH)),
    )


def assert_same_stats(a: Stats, b: Stats, tol: float = 1e-11) -> None:
    """Compare two statistics about the same reference, each moment in its own units."""
    b = recentre(b, a.reference)
    mass = 1.0 + float(np.abs(a.weight).sum())
    reach = 2.0 * REACH
    assert_allclose(b.weight, a.weight, rtol=tol, atol=tol * mass)
    assert_allclose(b.first, a.first, rtol=tol, atol=tol * mass * reach)
    assert (a.second is None) == (b.second is None)
    if a.second is not None and b.second is not None:
        assert_allclose(b.second, a.second, rtol=tol, atol=tol * mass * reach**2)
    assert_allclose([b.objective, b.count], [a.objective, a.count], rtol=tol, atol=tol * mass)


def blobs(n: int, centres: ArrayLike, seed: int = 0, spread: float = 1.0) -> tuple[Array, Labels]:
    """Return `n` points around each centre in turn, and the centre's number of each point."""
    places = np.asarray(centres, dtype=np.float64)
    rng = np.random.default_rng(seed)
    owners = np.tile(np.arange(len(places)), n)
    return places[owners] + spread * rng.normal(size=(len(owners), places.shape[1])), owners


def same_partition(a: ArrayLike, b: ArrayLike) -> bool:
    """Whether two labellings are the same up to the components' numbers."""
    pairs = set(zip(np.asarray(a).tolist(), np.asarray(b).tolist(), strict=True))
    return len(pairs) == len({p for p, _ in pairs}) == len({q for _, q in pairs})


def running(state: LearnerState[Any]) -> Stats:
    """The statistics of a learner that has started."""
    assert state.stats is not None
    return state.stats


def learn(
    learner: StreamLearner[Any], X: Points, size: int = 50, state: LearnerState[Any] | None = None
) -> tuple[LearnerState[Any], list[Info]]:
    """Feed points in batches; return the last state and all that was told."""
    state = state or learner.init()
    told = []
    for start in range(0, len(X), size):
        state, info = learner.update(state, X[start : start + size])
        told.append(info)
    return state, told


def assert_em_never_worsens(
    family: Family[Any], params: Any, X: Array, w: Array, least: int
) -> None:
    """Assert that no EM step increases the loss, until a component has `least` points."""
    before = np.inf
    for _ in range(15):
        try:
            stats = family.e_step(params, X, w)
        except DataError:  # a component has shrunk to a line, where the likelihood has no bound
            return
        loss = family.loss(stats)
        assert loss <= before + 1e-9 * (1.0 + abs(loss))
        if stats.weight.min() <= least * w.max():
            return
        params, before = family.m_step(stats, params), loss
