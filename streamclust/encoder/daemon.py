"""The encoder's process: the streams to encode, signals that set a flag, a clean end."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from threadpoolctl import threadpool_limits

from streamclust.encoder.job import Job
from streamclust.encoder.loop import run_encoder
from streamclust.encoder.many import StallWatch, run_encoders
from streamclust.errors import ConfigError
from streamclust.runtime.backoff import wait_for_server
from streamclust.runtime.discovery import found_models, is_several, selected
from streamclust.runtime.log import configure_log, warn_of_slow_kernels
from streamclust.runtime.signals import StopEvent, stop_on_signals
from streamclust.runtime.threads import run_together
from streamclust.store.model.keys import Keys
from streamclust.text import is_pattern, known_names, matching

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    import redis

    from streamclust.config import Settings
    from streamclust.encoder.job import Tally
    from streamclust.store.server.connect import Server


_SHOWN = 10
"""Streams whose names are logged at the start."""

_DISCOVER = 10.0
"""Seconds between two looks for new models, without a template."""

_FEW = 4
"""Maximum number of streams that have a thread each. A thread that waits in a blocking read gets
entries with less delay."""


def encode_streams(
    settings: Settings,
    server: Server,
    names: Sequence[str],
    *,
    wait: float = 0.0,
    until_idle: bool = False,
) -> list[tuple[Job, Tally]]:
    """Encode the streams of models until SIGTERM or Ctrl-C; return the counts of each stream.

    At the start, wait up to `wait` seconds for a server that can't be used yet.

    Parameters
    ----------
    settings : Settings
    server : Server
    names : sequence of str
        Names of models, patterns such as ``clicks-*``, and names of templates.
    wait : float
    until_idle : bool
        Whether to end when all entries have codes.

    Raises
    ------
    ConfigError
        If the settings don't have a model, or a pattern can match none.
    ModelsFailedError
        If encoders of many streams have failed, with `until_idle`.
    StreamclustError
        If the server can't be used; for a few streams also the first error that ended a stream,
        after a clean end of the other streams.
    """
    refuse_unknown(settings, names)
    several = any(is_several(name, settings) for name in names)
    configure_log(settings.log.level, settings.log.format)
    log = structlog.get_logger()
    stop, made = StopEvent(), dict[str, list[Job]]()

    def jobs_of(chosen: Sequence[str]) -> list[Job]:
        for name in chosen:
            if name not in made:
                own = log.bind(model=name)
                made[name] = encoder_jobs(settings, server, name, stop, until_idle, own)
        return [job for name in chosen for job in made[name]]

    with stop_on_signals(stop), threadpool_limits(limits=1, user_api="blas"):
        one = {"model": names[0]} if len(names) == 1 else {"models": list(names[:_SHOWN])}
        jobs = [] if several else jobs_of(list(dict.fromkeys(names)))
        streams = [] if several else [job.stream for job in jobs[:_SHOWN]]
        log.info("encoder_started", server=server.label, **one, streams=streams)
        warn_of_slow_kernels(log)
        if not wait_for_server(server, stop, log, wait):
            return []
        stall = float(settings.worker.stall)
        with _short_pauses():
            if not several and len(jobs) <= _FEW:
                watch = StallWatch(jobs, stall)
                return run_together(
                    jobs, lambda job: (job, run_encoder(job)), "encoder_failed", look=watch.look
                )
            return run_encoders(
                server,
                lambda client: jobs_of(models_of(settings, names, client)) if several else jobs,
                stop,
                discover=_interval(settings),
                stall=stall,
                until_idle=until_idle,
            )


def refuse_unknown(settings: Settings, names: Sequence[str]) -> None:
    """Raise an error for a model that the settings don't have.

    A pattern can match models of templates that come later.

    Raises
    ------
    ConfigError
    """
    for name in names:
        if is_pattern(name):
            if not settings.models.templates and not matching(settings.models, [name]):
                known = known_names(name, settings.models, "configured models")
                raise ConfigError(f"no configured model matches {name!r}; {known}")
        elif name not in settings.models and not is_several(name, settings):
            known = known_names(name, settings.models.entries, "configured models")
            raise ConfigError(f"model {name!r} isn't configured; {known}")


def models_of(settings: Settings, names: Sequence[str], client: redis.Redis) -> list[str]:
    """Return the models that names, patterns and templates select; those of streams that exist."""
    there, found = found_models(settings, client), list[str]()
    for name in names:
        found += selected(there, name, settings) if is_several(name, settings) else [name]
    return list(dict.fromkeys(found))


def _interval(settings: Settings) -> float:
    """Return the seconds between two looks for new models."""
    templates = settings.models.templates
    return min((float(each.settings.discover) for each in templates), default=_DISCOVER)


@contextmanager
def _short_pauses() -> Iterator[None]:
    """Exclude the existing objects from garbage collection.

    Most objects are modules, classes and settings. A full collection would search them for tens of
    milliseconds, in which no entry gets its codes.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def encoder_jobs(
    settings: Settings,
    server: Server,
    name: str,
    stop: threading.Event,
    until_idle: bool,
    log: structlog.typing.FilteringBoundLogger,
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
