"""Builds learners from settings. Only this module imports both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.config.learning import (
    FileGiven,
    ForgettingByPoints,
    ForgettingByPower,
    ForgettingByTime,
    NoForgetting,
    WarmUp,
)
from streamclust.config.size import AUTO
from streamclust.errors import ConfigError, DataError, FormatError
from streamclust.files import read_whole
from streamclust.formats.checkpoint import Checkpoint, Outline, decode_checkpoint, decode_outline
from streamclust.formats.layout import check_columns
from streamclust.formats.model import decode_model
from streamclust.formats.points import PointsFormat
from streamclust.models import GaussianMixture, KMeans
from streamclust.models.family import by_kind
from streamclust.online.drift import Drift
from streamclust.online.forgetting import Forgetting, HalfLife, HalfLifeTime, PowerSchedule
from streamclust.online.learner import StreamLearner
from streamclust.online.scores import Anomaly
from streamclust.store.model.keys import VALUE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamclust.config.learning import DriftSettings, ForgettingSettings
    from streamclust.config.model import (
        GaussianMixtureSettings,
        KMeansSettings,
        ModelSettings,
    )
    from streamclust.models import Family
    from streamclust.online.learner import LearnerState

_LARGEST = 1 << 16
"""Maximum points of a batch. The fixed cost of a batch of this size is negligible."""

_PAIRS = 1 << 22
"""Maximum points times components of a batch, so that one batch doesn't take long."""

_OF_HALF_LIFE = 64
"""A batch is at most half_life / 64: all points of a batch decay alike."""


def make_family(settings: ModelSettings) -> Family[Any]:
    """Return the family with its hyperparameters."""
    return by_kind(MAKERS, settings.kind, "MAKERS")(settings)


def _make_kmeans(settings: KMeansSettings) -> KMeans:
    fewest, most = settings.bounds
    return KMeans(
        most, min_clusters=fewest, metric=settings.metric, missing=settings.points.missing
    )


def _make_mixture(settings: GaussianMixtureSettings) -> GaussianMixture:
    fewest, most = settings.bounds
    return GaussianMixture(
        most,
        settings.covariance_type,
        reg_covar=settings.reg_covar,
        min_components=fewest,
        outliers=settings.outliers,
        missing=settings.points.missing,
    )


MAKERS: dict[str, Callable[[Any], Family[Any]]] = {
    KMeans.kind: _make_kmeans,
    GaussianMixture.kind: _make_mixture,
}
"""Kind of a family -> the function that makes it from the settings of a model."""


def make_learner(settings: ModelSettings) -> StreamLearner[Any]:
    """Return the streaming learner."""
    learner = StreamLearner(
        make_family(settings),
        make_forgetting(settings.forgetting),
        seed=settings.seed,
        scale=settings.scale,
        drift=make_drift(settings.drift),
        coreset=settings.coreset.points,
        reseeds=settings.coreset.restarts,
        anomaly=make_anomaly(settings),
        tail_scores=settings.remembers_features,
    )
    if isinstance(settings.init, WarmUp):
        return replace(learner, warm_up=settings.init.points, n_init=settings.init.restarts)
    return learner


def warm_up_points(settings: ModelSettings) -> int:
    """Return the number of points that ends the warm-up; 0 if the model needs none."""
    return make_learner(settings).warm_up_points if isinstance(settings.init, WarmUp) else 0


def make_forgetting(settings: ForgettingSettings) -> Forgetting:
    """Return the forgetting policy."""
    if isinstance(settings, ForgettingByPoints):
        return HalfLife(settings.half_life)
    if isinstance(settings, ForgettingByTime):
        return HalfLifeTime(float(settings.half_life))
    if isinstance(settings, ForgettingByPower):
        return PowerSchedule(
            settings.kappa, t0=settings.t0, hold=settings.hold, average=settings.average
        )
    return Forgetting()


def make_drift(settings: DriftSettings) -> Drift | None:
    """Return the drift detector; None without one."""
    if settings.detector == "none":
        return None
    return Drift(
        settings.detector,
        on_drift=settings.on_drift,
        threshold=settings.threshold,
        delta=settings.delta,
    )


def make_anomaly(settings: ModelSettings) -> Anomaly | None:
    """Return how the learner handles scores; None if it doesn't remember them."""
    if not settings.remembers_scores:
        return None
    anomaly = settings.anomaly
    learn_flagged = anomaly.learn_flagged or anomaly.rate is None
    return Anomaly(anomaly.rate, learn_flagged=learn_flagged, score=anomaly.score)


def largest_batch(settings: ModelSettings) -> int:
    """Return the maximum points of a batch under these settings; see `Batcher`.

    Batches don't grow if their size is set, or if the batching changes the result: with a
    power schedule (it counts steps), a drift detector (it counts losses), a half-life in time (a
    batch has one time), or weighted points under a half-life in points.
    """
    forgetting, least = settings.forgetting, settings.batch.least
    if settings.batch.size != AUTO or settings.drift.detector != "none":
        return least
    cadence = min(settings.commit.points, settings.publish.points)
    most = min(_LARGEST, _PAIRS // settings.bounds[1], cadence)
    if isinstance(forgetting, ForgettingByPoints) and settings.points.weight_field is None:
        return max(least, min(most, int(forgetting.half_life / _OF_HALF_LIFE)))
    return max(least, most) if isinstance(forgetting, NoForgetting) else least


def load_outline(data: bytes, settings: ModelSettings, where: str) -> Outline:
    """Return the outline of a committed state; its fields are checked against the settings.

    The parameters and errors are those of `load_checkpoint`.
    """
    found = decode_outline(data, make_family(settings), where)
    if found.layout is not None:
        found.layout.under(points_format(settings), where)
    return found


def load_checkpoint(
    data: bytes, settings: ModelSettings, where: str, coreset: bytes = b""
) -> Checkpoint:
    """Return a committed state, checked against the settings.

    Parameters
    ----------
    data : bytes
    settings : KMeansSettings or GaussianMixtureSettings
    where : str
        The key, for error messages.
    coreset : bytes
        The value of `:coreset`; see `decode_checkpoint`.

    Raises
    ------
    FormatError
        If the state is damaged, or the settings contradict what was learned: another family, other
        features, another format, field or weight of the points, or another scale.
    """
    found = decode_checkpoint(data, make_family(settings), where, coreset)
    spec, state = points_format(settings), found.learner
    if found.layout is not None:
        found = replace(found, layout=found.layout.under(spec, where))
    elif state.stats is not None:  # from given parameters
        check_columns((), state.stats.reference.shape[1], spec, where)
    check_features(settings, None if found.layout is None else found.layout.n_features)
    scale = "none" if state.scaling is None else state.scaling.kind
    if state.params is not None and scale != settings.scale:
        raise FormatError(
            f"{where} was learned with scale {scale!r}, the config says {settings.scale!r}: "
            "change it back, or give the model a new name"
        )
    return found


def check_features(settings: ModelSettings, n_features: int | None) -> None:
    """Refuse settings that a number of features doesn't allow, once it is known.

    Raises
    ------
    FormatError
        If the settings don't allow it. The message has the setting and the remedy.
    """
    try:
        settings.check_features(n_features or 0)
    except ValueError as error:
        raise FormatError(str(error)) from None


def first_state(
    name: str, settings: ModelSettings, learner: StreamLearner[Any]
) -> LearnerState[Any]:
    """Return the state before the first point: empty, or from given parameters."""
    init = settings.init
    if isinstance(init, WarmUp):
        return learner.init()
    try:
        if isinstance(init, FileGiven):
            params = _from_file(init, learner.family, settings.points.features)
        else:  # the arrays of a family, under their names
            given = init.model_dump(exclude={"kind", "weight"})
            params = learner.family.from_arrays({k: np.array(v) for k, v in given.items()})
        return learner.init(params, init.weight)
    except DataError as error:
        raise ConfigError(f"models.{name}.init: {error}") from None


def _from_file(init: FileGiven, family: Family[Any], features: Sequence[str]) -> Any:
    try:
        model = decode_model(read_whole(init.path, VALUE_BYTES), str(init.path))
    except FormatError as error:
        raise DataError(str(error)) from None
    K = model.family.n_components
    if family.min_components is not None and family.min_components <= K <= family.n_components:
        family = family.with_components(K)
    for name in ("kind", "metric", "n_components", "covariance_type"):
        found, wanted = (getattr(each, name, None) for each in (model.family, family))
        if found != wanted:
            raise DataError(f"{init.path} holds a model with {name} {found!r}; expected {wanted!r}")
    if features and model.features and tuple(features) != model.features:
        raise DataError(
            f"{init.path} holds a model of the features {list(model.features)}; "
            f"points.features names {list(features)}: give both the same names in the same order"
        )
    arrays = model.family.to_arrays(model.params)
    if "scale" in arrays:
        raise DataError(f"{init.path} holds a model with scales of its own; expected one without")
    return family.from_arrays(arrays)


def points_format(settings: ModelSettings, n_features: int | None = None) -> PointsFormat:
    """Return the format of the entries; `n_features` is the D of given parameters."""
    directions = getattr(settings, "metric", "euclidean") == "cosine"
    spec = PointsFormat(**settings.points.model_dump(), directions=directions)
    return replace(spec, n_features=spec.n_features or n_features)
