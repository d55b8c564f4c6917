"""Scheduled refits, in a second thread beside the thread that learns the stream."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import redis

from streamclust.errors import FormatError, StoppedError, StreamclustError
from streamclust.refit.command import Callbacks, Request, Selection, refit
from streamclust.refit.delivery import load
from streamclust.refit.runs import Plan
from streamclust.refit.span import Span
from streamclust.store.model.health import read_health

if TYPE_CHECKING:
    from streamclust.refit.command import Report
    from streamclust.runtime.job import Job

_LOOK = 1.0
"""Maximum seconds between checks whether this worker has the model."""


def keep_refitting(job: Job) -> None:
    """Refit the model at the interval of its settings, until the job stops.

    Only the worker that has the lease refits, not its standbys. The interval starts at the newest
    adopted refit, or now. A failed refit is logged, and the next one runs an interval later.
    """
    every = job.model.refit.every
    if every is None:
        return
    due = _newest(job) + every
    while not job.stop.wait(min(max(due - time.time(), 0.0), _LOOK) or _LOOK / 10.0):
        if time.time() >= due and _is_ours(job):
            _attempt(job)
            due = time.time() + every


def _newest(job: Job) -> float:
    """Return the time of the newest refit, in seconds since the epoch; now without a refit."""
    try:
        name = load(job, job.server.client()).refit
        return int(name.partition("-")[0]) / 1000.0
    except (StreamclustError, redis.RedisError, ValueError):
        return time.time()


def _is_ours(job: Job) -> bool:
    try:
        health = read_health(job.server.client(), job.keys)
    except (FormatError, redis.RedisError):
        return False
    return (
        health is not None
        and health.alive
        and (health.host, health.pid) == (socket.gethostname(), os.getpid())
    )


def _attempt(job: Job) -> None:
    settings = job.model.refit
    plan = Plan(settings.restarts, seed=job.model.seed)
    request = Request(Selection(Span(latest=settings.last)), plan)
    started = time.monotonic()
    try:
        report = refit(job, request, Callbacks(stop=job.stop.is_set))
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
