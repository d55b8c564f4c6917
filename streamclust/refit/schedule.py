"""Scheduled refits of all models of a worker, one after another in one thread."""

from __future__ import annotations

import math
import os
import socket
import time
from typing import TYPE_CHECKING

import redis

from streamclust.errors import FormatError, StoppedError, StreamclustError
from streamclust.kernels.threads import limit_threads
from streamclust.refit.command import Callbacks, Request, Selection, refit
from streamclust.refit.delivery import load
from streamclust.refit.runs import Plan
from streamclust.refit.span import Span
from streamclust.store.model.health import PAUSED, read_health
from streamclust.worker.run_models import opened_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamclust.refit.command import Report
    from streamclust.runtime.job import Job
    from streamclust.runtime.signals import Stop
    from streamclust.store.server.connect import Server

_MAX_WAIT = 10.0
"""Maximum seconds between two checks of the clock, because the clock can be changed."""

_RETRY_SECONDS = 1.0
"""Seconds until the next check of a model that is due, but that this worker doesn't have."""


def keep_refitting(jobs: Callable[[], Mapping[str, Job]], stop: Stop, server: Server) -> None:
    """Refit models at the intervals of their settings, until the worker stops.

    Refits run one after another, so that many models that are due at the same time don't take all
    processors. Only the worker that has the lease refits a model, not its standbys. The interval
    starts at the newest adopted refit; without one, at the start of the worker. A model that is due
    while it is paused is refitted when it is resumed. A failed refit is logged, and the next one
    runs one interval later.

    Parameters
    ----------
    jobs : callable
        Returns the models that the worker runs, by name. The result can change between calls.
    stop : Stop
    server : Server
    """
    with server.client() as client:
        due: dict[str, tuple[Job, float]] = {}
        while not stop.is_set():
            due = _due_times(jobs(), due, client)
            first = min((due_time for _, due_time in due.values()), default=math.inf)
            if stop.wait(min(max(first - time.time(), 0.0), _MAX_WAIT)):
                return
            for name, (job, due_time) in due.items():
                if due_time <= time.time() and not stop.is_set():
                    pause = _RETRY_SECONDS
                    if _is_ours(job, client):
                        _attempt(job)
                        pause = job.model.refit.every or _RETRY_SECONDS
                    due[name] = job, time.time() + pause


def _due_times(
    jobs: Mapping[str, Job], due: Mapping[str, tuple[Job, float]], client: redis.Redis
) -> dict[str, tuple[Job, float]]:
    """Return the due time of each model; it is computed for new models and changed settings."""
    due_times = {}
    for name, job in jobs.items():
        every = job.model.refit.every
        if every is not None:
            known, due_time = due.get(name, (None, 0.0))
            due_times[name] = job, due_time if known is job else _newest(job, client) + every
    return due_times


def _newest(job: Job, client: redis.Redis) -> float:
    """Return the time of the newest refit, in seconds since the epoch; now without a refit."""
    try:
        name = load(job, client).refit
        return int(name.partition("-")[0]) / 1000.0
    except (StreamclustError, redis.RedisError, ValueError):
        return time.time()


def _is_ours(job: Job, client: redis.Redis) -> bool:
    try:
        health = read_health(client, job.keys)
    except (FormatError, redis.RedisError):
        return False
    return (
        health is not None
        and health.alive
        and health.phase != PAUSED
        and (health.host, health.pid) == (socket.gethostname(), os.getpid())
    )


def _attempt(job: Job) -> None:
    settings = job.model.refit
    plan = Plan(settings.restarts, seed=job.model.seed)
    request = Request(Selection(Span(latest=settings.last)), plan)
    started = time.monotonic()
    try:
        # By default one thread refits, because the others learn.
        with opened_engine(job.settings.engine) as engine, limit_threads(1):
            report = refit(job, request, Callbacks(stop=job.stop.is_set), engine)
    except StoppedError:
        return
    except (StreamclustError, redis.RedisError) as error:
        job.log.warning("refit_failed", error=str(error))
        return
    _log_report(job, report, time.monotonic() - started)


def _log_report(job: Job, report: Report, seconds: float) -> None:
    job.log.info(
        "refit_finished",
        points=report.points,
        loss=round(report.loss, 6),
        live_loss=None if report.live_loss is None else round(report.live_loss, 6),
        version=None if report.delivered is None else report.delivered.version,
        seconds=round(seconds, 1),
    )
