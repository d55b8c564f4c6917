"""The models of a worker: which of them should run, their lives, and errors that ended them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from streamclust.errors import ModelsFailedError, StreamclustError, unexpected
from streamclust.worker.model_life import ModelLife

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from structlog.typing import FilteringBoundLogger

    from streamclust.runtime.job import Job
    from streamclust.runtime.scheduler import Turn, Wait
    from streamclust.worker.model_run import Shared


class _Running(NamedTuple):
    job: Job
    life: ModelLife
    turns: Iterator[Wait]


class RunningModels:
    """The models of a worker, which can change while it runs. Threads may share this object.

    Parameters
    ----------
    stop : threading.Event
    stop_others : bool
        Whether an error that ends one model stops the others.
    on_add : callable, optional
        Called with each job that is added.

    Attributes
    ----------
    shared : Shared
        Set before the first model is added.
    """

    shared: Shared

    def __init__(
        self,
        stop: threading.Event,
        stop_others: bool,
        on_add: Callable[[Job], object] = lambda job: None,
    ) -> None:
        self._stop = stop
        self._stop_others = stop_others
        self._on_add = on_add
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}  # what should run
        self._running: dict[str, _Running] = {}
        self._in_pool: set[str] = set()
        self._other_turns: dict[str, Iterator[Wait]] = {}
        self._failures: dict[str, Exception] = {}

    def __len__(self) -> int:
        """Return the number of models that should run."""
        return len(self._jobs)

    @property
    def jobs(self) -> dict[str, Job]:
        """The jobs of all models that should run, by name."""
        with self._lock:
            return dict(self._jobs)

    def add(self, job: Job) -> None:
        """Run a model. If it runs already, it leaves first, then continues with this job."""
        with self._lock:
            self._jobs[job.name] = job
            if job.name in self._in_pool:
                self.shared.pool.remove(job.name)
            else:
                self._enter_pool(job.name)
        self._on_add(job)

    def remove(self, name: str) -> None:
        """Let a model commit, publish and leave."""
        with self._lock:
            if self._jobs.pop(name, None) is not None:
                self.shared.pool.remove(name)

    def add_turns(self, name: str, turns: Iterator[Wait]) -> None:
        """Run turns that don't belong to a model, such as those of the roster."""
        self._other_turns[name] = turns
        self.shared.pool.add(name)

    def run(self, turn: Turn) -> Wait | None:
        """Run one turn; log an error that ends a model."""
        name = turn.model
        if name in self._other_turns:
            return next(self._other_turns[name], None)
        with self._lock:
            running = self._running.get(name)
            if running is None:
                job = self._jobs.get(name)
                if job is None:
                    return None  # removed before its first turn
                life = ModelLife(job, self.shared)
                running = self._running[name] = _Running(job, life, life.life())
        running.life.leaving = turn.leaving
        try:
            return next(running.turns, None)
        except Exception as error:
            if not turn.leaving or self._stop.is_set():  # else nobody waits for this model
                self.fail(name, error, running.job.log)
            return None

    def on_left(self, name: str) -> None:
        """Let a model that has left the pool enter it again, if it got another job meanwhile."""
        if name in self._running and not self._stop.is_set():
            self.shared.standbys.note_failure(name, "")  # the next job starts without this failure
        with self._lock:
            self._in_pool.discard(name)
            ended, job = self._running.pop(name, None), self._jobs.get(name)
            is_new = job is not None and (ended is None or ended.job is not job)
            if is_new and name not in self._other_turns and not self._stop.is_set():
                self._enter_pool(name)

    def fail(self, name: str, error: Exception, log: FilteringBoundLogger) -> None:
        """Log the error that ended a model, and keep it for `raise_failures`."""
        if isinstance(error, StreamclustError):
            log.error("model_failed", error=str(error), retrying=False)
        else:
            log.exception("model_failed", error=unexpected(error), retrying=False)
        self._failures.setdefault(name, error)
        if self._stop_others:
            self._stop.set()

    def raise_failures(self) -> None:
        """Raise the errors that ended models, if there are any."""
        if self._failures and self._stop_others:
            raise next(iter(self._failures.values()))
        if self._failures:
            raise ModelsFailedError(self._failures)

    def _enter_pool(self, name: str) -> None:
        self._in_pool.add(name)
        self.shared.pool.add(name)
