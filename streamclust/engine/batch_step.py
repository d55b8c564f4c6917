"""The e-step of the parts of a batch that a worker learns, by an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.engine.parts import ArrayPart
from streamclust.engine.reader import Reader
from streamclust.engine.tasks import BatchEStep, EStep
from streamclust.online.batch_parts import STATS_AND_ASSIGNED, one_by_one, products

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamclust.arrays import Array
    from streamclust.engine.base import Engine
    from streamclust.models.family import BatchStep, Family, StepOutputs
    from streamclust.online.batch_parts import EachPart

WORTH_SENDING = 64
"""Products per byte of a point from which on the computation takes longer than sending the point.

A core computes about 10^10 products per second; a network sends about 10^8 bytes per second.
"""


def on_engine(engine: Engine) -> EachPart:
    """Return a function with which an engine computes the parts of a batch.

    Engines on other machines get only parts whose points are worth sending.
    """

    def each_part(
        family: Family[Any],
        params: Any,
        parts: Sequence[tuple[Any, Array]],
        outputs: StepOutputs = STATS_AND_ASSIGNED,
    ) -> Iterable[BatchStep]:
        size = parts[0][0].itemsize * parts[0][0].shape[1] + 8
        if engine.remote and products(family, params) < WORTH_SENDING * size:
            return one_by_one(family, params, parts, outputs)
        numbered = ((number, ArrayPart(X, w)) for number, (X, w) in enumerate(parts))
        task = BatchEStep(EStep(family, params), outputs)
        return (done.value for done in engine.map(task, Reader(), numbered))

    return each_part
