"""The worker process: a thread a model, signals that set a flag, a clean end."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from threadpoolctl import threadpool_limits

from streamclust.errors import ConfigError, StreamclustError
from streamclust.worker.log import configure_log
from streamclust.worker.model import Job, run_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from streamclust.config import Settings
    from streamclust.store.connect import Server

_FORCED = 130
"""Exit code after a second signal."""

_LOOK = 0.2
"""Seconds between looks for a signal."""


def run_worker(settings: Settings, server: Server, *, until_idle: bool = False) -> None:
    """Learn all models of the settings until SIGTERM or Ctrl-C, then commit, publish and return.

    Raises
    ------
    StreamclustError
        The first error that ended a model; the other models are brought to a clean end first.
    """
    if not settings.models:
        raise ConfigError("models: none is configured; describe at least one in config.yaml")
    configure_log(settings.log.level, settings.log.format)
    log = structlog.get_logger()
    stop = threading.Event()
    failures: list[Exception] = []
    # Batches are small: more threads in BLAS would mostly wait for each other.
    with _signals(stop), threadpool_limits(limits=1, user_api="blas"):
        log.info("worker started", server=server.label, models=sorted(settings.models))
        jobs = [
            Job(name, settings, server, stop, until_idle, log.bind(model=name))
            for name in settings.models
        ]
        threads = [
            threading.Thread(target=_guarded, args=(job, failures), name=job.name) for job in jobs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # a signal that another thread was given wakes nobody
                thread.join(_LOOK)
    log.info("worker stopped")
    if failures:
        raise failures[0]


def _guarded(job: Job, failures: list[Exception]) -> None:
    """Run a model; an error that ends it ends the worker."""
    try:
        run_model(job)
    except StreamclustError as error:
        job.log.error("model failed", error=str(error))
        failures.append(error)
        job.stop.set()
    except Exception as error:
        job.log.exception("unexpected error")
        failures.append(error)
        job.stop.set()


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM set `stop`; the second one leaves at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(_FORCED)
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
