"""All models of a worker: few threads, few connections, and one end."""

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

    from streamclust.config.engine import EngineSettings
    from streamclust.engine import Engine
    from streamclust.runtime.job import Job
    from streamclust.worker.roster import Roster


def run_model(job: Job) -> None:
    """Learn one model; see `run_models`."""
    run_models([job])


def run_models(
    jobs: Sequence[Job],
    *,
    stop_others: bool = True,
    roster: Roster | None = None,
    models: RunningModels | None = None,
) -> None:
    """Learn models until their `stop` is set or, with `until_idle`, all points are learned.

    Parameters
    ----------
    jobs : sequence of Job
        They share one `stop`, and one server.
    stop_others : bool, default=True
        Whether an error that ends one model stops the others.
    roster : Roster, optional
        It adds and removes models while the worker runs. Without it, there must be a job.
    models : RunningModels, optional
        What runs the jobs; then `stop_others` isn't used.

    Raises
    ------
    Exception
        The first error that ended a model, after all models have ended.
    ModelsFailedError
        Instead of this error, if `stop_others` is false.
    """
    common, cores = roster or jobs[0], cores_of_process()
    settings = common.settings
    if models is None:
        models = RunningModels(common.stop, stop_others)
    seconds = period(float(settings.worker.lease), float(settings.worker.health_ttl))
    connections = Connections(common.server)
    with (
        prepared_for_threads(),
        opened_engine(settings.engine) as engine,
        Heartbeats(seconds) as heartbeats,
    ):
        pool = Pool(models.run, cores, models.left)
        standbys = Standbys(
            settings.namespace,
            connections,
            float(settings.worker.lease),
            lambda: max(len(models), len(common.settings.models)),
            jobs[0].log.try_unbind("model") if jobs else structlog.get_logger(),
            digest=lambda: "" if common.until_idle else digest(common.settings.models.entries),
            counts=lambda: heartbeats.counts,
            reported=lambda was_known: None if was_known else heartbeats.hurry(),
        )
        heartbeats.is_known = lambda: standbys.is_known
        models.shared = Shared(
            connections,
            heartbeats,
            pool,
            readers=ReaderThreads(cores),
            solves=Solves(cores),
            standbys=standbys,
            faults=Faults(),
            each_part=one_by_one if engine is None else on_engine(engine),
        )
        for job in jobs:
            models.add(job)
        if roster is not None:
            models.add_turns(ROSTER, roster.turns(models))
            if not roster.until_idle:
                standbys.start()
        try:
            pool.wait(common.stop)
        except RuntimeError as error:
            raise StreamclustError(explained(error)) from error
        finally:
            standbys.close(hangs=heartbeats.hangs.is_set())
            connections.close()
    models.raise_failures()


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
