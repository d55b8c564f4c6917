"""All models of a worker: few threads, few connections, and one end."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from streamclust.errors import ModelsFailedError, StreamclustError, unexpected
from streamclust.runtime.backoff import Faults
from streamclust.runtime.connections import Connections
from streamclust.runtime.pool import Pool
from streamclust.runtime.threads import prepared_for_threads
from streamclust.system_limits import cores_of_process, explained
from streamclust.worker.heartbeat import Heartbeats, period
from streamclust.worker.model_life import ModelLife
from streamclust.worker.reading import ReaderThreads
from streamclust.worker.shared import Shared
from streamclust.worker.solver import Solves
from streamclust.worker.standbys import Standbys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamclust.runtime.job import Job
    from streamclust.runtime.scheduler import Turn, Wait


def run_model(job: Job) -> None:
    """Learn one model; see `run_models`."""
    run_models([job])


def run_models(jobs: Sequence[Job], *, stop_others: bool = True) -> None:
    """Learn models until their `stop` is set or, with `until_idle`, all points are learned.

    Parameters
    ----------
    jobs : sequence of Job
        They share one `stop`, and one server.
    stop_others : bool, default=True
        Whether an error that ends one model stops the others.

    Raises
    ------
    Exception
        The first error that ended a model, after all models have ended.
    ModelsFailedError
        Instead of this error, if `stop_others` is false.
    """
    first, cores = jobs[0], cores_of_process()
    models = _Models(jobs, stop_others)
    seconds = period(float(first.settings.worker.lease), float(first.settings.worker.health_ttl))
    connections = Connections(first.server)
    with prepared_for_threads(), Heartbeats(seconds) as heartbeats:
        pool = Pool(models.run, cores)
        standbys = Standbys(
            first.settings.namespace,
            connections,
            float(first.settings.worker.lease),
            lambda: len(pool),
            first.log.try_unbind("model"),
            digest="" if first.until_idle else _digest(jobs),
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
            models=len(jobs),
        )
        for job in jobs:
            pool.add(job.name)
        try:
            pool.wait(first.stop)
        except RuntimeError as error:
            raise StreamclustError(explained(error)) from error
        finally:
            standbys.close(hangs=heartbeats.hangs.is_set())
            connections.close()
    models.raise_failures()


def _digest(jobs: Sequence[Job]) -> str:
    """Return a text that is the same for all workers with the same models."""
    names = "\n".join(sorted(job.name for job in jobs))
    return blake2b(names.encode(), digest_size=8).hexdigest()


class _Models:
    """The lives of the models, and the errors that ended some of them."""

    def __init__(self, jobs: Sequence[Job], stop_others: bool) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._stop_others = stop_others
        self._lives: dict[str, Iterator[Wait]] = {}
        self._failures: dict[str, Exception] = {}
        self.shared: Shared

    def run(self, turn: Turn) -> Wait | None:
        """Run one turn of a model; log an error that ends it."""
        job = self._jobs[turn.model]
        if job.name not in self._lives:
            self._lives[job.name] = ModelLife(job, self.shared).life()
        try:
            return next(self._lives[job.name], None)
        except Exception as error:
            if isinstance(error, StreamclustError):
                job.log.error("model_failed", error=str(error), retrying=False)
            else:
                job.log.exception("model_failed", error=unexpected(error), retrying=False)
            self._failures.setdefault(job.name, error)
            if self._stop_others:
                job.stop.set()
            return None

    def raise_failures(self) -> None:
        """Raise the errors that ended models, if there are any."""
        if self._failures and self._stop_others:
            raise next(iter(self._failures.values()))
        if self._failures:
            raise ModelsFailedError(self._failures)
