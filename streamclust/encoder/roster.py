"""The streams that an encoder process encodes, also after its settings have changed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from streamclust.encoder.coding import Coder
from streamclust.encoder.job import Job
from streamclust.errors import ConfigError, StreamclustError
from streamclust.runtime.discovery import found_models, select_names, selects_several
from streamclust.runtime.reloads import fixed_settings, reload_answer
from streamclust.runtime.signals import ChildStop
from streamclust.store.model.keys import Keys
from streamclust.store.model.versions import read_newer
from streamclust.text import is_pattern, known_names, matching

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis
    from structlog.typing import FilteringBoundLogger

    from streamclust.config import ModelSettings, Settings
    from streamclust.store.server.connect import Server


class EncoderRoster:
    """The streams of the models that a user has named. Threads may share it.

    Parameters
    ----------
    settings : Settings
    server : Server
    names : sequence of str
        Names of models, patterns such as ``clicks-*``, and names of templates.
    stop : threading.Event
    until_idle : bool
    log : structlog logger
    load : callable, optional
        Reads the settings again. Without it, they can't be reloaded.

    Attributes
    ----------
    settings : Settings
    needs_search : bool
        Whether a name is a pattern or template, so that the server must be searched.
    """

    def __init__(
        self,
        settings: Settings,
        server: Server,
        names: Sequence[str],
        stop: threading.Event,
        until_idle: bool,
        log: FilteringBoundLogger,
        load: Callable[[], Settings] | None = None,
    ) -> None:
        refuse_unknown(settings, names)
        self.settings = settings
        self.needs_search = any(selects_several(name, settings) for name in names)
        self._server = server
        self._names = list(dict.fromkeys(names))
        self._stop = stop
        self._until_idle = until_idle
        self._log = log
        self._load = load or (lambda: settings)
        self._lock = threading.RLock()
        self._made: dict[str, list[Job]] = {}
        self._old_settings: dict[str, Settings] = {}  # of models that refuse the newest ones

    def jobs(self, client: redis.Redis | None = None) -> list[Job]:
        """Return a job for each stream. A job is the same object until its settings change.

        Parameters
        ----------
        client : redis.Redis, optional
            Needed if a name is a pattern or template.
        """
        with self._lock:
            settings = self.settings
            if client is not None and self.needs_search:
                chosen = models_of(settings, self._names, client)
            else:
                chosen = [name for name in self._names if name in settings.models]
            for name in chosen:
                if name not in self._made:
                    self._made[name] = encoder_jobs(
                        self._old_settings.get(name, settings),
                        self._server,
                        name,
                        ChildStop(self._stop),
                        self._until_idle,
                        self._log.bind(model=name),
                    )
            return [job for name in chosen for job in self._made[name]]

    def reload(self, client: redis.Redis, apply: Callable[[], object]) -> dict[str, Any]:
        """Read the settings again and apply what has changed; return what was done.

        The encoders of changed and removed models are asked to stop. `jobs` then returns new
        jobs for those that have changed.

        Parameters
        ----------
        client : redis.Redis
        apply : callable
            Called after models were added, removed or changed.

        Raises
        ------
        redis.RedisError
            If the server can't be reached; nothing was changed.
        """
        try:
            new = self._load()
            self._refuse_empty(new)
        except ConfigError as error:
            self._log.error("reload_failed", error=str(error))
            return reload_answer(error=str(error))
        fixed = fixed_settings(self.settings, new)
        if fixed:
            self._log.warning("reload_incomplete", settings=fixed, remedy="restart the encoder")
        with self._lock:
            running = dict(self._made)
        removed = [name for name in running if name not in new.models]
        changed, refused = list[str](), dict[str, str]()
        for name, jobs in running.items():
            if name in new.models and any(job.model != new.models[name] for job in jobs):
                if reason := _refusal(jobs, new.models[name], client):
                    refused[name] = reason
                else:
                    changed.append(name)
        named = {name for name in self._names if name in new.models}
        added = sorted(named - running.keys())
        with self._lock:
            before = self.settings
            update = {"models": new.models, "defaults": new.defaults}
            self.settings = before.model_copy(update=update)
            self._old_settings = {name: self._old_settings.get(name, before) for name in refused}
            for name in (*removed, *changed):
                for job in self._made.pop(name, []):
                    job.stop.set()
        for name, reason in refused.items():
            text = f"{reason}; it keeps its old settings"
            self._log.bind(model=name).error("reload_refused", error=text)
        if added or removed or changed:
            apply()
        self._log.info("settings_reloaded", added=added, removed=removed, changed=changed)
        return reload_answer(added, removed, changed, refused, fixed)

    def _refuse_empty(self, new: Settings) -> None:
        """Refuse settings that have none of the named models any more."""
        if not any(is_pattern(name) or name in new.models.entries for name in self._names) and (
            not any(name in new.models for name in self._names)
        ):
            known = known_names(self._names[0], new.models.entries, "configured models")
            raise ConfigError(f"model {self._names[0]!r} isn't configured any more; {known}")


def _refusal(jobs: Sequence[Job], settings: ModelSettings, client: redis.Redis) -> str:
    """Return why encoders can't continue with these settings; "" if they can."""
    try:
        for job in jobs:
            model = read_newer(client, job.keys, 0)
            if model is not None:
                Coder.of(settings, job.stream, alerts=False).use(model)
    except StreamclustError as error:
        return str(error)
    return ""


def refuse_unknown(settings: Settings, names: Sequence[str]) -> None:
    """Raise an error for a model that the settings don't have.

    A pattern is accepted if it can match future models of a template.

    Raises
    ------
    ConfigError
    """
    for name in names:
        if is_pattern(name):
            if not settings.models.templates and not matching(settings.models, [name]):
                known = known_names(name, settings.models, "configured models")
                raise ConfigError(f"no configured model matches {name!r}; {known}")
        elif name not in settings.models and not selects_several(name, settings):
            known = known_names(name, settings.models.entries, "configured models")
            raise ConfigError(f"model {name!r} isn't configured; {known}")


def models_of(settings: Settings, names: Sequence[str], client: redis.Redis) -> list[str]:
    """Return the models that names, patterns and templates select, if their streams exist."""
    there, found = found_models(settings, client), list[str]()
    for name in names:
        if selects_several(name, settings):
            found += select_names(there, name, settings)
        elif name in settings.models:
            found.append(name)
    return list(dict.fromkeys(found))


def encoder_jobs(
    settings: Settings,
    server: Server,
    name: str,
    stop: threading.Event,
    until_idle: bool,
    log: FilteringBoundLogger,
) -> list[Job]:
    """Return one job for each stream of a model."""
    keys, model = Keys(settings.namespace, name), settings.models[name]
    streams = model.encode.streams or model.streams
    one = len(streams) == 1
    return [
        Job(
            name=name,
            settings=settings,
            server=server,
            stop=stop,
            until_idle=until_idle,
            log=log.bind(stream=stream),
            stream=stream,
            key=keys.codes(None if one else stream),
        )
        for stream in streams
    ]
