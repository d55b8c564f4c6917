"""The tasks that an engine computes for each part, and how their results are merged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

from streamclust.engine.fits import Fit
from streamclust.engine.identity import TAKE_STORED, kernels_of
from streamclust.engine.points import joined
from streamclust.engine.sampling import Condense, Draw
from streamclust.engine.survey import Survey
from streamclust.formats.container import Fields
from streamclust.formats.model import family_of
from streamclust.kernels import Assigned
from streamclust.models.family import BatchStep, StepOutputs, to_hyperparameters
from streamclust.models.stats import Stats, merge, zero

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamclust.engine.points import Points
    from streamclust.models.family import Family

R = TypeVar("R")


class Task(Protocol[R]):
    """A computation on the points of each part. Tasks are frozen dataclasses.

    A task and its result are converted to named arrays and values for JSON, so that they can be
    sent to another process. `TASKS` has the class of each kind.
    """

    kind: ClassVar[str]

    @property
    def kernels(self) -> str:
        """The kernels of the task; see `streamclust.engine.identity`."""

    def run(self, number: int, blocks: Iterable[Points]) -> R:
        """Return the result of one part; `number` is its place among all parts."""

    def merge(self, a: R, b: R) -> R:
        """Return the result of the parts of both; those of `a` come first."""

    def to_fields(self) -> Fields:
        """Return the arrays and the values of the task."""

    @classmethod
    def from_fields(cls, fields: Fields) -> Task[R]:
        """Return the task; the inverse of `to_fields`."""

    def result_to_fields(self, result: R) -> Fields:
        """Return the arrays and the values of a result."""

    def result_from_fields(self, fields: Fields) -> R:
        """Return the result; the inverse of `result_to_fields`, to the last bit."""


@dataclass(frozen=True, eq=False)
class EStep:
    """The e-step: the result is the statistics of the points under `params`.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    """

    family: Family[Any]
    params: Any

    kind: ClassVar[str] = "e_step"

    @property
    def kernels(self) -> str:
        """The kernels of the family."""
        return kernels_of(self.family)

    @property
    def takes_stored(self) -> bool:
        """Whether the points of a block can be `StoredPoints`: the kernel of K-means reads them."""
        return self.family.kind in TAKE_STORED

    def run(self, number: int, blocks: Iterable[Points]) -> Stats:
        """Return the statistics of a part."""
        total: Stats | None = None
        for X, w in blocks:
            step = self.family.e_step(self.params, X, w)
            total = step if total is None else merge(total, step)
        if total is None:
            covariance_type = self.family.covariance_type
            return zero(self.params.means, covariance_type)
        return total

    def merge(self, a: Stats, b: Stats) -> Stats:
        """Return the sum of both."""
        return merge(a, b)

    def to_fields(self) -> Fields:
        """Return the arrays of the parameters, and the hyperparameters.

        The e-step of points with missing values, and that with outliers, need the spread of the
        features too.
        """
        arrays, hyperparameters = (
            self.family.to_arrays(self.params),
            to_hyperparameters(self.family),
        )
        spread = getattr(self.params, "spread", None)
        if spread is not None and ("outliers" in hyperparameters or "missing" in hyperparameters):
            arrays = {**arrays, "spread": spread}
        return Fields(arrays, {"family": hyperparameters})

    @classmethod
    def from_fields(cls, fields: Fields) -> EStep:
        """Return the task: `from_arrays` checks the arrays; exact arrays replace its results."""
        family = family_of(fields.values["family"])
        return cls(family, replace(family.from_arrays(fields.arrays), **fields.arrays))

    def result_to_fields(self, result: Stats) -> Fields:
        """Return the statistics; the reference is left out if it equals the means."""
        arrays = {"weight": result.weight, "first": result.first}
        arrays["totals"] = np.array([result.objective, result.count])
        if result.second is not None:
            arrays["second"] = result.second
        if result.reference is not self.params.means:
            arrays["reference"] = result.reference
        return Fields(arrays, {})

    def result_from_fields(self, fields: Fields) -> Stats:
        """Return the statistics."""
        arrays = fields.arrays
        objective, count = arrays["totals"].tolist()
        return Stats(
            weight=arrays["weight"],
            first=arrays["first"],
            second=arrays.get("second"),
            reference=arrays.get("reference", self.params.means),
            covariance_type=self.family.covariance_type,
            objective=objective,
            count=count,
        )


@dataclass(frozen=True, eq=False)
class BatchEStep:
    """The e-step of a part of a batch that is learned; see `Family.batch_step`.

    Parameters
    ----------
    step : EStep
    outputs : StepOutputs
    """

    step: EStep
    outputs: StepOutputs

    kind: ClassVar[str] = "batch_e_step"

    @property
    def kernels(self) -> str:
        """The kernels of the family."""
        return self.step.kernels

    def run(self, number: int, blocks: Iterable[Points]) -> BatchStep:
        """Return the result of a part, which has points."""
        X, w = joined(list(blocks))
        return self.step.family.batch_step(self.step.params, X, w, self.outputs)

    def merge(self, a: BatchStep, b: BatchStep) -> BatchStep:
        """Not needed: `e_step_of_batch` merges the results."""
        raise NotImplementedError

    def to_fields(self) -> Fields:
        """Return the fields of the e-step, and the wanted results."""
        fields = self.step.to_fields()
        return Fields(fields.arrays, {**fields.values, "wanted": self.outputs._asdict()})

    @classmethod
    def from_fields(cls, fields: Fields) -> BatchEStep:
        """Return the task; see `EStep.from_fields`."""
        return cls(EStep.from_fields(fields), StepOutputs(**fields.values["wanted"]))

    def result_to_fields(self, result: BatchStep) -> Fields:
        """Return the statistics, and the arrays of the points."""
        stats, assigned, scores, entropy = result
        fields = self.step.result_to_fields(stats)
        arrays = {"entropy": np.array([entropy])}
        if assigned is not None:
            arrays |= {"labels": assigned.labels, "sqdist": assigned.squared_distances}
        if scores is not None:
            arrays["scores"] = scores
        return Fields({**fields.arrays, **arrays}, fields.values)

    def result_from_fields(self, fields: Fields) -> BatchStep:
        """Return the statistics, and the arrays of the points."""
        arrays, assigned = fields.arrays, None
        if self.outputs.assigned:
            assigned = Assigned(arrays["labels"], arrays["sqdist"])
        stats, entropy = self.step.result_from_fields(fields), float(arrays["entropy"][0])
        return BatchStep(stats, assigned, arrays.get("scores"), entropy)


TASKS: dict[str, type[Task[Any]]] = {
    each.kind: each for each in (EStep, BatchEStep, Survey, Draw, Condense, Fit)
}
"""Kind of a task -> its class."""
