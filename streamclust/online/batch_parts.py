"""The e-step of a batch. The e-step of a costly batch is the sum of the e-steps of its parts.

The sizes of batch and model determine the parts, so the bits don't depend on which thread or
machine computes a part. Several threads or machines can compute the parts at the same time.
"""

from __future__ import annotations

from functools import reduce
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from streamclust.kernels import Assigned
from streamclust.models.family import BatchStep, StepOutputs
from streamclust.models.stats import merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamclust.arrays import Array, Points
    from streamclust.models.family import Family, Params

P = TypeVar("P", bound="Params")

STATS_AND_ASSIGNED = StepOutputs()

COSTLY = 1 << 30
"""A batch whose e-step needs this many products, about 0.1 s, is computed in parts."""

_PART = 1 << 28
"""Least number of products in the e-step of a part."""

_MAX_PARTS = 64
"""Maximum number of parts of a batch."""


class EachPart(Protocol):
    """A function that computes the e-steps of the parts of a batch."""

    def __call__(
        self,
        family: Family[Any],
        params: Any,
        parts: Sequence[tuple[Points, Array]],
        outputs: StepOutputs = ...,
    ) -> Iterable[BatchStep]:
        """Return the results of `family.batch_step`, in the order of the parts."""


def one_by_one(
    family: Family[Any],
    params: Any,
    parts: Sequence[tuple[Points, Array]],
    outputs: StepOutputs = STATS_AND_ASSIGNED,
) -> Iterable[BatchStep]:
    """Compute the parts in this thread."""
    return (family.batch_step(params, X, w, outputs) for X, w in parts)


def e_step_of_batch(
    family: Family[P],
    params: P,
    X: Points,
    w: Array,
    each_part: EachPart = one_by_one,
    outputs: StepOutputs = STATS_AND_ASSIGNED,
) -> BatchStep:
    """Return the statistics of a batch, and the outputs for each point.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    X, w : arrays of shape (N, D) and (N,)
    each_part : callable, optional
        Computes the e-steps of the parts. Default: this thread computes them.
    outputs : StepOutputs, optional
    """
    rows = part_rows(len(X), products(family, params))
    if rows >= len(X):
        return family.batch_step(params, X, w, outputs)
    parts = [(X[start : start + rows], w[start : start + rows]) for start in range(0, len(X), rows)]
    results = list(each_part(family, params, parts, outputs))
    stats = reduce(merge, (result.stats for result in results))
    assigned = [result.assigned for result in results if result.assigned is not None]
    scores = [result.scores for result in results if result.scores is not None]
    return BatchStep(
        stats,
        Assigned(*map(np.concatenate, zip(*assigned, strict=True))) if assigned else None,
        np.concatenate(scores) if scores else None,
        float(sum(result.entropy for result in results)),
    )


def products(family: Family[P], params: P) -> int:
    """Return about how many products the e-step needs per point: the size of the parameters."""
    return sum(array.size for array in family.to_arrays(params).values())


def part_rows(n_points: int, products: int) -> int:
    """Return the number of points per part; all of them if the batch isn't costly."""
    if n_points * products < COSTLY:
        return n_points
    parts = min(_MAX_PARTS, n_points * products // _PART)
    return max(1, ceil(n_points / parts))
