"""The base of the estimators for scikit-learn and river: a learner, its state, and their bytes."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from streamclust.errors import DataError, FormatError
from streamclust.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from streamclust.formats.container import pack, unpack
from streamclust.hyperparameters import as_integer
from streamclust.models import GaussianMixture, KMeans
from streamclust.online.drift import Drift
from streamclust.online.forgetting import Forgetting, HalfLife, HalfLifeTime, PowerSchedule
from streamclust.online.learner import StreamLearner

if TYPE_CHECKING:
    from streamclust.arrays import CovarianceType, Metric, Missing
    from streamclust.models import Family
    from streamclust.models.scaling import ScalingKind
    from streamclust.online.learner import LearnerState

FORMAT = "streamclust.estimator/1"

_POLICIES = {policy.__name__: policy for policy in (Forgetting, HalfLife, HalfLifeTime)}
_POLICIES[PowerSchedule.__name__] = PowerSchedule


class Estimator:
    """The base of every estimator.

    The attributes of an instance are the constructor's arguments under their own names, `_state`
    after the first batch, and the attributes that a subclass learns from the data, such as the
    names of the features. `to_bytes` writes all attributes.
    """

    forgetting: Forgetting | None
    warm_up: int | None
    n_init: int
    reassignment_ratio: float
    coreset: int | None
    scale: ScalingKind
    drift: Drift | None
    missing: Missing
    _state: LearnerState[Any]
    _seed: int

    def _store(self, arguments: dict[str, Any]) -> None:
        """Store the constructor's arguments, its `locals()`, under their own names."""
        for name in signature(type(self)).parameters:
            setattr(self, name, arguments[name])

    def _family(self) -> Family[Any]:
        raise NotImplementedError

    def _learner(self) -> StreamLearner[Any]:
        """Return the learner that the constructor's arguments describe."""
        if isinstance(self.forgetting, HalfLifeTime):
            raise DataError(
                f"forgetting is {self.forgetting}, but estimators get no event time; use "
                "HalfLife(points=...), or a StreamLearner, whose update has time_ms"
            )
        return StreamLearner(
            self._family(),
            Forgetting() if self.forgetting is None else self.forgetting,
            warm_up=self.warm_up,
            n_init=as_integer("n_init", self.n_init, 1),
            seed=self._seed,
            reassignment_ratio=self.reassignment_ratio,
            scale=self.scale,
            drift=self.drift,
            coreset=self.coreset,
        )

    def to_bytes(self) -> bytes:
        """Return the estimator and its learned state as safetensors bytes, without pickle.

        Raises
        ------
        DataError
            If an argument of the constructor can't be written, such as a random state object.
        """
        attributes = dict(vars(self))
        attributes.pop("_batch", None)  # the points of the latest batch, for its labels
        arguments = {name: attributes.pop(name) for name in signature(type(self)).parameters}
        state: LearnerState[Any] | None = attributes.pop("_state", None)
        arrays = {
            name: attributes.pop(name)
            for name, value in list(attributes.items())
            if isinstance(value, np.ndarray) and value.dtype != object
        }
        arrays = {f"attribute.{name}": array for name, array in arrays.items()}
        if state is not None:
            data = encode_checkpoint(Checkpoint(learner=state), self._learner().family)
            arrays["state"] = np.frombuffer(data, np.uint8)
        meta = {
            "class": _name(type(self)),
            "arguments": {name: _to_plain(name, value) for name, value in arguments.items()},
            "attributes": {name: _to_plain(name, value) for name, value in attributes.items()},
        }
        return pack(FORMAT, arrays, meta)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the estimator that `to_bytes` wrote; it continues learning from the same state.

        Raises
        ------
        FormatError
            If the bytes are damaged, or of another class.
        """
        arrays, meta = unpack(data, FORMAT, "data")
        if meta["class"] != _name(cls):
            raise FormatError(f"the bytes hold a {meta['class']}; expected a {_name(cls)}")
        arguments = {name: _from_plain(value) for name, value in meta["arguments"].items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # bytes may hold old names
            estimator = cls(**arguments)
        for name, value in meta["attributes"].items():
            setattr(estimator, name, _from_plain(value))
        state = arrays.pop("state", None)
        for name, array in arrays.items():
            setattr(estimator, name.removeprefix("attribute."), array)
        if state is not None:
            family = estimator._learner().family
            estimator._state = decode_checkpoint(state.tobytes(), family, "the estimator").learner
        return estimator


class KMeansEstimator(Estimator):
    """The common part of the K-means estimators for scikit-learn and river."""

    n_clusters: int | Literal["auto"]
    n_clusters_range: tuple[int, int]
    metric: Metric

    def _family(self) -> KMeans:
        K, min_clusters = _sizes("n_clusters", self.n_clusters, self.n_clusters_range)
        return KMeans(K, min_clusters=min_clusters, metric=self.metric, missing=self.missing)


class MixtureEstimator(Estimator):
    """The common part of the mixture estimators for scikit-learn and river."""

    n_components: int | Literal["auto"]
    covariance_type: CovarianceType
    reg_covar: float
    outliers: float
    n_components_range: tuple[int, int]

    def _family(self) -> GaussianMixture:
        K, min_components = _sizes("n_components", self.n_components, self.n_components_range)
        return GaussianMixture(
            K,
            self.covariance_type,
            reg_covar=self.reg_covar,
            min_components=min_components,
            outliers=self.outliers,
            missing=self.missing,
        )


def _sizes(name: str, size: int | str, bounds: tuple[int, int]) -> tuple[int, int | None]:
    """Return K and None; if `size` is 'auto', return the largest and the smallest K.

    Raises
    ------
    DataError
        If `size` is neither an integer nor 'auto', or unless 1 <= smallest <= largest.
    """
    if isinstance(size, str) and size != "auto":
        raise DataError(f"{name} is {size!r}; expected a number, or 'auto'")
    if not isinstance(size, str):
        return as_integer(name, size, 1), None
    try:
        smallest, largest = (as_integer(f"{name}_range", each, 1) for each in bounds)
    except (TypeError, ValueError):
        smallest, largest = 1, 0
    if smallest > largest:
        raise DataError(
            f"{name}_range is {bounds!r}; expected two integers, the smallest and the largest "
            f"{name}, such as (2, 50)"
        )
    return largest, smallest


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _to_plain(name: str, value: Any) -> Any:
    """Return a value that JSON can hold; tuples, arrays of names, and policies get a tag."""
    if isinstance(value, Forgetting):
        return {"policy": type(value).__name__, **asdict(value)}
    if isinstance(value, Drift):
        return {"drift": asdict(value)}
    if isinstance(value, tuple):
        return {"tuple": list(value)}
    if isinstance(value, np.ndarray):
        return {"names": value.tolist()}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise DataError(f"{name} is a {type(value).__name__}, which can't be saved; use a number")


def _from_plain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "policy" in value:
        fields = dict(value)
        return _POLICIES[fields.pop("policy")](**fields)
    if "drift" in value:
        return Drift(**value["drift"])
    if "tuple" in value:
        return tuple(value["tuple"])
    return np.array(value["names"], dtype=object)
