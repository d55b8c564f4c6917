"""Rolls a model back to an older version: its parameters replace the live ones, as in a refit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamclust.errors import DataError
from streamclust.models import KMeansParams
from streamclust.models.scaling import Scaling
from streamclust.online.scores import ScoreMemory
from streamclust.refit.delivery import deliver, load, refit_lock
from streamclust.runtime.assemble import make_family
from streamclust.store.model.proposal import new_id
from streamclust.store.model.versions import read_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.formats.model import Model
    from streamclust.models import Family
    from streamclust.models.stats import Stats
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
    with job.server.session() as server:
        return _rollback(replace(job, server=server), version, timeout, stop)


def _rollback(job: Job, version: int, timeout: float, stop: Callable[[], bool]) -> Handover:
    client, family = job.server.client(), make_family(job.model)
    with refit_lock(client, job.keys):
        at = load(job, client)
        old = read_model(client, job.keys, version)
        _check(old, family)
        params = _as_learned(old, family, at.learner.scaling)
        averaging = replace(at.learner.averaging, average=None)
        stats = _stats(old, family, params)
        scores = _scores(old, at.learner.scaling)
        changes = {"params": params, "stats": stats, "averaging": averaging, "scores": scores}
        learner = replace(at.learner, **changes)
        proposal = replace(at, learner=learner, position={}, refit=new_id("rollback"))
        return deliver(job, proposal, timeout, stop)


def _check(old: Model, family: Family[Any]) -> None:
    size = ("n_components",) if family.fewest is None else ()
    for name in ("kind", "metric", *size, "covariance_type"):
        found, wanted = (getattr(each, name, None) for each in (old.family, family))
        if found != wanted:
            raise DataError(
                f"version {old.version} has {name} {found!r}, the model {wanted!r} by now; "
                "start a new model from an export of it (init.path)"
            )


def _as_learned(old: Model, family: Family[Any], scaling: Scaling | None) -> Any:
    """Return the parameters in the units that the learner uses: the inverse of `in_units`."""
    params = old.params
    if scaling is not None:
        center, scale = -scaling.center / scaling.scale, 1.0 / scaling.scale
        params = family.in_units(params, Scaling(scaling.kind, center, scale))
    return KMeansParams(params.centroids) if isinstance(params, KMeansParams) else params


def _scores(old: Model, scaling: Scaling | None) -> ScoreMemory | None:
    """Return the scores that the older version remembered, in the units of the learner."""
    if old.scores is None:
        return None
    if scaling is None or old.family.objective == "inertia":
        return ScoreMemory(old.scores)
    return ScoreMemory(old.scores.shifted(-scaling.log_volume))


def _stats(old: Model, family: Family[Any], params: Any) -> Stats:
    """Return statistics whose m-step is `params`, with the mass of the older version."""
    stats = family.prior_stats(params, float(old.mass.sum()) / len(old.mass))
    if isinstance(params, KMeansParams):
        return replace(stats, weight=old.mass)  # its first moments are 0, whatever the weights
    return stats
