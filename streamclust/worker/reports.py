"""The report of this worker, and the reports of the other workers."""

from __future__ import annotations

import math
import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import redis

from streamclust.store.model import workers
from streamclust.store.model.workers import WorkerReport
from streamclust.store.server.faults import passes
from streamclust.version import __version__
from streamclust.worker.sharing import Peer

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from streamclust.runtime.connections import Connections

_ASK_AGAIN = 60.0
"""Seconds between two tries to report, where the server refuses."""


class WorkerReports:
    """Writes the report of this worker, and reads those of the others, in one round trip.

    Parameters
    ----------
    namespace : str
    connections : Connections
    lifetime : float
        Seconds for which a report is valid.
    log : structlog logger

    Attributes
    ----------
    id : str
        ID of this worker.
    existed : bool
        Whether the previous report still existed when the newest one was written. If not, other
        workers may have taken models of this worker.
    """

    def __init__(
        self,
        namespace: str,
        connections: Connections,
        lifetime: float,
        log: FilteringBoundLogger,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.existed = True
        self._namespace = namespace
        self._connections = connections
        self._lifetime = lifetime
        self._log = log
        self._written = self._refused = -math.inf
        self._report = WorkerReport(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            release=__version__,
            started=time.time(),
        )

    @property
    def is_known(self) -> bool:
        """Whether the server knows that this worker lives."""
        return time.monotonic() < self._written + self._lifetime

    def exchange(self, now: float, **values: Any) -> list[Peer] | None:
        """Report `values`, if they are new or due; return the other live workers.

        Returns
        -------
        list of Peer or None
            None if the server refuses, now or a short time ago.

        Raises
        ------
        redis.RedisError
            If the server can't be reached.
        """
        if now < self._refused + _ASK_AGAIN:
            return None
        report = replace(self._report, **values)
        is_due = now >= self._written + self._lifetime / 3.0
        written = report if is_due or report != self._report else None
        report = replace(report, time=time.time())
        try:
            beat = self._beat(None if written is None else report)
            if written is None and not beat.existed:
                written = report
                self._beat(report)
        except redis.ResponseError as error:
            if passes(error):
                raise
            self._refuse(error, now)
            return None
        self._refused = -math.inf
        self.existed = beat.existed or self._written == -math.inf
        if written is not None:
            self._written, self._report = now, replace(report, time=0.0)
        return [_peer(each, report.shares) for each in beat.others]

    def leave(self) -> None:
        """Report that this worker has ended."""
        if self._written > -math.inf:
            with suppress(redis.RedisError), self._connections.session() as server:
                workers.leave(server.client(), self._namespace, self.id)

    def _beat(self, report: WorkerReport | None) -> workers.Beat:
        with self._connections.session() as server:
            return workers.beat(server.client(), self._namespace, self.id, report, self._lifetime)

    def _refuse(self, error: redis.ResponseError, now: float) -> None:
        if self._refused == -math.inf:
            self._log.warning(
                "workers_unknown",
                error=str(error),
                remedy="models are not shared evenly with other workers; permit the keys "
                f"{{{self._namespace}}}:worker* (see deploy/redis-acl.conf)",
            )
        self._refused, self._written = now, -math.inf


def _peer(report: WorkerReport, shares: str) -> Peer:
    return Peer(
        report.id,
        report.held - report.stalled,
        report.waiting,
        report.avoids,
        report.offers,
        report.troubles,
        shares=report.shares == shares != "",
    )
