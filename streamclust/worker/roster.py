"""The models that a worker runs: models of the settings, and of streams that match templates.

The roster takes turns like a model. In its turns it searches the server for new streams, and reads
the settings again after a request.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from streamclust.errors import ConfigError, StreamclustError
from streamclust.runtime.backoff import Backoff
from streamclust.runtime.job import Job
from streamclust.runtime.reloads import ReloadRequests, fixed_settings, reload_answer
from streamclust.runtime.scheduler import Wait
from streamclust.worker.positions import read_checkpoint
from streamclust.worker.template_models import TemplateModels, first_names

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Iterator, Mapping

    from structlog.typing import FilteringBoundLogger

    from streamclust.config import ModelSettings, Settings
    from streamclust.config.templates import Models
    from streamclust.store.server.connect import Server
    from streamclust.worker.running import RunningModels

ROSTER = "{roster}"
"""Name of the roster in the pool; no model can have this name."""

_AFTER_FAILURE = 10.0
"""Seconds until the next try after an error that doesn't pass by itself."""


class Roster:
    """Adds, changes and removes models while the worker runs.

    Parameters
    ----------
    settings : Settings
    server : Server
    stop : threading.Event
    until_idle : bool
        Whether to search only once.
    log : structlog logger
    load : callable, optional
        Reads the settings again. Without it, they can't be reloaded.
    """

    def __init__(
        self,
        settings: Settings,
        server: Server,
        stop: threading.Event,
        until_idle: bool,
        log: FilteringBoundLogger,
        load: Callable[[], Settings] | None = None,
    ) -> None:
        self.settings = settings
        self.server = server
        self.stop = stop
        self.until_idle = until_idle
        self._log = log
        self._load = load or (lambda: settings)
        self._requests = ReloadRequests(settings.namespace, "worker", log)
        self._failure = ""
        self._templates = self._templates_of(settings, set())

    def jobs(self) -> list[Job]:
        """Return the jobs of the models that the settings name."""
        return [self._job(name) for name in self.settings.models]

    def reload(self) -> None:
        """Ask for the settings to be read again; a signal may call this."""
        self._requests.ask()

    def turns(self, models: RunningModels) -> Iterator[Wait]:
        """Search when it is due and reload when asked to, until the worker stops."""
        pool = models.shared.pool
        self._requests.wake = lambda: pool.news(ROSTER)
        backoff = Backoff(self.server.label, self.stop, self._log, faults=models.shared.faults)
        while not self.stop.is_set():
            try:
                until = yield from self._round(models)
                backoff.over()
                self._failure = ""
            except redis.RedisError as error:
                try:
                    until = time.monotonic() + backoff.pause(error)
                except StreamclustError as failure:
                    if self.until_idle or self.settings.worker.fail_fast:
                        models.fail("discovery of streams", failure, self._log)
                        return
                    if str(failure) != self._failure:
                        self._failure = str(failure)
                        self._log.error("discovery_failed", error=self._failure)
                    until = time.monotonic() + _AFTER_FAILURE
            else:
                if self.until_idle:
                    for template in self._templates:
                        try:
                            template.refuse_missing(self.server.label)
                        except StreamclustError as error:
                            name = template.template.name.text
                            models.fail(name, error, self._log.bind(model=name))
                    return
            yield Wait(until)

    def _round(self, models: RunningModels) -> Generator[Wait, None, float | None]:
        """Do what is due; return when to look again."""
        with models.shared.connections.session() as server:
            requests = self._requests
            times = [] if self.until_idle else [requests.look(server)]
            while requests.is_requested:
                requests.is_requested = False
                try:
                    yield from self._reload(models, server.client())
                except redis.RedisError:
                    requests.is_requested = True
                    raise
            for template in self._templates:
                if template.due <= time.monotonic():
                    added, removed = yield from template.search(server.client())
                    if self.stop.is_set():
                        break
                    for name in removed:
                        models.remove(name)
                    for name in added:
                        models.add(self._job(name))
                times.append(template.due)
        return min(times, default=None)

    def _reload(self, models: RunningModels, client: redis.Redis) -> Iterator[Wait]:
        """Read the settings again and apply what has changed; log what can't be applied."""
        try:
            new = self._load()
            if not new.models:
                raise ConfigError("models: none is configured")
        except ConfigError as error:
            self._log.error("reload_failed", error=str(error))
            self._requests.write_answer(client, reload_answer(error=str(error)))
            return
        fixed = fixed_settings(self.settings, new)
        if fixed:
            self._log.warning("reload_incomplete", settings=fixed, remedy="restart the worker")
        jobs = models.jobs
        changes = Changes.between(jobs, new.models)
        refused = {}
        for name in changes.changed:
            reason = refusal(jobs[name], new.models[name], client)
            if reason:
                refused[name] = reason
            yield Wait(time.monotonic())
        # The following needs no connection, so all of it is applied, or nothing.
        update = {"models": new.models, "defaults": new.defaults}
        self.settings = self.settings.model_copy(update=update)
        for name, reason in refused.items():
            jobs[name].log.error("reload_refused", error=f"{reason}; it keeps its old settings")
        for name in changes.removed:
            models.remove(name)
        changed = [name for name in changes.changed if name not in refused]
        for name in (*changed, *changes.added):
            models.add(self._job(name))
        self._templates = self._templates_of(self.settings, set(jobs) - set(changes.removed))
        found = {"added": changes.added, "removed": changes.removed, "changed": changed}
        self._log.info(
            "settings_reloaded", **{key: first_names(names) for key, names in found.items()}
        )
        answer = reload_answer(changes.added, changes.removed, changed, refused, fixed)
        self._requests.write_answer(client, answer)

    def _templates_of(self, settings: Settings, running: set[str]) -> list[TemplateModels]:
        models = settings.models
        found = [
            TemplateModels(template, settings, self.until_idle, self._log)
            for template in models.templates
        ]
        for each in found:
            each.running = {name for name in running if models.template_of(name) is each.template}
        return found

    def _job(self, name: str) -> Job:
        log = self._log.bind(model=name)
        return Job(name, self.settings, self.server, self.stop, self.until_idle, log)


@dataclass(frozen=True)
class Changes:
    """The models that differ between the jobs of a worker and new settings, by name.

    Parameters
    ----------
    added, removed, changed : list of str
        Of templates, only models that run can be changed or removed; a search adds others.
    """

    added: list[str]
    removed: list[str]
    changed: list[str]

    @classmethod
    def between(cls, jobs: Mapping[str, Job], models: Models) -> Changes:
        """Return the differences between jobs and the models of new settings."""
        return cls(
            added=[name for name in models.keys() if name not in jobs],  # noqa: SIM118
            removed=[name for name in jobs if name not in models],
            changed=[
                name for name, job in jobs.items() if name in models and models[name] != job.model
            ],
        )


def refusal(job: Job, settings: ModelSettings, client: redis.Redis) -> str:
    """Return why a model can't continue with these settings; "" if it can."""
    try:
        read_checkpoint(job.name, settings, client, job.keys)
    except StreamclustError as error:
        return str(error)
    return ""
