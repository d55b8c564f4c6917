"""Which models a worker runs: those of the settings, and those of the streams that templates match.

The roster takes turns like a model. In its turns it searches the server for new streams.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import redis

from streamclust.errors import StreamclustError
from streamclust.runtime.backoff import Backoff
from streamclust.runtime.job import Job
from streamclust.worker.scheduler import Wait
from streamclust.worker.template_models import TemplateModels

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator, Iterator

    from structlog.typing import FilteringBoundLogger

    from streamclust.config import Settings
    from streamclust.store.server.connect import Server
    from streamclust.worker.running import RunningModels

ROSTER = "{roster}"
"""Its name among the models, which no model can have."""

_AFTER_FAILURE = 10.0
"""Seconds until the next try after an error that doesn't pass by itself."""


class Roster:
    """Adds the models of templates while the worker runs.

    Parameters
    ----------
    settings : Settings
    server : Server
    stop : threading.Event
    until_idle : bool
        Whether to search only once.
    log : structlog logger
    """

    def __init__(
        self,
        settings: Settings,
        server: Server,
        stop: threading.Event,
        until_idle: bool,
        log: FilteringBoundLogger,
    ) -> None:
        self.settings = settings
        self.server = server
        self.stop = stop
        self._until_idle = until_idle
        self._log = log
        self._failure = ""
        self._templates = [
            TemplateModels(template, settings, until_idle, log)
            for template in settings.models.templates
        ]

    def jobs(self) -> list[Job]:
        """Return the jobs of the models that the settings name."""
        return [self._job(name) for name in self.settings.models]

    def turns(self, models: RunningModels) -> Iterator[Wait]:
        """Search when a search is due, until the worker stops."""
        backoff = Backoff(self.server.label, self.stop, self._log, faults=models.shared.faults)
        while not self.stop.is_set():
            try:
                until = yield from self._round(models)
                backoff.over()
            except redis.RedisError as error:
                try:
                    until = time.monotonic() + backoff.pause(error)
                except StreamclustError as failure:
                    if self._until_idle or self.settings.worker.fail_fast:
                        models.fail("discovery", failure, self._log)
                        return
                    self._log_failure(str(failure))
                    until = time.monotonic() + _AFTER_FAILURE
            else:
                self._failure = ""
                if self._until_idle:
                    self._refuse_missing(models)
                    return
            yield Wait(until)

    def _round(self, models: RunningModels) -> Generator[Wait, None, float | None]:
        """Do what is due; return when to look again."""
        with models.shared.connections.session() as server:
            for template in self._templates:
                if template.due > time.monotonic():
                    continue
                added, removed = yield from template.search(server.client())
                if self.stop.is_set():
                    break
                for name in removed:
                    models.remove(name)
                for name in added:
                    models.add(self._job(name))
        return min((template.due for template in self._templates), default=None)

    def _job(self, name: str) -> Job:
        log = self._log.bind(model=name)
        return Job(name, self.settings, self.server, self.stop, self._until_idle, log)

    def _refuse_missing(self, models: RunningModels) -> None:
        """Fail, as models whose streams don't exist do, if no stream matches a template."""
        for template in self._templates:
            try:
                template.refuse_missing(self.server.label)
            except StreamclustError as error:
                name = template.template.name.text
                models.fail(name, error, self._log.bind(model=name))

    def _log_failure(self, reason: str) -> None:
        if reason != self._failure:
            self._log.error("discovery_failed", error=reason)
        self._failure = reason
