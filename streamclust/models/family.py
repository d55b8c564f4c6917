"""What the streaming learner and the batch loop need of a family: the same verbs for both."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

from streamclust.errors import DataError
from streamclust.hyperparameters import as_integer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamclust.arrays import Array, Labels, Points
    from streamclust.kernels import Assigned
    from streamclust.models.scaling import Scaling
    from streamclust.models.stats import Stats

P = TypeVar("P")


class Family(Protocol[P]):
    """A mixture that is learned through additive sufficient statistics.

    Implementations are frozen dataclasses of hyperparameters; parameters are frozen dataclasses
    of arrays (`P`). Nothing here keeps points: `m_step` sees statistics only.
    """

    kind: ClassVar[str]
    """Name in config and metadata."""
    objective: ClassVar[str]
    """What `Stats.objective` sums: 'inertia' (lower is better) or 'log_likelihood' (higher)."""

    @property
    def n_components(self) -> int:
        """Number of components K; the largest, if K adapts."""

    @property
    def fewest(self) -> int | None:
        """The smallest K, if K adapts to the stream."""

    def with_components(self, K: int) -> Family[P]:
        """Return the same family with a fixed number of components."""

    def size(self, params: P) -> int:
        """Return the number of components that parameters have."""

    def e_step(self, params: P, X: Array, w: Array) -> Stats:
        """Return the statistics of weighted points (N, D) under `params`, about its means."""

    def assigning_e_step(self, params: P, X: Points, w: Array) -> tuple[Stats, Assigned]:
        """Return the same, and each point's nearest mean with its squared distance."""

    def m_step(self, stats: Stats, params: P) -> P:
        """Return the parameters that `stats` imply; a component of no mass keeps its own."""

    def map_step(self, stats: Stats, params: P, prior: Array) -> P:
        """Return the m-step with the last parameters as the prior of what has too few points.

        `prior` (K,) is the weight that a component is brought to. A family without shapes has no
        such prior.
        """

    def points_for_shape(self, n_features: int) -> float:
        """Return how many points a component has to be worth to have a shape; 0 if it has none."""

    def spread(self, params: P) -> Array | None:
        """Return the variance of each feature, (D,), that a floor is a share of; None without."""

    def with_spread(self, params: P, spread: Array) -> P:
        """Return parameters whose next m-step has a floor that is a share of `spread` (D,)."""

    def revive(
        self, stats: Stats, dying: Iterable[int], X: Array, w: Array, rng: np.random.Generator
    ) -> tuple[Stats, tuple[int, ...]]:
        """Give dying components new work; return the statistics and those that found some.

        The batch `X`, `w` must already be part of `stats`, under its present reference.
        """

    def check_spread(self, X: Array) -> None:
        """Refuse points (N, D) that lie so close that the parameters of a fit would underflow."""

    def excess(self, params: P, other: P, stats: Stats) -> float:
        """Return how much nearby `other` loses to `params` on the points that these fit.

        In the units of `improvement`; to second order. `stats` are of such points.
        """

    def reorder(self, params: P, order: Labels) -> P:
        """Return the parameters with component `order[k]` as component k; others are left out."""

    def match(self, params: P, onto: P) -> Labels:
        """Return the order in which the components of `params` lie nearest to those of `onto`."""

    def prior_stats(self, params: P, weight: float) -> Stats:
        """Return statistics whose m-step is `params`, as if from `weight` points a component."""

    def loss(self, stats: Stats) -> float:
        """Return the objective per point, signed so that lower is better."""

    def improvement(self, before: float, after: float) -> float:
        """Return how much the loss fell, in the units of `tol`."""

    def in_units(self, params: P, scaling: Scaling) -> P:
        """Return parameters that were learned from scaled points in the units of the data."""

    def loss_in_units(self, loss: float, scaling: Scaling) -> float:
        """Return the loss of scaled points as that of the points under `in_units`."""

    def predict(self, params: P, X: Array) -> Labels:
        """Return each point's component, shape (N,)."""

    def score_points(self, params: P, X: Array) -> Array:
        """Return each point's share of the objective, shape (N,)."""

    def to_arrays(self, params: P) -> dict[str, Array]:
        """Return the parameters by name, as they are published."""

    def from_arrays(self, arrays: Mapping[str, Array]) -> P:
        """Return validated parameters; the inverse of `to_arrays`."""


def as_range(name: str, most: int, fewest: int | None) -> tuple[int, int | None]:
    """Return a number of components, or a range of them, as ints.

    Raises
    ------
    DataError
        If they aren't integers with 1 <= fewest <= most.
    """
    most = as_integer(name, most, 1)
    if fewest is None:
        return most, None
    if not 1 <= (least := as_integer("fewest", fewest, -sys.maxsize)) <= most:
        raise DataError(f"fewest is {fewest}; expected 1 to {name}, which is {most}")
    return most, least


def usable(params: Any) -> bool:
    """Return whether points can be scored under parameters of either family.

    It isn't so where a covariance is singular, or a sum was too large for a number.
    """
    try:
        root = getattr(params, "root", params.means)
    except DataError:
        return False
    return bool(np.isfinite(params.means).all() and np.isfinite(root).all())


def named_array(arrays: Mapping[str, Array], name: str, shape: tuple[int | None, ...]) -> Array:
    """Return `arrays[name]` as finite float64 of `shape` (None fits any size), or say why not."""
    if name not in arrays:
        raise DataError(f"{name} is missing; got {', '.join(sorted(arrays)) or 'nothing'}")
    try:
        value = np.asarray(arrays[name])
        if np.iscomplexobj(value):
            raise TypeError("its numbers are complex")
        value = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} isn't an array of numbers: {error}") from None
    fits = value.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, value.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise DataError(f"{name} has shape {value.shape}; expected ({wanted})")
    if not value.size:
        raise DataError(f"{name} has shape {value.shape}; expected some numbers")
    if not np.isfinite(value).all():
        raise DataError(f"{name} holds NaN or infinity")
    return value
