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
from streamclust.runtime.log import configure_log, warn_of_slow_kernels
from streamclust.runtime.signals import StopEvent, stop_on_signals
from streamclust.runtime.threads import run_together
from streamclust.store.model.keys import Keys
from streamclust.text import is_pattern, known_names, matching

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from streamclust.config import Settings
    from streamclust.encoder.job import Tally
    from streamclust.store.server.connect import Server


_SHOWN = 10
"""Streams whose names are logged at the start."""

_DISCOVER = 10.0
"""Seconds between two looks for models that match a pattern."""

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
        Names of models, and patterns such as ``clicks-*``.
    wait : float
    until_idle : bool
        Whether to end when all entries have codes.

    Raises
    ------
    ConfigError
        If the settings don't have a model, or a pattern matches none.
    ModelsFailedError
        If encoders of many streams have failed, with `until_idle`.
    StreamclustError
        If the server can't be used; for a few streams also the first error that ended a stream,
        after a clean end of the other streams.
    """
    chosen = configured_models(settings, names)
    configure_log(settings.log.level, settings.log.format)
    log = structlog.get_logger()
    stop = StopEvent()
    with stop_on_signals(stop), threadpool_limits(limits=1, user_api="blas"):

        def find() -> list[Job]:
            return [
                job
                for name in configured_models(settings, names)
                for job in encoder_jobs(
                    settings, server, name, stop, until_idle, log.bind(model=name)
                )
            ]

        jobs = find()
        streams = {"streams": [job.stream for job in jobs[:_SHOWN]]}
        more = {"more": len(jobs) - _SHOWN} if len(jobs) > _SHOWN else {}
        one = {"model": chosen[0]} if len(chosen) == 1 else {"models": len(chosen)}
        log.info("encoder_started", server=server.label, **one, **streams, **more)
        warn_of_slow_kernels(log)
        if not wait_for_server(server, stop, log, wait):
            return []
        stall = float(settings.worker.stall)
        with _short_pauses():
            if len(jobs) <= _FEW and not any(map(is_pattern, names)):
                watch = StallWatch(jobs, stall)
                return run_together(
                    jobs, lambda job: (job, run_encoder(job)), "encoder_failed", look=watch.look
                )
            return run_encoders(
                server, find, stop, discover=_DISCOVER, stall=stall, until_idle=until_idle
            )


def configured_models(settings: Settings, names: Sequence[str]) -> list[str]:
    """Return the models of the settings that names and patterns select, in their order.

    Raises
    ------
    ConfigError
        If the settings don't have a model, or a pattern matches none.
    """
    found: list[str] = []
    for name in names:
        matches = matching(settings.models, [name]) if is_pattern(name) else [name]
        if not matches or matches[0] not in settings.models:
            known = known_names(name, settings.models, "configured models")
            what = "no configured model matches" if is_pattern(name) else "model"
            end = "" if is_pattern(name) else " isn't configured"
            raise ConfigError(f"{what} {name!r}{end}; {known}")
        found += matches
    return list(dict.fromkeys(found))


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
