"""Scheduled refits of all models of a worker, one after another in one thread."""

from __future__ import annotations

import heapq
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
    from collections.abc import Sequence

    from streamclust.refit.command import Report
    from streamclust.runtime.job import Job

_LONGEST = 10.0
"""Maximum seconds between two looks at the clock, which can be set."""

_AGAIN = 1.0
"""Seconds until a model is looked at again that is due, and that this worker doesn't have."""


def keep_refitting(jobs: Sequence[Job]) -> None:
    """Refit models at the intervals of their settings, until the jobs stop.

    Refits run one after another, so that many models that are due together don't take all
    processors. Only the worker that has the lease refits, not its standbys. The interval starts at
    the newest adopted refit, or now. A failed refit is logged, and the next one runs an interval
    later.

    Parameters
    ----------
    jobs : sequence of Job
        They share one `stop`.
    """
    with jobs[0].server.client() as client:
        _keep_refitting(jobs, client)


def _keep_refitting(jobs: Sequence[Job], client: redis.Redis) -> None:
    queue = [
        (_newest(job, client) + job.model.refit.every, number)
        for number, job in enumerate(jobs)
        if job.model.refit.every is not None
    ]
    heapq.heapify(queue)
    while queue:
        due, number = queue[0]
        job = jobs[number]
        if job.stop.wait(min(max(due - time.time(), 0.0), _LONGEST)):
            return
        if time.time() < due:
            continue
        pause = _AGAIN
        if _is_ours(job, client):
            _attempt(job)
            pause = job.model.refit.every or _AGAIN
        heapq.heapreplace(queue, (time.time() + pause, number))


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
