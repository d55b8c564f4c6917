"""The interface of a model family, for the streaming learner and for batch fits."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np

from streamclust.errors import DataError
from streamclust.hyperparameters import as_integer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamclust.arrays import AnyPoints, Array, CovarianceType, Labels, Metric, Missing, Points
    from streamclust.kernels import Assigned
    from streamclust.models.stats import Stats


class Params(Protocol):
    """Parameters of a family: a frozen dataclass of arrays."""

    @property
    def means(self) -> Array:
        """Means or centroids of the components, shape (K, D)."""

    @property
    def covariance_type(self) -> CovarianceType | None:
        """Shape of the covariances in `Stats`; None without covariances."""


P = TypeVar("P", bound=Params)
T = TypeVar("T")
F = TypeVar("F", bound="Family[Any]")


class StepOutputs(NamedTuple):
    """Which results of a batch an e-step returns besides the statistics.

    Attributes
    ----------
    assigned : bool
        The nearest mean of each point: a coreset needs it.
    scores : bool
        The anomaly score of each point.
    """

    assigned: bool = True
    scores: bool = False


class BatchStep(NamedTuple):
    """The e-step of a batch.

    Attributes
    ----------
    stats : Stats
    assigned : Assigned or None
        The nearest mean of each point and its squared distance.
    scores : array of shape (N,) or None
        The anomaly score of each point; see `streamclust.models.scores`.
    entropy : float
        sum_n w_n h_n, with the entropy h_n of the missing values of point n; 0 for K-means.
    """

    stats: Stats
    assigned: Assigned | None
    scores: Array | None
    entropy: float = 0.0


class Family(Protocol[P]):
    """A mixture that is learned through additive sufficient statistics.

    Implementations are frozen dataclasses of hyperparameters; parameters are frozen dataclasses
    of arrays (`P`). No method stores points: `m_step` uses statistics only. This is the algebra;
    what else depends on the family is in tables with one entry per family.
    docs/internals/family.md lists them.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    kind: ClassVar[str]
    """Name of the family in the configuration and in metadata."""
    objective: ClassVar[str]
    """The sum in `Stats.objective`: 'inertia' (lower is better) or 'log_likelihood'."""

    @property
    def covariance_type(self) -> CovarianceType | None:
        """Shape of the covariances; None without covariances."""

    @property
    def metric(self) -> Metric:
        """'euclidean', or 'cosine', which excludes scaling and missing values."""

    @property
    def n_components(self) -> int:
        """Number of components K; the largest number if K adapts."""

    @property
    def min_components(self) -> int | None:
        """The smallest K if K adapts to the stream, else None."""

    @property
    def missing(self) -> Missing:
        """'learn' if NaN is accepted as a missing value, else 'reject'."""

    @property
    def max_magnitude(self) -> float:
        """Largest |x| of a feature that `prepare` accepts."""

    def prepare(self, X: AnyPoints) -> AnyPoints:
        """Return points (N, D) as the e-step and the fits need them, of the same dtype.

        For the metric cosine, these are unit vectors; otherwise the points are unchanged. Callers
        prepare points once, when they receive them. Raise a DataError for points that can't be
        learned.
        """

    def with_components(self, K: int) -> Family[P]:
        """Return the same family with a fixed number of components."""

    def e_step(self, params: P, X: Array, w: Array) -> Stats:
        """Return the statistics of weighted points (N, D) under `params`, about its means."""

    def batch_step(self, params: P, X: Points, w: Array, outputs: StepOutputs) -> BatchStep:
        """Return the statistics of `e_step`, with the outputs for each point."""

    def m_step(self, stats: Stats, params: P) -> P:
        """Return the parameters that `stats` imply; a component without mass stays as it is."""

    def revive(
        self, stats: Stats, dying: Iterable[int], X: Array, w: Array, rng: np.random.Generator
    ) -> tuple[Stats, tuple[int, ...]]:
        """Revive dying components; return the statistics and the revived components.

        The batch `X`, `w` must already be part of `stats`, under the current reference.
        """

    def reorder(self, params: P, order: Labels) -> P:
        """Return the parameters with component `order[k]` as component k; others are left out."""

    def match(self, params: P, onto: P) -> Labels:
        """Return the order of `params` that brings the components nearest to those of `onto`."""

    def prior_stats(self, params: P, weight: float) -> Stats:
        """Return statistics whose m-step is `params`, with `weight` points per component."""

    def loss(self, stats: Stats) -> float:
        """Return the objective per point, with the sign for which lower is better."""

    def improvement(self, before: float, after: float) -> float:
        """Return the fall of the loss, in the units of `tol`."""

    def predict(self, params: P, X: Array) -> Labels:
        """Return each point's component, shape (N,)."""

    def score_points(self, params: P, X: Array) -> Array:
        """Return each point's contribution to the objective, shape (N,)."""

    def to_arrays(self, params: P) -> dict[str, Array]:
        """Return the parameters by their names in published models."""

    def from_arrays(self, arrays: Mapping[str, Array]) -> P:
        """Return validated parameters; the inverse of `to_arrays`."""


def by_kind(table: Mapping[str, T], kind: str, name: str) -> T:
    """Return the entry of a family in a table with one entry per kind.

    Parameters
    ----------
    table : mapping of str to object
    kind : str
        `Family.kind`.
    name : str
        Name of the table, for the error's text.

    Raises
    ------
    DataError
        If the table has no entry for this kind.
    """
    try:
        return table[kind]
    except KeyError:
        known = ", ".join(sorted(table))
        raise DataError(f"kind {kind!r} has no entry in {name}; known kinds: {known}") from None


def type_words(value: object) -> str:
    """Return in words what a wrong argument is."""
    return "None" if value is None else f"a {type(value).__name__}"


def check_family(family: object) -> None:
    """Refuse all but a family; an error also helps a caller who has passed the class, or X."""
    if isinstance(family, type):
        name = family.__name__
        raise DataError(f"family is the class {name}; expected an instance, such as {name}(3)")
    if not hasattr(family, "kind"):
        shown = repr(family)
        shown = shown if len(shown) <= 40 else type_words(family)
        raise DataError(f"family is {shown}; expected a KMeans or a GaussianMixture")


def check_params(family: Family[Any], params: object) -> None:
    """Refuse parameters of another family, or of another covariance type."""
    found, kind = getattr(params, "covariance_type", "none"), family.covariance_type
    if not hasattr(params, "means") or (found is None) != (kind is None):
        raise DataError(f"params is {type_words(params)}; expected parameters of {family.kind}")
    if found != kind:
        raise DataError(f"params has covariance_type {found!r}; expected {kind!r}")


def as_range(what: str, most: int, least: int | None) -> tuple[int, int | None]:
    """Return K and None, or the largest and the smallest K, as ints.

    Parameters
    ----------
    what : {'clusters', 'components'}
        The last part of the names of both fields, for the error.
    most : int
    least : int or None

    Raises
    ------
    DataError
        If the numbers aren't integers with 1 <= least <= most.
    """
    most = as_integer(f"n_{what}", most, 1)
    if least is None:
        return most, None
    if not 1 <= (smallest := as_integer(f"min_{what}", least, -sys.maxsize)) <= most:
        raise DataError(f"min_{what} is {least}; expected 1 to n_{what}, which is {most}")
    return most, smallest


def size_name(family: type[Any]) -> str:
    """Return the name of K among the hyperparameters of a family: the first field.

    Examples
    --------
    >>> from streamclust import KMeans
    >>> size_name(KMeans)
    'n_clusters'
    """
    return fields(family)[0].name


_STORED_NAMES = {"min_clusters": "fewest", "min_components": "fewest"}
"""Field of a family -> its name in stored models and states, where the two differ."""


def to_hyperparameters(family: Family[Any]) -> dict[str, Any]:
    """Return the kind and the hyperparameters of a family, by their names in stored models."""
    values = {field.name: getattr(family, field.name) for field in fields(family)}
    if values.get("metric") == "euclidean":
        del values["metric"]  # as in models and states from before metrics
    if values.get("outliers") == 0.0:
        del values["outliers"]
    if values.get("missing") == "reject":
        del values["missing"]  # as in models and states from before missing values
    stored = {_STORED_NAMES.get(name, name): value for name, value in values.items()}
    return {**stored, "kind": family.kind}


def from_hyperparameters(cls: type[F], stored: Mapping[str, Any]) -> F:
    """Return the family of class `cls` with stored hyperparameters; other names are ignored."""
    known = {_STORED_NAMES.get(field.name, field.name): field.name for field in fields(cls)}
    return cls(**{known[name]: value for name, value in stored.items() if name in known})


def usable(params: Any) -> bool:
    """Return whether points can be scored under these parameters.

    They can't if a covariance is singular or a number isn't finite.
    """
    try:
        root = getattr(params, "root", None)
    except DataError:
        return False
    return bool(np.isfinite(params.means).all() and (root is None or np.isfinite(root).all()))


def named_array(arrays: Mapping[str, Array], name: str, shape: tuple[int | None, ...]) -> Array:
    """Return `arrays[name]` as finite float64 of `shape` (None for any size), or raise an error."""
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
        expected is None or expected == got
        for expected, got in zip(shape, value.shape, strict=True)
    )
    if not fits:
        expected_shape = ", ".join("any" if size is None else str(size) for size in shape)
        raise DataError(f"{name} has shape {value.shape}; expected ({expected_shape})")
    if not value.size:
        raise DataError(f"{name} has shape {value.shape}; expected at least one number")
    if not np.isfinite(value).all():
        raise DataError(f"{name} holds {value[~np.isfinite(value)][0]:g}; expected finite numbers")
    return value
