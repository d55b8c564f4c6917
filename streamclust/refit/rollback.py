"""Rolls a model back to an older version: its parameters replace the live ones, as in a refit."""

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

    The components have the relative weights of the older version, and together no more weight than
    the live model. The points learned since then no longer count.

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
            at = load(job, client)
            old = read_model(client, job.keys, version)
            _check(old, family)
            proposal = replace(
                at,
                learner=_rolled_back(at.learner, old, family),
                position={},
                refit=new_id("rollback"),
            )
            return deliver(job, proposal, timeout, stop)


def _check(old: Model, family: Family[Any]) -> None:
    size = ("n_components",) if family.min_components is None else ()
    for name in ("kind", "metric", *size, "covariance_type"):
        found, wanted = (getattr(each, name, None) for each in (old.family, family))
        if found != wanted:
            raise DataError(
                f"version {old.version} has {name} {found!r}, the model {wanted!r} by now; "
                "start a new model from an export of it (init.path)"
            )


def _rolled_back(learner: LearnerState[Any], old: Model, family: Family[Any]) -> LearnerState[Any]:
    """Return the learner's state with the parameters, the mass and the scores of `old`.

    They are converted to the units that the learner uses: the inverse of `in_units`.
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
