"""The task that fits a family to all points of a part, for fits that are computed in parallel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from streamclust.engine.identity import KERNELS
from streamclust.engine.points import joined
from streamclust.fitting.fit import fit
from streamclust.formats.container import Fields
from streamclust.formats.model import family_of
from streamclust.models.family import to_hyperparameters
from streamclust.models.gaussian_mixture import GaussianMixture

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamclust.engine.points import Points
    from streamclust.models.family import Family


@dataclass(frozen=True, eq=False)
class Fit:
    """The task: a fit with as many components as the number of the part.

    Parameters
    ----------
    family : KMeans or GaussianMixture
        Its number of components is ignored.
    n_init, seed : int
        See `streamclust.fit`.
    """

    family: Family[Any]
    n_init: int
    seed: int

    kind: ClassVar[str] = "fit"
    kernels: ClassVar[str] = KERNELS[GaussianMixture.kind]
    """A fit needs more than the kernels of K-means, so all kernels must agree."""

    def run(self, number: int, blocks: Iterable[Points]) -> Any:
        """Return the parameters of the best run on the points of a part, which isn't empty."""
        X, w = joined(list(blocks))
        family = self.family.with_components(number)
        return fit(family, X, w, n_init=self.n_init, seed=self.seed).params

    def merge(self, a: Any, b: Any) -> Any:
        """Not needed: each part has its own fit."""
        raise NotImplementedError

    def to_fields(self) -> Fields:
        """Return the hyperparameters, the number of runs and the seed."""
        values = {"family": to_hyperparameters(self.family), "n_init": self.n_init}
        return Fields({}, {**values, "seed": self.seed})

    @classmethod
    def from_fields(cls, fields: Fields) -> Fit:
        """Return the task."""
        values = fields.values
        return cls(family_of(values["family"]), values["n_init"], values["seed"])

    def result_to_fields(self, result: Any) -> Fields:
        """Return the arrays of the parameters, and the number of components."""
        return Fields(self.family.to_arrays(result), {"n_components": len(result.means)})

    def result_from_fields(self, fields: Fields) -> Any:
        """Return the parameters; see `EStep.from_fields`."""
        family = self.family.with_components(fields.values["n_components"])
        return replace(family.from_arrays(fields.arrays), **fields.arrays)
