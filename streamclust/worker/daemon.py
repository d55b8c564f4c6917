"""The worker process: a thread a model, signals that set a flag, a clean end."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import structlog
from threadpoolctl import threadpool_limits

from streamclust.errors import ConfigError
from streamclust.kernels import describe
from streamclust.worker.log import configure_log
from streamclust.worker.model import Job, run_model
from streamclust.worker.patience import wait_for_server
from streamclust.worker.signals import stop_on_signals
from streamclust.worker.together import run_together, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.config import Settings
    from streamclust.store.connect import Server

_SWITCH = 1e-4
"""Seconds after which the interpreter lets another thread on. With its default, 5 ms, the learning
thread would wait so long for the decoding one each time that a kernel gives the lock back."""


def run_worker(
    settings: Settings,
    server: Server,
    *,
    wait: float = 0.0,
    until_idle: bool = False,
    beside: Callable[[Job], None] | None = None,
) -> None:
    """Learn all models of the settings until SIGTERM or Ctrl-C, then commit, publish and return.

    Parameters
    ----------
    settings : Settings
    server : Server
    wait : float, default=0.0
        Seconds to wait at the start for a server that can't be worked with yet.
    until_idle : bool, default=False
        Return when all that is there is learned.
    beside : callable, optional
        Run for each model in a thread beside its own; it ends soon after the job's stop is set.

    Raises
    ------
    StreamclustError
        If the server can't be used; else the first error that ended a model; the other models are
        brought to a clean end first.
    """
    if not settings.models:
        raise ConfigError("models: none is configured; describe at least one in config.yaml")
    kernels = describe()  # a variable that asks for what isn't there is refused before all else
    sys.setswitchinterval(_SWITCH)
    configure_log(settings.log.level, settings.log.format)
    log = structlog.get_logger()
    stop = threading.Event()
    # Batches are small: more threads in BLAS would mostly wait for each other.
    with stop_on_signals(stop), threadpool_limits(limits=1, user_api="blas"):
        models = sorted(settings.models)
        log.info("worker started", server=server.label, models=models, kernels=kernels)
        jobs = [
            Job(name, settings, server, stop, until_idle, log.bind(model=name))
            for name in settings.models
        ]
        others = [] if beside is None else [_thread(beside, job) for job in jobs]
        try:
            if wait_for_server(server, stop, log, wait):
                for thread in others:
                    thread.start()
                run_together(jobs, run_model, "model failed")
        finally:
            stop.set()
            wait_for(others)
            log.info("worker stopped")


def _thread(beside: Callable[[Job], None], job: Job) -> threading.Thread:
    return threading.Thread(target=beside, args=(job,), name=f"beside {job.name}")
