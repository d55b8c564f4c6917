"""Runs all models of a worker, which share a few threads and connections, and end together."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from streamclust.engine.batch_step import on_engine
from streamclust.engine.opening import open_engine
from streamclust.errors import ConfigError, StreamclustError
from streamclust.online.batch_parts import one_by_one
from streamclust.runtime.backoff import Faults
from streamclust.runtime.connections import Connections
from streamclust.runtime.pool import Pool
from streamclust.runtime.threads import prepared_for_threads
from streamclust.store.model.workers import digest
from streamclust.system_limits import cores_of_process, explained
from streamclust.worker.heartbeat import Heartbeats, period
from streamclust.worker.model_run import Shared
from streamclust.worker.reading import ReaderThreads
from streamclust.worker.roster import ROSTER
from streamclust.worker.running import RunningModels
from streamclust.worker.solver import Solves
from streamclust.worker.standbys import Standbys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from streamclust.config.engine import EngineSettings
    from streamclust.engine import Engine
    from streamclust.runtime.job import Job
    from streamclust.worker.roster import Roster


def run_model(job: Job) -> None:
    """Learn one model; see `run_models`."""
    run_models([job])


def run_models(
    jobs: Sequence[Job], roster: Roster | None = None, models: RunningModels | None = None
) -> None:
    """Learn models until their `stop` is set or, with `until_idle`, all points are learned.

    Parameters
    ----------
    jobs : sequence of Job
        They share one `stop`, and one server.
    roster : Roster, optional
        Adds and removes models while the worker runs. Without a roster, there must be a job.
    models : RunningModels, optional
        Runs the jobs. Default: models of which each stops the others if an error ends it.

    Raises
    ------
    Exception
        The first error that ended a model, after all models have ended.
    ModelsFailedError
        In place of this error, if `models` doesn't stop the others.
    """
    common = roster or jobs[0]
    log = jobs[0].log.try_unbind("model") if jobs else structlog.get_logger()
    models = RunningModels(common.stop, stop_others=True) if models is None else models
    with _shared(common, models, log) as shared:
        models.shared = shared
        for job in jobs:
            models.add(job)
        if roster is not None:
            models.add_turns(ROSTER, roster.turns(models))
            if not roster.until_idle:
                shared.standbys.start()
        try:
            shared.pool.wait(common.stop)
        except RuntimeError as error:
            raise StreamclustError(explained(error)) from error
    models.raise_failures()


@contextmanager
def _shared(
    common: Job | Roster, models: RunningModels, log: FilteringBoundLogger
) -> Iterator[Shared]:
    """Open the objects that all models of a worker share; close them at the end."""
    settings, cores = common.settings, cores_of_process()
    lease = float(settings.worker.lease)
    with (
        prepared_for_threads(),
        opened_engine(settings.engine) as engine,
        Heartbeats(period(lease, float(settings.worker.health_ttl))) as heartbeats,
    ):
        connections = Connections(common.server)
        standbys = Standbys(
            settings.namespace,
            connections,
            lease,
            lambda: max(len(models), len(common.settings.models)),
            log,
            digest=lambda: "" if common.until_idle else digest(common.settings.models.entries),
            counts=lambda: heartbeats.counts,
            reported=lambda was_known: None if was_known else heartbeats.hurry(),
        )
        heartbeats.is_known = lambda: standbys.is_known
        try:
            yield Shared(
                connections,
                heartbeats,
                Pool(models.run, cores, models.on_left),
                readers=ReaderThreads(cores),
                solves=Solves(cores),
                standbys=standbys,
                faults=Faults(),
                each_part=one_by_one if engine is None else on_engine(engine),
            )
        finally:
            standbys.close(hangs=heartbeats.server_hangs.is_set())
            connections.close()


@contextmanager
def opened_engine(settings: EngineSettings) -> Iterator[Engine | None]:
    """Give the engine of a worker; None with auto and inline: the models share the threads."""
    if settings.kind in ("auto", "inline"):
        yield None
        return
    if settings.kind == "dask" and settings.address is None:
        raise ConfigError(
            "engine.address is not set: a worker needs the address of a Dask scheduler, such as "
            "tls://scheduler:8786"
        )
    log = structlog.get_logger()
    with open_engine(settings, lambda line: log.warning("engine_reported", reason=line)) as engine:
        yield engine
