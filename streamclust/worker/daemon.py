"""The worker process: all models of the settings, signals that set a flag, a clean end."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import structlog
from threadpoolctl import threadpool_limits

from streamclust.errors import ConfigError, ModelsFailedError
from streamclust.kernels import describe
from streamclust.runtime.backoff import wait_for_server
from streamclust.runtime.log import configure_log, warn_of_slow_kernels
from streamclust.runtime.signals import StopEvent, reload_on_signal, stop_on_signals
from streamclust.runtime.threads import wait_for
from streamclust.system_limits import raise_open_files
from streamclust.worker.roster import Roster
from streamclust.worker.run_models import run_models
from streamclust.worker.running import RunningModels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from streamclust.config import Settings
    from streamclust.runtime.job import Job
    from streamclust.store.server.connect import Server

    Beside = Callable[[Callable[[], Mapping[str, Job]], threading.Event, Server], None]

_SWITCH = 1e-4
"""Seconds after which the interpreter switches threads. With the default, 5 ms, the learning thread
would wait up to 5 ms for the reader thread whenever a kernel needs the interpreter's lock again."""


_FILES, _FILES_OF_A_LIMIT = 64, 8
"""Maximum open files of a worker, and for each value of `batch.max_entry_bytes`: models of the same
value share their connections."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 600.0
"""Seconds before the refit schedule restarts after an error."""


def run_worker(
    settings: Settings,
    server: Server,
    *,
    wait: float = 0.0,
    until_idle: bool = False,
    beside: Beside | None = None,
    load: Callable[[], Settings] | None = None,
) -> None:
    """Learn all models of the settings until SIGTERM or Ctrl-C, then commit, publish and return.

    Parameters
    ----------
    settings, server : Settings and Server
    wait : float, default=0.0
        Seconds to wait at the start for a server that can't be used yet.
    until_idle : bool, default=False
        Return when all points of the streams are learned.
    beside : callable, optional
        Runs in a thread once a model has scheduled refits. Its arguments are a function that
        returns the jobs of all models by name, what stops it, and the server.
    load : callable, optional
        Reads the settings again, on SIGHUP or on request of `streamclust reload`.

    Raises
    ------
    ModelsFailedError
        If models are failed at the end.
    StreamclustError
        If the server can't be used, or, with `worker.fail_fast`, the first error of a model.
    """
    if not settings.models:
        raise ConfigError("models: none is configured; describe at least one in config.yaml")
    kernels = describe()  # first, to refuse a variable that asks for kernels that don't exist
    sys.setswitchinterval(_SWITCH)
    configure_log(settings.log.level, settings.log.format)
    log = structlog.get_logger()
    stop, failed, others = StopEvent(), {}, list[threading.Thread]()
    # Batches are small: more threads in BLAS would mostly wait for each other.
    with stop_on_signals(stop), threadpool_limits(limits=1, user_api="blas"):
        _log_start(settings, server, kernels, log)
        roster = Roster(settings, server, stop, until_idle, log, load)

        def start_refits(job: Job) -> None:
            if beside is not None and job.model.refit.every is not None and not others:
                others.append(_thread(lambda: beside(lambda: models.jobs, stop, server), stop))
                others[0].start()

        models = RunningModels(stop, settings.worker.fail_fast, start_refits)
        try:
            if wait_for_server(server, stop, log, wait):
                with reload_on_signal(stop, None if until_idle else roster.reload):
                    run_models(roster.jobs(), roster=roster, models=models)
        except ModelsFailedError as error:
            failed = {"failed": list(error.failures)}
            raise
        finally:
            stop.set()
            wait_for(others)
            log.info("worker_stopped", **failed)


def _log_start(settings: Settings, server: Server, kernels: str, log: FilteringBoundLogger) -> None:
    """Log the start, and what slows the worker down or limits it.

    The limit of open files is raised as the models need it.
    """
    names = sorted(settings.models.entries)
    log.info("worker_started", server=server.label, models=names, kernels=kernels)
    warn_of_slow_kernels(log)
    limits = {model.batch.max_entry_bytes for model in settings.models.entries.values()}
    wanted = _FILES + len(limits) * _FILES_OF_A_LIMIT
    limit = raise_open_files(wanted)
    if limit < wanted:
        log.warning(
            "open_files_limited",
            limit=limit,
            wanted=wanted,
            remedy="raise RLIMIT_NOFILE: `ulimit -n`, or systemd's LimitNOFILE=",
        )


def _thread(work: Callable[[], None], stop: threading.Event) -> threading.Thread:
    def restarted() -> None:
        """Restart after an unexpected error: the thread must not end without a log line."""
        pause = _FIRST_PAUSE
        log = structlog.get_logger()
        while not stop.is_set():
            try:
                work()
            except Exception:
                log.exception("refit_schedule_failed")
            else:
                return
            stop.wait(pause)
            pause = min(2.0 * pause, _LONGEST_PAUSE)

    return threading.Thread(target=restarted, name="beside")
