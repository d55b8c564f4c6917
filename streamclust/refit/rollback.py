"""Rollback of a model: the parameters of an older version replace the live ones, as in a refit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamclust.errors import DataError
from streamclust.online.rules import rules_of
from streamclust.online.scores import ScoreMemory
from streamclust.refit.delivery import deliver, load, refit_lock
from streamclust.runtime.assemble import make_family
from streamclust.store.model.proposal import new_id
from streamclust.store.model.versions import read_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.formats.model import Model
    from streamclust.models import Family
    from streamclust.online.learner import LearnerState
    from streamclust.refit.delivery import Handover
    from streamclust.runtime.job import Job


def rollback(
    job: Job, version: int, timeout: float, stop: Callable[[], bool] = lambda: False
) -> Handover:
    """Publish an older version again, under a new number, and continue learning from it.

    The components get the relative weights of the older version. Their total weight is at most that
    of the live model. Points that were learned after the older version no longer count.

    Raises
    ------
    UnknownModelError
        If the version is no longer stored, or the model has no state yet.
    DataError
        If the version is of another kind or size than the model is now.
    BusyError
        If a refit is running, or the worker doesn't answer within `timeout` seconds.
    StoppedError
        If the user stopped the wait.
    """
    family = make_family(job.model)
    with job.server.session() as server:
        job, client = replace(job, server=server), server.client()
        with refit_lock(client, job.keys):
            checkpoint = load(job, client)
            old = read_model(client, job.keys, version)
            _check(old, family)
            proposal = replace(
                checkpoint,
                learner=_rolled_back(checkpoint.learner, old, family),
                position={},
                refit=new_id("rollback"),
            )
            return deliver(job, proposal, timeout, stop)


def _check(old: Model, family: Family[Any]) -> None:
    size = ("n_components",) if family.min_components is None else ()
    for name in ("kind", "metric", *size, "covariance_type"):
        old_value, current = (getattr(source, name, None) for source in (old.family, family))
        if old_value != current:
            raise DataError(
                f"version {old.version} has {name} {old_value!r}, the model {current!r} by now; "
                "start a new model from an export of it (init.path)"
            )


def _rolled_back(learner: LearnerState[Any], old: Model, family: Family[Any]) -> LearnerState[Any]:
    """Return the learner's state with the parameters, the mass and the scores of `old`.

    All are converted to the units of the learner: the inverse of `StreamLearner.in_units`.
    """
    rules, scores, scaling = rules_of(family), old.scores, learner.scaling
    features = old.feature_distribution
    params = rules.scaled(old.params, scaling)
    if scaling is not None and features is not None:
        features = features.mapped(1.0 / scaling.scale, -scaling.center / scaling.scale)
    volume = 0.0 if scaling is None else rules.log_volume(scaling)
    if scores is not None and volume and old.anomaly_score == "model":
        scores = scores.shifted(-volume)
    stats = rules.stats_of_mass(params, old.mass)
    return replace(
        learner,
        params=params,
        stats=stats,
        averaging=replace(learner.averaging, average=None),
        scores=None if scores is None else ScoreMemory(scores, score=old.anomaly_score),
        feature_distribution=features or learner.feature_distribution,
    )
