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

_LONGEST = 10.0
"""Maximum seconds between two looks at the clock, which can be set."""

_AGAIN = 1.0
"""Seconds until a model is looked at again that is due, and that this worker doesn't have."""


def keep_refitting(jobs: Callable[[], Mapping[str, Job]], stop: Stop, server: Server) -> None:
    """Refit models at the intervals of their settings, until the worker stops.

    Refits run one after another, so that many models that are due together don't take all
    processors. Only the worker that has the lease refits, not its standbys. The interval starts at
    the newest adopted refit, or now. A model that is due while it is paused is refitted when it is
    resumed. A failed refit is logged, and the next one runs an interval later.

    Parameters
    ----------
    jobs : callable
        Returns the models that the worker runs, by name. They can come, go and change.
    stop : Stop
    server : Server
    """
    with server.client() as client:
        due: dict[str, tuple[Job, float]] = {}
        while not stop.is_set():
            due = _due_times(jobs(), due, client)
            first = min((at for _, at in due.values()), default=math.inf)
            if stop.wait(min(max(first - time.time(), 0.0), _LONGEST)):
                return
            for name, (job, at) in due.items():
                if at <= time.time() and not stop.is_set():
                    pause = _AGAIN
                    if _is_ours(job, client):
                        _attempt(job)
                        pause = job.model.refit.every or _AGAIN
                    due[name] = job, time.time() + pause


def _due_times(
    jobs: Mapping[str, Job], due: Mapping[str, tuple[Job, float]], client: redis.Redis
) -> dict[str, tuple[Job, float]]:
    """Return when each model is due, with those that are new or whose settings have changed."""
    found = {}
    for name, job in jobs.items():
        every = job.model.refit.every
        if every is not None:
            known, at = due.get(name, (None, 0.0))
            found[name] = job, at if known is job else _newest(job, client) + every
    return found


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
        # By default one thread refits, since the others learn.
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
