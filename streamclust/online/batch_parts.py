"""The e-step of a batch; that of a costly batch is the sum of the e-steps of its parts.

The parts follow from the sizes of batch and model alone, so the bits don't depend on who computes a
part. Several threads, or other machines, can compute them at the same time.
"""

from __future__ import annotations

from functools import reduce
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from streamclust.kernels import Assigned
from streamclust.models.family import BatchStep, Wanted
from streamclust.models.stats import merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamclust.arrays import Array, Points
    from streamclust.models.family import Family, Params

P = TypeVar("P", bound="Params")

STATS_AND_ASSIGNED = Wanted()

COSTLY = 1 << 30
"""Products in the e-step of a batch, from which on it is computed in parts: about 0.1 s."""

_PART = 1 << 28
"""Products in the e-step of a part, at least."""

_MOST = 64
"""Maximum number of parts of a batch."""


class EachPart(Protocol):
    """Computes the parts of a batch; returns their results in order."""

    def __call__(
        self,
        family: Family[Any],
        params: Any,
        parts: Sequence[tuple[Points, Array]],
        wanted: Wanted = ...,
    ) -> Iterable[BatchStep]:
        """Return the result of `family.batch_step` of each part."""


def one_by_one(
    family: Family[Any],
    params: Any,
    parts: Sequence[tuple[Points, Array]],
    wanted: Wanted = STATS_AND_ASSIGNED,
) -> Iterable[BatchStep]:
    """Compute the parts in this thread."""
    return (family.batch_step(params, X, w, wanted) for X, w in parts)


def e_step_of_batch(
    family: Family[P],
    params: P,
    X: Points,
    w: Array,
    each: EachPart = one_by_one,
    wanted: Wanted = STATS_AND_ASSIGNED,
) -> BatchStep:
    """Return the statistics of a batch, and what is wanted of each point.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    X, w : arrays of shape (N, D) and (N,)
    each : callable, optional
        Computes the parts.
    wanted : Wanted, optional
    """
    rows = part_rows(len(X), products(family, params))
    if rows >= len(X):
        return family.batch_step(params, X, w, wanted)
    parts = [(X[start : start + rows], w[start : start + rows]) for start in range(0, len(X), rows)]
    results = list(each(family, params, parts, wanted))
    stats = reduce(merge, (result.stats for result in results))
    assigned = [each.assigned for each in results if each.assigned is not None]
    scores = [each.scores for each in results if each.scores is not None]
    return BatchStep(
        stats,
        Assigned(*map(np.concatenate, zip(*assigned, strict=True))) if assigned else None,
        np.concatenate(scores) if scores else None,
        float(sum(result.entropy for result in results)),
    )


def products(family: Family[P], params: P) -> int:
    """Return about how many products the e-step needs per point: the numbers of a model."""
    return sum(array.size for array in family.to_arrays(params).values())


def part_rows(n_points: int, products: int) -> int:
    """Return the number of points per part; all of them if the batch isn't costly."""
    if n_points * products < COSTLY:
        return n_points
    parts = min(_MOST, n_points * products // _PART)
    return max(1, ceil(n_points / parts))
